"""What keeps a training child apart from everything else, as far as this machine allows it.

As root: a user id of its own in a file system of its own, an empty network, no capability. For everybody where the kernel
has them: Landlock (files, TCP, signals) and a filter of system calls. Each is tried once in a process of its own,
by the same code that later applies it (app.embedding.confinement.confined).

Invariants: what was found possible is applied to every child, or the child is not started; what is not possible is said
(`describe`), and where files or network stay open, no program of a stranger is run (`require_for_programs`).
Trust: the kernel. A training shares the machine's processors and devices, and a GPU's driver, with everything else.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import app
from app.embedding.confinement.limits import GIB, Limits, processes_of
from app.errors import PolicyRefused, Unavailable

OWN_ID, NETWORK, LANDLOCK, SECCOMP = "own_id", "network", "landlock", "seccomp"
MEANS = (OWN_ID, NETWORK, LANDLOCK, SECCOMP)

IN_WORDS = {
    OWN_ID: "a user id of its own",
    NETWORK: "a network namespace",
    LANDLOCK: "Landlock",
    SECCOMP: "a filter of system calls",
}

PACKAGE = Path(app.__file__).parent
# From where the child's modules are found.
ROOT = PACKAGE.parent

# Programs and libraries, and what they read to find each other. /nix/store: where NixOS has them.
SYSTEM_PLACES = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/sys"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime"),
    *("/etc/nsswitch.conf", "/etc/passwd", "/etc/group", "/etc/hosts"),
)
# What torch, numpy, the C library and CUDA's driver ask about the machine; nothing in them is about a process.
KERNEL_FILES = tuple(
    Path("/proc", name)
    for name in (
        *("cpuinfo", "devices", "driver", "filesystems", "meminfo", "modules", "stat", "sys", "uptime", "version"),
        *("self", "thread-self", "loadavg"),
    )
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

# With an id of its own a training counts alone, otherwise with everything else of that user, also what is out of sight.
MAX_PROCESSES = 4096

PROBE_SECONDS = 60


@dataclass(frozen=True)
class Sandbox:
    """What app.embedding.confinement.confined is told: the means, and what is left to the program."""

    means: frozenset[str]
    readable: tuple[Path, ...]
    listed: tuple[Path, ...]
    devices: tuple[Path, ...]
    writable: tuple[Path, ...]
    several_processes: bool
    user_id: int
    shared_memory_bytes: int
    data_bytes: int | None = None
    processor_seconds: int | None = None
    file_bytes: int | None = None
    processes: int | None = None

    kernel_files = KERNEL_FILES

    @property
    def uses_shared_memory(self) -> bool:
        """Say whether /dev/shm is left: its own where there is one, the machine's only if processes need to share."""
        return OWN_ID in self.means or self.several_processes

    def with_means(self, means: Iterable[str]) -> "Sandbox":
        """Give the same with other means."""
        return replace(self, means=frozenset(means))

    def to_json(self) -> str:
        """Write it as the one argument that it is."""
        return json.dumps(
            {
                name: sorted(map(str, value)) if isinstance(value, frozenset | tuple) else value
                for name, value in vars(self).items()
            }
        )

    @staticmethod
    def from_json(text: str) -> "Sandbox":
        """Read it."""
        values = json.loads(text)
        paths = {name: tuple(map(Path, values[name])) for name in ("readable", "listed", "devices", "writable")}
        return Sandbox(**{**values, **paths, "means": frozenset(values["means"])})


@dataclass(frozen=True)
class Confinement:
    """What keeps trainings apart on this machine."""

    # None: not even the steps that go with every means can be taken.
    means: frozenset[str] | None
    # Why each of the others cannot be had.
    refused: Mapping[str, str]
    several_processes: bool

    def holds(self) -> frozenset[str]:
        """Name what is kept: own_id, network, files, system_calls; memory and time always are, by the parent."""
        means = self.means or frozenset()
        kept = {
            "own_id": OWN_ID in means,
            # The filter can refuse all sockets only to a training that needs none among its own processes.
            "network": NETWORK in means or (SECCOMP in means and not self.several_processes),
            "files": LANDLOCK in means or OWN_ID in means,
            "system_calls": SECCOMP in means,
            "memory": True,
            "time": True,
        }
        return frozenset(name for name, is_kept in kept.items() if is_kept)

    def describe(self) -> str:
        """Say in one line what holds and what does not, and why."""
        means = self.means or frozenset()
        had = [words for name, words in IN_WORDS.items() if name in means]
        missed = [f"{IN_WORDS[name]} ({why})" for name, why in self.refused.items()]
        text = f"confined by {', '.join([*had, 'limits of memory and time'])}"
        return f"{text}; without {', '.join(missed)}" if missed else text

    def why_not(self) -> str | None:
        """Say why programs of strangers are not run under this, or give None if they are."""
        holds = self.holds()
        still_open = [
            words
            for name, words in (("files", "this machine's files"), ("network", "the network"))
            if name not in holds
        ]
        if not {"own_id", "system_calls"} & holds:
            still_open.append("other processes")
        if not still_open:
            return None
        missed = "; ".join(f"{IN_WORDS[name]}: {why}" for name, why in self.refused.items())
        return f"nothing on this machine keeps a program from {' and '.join(still_open)} ({missed})"

    def require_for_programs(self) -> None:
        """Refuse to run a stranger's program without what it takes.

        Raises: PolicyRefused with the reason.
        """
        reason = self.why_not()
        if reason is not None:
            raise PolicyRefused(
                f"exported programs are not run here: {reason}; give safetensors of a named network, "
                "or train where these are to be had"
            )

    def sandbox(self, read: Iterable[Path], write: Path, limits: Limits, user_id: int) -> Sandbox:
        """Say what a child gets that reads these files and writes into this folder."""
        has_own_id = self.means is not None and OWN_ID in self.means
        return replace(
            _sandbox_for(read, write, user_id, several_processes=self.several_processes),
            means=self.means or frozenset(),
            shared_memory_bytes=limits.memory_bytes // 4,
            # The watch speaks first, and says what was too much; this is for what happens between two of its looks.
            data_bytes=limits.memory_bytes * 2 + 4 * GIB,
            processor_seconds=limits.seconds * (os.cpu_count() or 1) + 60,
            file_bytes=limits.file_bytes,
            processes=MAX_PROCESSES + (0 if has_own_id else _threads_of(os.geteuid())),
        )


def find_confinement(limits: Limits | None = None, *, several_processes: bool = False) -> Confinement:
    """Give what this machine allows; it is tried once, which takes about a tenth of a second.

    Raises: Unavailable if it could not be tried, on a machine with no memory or time left.
    """
    return _find((limits or Limits()).user_ids[0], several_processes)


def why_not() -> str | None:
    """Say why programs of strangers are not run here, or give None if they are."""
    return find_confinement().why_not()


def require_for_programs() -> None:
    """Refuse to run a stranger's program where nothing confines it.

    Raises: PolicyRefused with the reason.
    """
    find_confinement().require_for_programs()


@cache
def _find(user_id: int, several_processes: bool) -> Confinement:  # noqa: FBT001  # the cache's key
    try:
        with tempfile.TemporaryDirectory() as folder:
            sandbox = _sandbox_for((), Path(folder), user_id, several_processes=several_processes)
            command = [sys.executable, "-m", "app.embedding.confinement.confined", "--probe", sandbox.to_json()]
            answer = subprocess.run(
                command, cwd=ROOT, env={"PATH": os.defpath}, capture_output=True, check=True, timeout=PROBE_SECONDS
            )
    except (OSError, subprocess.SubprocessError) as error:
        # Not an answer, so not remembered: the next training would run with nothing around it.
        raise Unavailable(f"what can confine a training here could not be tried: {error}") from error
    found = json.loads(answer.stdout)
    means = found["works"]
    return Confinement(None if means is None else frozenset(means), found["refused"], several_processes)


def _sandbox_for(read: Iterable[Path], write: Path, user_id: int, *, several_processes: bool) -> Sandbox:
    return Sandbox(
        means=frozenset(),
        readable=(*_places_of_python(), *map(Path, SYSTEM_PLACES), *read),
        listed=(ROOT,),
        devices=(*map(Path, DEVICES), *Path("/dev").glob("nvidia*")),
        writable=(write,),
        several_processes=several_processes,
        user_id=user_id,
        shared_memory_bytes=1024**2,
    )


def _places_of_python() -> tuple[Path, ...]:
    """Give where the interpreter and its packages lie; of this project the package alone."""
    packages = [Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    return (PACKAGE, Path(sys.prefix), Path(sys.base_prefix), *packages)


def _threads_of(user_id: int) -> int:
    return sum(process.threads for process in processes_of(user_id))
