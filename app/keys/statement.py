"""The statement: what a vendor says of a trigger set when registering it. With its root it is the verification key.

Invariants: `Statement.parse(b).encode() == b`; every limit of docs/protocol.md section 2 holds; class names differ after NFC,
trim and casefold.
Source: docs/protocol.md sections 2 and 5.
"""

import unicodedata
from dataclasses import dataclass, field
from typing import Any, ClassVar

from app.canonical import (
    Record,
    as_form,
    choice,
    integer,
    nullable,
    octets,
    parse_json,
    sequence,
    text,
)
from app.errors import Malformed, StatementNotCanonical
from app.keys.trigger_set import (
    KINDS,
    MAX_DIMENSION,
    MAX_FAMILIES,
    MAX_RANK,
    MAX_TRIGGERS,
    Family,
    check_families,
    check_shape,
)
from app.merkle.checkpoint import ORIGIN_PATTERN

MIN_CLASSES, MAX_CLASSES = 2, 65_536

# A beacon source: the service's own nonce alone, or a drand chain by its hash (docs/protocol.md section 5).
BEACON_PATTERN = "local|drand:[0-9a-f]{64}"


@dataclass(frozen=True)
class CoverCommitment(Record):
    """A commitment to labelled covers: Merkle root and count."""

    root: bytes = field(metadata=as_form(octets(32)))
    count: int = field(metadata=as_form(integer(1, MAX_TRIGGERS)))


@dataclass(frozen=True)
class Statement(Record):
    """What is registered: the root over all trigger commitments, and how to read it."""

    NAME: ClassVar[str] = "statement"

    log: str = field(metadata=as_form(text(1, 200, pattern=ORIGIN_PATTERN)))
    vendor_key: bytes = field(metadata=as_form(octets(32)))
    root: bytes = field(metadata=as_form(octets(32)))
    count: int = field(metadata=as_form(integer(1, MAX_TRIGGERS)))
    kind: Any = field(metadata=as_form(choice(*KINDS)))
    shape: tuple[int, ...] = field(metadata=as_form(sequence(integer(1, MAX_DIMENSION), 1, MAX_RANK)))
    classes: tuple[str, ...] = field(metadata=as_form(sequence(text(1, 200), MIN_CLASSES, MAX_CLASSES)))
    families: tuple[Family, ...] = field(metadata=as_form(sequence(Family.form(), 1, MAX_FAMILIES)))
    label_source: Any = field(metadata=as_form(choice("beacon", "vendor")))
    beacon: str = field(metadata=as_form(text(1, 100, pattern=BEACON_PATTERN)))
    covers: CoverCommitment | None = field(metadata=as_form(nullable(CoverCommitment.form())))
    unmarked_model: bytes | None = field(metadata=as_form(nullable(octets(32))))

    def check(self, pointer: str) -> None:
        """Refuse shapes, families and class names that break the limits."""
        check_shape(self.kind, self.shape, f"{pointer}/shape")
        check_families(self.families, self.count, f"{pointer}/families")
        first: dict[str, int] = {}
        for index, name in enumerate(self.classes):
            if first.setdefault(fold_name(name), index) != index:
                raise Malformed(
                    f"class names must differ after NFC, trim and casefold: {name!r} stands twice",
                    pointer=f"{pointer}/classes/{index}",
                )

    @property
    def assurance_class(self) -> str:
        """Give `A` for beacon-drawn labels, `B` for labels chosen by the vendor."""
        return "A" if self.label_source == "beacon" else "B"

    def family(self, name: str) -> Family:
        """Find a family by name.

        Raises: Malformed if the statement has none of that name.
        """
        for family in self.families:
            if family.name == name:
                return family
        names = ", ".join(family.name for family in self.families)
        raise Malformed(f"this registration has no family {name!r}; it has {names}", pointer="/family")


def fold_name(name: str) -> str:
    """Bring a class name or endpoint label to the form in which names are compared."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).strip().casefold())


def parse_statement(data: bytes) -> Statement:
    """Read a statement's one byte string.

    Raises: Malformed with a pointer; StatementNotCanonical if only the form of the bytes is wrong.
    """
    try:
        value = parse_json(data)
    except Malformed as error:
        raise StatementNotCanonical(f"the statement is {error.message}") from error
    return Statement.from_json(value)
