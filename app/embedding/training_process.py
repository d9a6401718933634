"""Run the training child from a process without torch: speak, listen, stop.

Invariants: the child runs under all that this machine has to confine it (app.embedding.confinement.child); it ends when it is
told to, when it takes more memory or time than it may, when this process ends, or when this function is left for
whatever reason.
Trust: the child is ours, the data it reads is not: everything it prints is parsed as from a stranger.
"""

import sys
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

from app.canonical import Record, parse_loose_json
from app.embedding.artifacts import MARKED_WEIGHTS, REPORT, SCRATCH, UNFINISHED_RUN, check_artifact, is_program
from app.embedding.child_order import ChildOrder, PlainKey, SealedKey, TrainingReport, write_frames
from app.embedding.confinement.child import Surroundings, confined_child, in_plain_words, talk, wait_for
from app.embedding.confinement.limits import Limits, Watch, needs_more_memory
from app.embedding.confinement.sandbox import find_confinement
from app.embedding.survival.order import MEASURED, SURVIVAL_PAGE, SURVIVAL_REPORT, SurvivalOrder, SurvivalReport
from app.embedding.white_box.check import WHITE_BOX_REPORT, WhiteBoxOrder, WhiteBoxReport
from app.embedding.white_box.comparison import ComparisonOrder, ComparisonReport
from app.embedding.white_box.cross_test import CrossOrder, CrossReport
from app.errors import Malformed, PolicyRefused, TrainingFailed, TrapstreetError

# The longest line a child prints is its report, a few kilobytes.
MAX_LINE_BYTES = 1024 * 1024

# U+0000 as canonical JSON writes it.
NUL = b"\\u0000"

# What children of ours leave in their output folder under its final name.
RESULTS = frozenset((MARKED_WEIGHTS, REPORT, MEASURED, SURVIVAL_REPORT, SURVIVAL_PAGE, WHITE_BOX_REPORT))

# What Python, torch and the C++ library say when an allocation fails at the kernel's limit.
OUT_OF_MEMORY = (b"MemoryError", b"can't allocate memory", b"bad_alloc")

# State of the error raised when `should_stop` turned true. No child can say it: it ends an attempt without a word to anybody.
STOPPED = "stopped"

OnEvent = Callable[[dict[str, Any]], None]

# What a child of ours takes, and what it answers.
Order = ChildOrder | SurvivalOrder | WhiteBoxOrder | ComparisonOrder | CrossOrder
R = TypeVar("R", bound=Record)


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
    PolicyRefused if the weights are a program and this machine has nothing to confine it, or if the output folder holds
    anything but results.
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


def run_comparison(
    order: ComparisonOrder,
    on_event: OnEvent,
    should_stop: Callable[[], bool],
    *,
    environment: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> ComparisonReport:
    """Count how many of an endpoint's answers some weights repeat, in a child process that is given no key.

    Raises: TrainingFailed and PolicyRefused as `run_child` does.
    """
    around = Surroundings(limits or Limits(), environment or {})
    return _run(ComparisonReport, order, PlainKey(b""), on_event, should_stop, around)


def run_cross_test(
    order: CrossOrder,
    on_event: OnEvent,
    should_stop: Callable[[], bool],
    *,
    environment: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> CrossReport:
    """Ask a party's committed model what two disputes asked, in a child process that is given neither key nor label.

    Raises: TrainingFailed and PolicyRefused as `run_child` does.
    """
    around = Surroundings(limits or Limits(), environment or {})
    return _run(CrossReport, order, PlainKey(b""), on_event, should_stop, around)


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
    last: dict[str, Any] = {}
    require_folder_of_results(Path(order.output_path))
    frames = BytesIO()
    write_frames(frames, order, secrets)
    command = child_command(processes_of(order), order.MODULE)
    read = [Path(path) for path in (*order.model_paths, *order.data_paths)]
    with confined_child(command, read, Path(order.output_path), confinement, around) as child:
        watch = Watch(limits, child.pid, Path(order.output_path))

        def look() -> None:
            if should_stop():
                raise TrainingFailed("the training was stopped", state=STOPPED)
            watch.look()

        def on_output(buffer: bytearray) -> None:
            nonlocal last
            for line in _take_lines(buffer):
                last = _parse_event(line)
                on_event(last)

        diagnostics = talk(child, bytearray(frames.getbuffer()), look, on_output)
        status = wait_for(child, look)
    if status != 0 and last.get("event") != "error" and any(word in diagnostics for word in OUT_OF_MEMORY):
        raise needs_more_memory(limits)
    return _report_of(report_type, last, status, order.statement.root)


def require_folder_of_results(folder: Path) -> None:
    """Refuse an output folder with anything but results in it: a training may read, replace and remove what lies there.

    Raises: PolicyRefused with what is in the way.
    """
    for path in sorted(folder.iterdir()):
        name = path.name.removesuffix(".partial")
        if name not in RESULTS and not name.startswith((UNFINISHED_RUN, SCRATCH)):
            raise PolicyRefused(
                f"{folder} holds {path.name!r}, which a training there could read, replace or remove: give it a folder "
                "of its own"
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
            in_plain_words(str(last.get("message"))),
            pointer=in_plain_words(str(last.get("pointer", ""))),
            state=code if code in _codes_of(TrapstreetError) else TrainingFailed.code,
        )
    if status != 0 or last.get("event") != "done":
        raise TrainingFailed(f"the training child ended with status {status} and no report")
    try:
        report = report_type.from_json(last.get("report"))
        is_storable = NUL not in report.encode()  # Postgres keeps every character but this one
    except Malformed as error:
        message = in_plain_words(error.message)
        raise TrainingFailed(f"the training child's report is malformed: {message}") from error
    if not is_storable or getattr(report, "root", None) != root:
        raise TrainingFailed("the training child's report is not about this registration")
    return report


def _codes_of(kind: type[TrapstreetError]) -> set[str]:
    return {kind.code}.union(*map(_codes_of, kind.__subclasses__()))
