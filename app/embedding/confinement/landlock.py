"""Landlock: a process gives up files, TCP, and signals to processes outside, for itself and all its descendants.

Invariants: what is not named is refused; every right that this kernel's version of Landlock knows is handled, so a newer
kernel confines more and an older one less, never by accident; paths that are not there are passed over.
Source: the kernel's Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h.
"""

import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from app.embedding.confinement.system_calls import call

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_CHAR, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 10, 1 << 11
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

# The highest right to files, by version: 1 has thirteen, 2 adds REFER, 3 TRUNCATE, 5 IOCTL_DEV.
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
NEWEST_FILE_RIGHTS = 16

# What may be granted on a path that is no folder.
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV

READ = READ_FILE | READ_DIR | EXECUTE
# Device nodes, sockets and pipes are for nobody to make here; what a training writes it does not execute.
NOT_WRITTEN = EXECUTE | MAKE_CHAR | MAKE_BLOCK | MAKE_SOCK | MAKE_FIFO | IOCTL_DEV
DEVICE = READ_FILE | WRITE_FILE | READ_DIR | IOCTL_DEV
LIST = READ_DIR

TCP_VERSION, SCOPE_VERSION = 4, 6
BIND_TCP_AND_CONNECT_TCP = 0b11
SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11

CREATE_VERSION = 1
RULE_PATH_BENEATH = 1


def version() -> int:
    """Give the version of Landlock in this kernel, 0 if there is none."""
    try:
        return call("landlock_create_ruleset", None, 0, CREATE_VERSION)
    except OSError:
        return 0


def scopes_signals() -> bool:
    """Say whether Landlock keeps signals inside."""
    return version() >= SCOPE_VERSION


def restrict(rules: Iterable[tuple[int, Path]], *, allow_tcp: bool) -> None:
    """Leave this thread and its descendants only these rights on these paths; no TCP unless allowed.

    Wants PR_SET_NO_NEW_PRIVS beforehand.
    Raises: OSError.
    """
    known = version()
    files = (1 << FILE_RIGHTS.get(known, NEWEST_FILE_RIGHTS)) - 1
    attributes = struct.pack(
        "=QQQ",
        files,
        BIND_TCP_AND_CONNECT_TCP if known >= TCP_VERSION and not allow_tcp else 0,
        SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS if known >= SCOPE_VERSION else 0,
    )
    # An older kernel takes a longer structure as long as what it does not know is zero.
    ruleset = call("landlock_create_ruleset", attributes, len(attributes), 0)
    try:
        for rights, path in rules:
            _allow(ruleset, rights & files, path)
        call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, rights: int, path: Path) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what cannot be named cannot be opened either
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= OF_A_FILE
        if rights:
            call("landlock_add_rule", ruleset, RULE_PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)
