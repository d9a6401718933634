"""The child of a cross-test: `python -m app.embedding.white_box.cross_test_child`, started by app.embedding.training_process.

Asks a party's committed model what an endpoint was asked in two disputes: counts covers that it answers alike, and tells
what it answers to triggers, whose labels it is not told.

Invariants: it is given no key and no label; memory is bounded by a batch and by what a report may hold.
Source: docs/protocol.md section 10.1.
Trust: the model is a stranger's, read by app.embedding.networks; the parent lets no program in here that it cannot confine.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from app.canonical import parse_json
from app.embedding.artifacts import digest_of_file
from app.embedding.child_order import PlainKey, SealedKey
from app.embedding.child_talk import Say, leave, speak
from app.embedding.data import network_input, trigger_set
from app.embedding.networks import model_shape, open_network
from app.embedding.train import choose_device, prepare_torch
from app.embedding.white_box.comparison import MAX_QUESTION_BYTES
from app.embedding.white_box.comparison_child import BATCH
from app.embedding.white_box.cross_test import CrossOrder, CrossQuestion, CrossReport
from app.errors import Malformed
from app.protocol.cross_test import Repeated


def main() -> int:
    """Ask one model."""
    return speak(CrossOrder, run_cross_test)


def run_cross_test(order: CrossOrder, _secrets: PlainKey | SealedKey, say: Say) -> CrossReport:
    """Ask, count and tell.

    Raises: TrapstreetError with what has to change.
    """
    prepare_torch(order.threads)
    device = choose_device(order.device)
    statement = order.statement
    shape, path = model_shape(statement.kind, statement.shape), Path(order.weights_path)
    program = None if order.program_path is None else Path(order.program_path)
    network = open_network(path, shape, len(statement.classes), program).to(device).eval()
    repeated, answered = [0, 0], [0, 0]
    triggers: tuple[list[tuple[int, ...]], ...] = ([], [])
    asked = 0
    for batch in _batches(Path(order.questions_path)):
        inputs = trigger_set([question.input for question in batch], [0] * len(batch)).inputs
        if tuple(inputs.shape[1:]) != shape:
            raise Malformed(f"inputs have the shape {tuple(inputs.shape[1:])}, not {shape}")
        with torch.no_grad():  # not around the reading: a program is held to having weights that could be trained
            logits = network(network_input(inputs.to(device))).float().cpu()
        for row, question in zip(logits, batch, strict=True):
            if question.depth:
                triggers[question.transcript].append(best_of(row, question.depth))
            else:
                answered[question.transcript] += 1
                repeated[question.transcript] += is_alike(row, question)
        asked += len(batch)
        say({"event": "progress", "asked": asked})
    return CrossReport(
        root=statement.root,
        weights_sha256=digest_of_file(path),
        covers=tuple(map(Repeated, repeated, answered)),
        triggers=tuple(map(tuple, triggers)),
    )


def best_of(logits: Tensor, count: int) -> tuple[int, ...]:
    """Give the best outputs of one row of logits (K,), ties: the lower output first; none if a value is not finite."""
    if not bool(torch.isfinite(logits).all()):
        return ()
    return tuple(torch.argsort(logits, descending=True, stable=True)[:count].tolist())


def is_alike(logits: Tensor, question: CrossQuestion) -> bool:
    """Tell whether one row of logits (K,) gives the set of outputs that the endpoint's answer stands for, whole."""
    return bool(question.answer) and sorted(best_of(logits, len(question.answer))) == sorted(question.answer)


def _batches(path: Path) -> Iterator[list[CrossQuestion]]:
    with path.open("rb") as lines:
        while batch := [_question(line) for line in islice(lines, BATCH)]:
            yield batch


def _question(line: bytes) -> CrossQuestion:
    return CrossQuestion.from_json(parse_json(line.removesuffix(b"\n"), max_bytes=MAX_QUESTION_BYTES))


if __name__ == "__main__":
    leave(main())
