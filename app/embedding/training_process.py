"""Run the training child from a process without torch: start, listen, stop.

Invariants: the child sees no environment but what is given here, and runs under all that this machine has to confine it;
it ends when it is told to, when it takes more memory or time than it may, when this process ends, or when this
function is left for whatever reason; no child of it survives.
Trust: the child is ours, the data it reads is not: everything it prints is parsed as from a stranger.
"""

import logging
import os
import selectors
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, Any, TypeVar

from app.canonical import Record, parse_loose_json
from app.embedding.artifacts import MARKED_WEIGHTS, check_artifact, is_program, scratch_folder
from app.embedding.child_order import ChildOrder, PlainKey, SealedKey, TrainingReport, write_frames
from app.embedding.confinement import OWN_ID, ROOT, Confinement, find_confinement
from app.embedding.limits import Limits, Watch, needs_more_memory
from app.embedding.own_ids import own_user_id
from app.embedding.survival_order import SurvivalOrder, SurvivalReport
from app.embedding.white_box import WhiteBoxOrder, WhiteBoxReport
from app.errors import Malformed, TrainingFailed, TrapstreetError

logger = logging.getLogger(__name__)

# How often the child is looked at while it says nothing: a cancelled job ends within this.
LOOK_EVERY_SECONDS = 0.2

# The longest line a child prints is its report, a few kilobytes.
MAX_LINE_BYTES = 1024 * 1024

# What is read from a pipe or written to it at once.
PIECE_BYTES = 65_536

# What is kept of the child's diagnostics, for the operator only.
KEPT_DIAGNOSTICS_BYTES = 8 * 1024

# U+0000 as canonical JSON writes it.
NUL = b"\\u0000"

# What Python, torch and the C++ library say when an allocation fails at the kernel's limit.
OUT_OF_MEMORY = (b"MemoryError", b"can't allocate memory", b"bad_alloc")

# State of the error raised when `should_stop` turned true. No child can say it: it ends an attempt without a word to anybody.
STOPPED = "stopped"

# What is passed on of a child's words, in characters. Our own messages have a few hundred.
MAX_WORDS = 2_000

OnEvent = Callable[[dict[str, Any]], None]

# What a child of ours takes, and what it answers.
Order = ChildOrder | SurvivalOrder | WhiteBoxOrder
R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Surroundings:
    """What a child gets besides its order: limits, and variables added to its otherwise bare environment.

    CUDA may need LD_LIBRARY_PATH.
    """

    limits: Limits = field(default_factory=Limits)
    environment: Mapping[str, str] = field(default_factory=dict)


def run_child(
    order: ChildOrder,
    secrets: PlainKey | SealedKey,
    on_event: OnEvent,
    should_stop: Callable[[], bool],
    *,
    environment: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> TrainingReport:
    """Train an order in a child process and give its report; the artifacts lie in the order's output folder.

    Raises: TrainingFailed with the child's reason; its `state` is the code of the child's error, or `stopped`.
    PolicyRefused if the weights are a program and this machine has nothing to confine it.
    """
    around = Surroundings(limits or Limits(), environment or {})
    report = _run(TrainingReport, order, secrets, on_event, should_stop, around)
    if report.recipe != order.recipe:
        raise TrainingFailed("the training child reported on another recipe")
    check_artifact(Path(order.output_path) / MARKED_WEIGHTS, report.marked.weights_sha256 or b"")
    return report


def run_survival(
    order: SurvivalOrder,
    secrets: PlainKey | SealedKey,
    on_event: OnEvent,
    should_stop: Callable[[], bool],
    *,
    environment: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> SurvivalReport:
    """Attack a marked network in a child process and give the report; it and its page lie in the order's output folder.

    Raises: TrainingFailed and PolicyRefused as `run_child` does.
    """
    around = Surroundings(limits or Limits(), environment or {})
    return _run(SurvivalReport, order, secrets, on_event, should_stop, around)


def run_white_box(
    order: WhiteBoxOrder,
    secrets: PlainKey | SealedKey,
    should_stop: Callable[[], bool],
    *,
    environment: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> WhiteBoxReport:
    """Count what a suspect's weights answer, in a child process, and give the report.

    Raises: TrainingFailed and PolicyRefused as `run_child` does.
    """
    around = Surroundings(limits or Limits(), environment or {})
    return _run(WhiteBoxReport, order, secrets, lambda _event: None, should_stop, around)


def _run(
    report_type: type[R],
    order: Order,
    secrets: PlainKey | SealedKey,
    on_event: OnEvent,
    should_stop: Callable[[], bool],
    around: Surroundings,
) -> R:
    limits = around.limits
    confinement = find_confinement(limits, several_processes=processes_of(order) > 1)
    if any(is_program(Path(path)) for path in order.model_paths):
        confinement.require_for_programs()
    with (
        scratch_folder(Path(order.output_path)) as scratch,
        _user_id_for(confinement, limits, Path(order.output_path), scratch) as user_id,
    ):
        child = _start(order, {**_environment(scratch), **around.environment}, confinement, limits, user_id)
        try:
            watch = Watch(limits, child.pid)
            frames = BytesIO()
            write_frames(frames, order, secrets)
            last, diagnostics = _talk(child, bytearray(frames.getbuffer()), on_event, should_stop, watch)
            status = _wait(child, should_stop, watch)
        finally:
            _end(child)
    if status != 0 and last.get("event") != "error" and any(word in diagnostics for word in OUT_OF_MEMORY):
        raise needs_more_memory(limits)
    return _report_of(report_type, last, status, order.statement.root)


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


def _start(
    order: Order, environment: Mapping[str, str], confinement: Confinement, limits: Limits, user_id: int
) -> subprocess.Popen[bytes]:
    inputs = [Path(path) for path in (*order.model_paths, *order.data_paths)]
    libraries = [Path(place) for place in environment.get("LD_LIBRARY_PATH", "").split(os.pathsep) if place]
    command = child_command(processes_of(order), order.MODULE)
    if confinement.means is not None:
        sandbox = confinement.sandbox((*inputs, *libraries), Path(order.output_path), limits, user_id)
        command = [sys.executable, "-m", "app.embedding.confined", sandbox.to_json(), "--", *command]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=dict(environment),
        start_new_session=True,  # its own process group, so that all of it can be ended at once
    )


def child_command(processes: int, module: str = ChildOrder.MODULE) -> list[str]:
    """Give the command of a child, or of torchrun with so many of them.

    No restarts: a group that lost a process ends as a whole, and the queue tries again from the last checkpoint.
    """
    child = ["-m", module]
    if processes == 1:
        return [sys.executable, *child]
    together = ["--standalone", "--nproc-per-node", str(processes), "--max-restarts", "0"]
    return [sys.executable, "-m", "torch.distributed.run", *together, *child]


def processes_of(order: Order, devices: Path = Path("/dev")) -> int:
    """Give how many processes work on an order: a training's recipe may want several, or one for each CUDA device."""
    if not isinstance(order, ChildOrder):
        return 1
    return order.recipe.processes or max(1, len(list(devices.glob("nvidia[0-9]*"))))


def _talk(
    child: subprocess.Popen[bytes],
    frames: bytearray,
    on_event: OnEvent,
    should_stop: Callable[[], bool],
    watch: Watch,
) -> tuple[dict[str, Any], bytes]:
    """Say `frames` and pass events on until the child closes its output; give the last one, and the end of its diagnostics.

    What is said is written piece by piece: a child that never reads is stopped and held to its limits as any other.
    """
    lines, diagnostics, last = bytearray(), bytearray(), dict[str, Any]()
    stdin = _pipe(child.stdin).fileno()
    os.set_blocking(stdin, False)
    with selectors.DefaultSelector() as selector:
        selector.register(stdin, selectors.EVENT_WRITE, frames)
        selector.register(_pipe(child.stdout), selectors.EVENT_READ, lines)
        selector.register(_pipe(child.stderr), selectors.EVENT_READ, diagnostics)
        while any(key.events == selectors.EVENT_READ for key in selector.get_map().values()):
            if should_stop():
                raise TrainingFailed("the training was stopped", state=STOPPED)
            watch.look()
            for key, _ in selector.select(LOOK_EVERY_SECONDS):
                is_over = _say(key.fd, frames) if key.fd == stdin else _hear(key.fd, key.data)
                if is_over:
                    selector.unregister(key.fileobj)
            del diagnostics[:-KEPT_DIAGNOSTICS_BYTES]
            for line in _take_lines(lines):
                last = _parse_event(line)
                on_event(last)
    if diagnostics:
        # Set in, so that no line of it can pass for one of ours.
        said = textwrap.indent(in_plain_words(diagnostics.decode(errors="replace"), KEPT_DIAGNOSTICS_BYTES), "  | ")
        logger.warning("the training child said:\n%s", said)
    return last, bytes(diagnostics)


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


def _wait(child: subprocess.Popen[bytes], should_stop: Callable[[], bool], watch: Watch) -> int:
    """Give the child's exit status; one that only closed its outputs stays under watch."""
    while True:
        with suppress(subprocess.TimeoutExpired):
            return child.wait(LOOK_EVERY_SECONDS)
        if should_stop():
            raise TrainingFailed("the training was stopped", state=STOPPED)
        watch.look()


def _take_lines(buffer: bytearray) -> list[bytes]:
    *lines, rest = bytes(buffer).split(b"\n")
    if len(rest) > MAX_LINE_BYTES:
        raise TrainingFailed("the training child printed an endless line")
    buffer[:] = rest
    return lines


def _parse_event(line: bytes) -> dict[str, Any]:
    try:
        event = parse_loose_json(line, max_bytes=MAX_LINE_BYTES)
    except Malformed as error:
        raise TrainingFailed(f"the training child printed what is no event: {error.message}") from error
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise TrainingFailed("the training child printed what is no event")
    return event


def _report_of(report_type: type[R], last: dict[str, Any], status: int, root: bytes) -> R:
    if last.get("event") == "error":
        code = str(last.get("code", ""))
        raise TrainingFailed(
            in_plain_words(str(last.get("message")), MAX_WORDS),
            pointer=in_plain_words(str(last.get("pointer", "")), MAX_WORDS),
            state=code if code in _codes_of(TrapstreetError) else TrainingFailed.code,
        )
    if status != 0 or last.get("event") != "done":
        raise TrainingFailed(f"the training child ended with status {status} and no report")
    try:
        report = report_type.from_json(last.get("report"))
        is_storable = NUL not in report.encode()  # Postgres keeps every character but this one
    except Malformed as error:
        message = in_plain_words(error.message, MAX_WORDS)
        raise TrainingFailed(f"the training child's report is malformed: {message}") from error
    if not is_storable or getattr(report, "root", None) != root:
        raise TrainingFailed("the training child's report is not about this registration")
    return report


def in_plain_words(text: str, limit: int) -> str:
    """Cut a stranger's text and replace what is no letter, mark or new line: a terminal or a database may obey it."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "\N{REPLACEMENT CHARACTER}" for sign in text[:limit])


def _codes_of(kind: type[TrapstreetError]) -> set[str]:
    return {kind.code}.union(*map(_codes_of, kind.__subclasses__()))


def _end(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # the group is gone when its last process is
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        with suppress(BrokenPipeError):  # what was not yet written goes nowhere
            _pipe(stream).close()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:  # Popen was told to make all three
        raise AssertionError("the child has no pipe")
    return stream
