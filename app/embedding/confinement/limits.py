"""How much memory and time a training may take, and the watch that holds it to that.

Invariants: memory is counted over the child's whole process group; whoever is over a limit is told which, and how much
it is; no limit needs a right that an ordinary user lacks.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.errors import TrainingFailed

GIB = 1024**3

DEFAULT_MEMORY_BYTES = 16 * GIB
DEFAULT_SECONDS = 24 * 3600

# Not used by anybody else: systemd's table of ids (systemd.io/UIDS-GIDS) leaves 60706 to 61183 free, and containers that
# map ids map those below 65,536.
DEFAULT_FIRST_USER_ID, DEFAULT_USER_IDS = 60_800, 256

# Memory is looked at this often: a process can take about a gigabyte in between.
MEMORY_LOOK_SECONDS = 0.25

# A training that has written more than the first ends when less than the second is left on its disk: Postgres and the
# objects may lie there too.
NOTED_DISK_BYTES, LEAST_DISK_BYTES = 64 * 1024**2, 256 * 1024**2


@dataclass(frozen=True)
class Limits:
    """What one training may take, and the user ids that trainings may have where they have their own."""

    memory_bytes: int = DEFAULT_MEMORY_BYTES
    seconds: int = DEFAULT_SECONDS
    user_ids: range = range(DEFAULT_FIRST_USER_ID, DEFAULT_FIRST_USER_ID + DEFAULT_USER_IDS)

    @property
    def file_bytes(self) -> int:
        """Give the size that no file of a training may pass: what fits memory is all that it could write."""
        return self.memory_bytes


@dataclass(frozen=True)
class RunningProcess:
    """One process, as /proc shows it to everybody."""

    pid: int
    group: int
    threads: int

    def figures(self) -> dict[str, int]:
        """Give the numbers of its status: `Uid` (the real one), `RssAnon` and the like in KiB; empty if it has ended."""
        found = {}
        with suppress(OSError):
            for line in Path(f"/proc/{self.pid}/status").read_text(errors="replace").splitlines():
                name, _, value = line.partition(":")
                number = value.split()[0] if value.split() else ""
                if number.isdecimal():
                    found[name] = int(number)
        return found


def running_processes() -> Iterator[RunningProcess]:
    """Give every process that can be seen and has not ended."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                # The name stands in brackets and may hold anything; what follows the last one is state and numbers.
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    yield RunningProcess(int(entry.name), int(fields[2]), int(fields[17]))


def processes_of(user_id: int) -> list[RunningProcess]:
    """Give what runs under a user id. The owner of the folder in /proc would not do: a process can hide its own."""
    return [process for process in running_processes() if process.figures().get("Uid") == user_id]


def memory_of_group(group: int) -> int:
    """Give the bytes of memory that a process group holds by itself: its own pages and shared ones, no mapped files."""
    figures = [process.figures() for process in running_processes() if process.group == group]
    return sum(each.get("RssAnon", 0) + each.get("RssShmem", 0) for each in figures) * 1024


class Watch:
    """Looks at a running child from time to time."""

    def __init__(self, limits: Limits, group: int, folder: Path) -> None:
        """Start the clock for a process group that writes into a folder."""
        self._limits, self._group, self._folder = limits, group, folder
        self._free_at_first = free_bytes(folder)
        self._started = self._looked = time.monotonic()

    def look(self) -> None:
        """Refuse to go on with a child that takes more than it may.

        Raises: TrainingFailed, which the same order would meet again.
        """
        now = time.monotonic()
        if now - self._started > self._limits.seconds:
            raise over(f"takes longer than {self._limits.seconds} seconds")
        if now - self._looked >= MEMORY_LOOK_SECONDS:
            self._looked = now
            if memory_of_group(self._group) > self._limits.memory_bytes:
                raise needs_more_memory(self._limits)
            free = free_bytes(self._folder)
            if free < LEAST_DISK_BYTES and self._free_at_first - free > NOTED_DISK_BYTES:
                # With no state: another training may have written it, and after that one's end this may go on.
                raise TrainingFailed(f"the disk of the training is full but for {in_gib(free)}")


def free_bytes(folder: Path) -> int:
    """Give how much may still be written onto a folder's disk."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def needs_more_memory(limits: Limits) -> TrainingFailed:
    """Say that a training does not fit."""
    return over(f"needs more than {in_gib(limits.memory_bytes)} of memory")


def over(what: str) -> TrainingFailed:
    """Say which limit a training is over; the state, not empty, keeps it from being tried again."""
    advice = "make network, batches or data smaller, or have whoever runs this raise the limit"
    return TrainingFailed(f"the training {what}, which is the limit here: {advice}", state=TrainingFailed.code)


def in_gib(count: int) -> str:
    """Write a number of bytes for people."""
    return f"{count / GIB:.3g} GiB"
