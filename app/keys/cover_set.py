"""Covers: ordinary inputs to hide triggers among, with their labels if a vendor commits to them before the beacon.

A labelled set has a root, which stands in the statement; a bundle then carries every input's digest and every label, so
that an auditor recomputes the root without the inputs.

Invariants: the root binds inputs, labels and their order; a label is the index of a registered class.
Source: docs/protocol.md section 3.1; the leaf's form is ours (docs/decisions.md).
Trust: labels are the vendor's word; nothing that decides a verdict reads them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from app.canonical import PROTOCOL, Record, as_form, encode_json, integer, lp, octets, sequence, sha256, tag, u32
from app.errors import Malformed, OpeningInvalid
from app.keys.key_file import InputList, parse_canonical_file
from app.keys.statement import MAX_CLASSES, CoverCommitment, Statement
from app.keys.trigger_set import MAX_TRIGGERS, parse_input
from app.merkle.tree import MemoryTree, leaf_hash


@dataclass(frozen=True)
class CoverSet(InputList):
    """Ordinary inputs of the task, without labels: canonical bytes, base64 in the file."""

    NAME: ClassVar[str] = "cover-set"

    @property
    def table(self) -> "CoverTable | None":
        """Give nothing: a set without labels is no committed one."""
        return None


@dataclass(frozen=True)
class LabelledCoverSet(InputList):
    """Ordinary inputs of the task with the index of each one's class."""

    NAME: ClassVar[str] = "labelled-cover-set"

    labels: tuple[int, ...] = field(metadata=as_form(sequence(integer(0, MAX_CLASSES - 1), 1, MAX_TRIGGERS)))

    def check(self, pointer: str) -> None:
        """Refuse labels that are not one for each input."""
        super().check(pointer)
        if len(self.labels) != self.count:
            raise Malformed(f"{len(self.labels)} labels do not fit {self.count} inputs", pointer=f"{pointer}/labels")

    @cached_property
    def table(self) -> "CoverTable":
        """Give the digests and labels, which are what is committed."""
        return CoverTable(digests=tuple(map(sha256, self.inputs)), labels=self.labels)


@dataclass(frozen=True)
class ShownCover(Record):
    """A cover's input in a bundle, where the request that asked it holds it only nearly (JPEG)."""

    index: int = field(metadata=as_form(integer(0, MAX_TRIGGERS - 1)))
    input: bytes = field(metadata=as_form(octets()))


@dataclass(frozen=True)
class CoverTable(Record):
    """What an auditor needs of a committed set: the SHA-256 of every canonical input, and every label."""

    NAME: ClassVar[str] = "cover-table"

    digests: tuple[bytes, ...] = field(metadata=as_form(sequence(octets(32), 1, MAX_TRIGGERS)))
    labels: tuple[int, ...] = field(metadata=as_form(sequence(integer(0, MAX_CLASSES - 1), 1, MAX_TRIGGERS)))
    shown: tuple[ShownCover, ...] = field(default=(), metadata=as_form(sequence(ShownCover.form(), 0, MAX_TRIGGERS)))

    def check(self, pointer: str) -> None:
        """Refuse labels that are not one for each digest, and shown inputs that are not those of the digests."""
        if len(self.labels) != len(self.digests):
            raise Malformed("digests and labels differ in number", pointer=f"{pointer}/labels")
        indices = [cover.index for cover in self.shown]
        if indices != sorted(set(indices)):
            raise Malformed("shown covers stand in order, each once", pointer=f"{pointer}/shown")
        for number, cover in enumerate(self.shown):
            if cover.index >= len(self.digests) or sha256(cover.input) != self.digests[cover.index]:
                raise Malformed("not the input of this index", pointer=f"{pointer}/shown/{number}")

    @cached_property
    def commitment(self) -> CoverCommitment:
        """Give root and count, as a statement holds them."""
        leaves = [
            leaf_hash(cover_leaf(index, digest, label))
            for index, (digest, label) in enumerate(zip(self.digests, self.labels, strict=True))
        ]
        return CoverCommitment(root=MemoryTree(leaves).root(), count=len(leaves))

    @cached_property
    def inputs(self) -> dict[int, bytes]:
        """Give the shown inputs by index."""
        return {cover.index: cover.input for cover in self.shown}

    def verify(self, statement: Statement) -> None:
        """Check that this is the set that a statement commits to, with labels that name its classes.

        Raises: OpeningInvalid.
        """
        if statement.covers is None:
            raise OpeningInvalid(
                "the registration commits to no covers: use covers without labels, or register with these"
            )
        if self.commitment != statement.covers:
            raise OpeningInvalid(
                "these are not the covers that the registration commits to: inputs, labels or order differ"
            )
        if max(self.labels) >= len(statement.classes):
            raise OpeningInvalid(f"the covers' label {max(self.labels)} names no class")


def cover_leaf(index: int, digest: bytes, label: int) -> bytes:
    """Give the bytes of one leaf of the tree over labelled covers; `digest` is SHA-256 of the canonical input."""
    return lp(tag("cover"), u32(index), digest, u32(label))


def encode_cover_set(inputs: Sequence[bytes], labels: Sequence[int] | None = None) -> bytes:
    """Write covers (canonical inputs of one kind and shape) as a file, with the indices of their classes if given.

    Raises: Malformed if `parse_cover_set` would refuse it.
    """
    first = parse_input(inputs[0])
    values: dict[str, Any] = {"count": len(inputs), "kind": first.kind, "shape": first.shape, "inputs": tuple(inputs)}
    if labels is None:
        return encode_json(CoverSet(**values).to_json())
    covers = LabelledCoverSet(**values, labels=tuple(labels))
    covers.check("")
    return encode_json(covers.to_json())


def parse_cover_set(data: bytes) -> CoverSet | LabelledCoverSet:
    """Read a cover file of either kind.

    Raises: Malformed.
    """
    value = parse_canonical_file(data)
    if isinstance(value, dict) and value.get("type") == f"{PROTOCOL}/{LabelledCoverSet.NAME}":
        return LabelledCoverSet.from_json(value)
    return CoverSet.from_json(value)
