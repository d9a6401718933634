"""Two registrants, one model: each party's committed model is tested with the other's triggers, and no date decides.

A thief that registers a mark of its own in a stolen model can be as early as the owner, or earlier. But its model came from
the owner's and so carries both marks, and the owner's carries its own alone.

Invariants: pure; which outputs stand for which classes follows from the two statements, each older than its own labels; a
model counts only if it answers covers as the endpoint and carries the mark of its own party; whatever is not exactly one
model with both marks against one with its own is not decided.
Source: docs/protocol.md section 10.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from app.canonical import Record, as_form, flag, integer, nullable, octets, sequence
from app.errors import Malformed
from app.keys.statement import Statement, fold_name

# So much of what the endpoint answered to covers a model must answer alike: a decoy proves nothing.
COVERS_PERCENT: Final = 90

# Of one dispute: whoever registers again and again makes the others deliver no oftener than this.
MAX_CROSS_TESTS: Final = 16

FIRST, NOT_DECIDED = "first", "not_decided"

# Why a test ended as it did. Of the first two the counts say nothing: the log shows the one, both statements the other.
VERDICT_FELL, NOT_COMPARABLE = "verdict_fell", "not_comparable"
NOT_DELIVERED, NOT_REPEATED, OWN_MARK_MISSING = "not_delivered", "not_repeated", "own_mark_missing"
ONE_CARRIES_BOTH, BOTH_CARRY_BOTH, NONE_CARRIES_BOTH = "one_carries_both", "both_carry_both", "none_carries_both"
UNWEIGHED: Final = (VERDICT_FELL, NOT_COMPARABLE)


@dataclass(frozen=True)
class Repeated(Record):
    """How many of the endpoint's answers to covers of one transcript a model repeated."""

    repeated: int = field(metadata=as_form(integer(0)))
    answered: int = field(metadata=as_form(integer(0)))

    def check(self, pointer: str) -> None:
        """Refuse more repeated than answered."""
        if self.repeated > self.answered:
            raise Malformed("more was repeated than answered", pointer=f"{pointer}/repeated")


@dataclass(frozen=True)
class Mark(Record):
    """What the walk over one dispute's triggers came to with a model's answers; carried if E reached that dispute's T."""

    asked: int = field(metadata=as_form(integer(0)))
    matches: int = field(metadata=as_form(integer(0)))
    is_carried: bool = field(metadata=as_form(flag()))

    def check(self, pointer: str) -> None:
        """Refuse more matches than were asked."""
        if self.matches > self.asked:
            raise Malformed("more matched than was asked", pointer=f"{pointer}/matches")


@dataclass(frozen=True)
class Party(Record):
    """One side of a cross-test: its dispute in the log, and what its model answered.

    `model` is the entry of what it delivered, older than the other's filing; null if it delivered nothing that could be
    asked, and then there are no counts. `covers` and `marks` hold one item for each transcript, in the order of the parties.
    """

    filing: int = field(metadata=as_form(integer(0)))
    verdict: int = field(metadata=as_form(integer(0)))
    model: int | None = field(metadata=as_form(nullable(integer(0))))
    sha256: bytes = field(metadata=as_form(octets(32, or_empty=True)))
    covers: tuple[Repeated, ...] = field(metadata=as_form(sequence(Repeated.form(), 0, 2)))
    marks: tuple[Mark, ...] = field(metadata=as_form(sequence(Mark.form(), 0, 2)))
    is_first: bool = field(metadata=as_form(flag()))

    def check(self, pointer: str) -> None:
        """Refuse a model without its counts, and counts without a model."""
        found = (len(self.sha256), len(self.covers), len(self.marks))
        if found != ((0, 0, 0) if self.model is None else (32, 2, 2)):
            raise Malformed("a model comes with its digest and counts of both transcripts", pointer=f"{pointer}/model")

    @property
    def repeats_covers(self) -> bool:
        """Tell whether the model answers covers as the endpoint does."""
        repeated, answered = sum(part.repeated for part in self.covers), sum(part.answered for part in self.covers)
        return answered > 0 and 100 * repeated >= COVERS_PERCENT * answered


@dataclass(frozen=True)
class CrossOutcome:
    """What a cross-test came to: the place of the party that was first, if it was decided, and why."""

    first: int | None
    reason: str

    @property
    def result(self) -> str:
        """Name the result."""
        return NOT_DECIDED if self.first is None else FIRST


def decide_cross_test(parties: Sequence[Party]) -> CrossOutcome:
    """Decide between two parties by what their models answered: the first reason that applies."""
    if any(party.model is None for party in parties):
        return CrossOutcome(None, NOT_DELIVERED)
    if not all(party.repeats_covers for party in parties):
        return CrossOutcome(None, NOT_REPEATED)
    if not all(party.marks[place].is_carried for place, party in enumerate(parties)):
        return CrossOutcome(None, OWN_MARK_MISSING)
    both = [party.marks[1 - place].is_carried for place, party in enumerate(parties)]
    if all(both):
        return CrossOutcome(None, BOTH_CARRY_BOTH)
    if not any(both):
        return CrossOutcome(None, NONE_CARRIES_BOTH)
    return CrossOutcome(both.index(False), ONE_CARRIES_BOTH)


def namesakes(own: Statement, other: Statement) -> tuple[int, ...] | None:
    """Give for each class of one statement its class in the other; None if one's model cannot be asked the other's inputs.

    By name if both name the same classes; else by place if both have as many.
    """
    if (own.kind, own.shape, len(own.classes)) != (other.kind, other.shape, len(other.classes)):
        return None
    places = {fold_name(name): place for place, name in enumerate(other.classes)}
    named = [places.get(fold_name(name)) for name in own.classes]
    if any(place is None for place in named):
        return tuple(range(len(own.classes)))
    return tuple(place for place in named if place is not None)
