"""User ids that trainings have to themselves, and the folder that goes to such an id and back.

Invariants: no two trainings of one machine have the same id at the same time; an id is given only while nothing else
runs under it; nothing runs under it when it is given back.
"""

import os
import pwd
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from app.embedding.confinement.limits import processes_of, running_processes
from app.errors import Unavailable

# What was killed is gone within this, unless the kernel waits for a device.
GONE_SECONDS = 10.0
LOOK_SECONDS = 0.02


@contextmanager
def own_user_id(ids: range, folders: Sequence[Path]) -> Iterator[int]:
    """Give an id that nobody else has, and the folders to it while this lasts.

    Raises: Unavailable if all are taken.
    """
    end_leftovers(ids)
    with _taken(ids) as user_id:
        owners = [(folder, folder.stat()) for folder in folders]
        try:
            for folder in folders:
                os.chown(folder, user_id, user_id)
            yield user_id
        finally:
            end_all_of(user_id)
            for folder, owner in owners:
                take_back(folder, user_id, owner.st_uid, owner.st_gid)


@contextmanager
def _taken(ids: range) -> Iterator[int]:
    for user_id in ids:
        if _is_known(user_id):
            continue
        with _lock_of(user_id) as is_mine:
            if is_mine:
                end_all_of(user_id)
                yield user_id
                return
    raise Unavailable(f"the {len(ids)} user ids from {ids.start} on are all taken: other trainings or users have them")


@contextmanager
def _lock_of(user_id: int) -> Iterator[bool]:
    # A name that one process has at a time, and that the kernel frees when that process ends in whatever way.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        try:
            lock.bind(f"\0trapstreet-training-{user_id}")
        except OSError:
            yield False
            return
        yield True


def end_leftovers(ids: range) -> None:
    """End what runs under ids that no training holds: whoever watched over it was killed.

    The kernel ends a training's first process with its worker, but not what that one started.
    Raises: Unavailable if something stays.
    """
    for user_id in {process.figures().get("Uid", 0) for process in running_processes()} & set(ids):
        if not _is_known(user_id):
            with _lock_of(user_id) as is_mine:
                if is_mine:
                    end_all_of(user_id)


def end_all_of(user_id: int) -> None:
    """Kill whatever runs under an id and wait until it is gone.

    Raises: Unavailable if something stays.
    """
    deadline = time.monotonic() + GONE_SECONDS
    while left := processes_of(user_id):
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise Unavailable(f"processes of user {user_id} do not end")
        time.sleep(LOOK_SECONDS)


def take_back(folder: Path, user_id: int, owner: int, group: int) -> None:
    """Give a folder, and the files that an id made in it, to their owner again; what lies deeper is not delivered."""
    os.chown(folder, owner, group)
    for entry in folder.iterdir():
        if entry.lstat().st_uid == user_id:
            os.chown(entry, owner, group, follow_symlinks=False)


def _is_known(user_id: int) -> bool:
    try:
        pwd.getpwuid(user_id)
    except KeyError:
        return False
    return True
