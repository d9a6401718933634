"""Weights that an accused delivered, held against an endpoint's answers: what is asked, and what is counted. No torch here.

An answer is repeated only whole: one class if the endpoint gave one, the same set if it gave several, the same order if it
ranked them. Anything less could be arranged: an endpoint that lists an old network's class beside a stolen one's would
have both the evidence and its excuse.

Invariants: outputs are numbered in the order of the registered classes, or as the endpoint itself numbers them; nobody
names their order afterwards, for a free choice of it can be fitted to the answers.
Source: docs/protocol.md section 8.2.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from app.canonical import Record, as_form, choice, flag, integer, nullable, octets, sequence
from app.embedding.child_order import PATH
from app.keys.statement import Statement
from app.protocol.transcript import MAX_LABELS

# An input of 16 MiB in hex, and what stands around it.
MAX_QUESTION_BYTES = 36 * 1024 * 1024

DIGEST = octets(32)
COUNT = integer(0)


@dataclass(frozen=True)
class Question(Record):
    """One line of the questions: a canonical input, and the numbers of the outputs that the endpoint's answer names.

    No numbers: the endpoint named what no output can stand for, so nothing repeats it.
    """

    input: bytes = field(metadata=as_form(octets()))
    answer: tuple[int, ...] = field(metadata=as_form(sequence(COUNT, 0, MAX_LABELS)))
    is_ranked: bool = field(metadata=as_form(flag()))
    is_trigger: bool = field(metadata=as_form(flag()))


@dataclass(frozen=True)
class DeliveredWeights(Record):
    """What a worker has to fetch for one comparison."""

    weights: bytes = field(metadata=as_form(DIGEST))
    # Weights of an exported program need it again.
    program: bytes | None = field(metadata=as_form(nullable(DIGEST)))
    questions: bytes = field(metadata=as_form(DIGEST))

    def artifacts(self) -> dict[str, bytes | None]:
        """Name what a worker has to fetch."""
        return {"weights": self.weights, "program": self.program, "questions": self.questions}


@dataclass(frozen=True)
class ComparisonOrder(Record):
    """One comparison; the questions are lines of `Question`."""

    NAME: ClassVar[str] = "comparison-order"
    # The program that takes this order.
    MODULE: ClassVar[str] = "app.embedding.white_box.comparison_child"

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
class ComparisonReport(Record):
    """How many of the endpoint's answers the weights repeated, in all and to triggers."""

    NAME: ClassVar[str] = "comparison-report"

    root: bytes = field(metadata=as_form(DIGEST))
    weights_sha256: bytes = field(metadata=as_form(DIGEST))
    repeated: int = field(metadata=as_form(COUNT))
    answered: int = field(metadata=as_form(COUNT))
    triggers_repeated: int = field(metadata=as_form(COUNT))
    triggers_answered: int = field(metadata=as_form(COUNT))
