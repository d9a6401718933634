"""Start a child of ours that reads what strangers made, under all that this machine has to confine it.

Invariants: the child sees no environment but what is given here; no child of it survives the block that it was started
for; what it wrote belongs to this process's user again when that block is left.
Trust: the child is ours, the data it reads is not.
"""

import logging
import os
import selectors
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from app.embedding.artifacts import scratch_folder
from app.embedding.confinement.limits import Limits
from app.embedding.confinement.own_ids import own_user_id
from app.embedding.confinement.sandbox import OWN_ID, ROOT, Confinement

logger = logging.getLogger(__name__)

# How often the child is looked at while it says nothing: a cancelled job ends within this.
LOOK_EVERY_SECONDS = 0.2

# What is read from a pipe or written to it at once.
PIECE_BYTES = 65_536

# What is kept of the child's diagnostics, for the operator only.
KEPT_DIAGNOSTICS_BYTES = 8 * 1024

# What is passed on of a child's words, in characters. Our own messages have a few hundred.
MAX_WORDS = 2_000


@dataclass(frozen=True)
class Surroundings:
    """What a child gets besides its order: limits, and variables added to its otherwise bare environment.

    CUDA may need LD_LIBRARY_PATH.
    """

    limits: Limits = field(default_factory=Limits)
    environment: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def confined_child(
    command: Sequence[str], read: Iterable[Path], write: Path, confinement: Confinement, around: Surroundings
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command that reads these files and writes into this folder; end it when this is left for whatever reason."""
    limits = around.limits
    with (
        scratch_folder(write) as scratch,
        _user_id_for(confinement, limits, write, scratch) as user_id,
    ):
        environment = {**_environment(scratch), **around.environment}
        libraries = [Path(place) for place in environment.get("LD_LIBRARY_PATH", "").split(os.pathsep) if place]
        if confinement.means is not None:
            sandbox = confinement.sandbox((*read, *libraries), write, limits, user_id)
            command = [sys.executable, "-m", "app.embedding.confinement.confined", sandbox.to_json(), "--", *command]
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=environment,
            start_new_session=True,  # its own process group, so that all of it can be ended at once
        )
        try:
            yield child
        finally:
            _end(child)


def _user_id_for(confinement: Confinement, limits: Limits, *folders: Path) -> AbstractContextManager[int]:
    if confinement.means is not None and OWN_ID in confinement.means:
        return own_user_id(limits.user_ids, folders)
    return nullcontext(os.geteuid())


def _environment(scratch: Path) -> dict[str, str]:
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "USER": "training",  # its id may have no name, and torch asks for one
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # repeatable matrix products on CUDA
    }


def _end(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # the group is gone when its last process is
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        with suppress(BrokenPipeError):  # what was not yet written goes nowhere
            _pipe(stream).close()


def talk(
    child: subprocess.Popen[bytes],
    frames: bytearray,
    look: Callable[[], None],
    on_output: Callable[[bytearray], None],
) -> bytes:
    """Say `frames`, hand on what the child says until it closes its output, and give the end of its diagnostics.

    `on_output` takes out of its buffer what it has read; `look` may raise to end this. What is said is written piece by
    piece, so that a child that never reads is looked at as any other.
    """
    output, diagnostics = bytearray(), bytearray()
    stdin, stdout, stderr = (_pipe(stream).fileno() for stream in (child.stdin, child.stdout, child.stderr))
    os.set_blocking(stdin, False)
    with selectors.DefaultSelector() as selector:
        selector.register(stdin, selectors.EVENT_WRITE)
        selector.register(stdout, selectors.EVENT_READ, output)
        selector.register(stderr, selectors.EVENT_READ, diagnostics)
        while any(key.events == selectors.EVENT_READ for key in selector.get_map().values()):
            look()
            for key, _ in selector.select(LOOK_EVERY_SECONDS):
                is_over = _say(stdin, frames) if key.fd == stdin else _hear(key.fd, key.data)
                if is_over:
                    selector.unregister(key.fd)
            del diagnostics[:-KEPT_DIAGNOSTICS_BYTES]
            on_output(output)
    if diagnostics:
        # Set in, so that no line of it can pass for one of ours.
        said = textwrap.indent(in_plain_words(diagnostics.decode(errors="replace"), KEPT_DIAGNOSTICS_BYTES), "  | ")
        logger.warning("the training child said:\n%s", said)
    return bytes(diagnostics)


def _say(pipe: int, frames: bytearray) -> bool:
    """Write what the pipe takes; say whether all is said. One who died at once has said why, or will be found dead."""
    try:
        del frames[: os.write(pipe, frames[:PIECE_BYTES])]
    except BrokenPipeError:
        return True
    return not frames


def _hear(pipe: int, buffer: bytearray) -> bool:
    data = os.read(pipe, PIECE_BYTES)
    buffer.extend(data)
    return not data


def wait_for(child: subprocess.Popen[bytes], look: Callable[[], None]) -> int:
    """Give the child's exit status; one that only closed its outputs stays under watch."""
    while True:
        with suppress(subprocess.TimeoutExpired):
            return child.wait(LOOK_EVERY_SECONDS)
        look()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:  # Popen was told to make all three
        raise AssertionError("the child has no pipe")
    return stream


def in_plain_words(text: str, limit: int = MAX_WORDS) -> str:
    """Cut a stranger's text and replace what is no letter, mark or new line: a terminal or a database may obey it."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "\N{REPLACEMENT CHARACTER}" for sign in text[:limit])
