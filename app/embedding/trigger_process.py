"""Run the child that makes triggers from a process without numpy.

Vendors run this on their own machine, beside their keys; but the pictures and the network that it reads may be anybody's.

Invariants: the child runs under all that this machine has to confine it, within the limits of a training; its answer passes
through no file.
Trust: the child is ours, the data it reads is not: what it answers is parsed as from a stranger.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.canonical import parse_loose_json
from app.embedding.confinement.child import Surroundings, confined_child, talk, wait_for
from app.embedding.confinement.limits import Limits, Watch
from app.embedding.confinement.sandbox import find_confinement
from app.embedding.trigger_order import TriggerOrder
from app.errors import TrainingFailed

MAX_ANSWER_BYTES = 1 << 31


def run_trigger_child(order: TriggerOrder, limits: Limits | None = None) -> dict[str, Any]:
    """Give the child's answer: inputs and families, or its error.

    Raises: TrainingFailed if it ends without one, or takes more memory or time than it may.
    """
    limits = limits or Limits()
    # Absolute, because the child starts in another folder.
    images, data, model = (
        None if path is None else str(Path(path).absolute())
        for path in (order.images_path, order.data_path, order.model_path)
    )
    order = replace(order, images_path=images, data_path=data, model_path=model)
    read = [Path(path) for path in (images, data, model) if path is not None]
    command = [sys.executable, "-m", TriggerOrder.MODULE]
    answer = bytearray()

    def on_output(buffer: bytearray) -> None:
        answer.extend(buffer)
        buffer.clear()
        if len(answer) > MAX_ANSWER_BYTES:
            raise TrainingFailed("the child that makes triggers answered without an end")

    with (
        tempfile.TemporaryDirectory(prefix="trapstreet-") as folder,
        confined_child(command, read, Path(folder), find_confinement(limits), Surroundings(limits)) as child,
    ):
        watch = Watch(limits, child.pid, Path(folder))
        talk(child, bytearray(order.encode() + b"\n"), watch.look, on_output)
        status = wait_for(child, watch.look)
    if status != 0:
        raise TrainingFailed(f"the child that makes triggers ended with status {status}")
    value = parse_loose_json(bytes(answer), max_bytes=MAX_ANSWER_BYTES)
    if not isinstance(value, dict):
        raise TrainingFailed("the child that makes triggers answered what is no answer")
    return value
