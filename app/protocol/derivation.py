"""An interface by a fixed rule: from the endpoint's metadata, and from its answers to covers committed before the beacon.

Nobody chooses anything after the labels are drawn, so such an interface is free; where somebody could have, by naming an
adapter or by silence, it has a price (`derivation_price`). Steps: 1. each candidate (adapter, options,
preprocessing; `Candidates` gives them in order) is asked the same first covers, five at first; who answers none of those is
out; 2. the purest candidate is asked the covers of every class; 3. a class is mapped to by the label that most of its
covers got, if at least 20 were answered and more than half of those asked agree; else it is not mapped.

Whoever can silence an endpoint for moments, say with his own account's limit, knows the labels when he does it. So silence
chooses no label: at most one label can be that of more than half of the covers asked. It can keep a class from being mapped;
such classes are counted and have a price.

Purity counts the covers that agree with the most frequent label of their class, each divided by the number of classes
that share this label: an endpoint that always says the same is not pure.

Invariants: what is asked next follows from the covers, the candidates and the answers so far; pure.
Source: docs/protocol.md section 7.1; the numbers and the order are ours.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar, Final

from app.canonical import (
    Record,
    as_form,
    choice,
    integer,
    json_object,
    nullable,
    octets,
    parse_json,
    sequence,
    text,
    timestamp,
)
from app.errors import Malformed
from app.keys.cover_set import CoverTable
from app.keys.statement import Statement
from app.keys.trigger_set import MAX_TRIGGERS
from app.protocol.interface import Interface
from app.protocol.transcript import MAX_LABEL_CHARACTERS, MAX_LABELS

# The version of the rule: other candidates, numbers or orders are another rule, and old bundles keep theirs.
RULE: Final = 1

# A class is mapped by at least so many answers (docs/protocol.md section 7.1).
MIN_ANSWERS: Final = 20
# Enough that a label which a model of 80 % accuracy gives is the majority but once in a hundred thousand classes.
ASKED_A_CLASS: Final = 40
MAX_ASKED: Final = 20_000

# The first part: classes it is taken from, covers of each at least, and covers in all at least.
FIRST_CLASSES: Final = 20
FIRST_OF_A_CLASS: Final = 5
FIRST_COVERS: Final = 50
# Whoever answers none of the first five covers speaks another protocol.
SCREENED: Final = 5

MAX_METADATA_BYTES: Final = 64 * 1024
MAX_DERIVATIONS: Final = 1024

Pair = tuple[int, int]
Answers = Mapping[Pair, tuple[str, ...]]


@dataclass(frozen=True)
class MetadataAnswer(Record):
    """What the endpoint said of itself at a path of ours; nothing arrived if `status` is null."""

    adapter: str = field(metadata=as_form(text(1, 40)))
    path: str = field(metadata=as_form(text(1, 1000)))
    status: int | None = field(metadata=as_form(nullable(integer(100, 999))))
    response: bytes = field(metadata=as_form(octets()))
    address: str = field(metadata=as_form(text(0, 64)))
    certificate_sha256: bytes = field(metadata=as_form(octets(32, or_empty=True)))


@dataclass(frozen=True)
class DerivationHead(Record):
    """The first line of a derivation's file: where it was made, and what came of it (`interface`, null if nothing did).

    `at` is the part of the address that adapters take as options (model, version), as the claimant gave it; `ordinal` counts
    the registration's derivations; `bits` is what this one costs; `adapter` is the one that the claimant named, null where
    the endpoint's metadata named them.
    """

    NAME: ClassVar[str] = "derivation"

    registration: int = field(metadata=as_form(integer(0)))
    ordinal: int = field(metadata=as_form(integer(1, MAX_DERIVATIONS)))
    bits: int = field(metadata=as_form(integer(0)))
    rule: int = field(metadata=as_form(choice(RULE)))
    endpoint: str = field(metadata=as_form(text(1, 2000)))
    at: dict[str, Any] = field(metadata=as_form(json_object()))
    adapter: str | None = field(metadata=as_form(nullable(text(1, 40))))
    metadata: tuple[MetadataAnswer, ...] = field(metadata=as_form(sequence(MetadataAnswer.form(), 0, 64)))
    interface: Interface | None = field(metadata=as_form(nullable(Interface.form())))


@dataclass(frozen=True)
class DerivationQuery(Record):
    """One cover put to one candidate, in the order asked: exact bytes, and what the response says."""

    NAME: ClassVar[str] = "derivation-query"

    candidate: int = field(metadata=as_form(integer(0, 1000)))
    cover: int = field(metadata=as_form(integer(0, MAX_TRIGGERS - 1)))
    sent_at: str = field(metadata=as_form(timestamp()))
    status: int | None = field(metadata=as_form(nullable(integer(100, 999))))
    labels: tuple[str, ...] = field(metadata=as_form(sequence(text(0, MAX_LABEL_CHARACTERS), 0, MAX_LABELS)))
    error: str = field(metadata=as_form(text(0, 64, pattern="[a-z0-9_]*")))
    address: str = field(metadata=as_form(text(0, 64)))
    certificate_sha256: bytes = field(metadata=as_form(octets(32, or_empty=True)))
    request: bytes = field(metadata=as_form(octets()))
    response: bytes = field(metadata=as_form(octets()))

    @property
    def pair(self) -> Pair:
        """Give candidate and cover."""
        return self.candidate, self.cover


@dataclass(frozen=True)
class Derivation:
    """A derivation whole; `queries` may be left out where only the price is wanted."""

    head: DerivationHead
    queries: tuple[DerivationQuery, ...]

    def encode(self) -> bytes:
        """Give the file's bytes, whose SHA-256 the log holds."""
        return b"".join(record.encode() + b"\n" for record in (self.head, *self.queries))

    @property
    def seen_at(self) -> tuple[set[str], set[bytes]]:
        """Give the addresses and certificates (b"" without TLS) from which answers came."""
        answered = [query for query in self.queries if query.labels]
        return {query.address for query in answered}, {query.certificate_sha256 for query in answered}


def parse_derivation(data: bytes, *, max_bytes: int) -> Derivation:
    """Read a derivation's file.

    Raises: Malformed unless it prints back identically.
    """
    head, *lines = data.split(b"\n")
    if not lines or lines.pop() != b"":
        raise Malformed("a derivation ends with a newline")
    queries = tuple(
        DerivationQuery.from_json(parse_json(line, max_bytes=max_bytes), f"/{number}")
        for number, line in enumerate(lines)
    )
    return Derivation(DerivationHead.from_json(parse_json(head, max_bytes=max_bytes)), queries)


@dataclass(frozen=True)
class ClassFound:
    """What the covers of one class got: `label` is the most frequent answer, `agreeing` so many; `mapped` if it counts."""

    index: int
    asked: int
    answered: int
    label: str
    agreeing: int

    @property
    def is_mapped(self) -> bool:
        """Tell whether the label names this class."""
        return self.answered >= MIN_ANSWERS and 2 * self.agreeing > self.asked

    @property
    def is_open(self) -> bool:
        """Tell whether the answers that are missing keep this class from being mapped, if they would have agreed."""
        most = self.agreeing + self.asked - self.answered
        return self.asked >= MIN_ANSWERS and 2 * most > self.asked and not self.is_mapped


@dataclass(frozen=True)
class Rule:
    """The rule over one registration's covers and one endpoint's candidates."""

    statement: Statement
    covers: CoverTable
    candidates: Sequence[Interface]

    def next_pairs(self, answers: Answers) -> list[Pair]:
        """Say what is asked next, given all answers so far; nothing when the rule has come to its end."""
        first = self.first_part
        screening = [(candidate, cover) for candidate in range(len(self.candidates)) for cover in first[:SCREENED]]
        if missing := [pair for pair in screening if pair not in answers]:
            return missing
        compared = [(candidate, cover) for candidate in self.speaking(answers) for cover in first]
        if missing := [pair for pair in compared if pair not in answers]:
            return missing
        best = self.best(answers)
        if best is None:
            return []
        return [(best, cover) for cover in self.asked_of_best if (best, cover) not in answers]

    def interface(self, answers: Answers) -> Interface | None:
        """Give the interface that the answers lead to, or None if no class is mapped."""
        best = self.best(answers)
        if best is None:
            return None
        names: dict[str, list[str]] = {}
        for found in self.classes_found(answers, best, self.asked_of_best):
            if found.is_mapped:
                names.setdefault(found.label, []).append(self.statement.classes[found.index])
        candidate = self.candidates[best]
        label_map = {"by": "explicit", "map": names}
        return Interface(candidate.adapter, candidate.options, candidate.preprocessing, label_map) if names else None

    def open_classes(self, answers: Answers) -> int:
        """Count the classes that missing answers may have kept from being mapped."""
        best = self.best(answers)
        return 0 if best is None else sum(one.is_open for one in self.classes_found(answers, best, self.asked_of_best))

    def speaking(self, answers: Answers) -> list[int]:
        """Give the candidates that answered any of the covers put to each at first."""
        first = self.first_part[:SCREENED]
        return [
            candidate
            for candidate in range(len(self.candidates))
            if any(answers.get((candidate, cover)) for cover in first)
        ]

    def best(self, answers: Answers) -> int | None:
        """Give the purest candidate, the first of equals; None if nobody answers."""
        speaking = self.speaking(answers)
        return max(speaking, key=lambda candidate: self.purity(answers, candidate), default=None)

    def purity(self, answers: Answers, candidate: int) -> Fraction:
        """Give a candidate's purity on the first part, from 0 to 1."""
        found = self.classes_found(answers, candidate, self.first_part)
        sharing = Counter(one.label for one in found if one.answered)
        total = sum((Fraction(one.agreeing, sharing[one.label]) for one in found if one.answered), Fraction(0))
        return total / len(self.first_part)

    def classes_found(self, answers: Answers, candidate: int, covers: Sequence[int]) -> list[ClassFound]:
        """Count what the covers of each class got from a candidate, classes in their order."""
        asked: dict[int, list[tuple[str, ...]]] = {}
        for cover in covers:
            asked.setdefault(self.covers.labels[cover], []).append(answers.get((candidate, cover), ()))
        found = []
        for index, got in sorted(asked.items()):
            # The highest label of a list; Counter keeps the order of the covers, so the first of equals is taken.
            label, agreeing = next(iter(Counter(labels[0] for labels in got if labels).most_common(1)), ("", 0))
            found.append(ClassFound(index, len(got), sum(map(bool, got)), label, agreeing))
        return found

    @cached_property
    def first_part(self) -> list[int]:
        """Give the covers that all candidates are compared on: in turn one of each class that can be mapped."""
        classes = [members for members in self._members.values() if len(members) >= MIN_ANSWERS][:FIRST_CLASSES]
        if not classes:
            raise Malformed(f"no class has {MIN_ANSWERS} committed covers, so none can be mapped", pointer="/covers")
        count = max(FIRST_OF_A_CLASS, -(-FIRST_COVERS // len(classes)))
        shares = [members[:count] for members in classes]
        return [share[at] for at in range(count) for share in shares if at < len(share)]

    @cached_property
    def asked_of_best(self) -> list[int]:
        """Give the covers that the purest candidate is asked: the first ones of each class, as many as fit."""
        count = max(MIN_ANSWERS, min(ASKED_A_CLASS, MAX_ASKED // max(1, len(self._members))))
        return sorted(cover for members in self._members.values() for cover in members[:count])

    @cached_property
    def _members(self) -> dict[int, list[int]]:
        members: dict[int, list[int]] = {}
        for cover, label in enumerate(self.covers.labels):
            members.setdefault(label, []).append(cover)
        return dict(sorted(members.items()))
