"""A network with nothing in it but a loopback, and a file system with nothing in it but what a training needs.

The second is how a process with a user id of its own reads files that lie in folders which only their owner may enter:
they are mounted where they are expected, in a new tree; nothing else exists there.

Invariants: what is mounted is read-only but for the folders named writable, /proc, the devices and a bounded /dev/shm; the
old tree is gone from sight when this returns.
Source: unshare(2), pivot_root(2), mount_setattr(2), netdevice(7).
"""

import fcntl
import os
import shutil
import socket
import stat
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from app.embedding.confinement.system_calls import call

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x40000000

MS_RDONLY, MS_NOSUID, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
AT_EMPTY_PATH, AT_RECURSIVE = 0x1000, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = 1, 2

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

# Any folder that every machine has will do to build on: what it holds is covered, in this process's sight alone.
BUILDING_PLACES = ("/tmp", "/mnt", "/run", "/var")  # noqa: S108  # nothing is written into them

PROC = Path("/proc")

# Folders, links and mount points alone are written into the new tree's own file system.
TREE_BYTES = 4 * 1024 * 1024


def enter_empty_network(*, as_ordinary_user: bool) -> None:
    """Leave the machine's network, and its System V memory, for an empty one whose loopback is up.

    An ordinary user needs a user namespace first, in which its id stays what it is.
    Raises: OSError.
    """
    user, group = os.getuid(), os.getgid()
    call("unshare", CLONE_NEWNET | CLONE_NEWIPC | (CLONE_NEWUSER if as_ordinary_user else 0))
    if as_ordinary_user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack_from("H", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request), 16)[0]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def enter_private_tree(
    readable: Iterable[Path], devices: Iterable[Path], writable: Sequence[Path], shared_memory_bytes: int
) -> None:
    """Leave the machine's files for a tree with these paths alone.

    A file that only its owner may read is copied first, onto the disk of the first writable folder.
    Raises: OSError.
    """
    call("unshare", CLONE_NEWNS)
    call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    copies: list[Path] = []
    disk = os.open(writable[0], os.O_PATH)
    read_only = [(path, _open_for_all(path, writable[0], copies)) for path in _with_targets(readable)]
    # /proc too: CUDA names its threads by writing there, and the kernel lets each process write about itself alone.
    as_they_are = [(path, os.open(path, os.O_PATH)) for path in (PROC, *devices, *writable) if path.exists()]
    root = Path(next(place for place in BUILDING_PLACES if Path(place).is_dir()))
    _mount_memory(root, TREE_BYTES)
    shared_memory = root / "dev/shm"
    shared_memory.mkdir(parents=True)
    _mount_memory(shared_memory, shared_memory_bytes, mode="1777")
    # Outer folders first, so that no mount covers an earlier one.
    for path, place in sorted(read_only, key=lambda pair: pair[0].parts):
        if path.is_symlink():
            _make_link(root, path)
        else:
            _bind(root, path, place, read_only=True)
    for path, place in as_they_are:
        _bind(root, path, place, read_only=False)
    for _, place in (*read_only, *as_they_are):
        os.close(place)
    for copy in copies:
        os.unlink(copy.name, dir_fd=disk)  # what is mounted needs no name
    os.close(disk)
    call("mount", None, bytes(root), None, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_BIND, None)
    os.chdir(root)
    call("pivot_root", b".", b".")
    call("umount2", b".", MNT_DETACH)
    os.chdir("/")


def _with_targets(paths: Iterable[Path]) -> set[Path]:
    """Add to paths that go through links what they come to."""
    given = {path for path in paths if path.exists()}
    return given | {path.resolve() for path in given}


def _open_for_all(path: Path, disk: Path, copies: list[Path]) -> int:
    """Open a path to be mounted; a copy of it if it is a file that not everybody may read."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) or mode & stat.S_IROTH:
        return os.open(path, os.O_PATH)
    copies.append(disk / f".input-{len(copies)}-{os.getpid()}")
    shutil.copyfile(path, copies[-1])
    copies[-1].chmod(0o444)
    return os.open(copies[-1], os.O_PATH)


def _mount_memory(place: Path, size_bytes: int, mode: str = "755") -> None:
    options = f"size={size_bytes},mode={mode}".encode()
    call("mount", b"tmpfs", bytes(place), b"tmpfs", MS_NOSUID, options)


def _make_link(root: Path, path: Path) -> None:
    link = root / path.relative_to("/")
    if not link.is_symlink() and not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.readlink())


def _bind(root: Path, path: Path, place: int, *, read_only: bool) -> None:
    target = root / path.relative_to("/")
    if target.exists() and read_only and os.path.samestat(target.stat(), os.fstat(place)):
        return  # a folder around it is there already
    if stat.S_ISDIR(os.fstat(place).st_mode):
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    call("mount", f"/proc/self/fd/{place}".encode(), bytes(target), None, MS_BIND | MS_REC, None)
    if read_only:
        _make_read_only(target)


def _make_read_only(target: Path) -> None:
    attributes = struct.pack("=QQQQ", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0, 0, 0)
    place = os.open(target, os.O_PATH)
    try:
        call("mount_setattr", place, b"", AT_EMPTY_PATH | AT_RECURSIVE, attributes, len(attributes))
    except OSError:  # kernels before 5.12
        call("mount", None, bytes(target), None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID, None)
    finally:
        os.close(place)
