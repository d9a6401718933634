"""A party's committed model, asked what an endpoint was asked in two disputes: the questions, and what is answered. No torch.

Covers are counted here and now; what the model answers to triggers goes back whole, for only the court knows their labels
and walks the evidence with them.

Invariants: outputs are numbered in the order of the party's own registered classes; no label of a trigger comes here.
Source: docs/protocol.md section 10.1.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from app.canonical import Record, as_form, choice, integer, nullable, octets, sequence
from app.embedding.child_order import PATH
from app.keys.statement import MAX_CLASSES, Statement
from app.keys.trigger_set import MAX_TRIGGERS
from app.protocol.cross_test import Repeated
from app.protocol.transcript import MAX_LABELS

# Of each transcript, so that a report is half a megabyte at most: a child's line may have one.
MAX_NUMBERS = 40_000

DIGEST = octets(32)
OUTPUT = integer(0, MAX_CLASSES - 1)
TRANSCRIPT = integer(0, 1)


def depth_of(triggers: int, classes: int) -> int:
    """Give how many outputs of each trigger's ranking are reported, the best first; the others count as not ranked."""
    return max(1, min(classes, MAX_LABELS, MAX_NUMBERS // max(triggers, 1)))


@dataclass(frozen=True)
class CrossQuestion(Record):
    """One line of the questions: a canonical input of one of both transcripts.

    Of a trigger `depth` outputs are wanted. Of a cover (depth 0) `answer` are the outputs that the endpoint's answer stands
    for; no numbers: it stands for none, so nothing repeats it.
    """

    input: bytes = field(metadata=as_form(octets()))
    transcript: int = field(metadata=as_form(TRANSCRIPT))
    depth: int = field(metadata=as_form(integer(0, MAX_LABELS)))
    answer: tuple[int, ...] = field(metadata=as_form(sequence(OUTPUT, 0, MAX_LABELS)))


@dataclass(frozen=True)
class DeliveredModel(Record):
    """What a worker has to fetch to ask one model."""

    weights: bytes = field(metadata=as_form(DIGEST))
    # Weights of an exported program need it again.
    program: bytes | None = field(metadata=as_form(nullable(DIGEST)))
    questions: bytes = field(metadata=as_form(DIGEST))

    def artifacts(self) -> dict[str, bytes | None]:
        """Name what a worker has to fetch."""
        return {"weights": self.weights, "program": self.program, "questions": self.questions}


@dataclass(frozen=True)
class CrossOrder(Record):
    """One model to ask; the questions are lines of `CrossQuestion`."""

    NAME: ClassVar[str] = "cross-order"
    # The program that takes this order.
    MODULE: ClassVar[str] = "app.embedding.white_box.cross_test_child"

    statement: Statement = field(metadata=as_form(Statement.form()))
    weights_path: str = field(metadata=as_form(PATH))
    program_path: str | None = field(metadata=as_form(nullable(PATH)))
    questions_path: str = field(metadata=as_form(PATH))
    device: Any = field(metadata=as_form(choice("auto", "cpu", "cuda")))
    threads: int = field(metadata=as_form(integer(0, 1_024)))
    output_path: str = field(metadata=as_form(PATH))

    @property
    def model_paths(self) -> tuple[str, ...]:
        """Give the files that hold networks; a program among them is run only where it can be confined."""
        return tuple(path for path in (self.weights_path, self.program_path) if path is not None)

    @property
    def data_paths(self) -> tuple[str, ...]:
        """Give the files that hold rows of data."""
        return (self.questions_path,)


@dataclass(frozen=True)
class CrossReport(Record):
    """What a model answered: covers counted, and its outputs for the triggers of each transcript, in the order asked.

    No outputs where a value was not finite: the model gave no answer.
    """

    NAME: ClassVar[str] = "cross-report"

    root: bytes = field(metadata=as_form(DIGEST))
    weights_sha256: bytes = field(metadata=as_form(DIGEST))
    covers: tuple[Repeated, ...] = field(metadata=as_form(sequence(Repeated.form(), 2, 2)))
    triggers: tuple[tuple[tuple[int, ...], ...], ...] = field(
        metadata=as_form(sequence(sequence(sequence(OUTPUT, 0, MAX_LABELS), 0, MAX_TRIGGERS), 2, 2))
    )
