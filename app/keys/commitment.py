"""The marking key, the commitments made with it, and how they are opened.

A trigger has two commitments, so that its input can be opened before its label: HMAC under the input key hides and binds
the input; SHA-256 of the label key binds the label that the beacon will draw from it (class B: binds the label itself).
The root over all triggers is what the log holds.
Source: Adi et al. 2018 section 4 (KeyGen, Verify step 2); docs/protocol.md section 3.
Trust: whoever holds `master` can open everything; the service never does.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from app.canonical import Record, as_form, integer, lp, nullable, octets, sequence, sha256, tag, u32
from app.errors import Malformed, OpeningInvalid, ProofError
from app.keys.statement import Statement
from app.keys.trigger_set import MAX_TRIGGERS, Kind, parse_input
from app.merkle.tree import MemoryTree, leaf_hash, verify_inclusion

KEY_BYTES = 32

# A tree over 65,536 leaves is 16 levels deep.
MAX_PATH = 16


@dataclass(frozen=True)
class InputOpening(Record):
    """What opens one trigger's input and leaves its label closed; `input` is canonical bytes, in hex on the wire."""

    NAME: ClassVar[str] = "input-opening"

    index: int = field(metadata=as_form(integer(0, MAX_TRIGGERS - 1)))
    input_key: bytes = field(metadata=as_form(octets(KEY_BYTES)))
    input: bytes = field(metadata=as_form(octets()))
    label_commitment: bytes = field(metadata=as_form(octets(32)))
    path: tuple[bytes, ...] = field(metadata=as_form(sequence(octets(32), 0, MAX_PATH)))


@dataclass(frozen=True)
class LabelOpening(Record):
    """What opens one trigger's label: its label key and, in class B, the label itself."""

    NAME: ClassVar[str] = "label-opening"

    index: int = field(metadata=as_form(integer(0, MAX_TRIGGERS - 1)))
    label_key: bytes = field(metadata=as_form(octets(KEY_BYTES)))
    label: int | None = field(metadata=as_form(nullable(integer(0, MAX_TRIGGERS - 1))))


@dataclass(frozen=True)
class MarkingKey:
    """The vendor's secret: one 32-byte master, the inputs' canonical bytes and, in class B, their labels."""

    master: bytes = field(repr=False)
    inputs: tuple[bytes, ...] = field(repr=False)
    labels: tuple[int, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse a wrong count, a master of another length, and inputs of different kinds or shapes."""
        if not 1 <= len(self.inputs) <= MAX_TRIGGERS:
            raise Malformed(f"a marking key has 1 to {MAX_TRIGGERS} inputs, not {len(self.inputs)}")
        if len(self.master) != KEY_BYTES:
            raise Malformed(f"the master has {KEY_BYTES} bytes, not {len(self.master)}")
        if self.labels is not None and len(self.labels) != len(self.inputs):
            raise Malformed(f"{len(self.labels)} labels do not fit {len(self.inputs)} inputs")
        first = parse_input(self.inputs[0])
        for index, data in enumerate(self.inputs):
            other = parse_input(data)
            if (other.kind, other.shape) != (first.kind, first.shape):
                raise Malformed(f"input {index} is {other.kind} {other.shape}; the first is {first.kind} {first.shape}")

    @property
    def count(self) -> int:
        """Count the triggers."""
        return len(self.inputs)

    @property
    def kind(self) -> Kind:
        """Give the kind of the inputs."""
        return parse_input(self.inputs[0]).kind

    @property
    def shape(self) -> tuple[int, ...]:
        """Give the shape of the inputs."""
        return parse_input(self.inputs[0]).shape

    def input_key(self, index: int) -> bytes:
        """Derive the key under which an input is committed."""
        return self._expand("input-key", index)

    def label_key(self, index: int) -> bytes:
        """Derive the key from which the beacon draws a label."""
        return self._expand("label-key", index)

    def label_commitment(self, index: int) -> bytes:
        """Give the commitment to a trigger's label."""
        return commit_label(self.label_key(index), None if self.labels is None else self.labels[index])

    def leaf(self, index: int) -> bytes:
        """Give a trigger's leaf data."""
        return leaf_data(index, commit_input(self.input_key(index), self.inputs[index]), self.label_commitment(index))

    def root(self) -> bytes:
        """Give the root over all triggers."""
        return self._tree.root()

    def open_input(self, index: int) -> InputOpening:
        """Open one trigger's input."""
        return InputOpening(
            index=index,
            input_key=self.input_key(index),
            input=self.inputs[index],
            label_commitment=self.label_commitment(index),
            path=tuple(self._tree.path(index)),
        )

    def open_label(self, index: int) -> LabelOpening:
        """Open one trigger's label."""
        label = None if self.labels is None else self.labels[index]
        return LabelOpening(index=index, label_key=self.label_key(index), label=label)

    @cached_property
    def _tree(self) -> MemoryTree:
        return MemoryTree([leaf_hash(self.leaf(index)) for index in range(self.count)])

    def _expand(self, purpose: str, index: int) -> bytes:
        # HKDF-Expand of RFC 5869 for one block; the master is already uniform, so there is nothing to extract.
        info = lp(tag(purpose), u32(index))
        return hmac.digest(self.master, info + b"\x01", hashlib.sha256)


def commit_input(input_key: bytes, canonical_input: bytes) -> bytes:
    """Commit to an input's canonical bytes."""
    return hmac.digest(input_key, canonical_input, hashlib.sha256)


def commit_label(label_key: bytes, label: int | None) -> bytes:
    """Commit to a label key and, in class B, to the label with it."""
    if label is None:
        return sha256(lp(tag("label-key-commitment"), label_key))
    return sha256(lp(tag("label-key-commitment"), label_key, u32(label)))


def leaf_data(index: int, input_commitment: bytes, label_commitment: bytes) -> bytes:
    """Give the bytes of one leaf of the tree whose root is registered."""
    return lp(tag("trigger"), u32(index), input_commitment, label_commitment)


def verify_input_opening(statement: Statement, opening: InputOpening) -> None:
    """Check an opened input against the registered root, kind and shape.

    Raises: OpeningInvalid.
    """
    try:
        opened = parse_input(opening.input)
    except Malformed as error:
        raise OpeningInvalid(f"trigger {opening.index}: {error.message}") from error
    if (opened.kind, opened.shape) != (statement.kind, statement.shape):
        raise OpeningInvalid(
            f"trigger {opening.index} is {opened.kind} {opened.shape}; registered is {statement.kind} {statement.shape}"
        )
    leaf = leaf_data(opening.index, commit_input(opening.input_key, opening.input), opening.label_commitment)
    try:
        verify_inclusion(leaf_hash(leaf), opening.index, statement.count, opening.path, statement.root)
    except ProofError as error:
        raise OpeningInvalid(f"trigger {opening.index} does not open the registered root: {error.message}") from error


def verify_label_opening(statement: Statement, label_commitment: bytes, opening: LabelOpening) -> None:
    """Check an opened label key against the commitment that came with the (verified) input opening.

    Raises: OpeningInvalid.
    """
    if (opening.label is None) != (statement.label_source == "beacon"):
        raise OpeningInvalid(f"trigger {opening.index}: a label is opened in class B and only there")
    if opening.label is not None and opening.label >= len(statement.classes):
        raise OpeningInvalid(f"trigger {opening.index}: label {opening.label} names no class")
    if commit_label(opening.label_key, opening.label) != label_commitment:
        raise OpeningInvalid(f"trigger {opening.index}: the label key does not open its commitment")


def check_marking_key(key: MarkingKey, statement: Statement) -> None:
    """Refuse a marking key that is not the one a statement registers.

    Raises: OpeningInvalid.
    """
    if (key.labels is None) != (statement.label_source == "beacon"):
        raise OpeningInvalid("the key's labels do not fit the statement's label source")
    if key.count != statement.count or key.root() != statement.root:
        raise OpeningInvalid("this marking key does not open the registered root")
