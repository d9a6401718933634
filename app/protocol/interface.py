"""The interface of a suspect: everything that turns an input into a request and a response into classes, and its price.

Whoever knows the labels could fit an interface to the answers, so an interface that was not fixed by somebody else costs
evidence: its freedom in bits is added to the threshold.

Invariants: the price depends on the record alone, never on answers; a map names registered classes only.
Source: docs/protocol.md section 7.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import factorial
from typing import Any

from app.canonical import (
    Record,
    as_form,
    below,
    choice,
    encode_json,
    integer,
    json_object,
    nullable,
    octets,
    sha256,
    text,
)
from app.errors import Malformed
from app.keys.statement import Statement, fold_name

# What a choice among the built-in adapters and the two simple maps is worth, with room to spare: one byte.
BUILT_IN_BITS = 8
BITS_PER_BYTE = 8

# Dearer than any evidence that a dispute can bring: K = 65,536 and 256 matches give as many bits.
MAX_INTERFACE_BITS = 4096

# Options that only say where the model lives. They are part of the address and cost nothing: what they may hold (segments of
# a path) could stand in the endpoint's path as well, which is free.
ADDRESS_OPTIONS = frozenset({"model", "version", "route"})

MAX_MAPPED_LABELS = 65_536

# Where an address ceases to say where and begins to say how; the encoded signs, because some servers decode them first.
_QUERY = re.compile(r"[?;]|%(?:25|3[fb])", re.IGNORECASE)


@dataclass(frozen=True)
class Interface(Record):
    """Adapter by name, its options, the preprocessing, and the label map; empty objects mean the adapter's defaults."""

    adapter: str = field(metadata=as_form(text(1, 40, pattern=r"[a-z][a-z0-9_]*")))
    options: dict[str, Any] = field(metadata=as_form(json_object()))
    preprocessing: dict[str, Any] = field(metadata=as_form(json_object()))
    label_map: dict[str, Any] = field(metadata=as_form(json_object()))

    def check(self, pointer: str) -> None:
        """Refuse a label map of another form than the three known ones."""
        match self.label_map:
            case {"by": "index" | "name"} if len(self.label_map) == 1:
                return
            case {"by": "explicit", "map": dict(entries)} if len(self.label_map) == 2:
                _check_explicit(entries, f"{pointer}/label_map/map")
            case _:
                raise Malformed(
                    'a label map is {"by": "index"}, {"by": "name"} or {"by": "explicit", "map": {label: [class, …]}}',
                    pointer=f"{pointer}/label_map",
                )

    def digest(self) -> bytes:
        """Give the SHA-256 under which an interface is logged in advance or countersigned."""
        return sha256(self.encode())


@dataclass(frozen=True)
class InterfaceOrigin(Record):
    """Who fixed the interface.

    `claimant`: its price counts. `logged`: `entry` is the index of a model entry with the interface's digest, older than the
    registration's beacon. `countersigned`: `key` (the accused's or an arbiter's) signed the interface's bytes. `derived`: the
    service derived it by the fixed rule of `derivation`, and `entry` is its own entry with the derivation's digest.
    """

    kind: str = field(metadata=as_form(choice("claimant", "logged", "countersigned", "derived")))
    entry: int | None = field(metadata=as_form(nullable(integer(0))))
    key: bytes = field(metadata=as_form(octets(32, or_empty=True)))
    signature: bytes = field(metadata=as_form(octets(64, or_empty=True)))

    def check(self, pointer: str) -> None:
        """Refuse fields that do not belong to the kind."""
        has = (self.entry is not None, bool(self.key), bool(self.signature))
        wanted = {
            "claimant": (False, False, False),
            "logged": (True, False, False),
            "countersigned": (False, True, True),
            "derived": (True, False, False),
        }[self.kind]
        if has != wanted:
            raise Malformed(
                "claimant takes nothing, logged and derived take entry, countersigned takes key and signature",
                pointer=pointer,
            )


BY_CLAIMANT = InterfaceOrigin(kind="claimant", entry=None, key=b"", signature=b"")


def _check_explicit(entries: Mapping[str, Any], pointer: str) -> None:
    if not 1 <= len(entries) <= MAX_MAPPED_LABELS:
        raise Malformed(f"a map names 1 to {MAX_MAPPED_LABELS} endpoint labels", pointer=pointer)
    for label, names in entries.items():
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise Malformed(
                "each endpoint label maps to a non-empty array of class names", pointer=below(pointer, label)
            )
        if len(set(names)) != len(names):
            raise Malformed("a class stands twice", pointer=below(pointer, label))


def interface_bits(
    interface: Interface,
    origin: InterfaceOrigin,
    statement: Statement,
    *,
    endpoint: str,
    beacon_index: int,
    derived_bits: int = 0,
) -> int:
    """Give what interface and address cost in bits of evidence; whether the origin is true is checked elsewhere.

    The query of an address can hold anything that an interface can, a permuted list of classes say, so it costs the same;
    so do parameters in its path (RFC 3986 section 3.3), which some servers take for a query.
    Interfaces can be logged in advance by the thousand and the best be taken afterwards, so a logged one costs the bits
    that name one entry among those before the registration's beacon (`beacon_index`). What a derived one costs its
    derivation says (`derivation.derived_bits`).
    """
    query = "".join(_QUERY.split(endpoint, maxsplit=1)[1:])
    return BITS_PER_BYTE * len(query.encode()) + _price(interface, origin, statement, beacon_index, derived_bits)


def _price(
    interface: Interface, origin: InterfaceOrigin, statement: Statement, beacon_index: int, derived_bits: int
) -> int:
    if origin.kind == "countersigned":
        return 0
    if origin.kind == "derived":
        return derived_bits
    if origin.kind == "logged":
        return beacon_index.bit_length()
    options = {name: value for name, value in interface.options.items() if name not in ADDRESS_OPTIONS}
    explicit = interface.label_map.get("map")
    if not options and not interface.preprocessing and explicit is None:
        return BUILT_IN_BITS
    size_bytes = len(encode_json(options)) + len(encode_json(interface.preprocessing))
    return BITS_PER_BYTE * size_bytes + (0 if explicit is None else _map_bits(explicit, len(statement.classes)))


def _map_bits(explicit: Mapping[str, list[str]], classes: int) -> int:
    labels = len(explicit)
    named = [name for names in explicit.values() for name in names]
    if any(len(names) > 1 for names in explicit.values()):
        return labels * classes
    if labels == classes and len(set(named)) == classes:
        permutations: int = factorial(classes)
        return (permutations - 1).bit_length()
    maps: int = (classes + 1) ** labels
    return (maps - 1).bit_length()


@dataclass(frozen=True)
class LabelMap:
    """The label map applied: endpoint labels to sets of class indices."""

    interface: Interface
    statement: Statement

    def __post_init__(self) -> None:
        """Refuse a map that names an unknown class.

        Raises: Malformed.
        """
        for label, names in self.interface.label_map.get("map", {}).items():
            for name in names:
                if name not in self._index_of:
                    pointer = below("/interface/label_map/map", label)
                    raise Malformed(f"{name!r} is no registered class", pointer=pointer)

    def classes_of(self, labels: Iterable[str]) -> frozenset[int]:
        """Give the union over the labels returned; empty if nothing is mapped."""
        found: set[int] = set()
        for label in labels:
            found |= self._classes_of_one(label)
        return frozenset(found)

    def ranking_of(self, labels: Iterable[str]) -> tuple[int, ...]:
        """Give the classes that the labels rank, each where it stands first; labels that map to nothing are left out.

        Raises: Malformed if a label stands for several classes: they would share a rank.
        """
        ranked: dict[int, None] = {}
        for label in labels:
            classes = self._classes_of_one(label)
            if len(classes) > 1:
                raise Malformed(
                    f"{label!r} stands for {len(classes)} classes, and a ranking wants one each: use label evidence",
                    pointer=below("/interface/label_map/map", label),
                )
            ranked |= dict.fromkeys(classes)
        return tuple(ranked)

    def verify_rankable(self) -> None:
        """Refuse a map under which labels could share a rank.

        Raises: Malformed.
        """
        self.ranking_of(self.interface.label_map.get("map", {}))

    def _classes_of_one(self, label: str) -> frozenset[int]:
        match self.interface.label_map:
            case {"by": "index"}:
                known = label.isascii() and label.isdecimal() and str(int(label[:9])) == label
                index = int(label) if known else -1
                return frozenset({index}) if 0 <= index < len(self.statement.classes) else frozenset()
            case {"by": "name"}:
                by_name = self._index_of_folded.get(fold_name(label))
                return frozenset() if by_name is None else frozenset({by_name})
            case _:
                names = self.interface.label_map["map"].get(label, [])
                return frozenset(self._index_of[name] for name in names)

    @cached_property
    def _index_of(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.statement.classes)}

    @cached_property
    def _index_of_folded(self) -> dict[str, int]:
        return {fold_name(name): index for index, name in enumerate(self.statement.classes)}
