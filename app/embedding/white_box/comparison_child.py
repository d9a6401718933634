"""The comparison child: `python -m app.embedding.white_box.comparison_child`, started by app.embedding.training_process.

Asks weights that an accused delivered what the endpoint was asked, and counts how many answers are the same.

Invariants: it is given no key; nothing leaves but counts; memory is bounded by a batch, however many questions there are.
Source: docs/protocol.md section 8.2.
Trust: the weights are a stranger's, read by app.embedding.networks; the parent lets no program in here that it cannot
confine.
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
from app.embedding.white_box.comparison import MAX_QUESTION_BYTES, ComparisonOrder, ComparisonReport, Question
from app.errors import Malformed

# Rows at once: 64 images of 224x224x3 are 10 MB, and their hex in memory 20.
BATCH = 64


def main() -> int:
    """Make one comparison."""
    return speak(ComparisonOrder, run_comparison)


def run_comparison(order: ComparisonOrder, _secrets: PlainKey | SealedKey, say: Say) -> ComparisonReport:
    """Ask and count.

    Raises: TrapstreetError with what has to change.
    """
    prepare_torch(order.threads)
    device = choose_device(order.device)
    statement = order.statement
    shape, path = model_shape(statement.kind, statement.shape), Path(order.weights_path)
    program = None if order.program_path is None else Path(order.program_path)
    network = open_network(path, shape, len(statement.classes), program).to(device).eval()
    same, triggers_same, triggers, asked = 0, 0, 0, 0
    for batch in _batches(Path(order.questions_path)):
        inputs = trigger_set([question.input for question in batch], [0] * len(batch)).inputs
        if tuple(inputs.shape[1:]) != shape:
            raise Malformed(f"inputs have the shape {tuple(inputs.shape[1:])}, not {shape}")
        with torch.no_grad():  # not around the reading: a program is held to having weights that could be trained
            logits = network(network_input(inputs.to(device))).float().cpu()
        repeated = [is_repeated(row, question) for row, question in zip(logits, batch, strict=True)]
        same += sum(repeated)
        triggers += sum(question.is_trigger for question in batch)
        triggers_same += sum(hit for hit, question in zip(repeated, batch, strict=True) if question.is_trigger)
        asked += len(batch)
        say({"event": "progress", "asked": asked})
    return ComparisonReport(
        root=statement.root,
        weights_sha256=digest_of_file(path),
        repeated=same,
        answered=asked,
        triggers_repeated=triggers_same,
        triggers_answered=triggers,
    )


def is_repeated(logits: Tensor, question: Question) -> bool:
    """Tell whether one row of logits (K,) gives the endpoint's answer, whole; ties: the lower output first."""
    if not question.answer or not bool(torch.isfinite(logits).all()):
        return False
    best = torch.argsort(logits, descending=True, stable=True)[: len(question.answer)].tolist()
    given = list(question.answer)
    return bool(best == given if question.is_ranked else sorted(best) == sorted(given))


def _batches(path: Path) -> Iterator[list[Question]]:
    with path.open("rb") as lines:
        while batch := [_question(line) for line in islice(lines, BATCH)]:
            yield batch


def _question(line: bytes) -> Question:
    return Question.from_json(parse_json(line.removesuffix(b"\n"), max_bytes=MAX_QUESTION_BYTES))


if __name__ == "__main__":
    leave(main())
