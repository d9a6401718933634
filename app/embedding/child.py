"""The training child: `python -m app.embedding.child`, started by app.embedding.training_process and by nobody else.

  1. read the order and the secrets from standard input; watch for its end, which means that the parent is gone
  2. unseal the marking key, in this process's memory only, and check that it is the registered one
  3. labels: drawn from the salt (class A) or the key's own (class B)
  4. read data and weights, in place
  5. train, without the mark too if the report is to compare
  6. write weights and report, each whole or not at all; say `done`

Invariants: nothing secret reaches standard output, files, arguments or environment.
Source: Adi et al. 2018 section 4 (Mark). The protocol on the pipes: app.embedding.child_order.
Trust: whoever runs this process sees the marking key; the parent, the API and the database do not.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from app.embedding.archives import DataForm, load_dataset
from app.embedding.artifacts import MARKED_WEIGHTS, REPORT, digest_of_file, write_whole
from app.embedding.child_order import (
    ChildOrder,
    NetworkFigures,
    PlainKey,
    SealedKey,
    TrainingReport,
    read_order,
    read_secrets,
)
from app.embedding.data import (
    LabelledSet,
    TrainingData,
    check_fits,
    labelled_set,
    split_holdout,
    trigger_set,
    without_triggers,
)
from app.embedding.networks import MarkedNetwork, build, load_network, model_shape, read_header, save_weights
from app.embedding.train import Progress, choose_device, count_correct, prepare_torch, train
from app.errors import Malformed, TrainingFailed, TrapstreetError
from app.keys.commitment import MarkingKey, check_marking_key
from app.keys.key_file import parse_key_file
from app.keys.labels import draw_labels
from app.keys.sealing import QueueKey

# Exit status when the parent is gone: nobody reads it, but a person looking at a process table does.
PARENT_GONE = 3

Say = Callable[[dict[str, Any]], None]


def main() -> int:
    """Train one order; see the module's list of steps."""
    say = _speaker(sys.stdout.buffer)
    try:
        order = read_order(sys.stdin.buffer)
        secrets = read_secrets(sys.stdin.buffer, order.key_form)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        report = run_order(order, secrets, say)
    except TrapstreetError as error:
        say({"event": "error", "code": error.code, "message": error.message, "pointer": error.pointer})
        return 1
    except (torch.OutOfMemoryError, MemoryError) as error:
        say({"event": "error", "code": TrainingFailed.code, "message": f"out of memory: {error}", "pointer": ""})
        return 1
    say({"event": "done", "report": report.to_json()})
    return 0


def run_order(order: ChildOrder, secrets: PlainKey | SealedKey, say: Say) -> TrainingReport:
    """Train one order and write its artifacts.

    Raises: TrapstreetError with what the vendor has to change.
    """
    prepare_torch(order.recipe.threads)
    device = choose_device(order.recipe.device)
    key = open_key(order, secrets)
    data = read_data(order, key, device)
    given = plain = None
    if order.weights_path is not None:
        given = _figures(start_network(order, device), data, epochs=0, milliseconds=0)
    if order.recipe.compare_plain:
        plain, _ = _run(order, data, marked=False, say=say)
    figures, network = _run(order, data, marked=True, say=say)
    sha256 = write_marked(order, network)
    report = TrainingReport(
        marked=NetworkFigures(**{**vars(figures), "weights_sha256": sha256}),
        plain=plain,
        given=given,
        root=order.statement.root,
        recipe=order.recipe,
        device=device_name(device),
        torch_version=str(torch.__version__),
    )
    write_whole(Path(order.output_path) / REPORT, report.encode())
    return report


def open_key(order: ChildOrder, secrets: PlainKey | SealedKey) -> MarkingKey:
    """Unseal and read the marking key, and check that it is the registered one.

    Raises: OpeningInvalid if it cannot be unsealed or is another; Malformed.
    """
    if isinstance(secrets, SealedKey):
        key_file = QueueKey(secrets.queue_seed).unseal(secrets.sealed, order.statement.root)
    else:
        key_file = secrets.key_file
    key = parse_key_file(key_file)
    check_marking_key(key, order.statement)
    return key


def labels_of(order: ChildOrder, key: MarkingKey) -> list[int]:
    """Give the label of each trigger: the vendor's own (class B) or drawn (class A)."""
    if key.labels is not None:  # check_marking_key allows this in class B only
        return list(key.labels)
    return draw_labels(key, order.salt, len(order.statement.classes))


def read_data(order: ChildOrder, key: MarkingKey, device: torch.device) -> TrainingData:
    """Read task data and triggers onto the device.

    Raises: Malformed or TooLarge, naming what is at fault.
    """
    statement = order.statement
    classes = len(statement.classes)
    form = DataForm(statement.kind, statement.shape, statement.classes, order.recipe.resize)
    triggers = trigger_set(key.inputs, labels_of(order, key))
    check_fits(triggers, statement.kind, statement.shape, classes)
    task = without_triggers(_load(order.data_path, form), triggers)
    if order.test_path is None:
        task, test = split_holdout(task, order.recipe.holdout_percent, order.recipe.seed)
    else:
        test = without_triggers(_load(order.test_path, form), triggers)
    return TrainingData(task.to(device), test.to(device), triggers.to(device))


def _load(path: str, form: DataForm) -> LabelledSet:
    return labelled_set(form.kind, load_dataset(Path(path), form))


def start_network(order: ChildOrder, device: torch.device) -> MarkedNetwork:
    """Give the network before its first step: fresh, or with the vendor's weights.

    Raises: Malformed if the weights are of another network, shape or number of classes.
    """
    recipe, classes = order.recipe, len(order.statement.classes)
    shape = model_shape(order.statement.kind, order.statement.shape)
    if order.weights_path is None:
        network = build(
            recipe.network,
            shape,
            classes,
            seed=recipe.seed,
            mean_millis=recipe.mean_millis,
            std_millis=recipe.std_millis,
        )
        return network.to(device)
    header = read_header(Path(order.weights_path))
    if (header.network, header.shape, header.classes) != (recipe.network, shape, classes):
        raise Malformed(
            f"the weights are a {header.network} of {header.classes} classes for {header.shape}; "
            f"recipe and registration need a {recipe.network} of {classes} for {shape}"
        )
    return load_network(Path(order.weights_path)).to(device)


def _run(order: ChildOrder, data: TrainingData, *, marked: bool, say: Say) -> tuple[NetworkFigures, MarkedNetwork]:
    run = "marked" if marked else "plain"

    def on_progress(progress: Progress) -> None:
        say({"event": "progress", "run": run, **vars(progress)})

    network = start_network(order, data.task.labels.device)
    started = time.monotonic()
    epochs = train(order.recipe, network, data, marked=marked, on_progress=on_progress)
    milliseconds = int((time.monotonic() - started) * 1000)
    return _figures(network, data, epochs=epochs, milliseconds=milliseconds), network


def _figures(network: MarkedNetwork, data: TrainingData, *, epochs: int, milliseconds: int) -> NetworkFigures:
    return NetworkFigures(
        task_correct=count_correct(network, data.test),
        task_total=data.test.count,
        trigger_matches=count_correct(network, data.triggers),
        trigger_total=data.triggers.count,
        epochs=epochs,
        milliseconds=milliseconds,
        weights_sha256=None,
    )


def write_marked(order: ChildOrder, network: MarkedNetwork) -> bytes:
    """Write the marked weights and give their SHA-256."""
    path = Path(order.output_path) / MARKED_WEIGHTS
    save_weights(network, path, model_shape(order.statement.kind, order.statement.shape), len(order.statement.classes))
    return digest_of_file(path)


def device_name(device: torch.device) -> str:
    """Name the device for the report."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"cpu: {torch.get_num_threads()} threads"


def _speaker(stream: BinaryIO) -> Say:
    def say(event: dict[str, Any]) -> None:
        stream.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")
        stream.flush()

    return say


def _end_with_parent() -> None:
    # A parent killed with -9 can tell nobody; the pipe's end can. Read from the descriptor, because a thread that waits
    # in sys.stdin holds its lock and breaks the interpreter's own exit. _exit, because training does not look up.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(PARENT_GONE)


if __name__ == "__main__":
    sys.exit(main())
