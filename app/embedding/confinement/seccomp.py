"""A filter of system calls, written out instruction by instruction, for this process and all its descendants.

Invariants: calls of another architecture or table are refused; no process can be traced, read or limited from here;
no namespace, mount, key, module or ring is made; sockets are of the families named, and no process leaves its group,
so that whoever ends the group ends them all.
Source: the kernel's Documentation/userspace-api/seccomp_filter.rst, include/uapi/linux/{seccomp,filter,bpf_common}.h.
"""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterable

from app.embedding.confinement.system_calls import AUDIT_ARCHITECTURES, call, machine, number_of

# Refused whatever their arguments are.
REFUSED = (
    *("acct", "add_key", "adjtimex", "bpf", "chroot", "clock_adjtime", "clock_settime", "delete_module"),
    *("fanotify_init", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "init_module", "io_uring_enter"),
    *("io_uring_register", "io_uring_setup", "ioperm", "iopl", "ioprio_set", "kcmp", "kexec_file_load"),
    *("kexec_load", "keyctl", "modify_ldt", "mount", "mount_setattr", "move_mount", "name_to_handle_at"),
    *("open_by_handle_at", "open_tree", "perf_event_open", "pidfd_getfd", "pivot_root", "process_madvise"),
    *("process_mrelease", "process_vm_readv", "process_vm_writev", "ptrace", "quotactl", "quotactl_fd", "reboot"),
    *("request_key", "setdomainname", "sethostname", "setns", "setpgid", "setpriority", "settimeofday", "swapoff"),
    *("swapon", "syslog", "umount2", "unshare", "userfaultfd", "vhangup"),
)

# What Landlock does not look at, and a user id shared with others does not stop either: modes, owners and attributes of
# any file of that user, and cutting one short (which only newer versions of Landlock refuse).
ON_FILES_OF_THE_SAME_USER = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "truncate"),
    *("setxattr", "lsetxattr", "fsetxattr", "setxattrat"),
    *("removexattr", "lremovexattr", "fremovexattr", "removexattrat"),
)

# Their first argument is a process; 0 is the caller itself.
ON_ITSELF_ONLY = ("prlimit64", "move_pages", "migrate_pages")
# Which processors another process may use and when is its user's affair: another user's are out of reach anyway.
ON_ITSELF_ONLY_AMONG_THE_SAME_USER = ("sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler")

# Where nothing else keeps signals inside: these go to the process itself (or 0, its group), the others nowhere.
SIGNALS_TO_ITSELF = ("kill", "tgkill")
OTHER_SIGNALS = ("tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal")

# A file can be told to signal a process when there is something to read: fcntl's F_SETOWN, F_SETSIG, F_SETOWN_EX and two
# of ioctl's say whom and with what.
SIGNALS_BY_FCNTL, SIGNALS_BY_IOCTL = (8, 10, 15), (0x8901, 0x8902)

# Cutting a file short while opening it, with no right to write asked for (modes 0 and 3): Landlock before its third
# version looks at nothing else.
CUTS_UNWRITTEN = (os.O_TRUNC, os.O_TRUNC | os.O_ACCMODE)

# A pair of datagram sockets is no pair: each end sends to whatever address it likes.
PAIRS, SOCKET_KIND = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET), 0xF

# CLONE_NEW{TIME is clone3's alone; NS, CGROUP, UTS, IPC, USER, PID, NET}.
NEW_NAMESPACES = 0x7E020000

LOOPBACK_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)

X32_TABLE = 0x40000000

# struct seccomp_data: number, architecture, instruction pointer, six arguments of 64 bits (the low halves first).
NUMBER, ARCHITECTURE, FIRST_ARGUMENT, SECOND_ARGUMENT, THIRD_ARGUMENT = 0, 4, 16, 24, 32

LOAD, IF_EQUAL, IF_AT_LEAST, IF_ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
ALL_BITS = 0xFFFFFFFF
ALLOW, ERROR = 0x7FFF0000, 0x00050000

SET_MODE_FILTER = 1
# Without it some kernels slow every process with a filter down (speculative store bypass).
SPEC_ALLOW = 1 << 2

Instruction = tuple[int, int, int, int]


def build_filter(
    *, families: Iterable[int] = (), shares_user_id: bool = True, signals_only_to: int | None = None
) -> list[Instruction]:
    """Write the filter for this machine: sockets of these families; signals only to this process if one is named.

    Raises: OSError if the machine's calls are not known.
    """
    here = machine()
    if here is None:
        raise OSError("the numbers of this machine's system calls are not known here")
    program: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (IF_EQUAL, 1, 0, AUDIT_ARCHITECTURES[here]),
        _fail(errno.EPERM),
        (LOAD, 0, 0, NUMBER),
    ]
    if here == "x86_64":
        program += [(IF_AT_LEAST, 0, 1, X32_TABLE), _fail(errno.EPERM)]
    refused = [*REFUSED]
    refused += ON_FILES_OF_THE_SAME_USER if shares_user_id else ()
    refused += OTHER_SIGNALS if signals_only_to is not None else ()
    for name in refused:
        program += _on(name, [_fail(errno.EPERM)])
    # The C library asks for clone3 first, whose flags lie in memory where no filter sees them, and then takes clone.
    program += _on("clone3", [_fail(errno.ENOSYS)])
    program += _on(
        "clone",
        [(LOAD, 0, 0, FIRST_ARGUMENT), (IF_ANY_BIT, 0, 1, NEW_NAMESPACES), _fail(errno.EPERM), _allow()],
    )
    # Said to have worked: torch's launcher asks for a session for each rank and ends with an error if there is none.
    program += _on("setsid", [_fail(0)])
    program += _on("socket", _one_of(families))
    program += _on("socketpair", _one_of(PAIRS, SECOND_ARGUMENT, SOCKET_KIND))
    for name in (*ON_ITSELF_ONLY, *(ON_ITSELF_ONLY_AMONG_THE_SAME_USER if shares_user_id else ())):
        program += _on(name, _one_of((0,)))
    if shares_user_id:
        program += _on("open", _none_of(CUTS_UNWRITTEN, SECOND_ARGUMENT, os.O_TRUNC | os.O_ACCMODE))
        program += _on("openat", _none_of(CUTS_UNWRITTEN, THIRD_ARGUMENT, os.O_TRUNC | os.O_ACCMODE))
        program += _on("openat2", [_fail(errno.ENOSYS)])  # its flags lie in memory, as clone3's
    if signals_only_to is not None:
        for name in SIGNALS_TO_ITSELF:
            program += _on(name, _one_of((0, signals_only_to)))
        program += _on("fcntl", _none_of(SIGNALS_BY_FCNTL, SECOND_ARGUMENT))
        program += _on("ioctl", _none_of(SIGNALS_BY_IOCTL, SECOND_ARGUMENT))
    return [*program, _allow()]


def install(program: list[Instruction]) -> None:
    """Put a filter over this thread and its descendants, for ever.

    Wants PR_SET_NO_NEW_PRIVS beforehand.
    Raises: OSError.
    """
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    call("seccomp", SET_MODE_FILTER, SPEC_ALLOW, struct.pack("@HP", len(program), ctypes.addressof(code)))


def _on(name: str, block: list[Instruction]) -> list[Instruction]:
    """Run a block, which must return on every way, if the call is this one."""
    number = number_of(name)
    return [] if number is None else [(IF_EQUAL, 0, len(block), number), *block]


def _one_of(values: Iterable[int], argument: int = FIRST_ARGUMENT, bits: int = ALL_BITS) -> list[Instruction]:
    """Allow the call if these bits of an argument, a C int, are one of the values."""
    return _choose(values, argument, bits, _allow(), _fail(errno.EPERM))


def _none_of(values: Iterable[int], argument: int = FIRST_ARGUMENT, bits: int = ALL_BITS) -> list[Instruction]:
    """Refuse the call if these bits of an argument, a C int, are one of the values."""
    return _choose(values, argument, bits, _fail(errno.EPERM), _allow())


def _choose(
    values: Iterable[int], argument: int, bits: int, found: Instruction, otherwise: Instruction
) -> list[Instruction]:
    block: list[Instruction] = [(LOAD, 0, 0, argument), (AND, 0, 0, bits)]
    for value in values:
        block += [(IF_EQUAL, 0, 1, value), found]
    return [*block, otherwise]


def _allow() -> Instruction:
    return (RETURN, 0, 0, ALLOW)


def _fail(number: int) -> Instruction:
    return (RETURN, 0, 0, ERROR | number)
