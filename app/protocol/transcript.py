"""What was asked and answered, as canonical bytes, chained block by block.

A query record says everything about one question but whether it was a trigger: its role is committed and opened with the
verdict. The head of a block covers every record of it and the head before, so nothing can be dropped or changed once the
head stands in the log; only then are label keys opened.
Source: docs/protocol.md section 6.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Final

from app.canonical import (
    Record,
    as_form,
    choice,
    integer,
    lp,
    nullable,
    octets,
    sequence,
    sha256,
    tag,
    text,
    timestamp,
    u32,
)
from app.keys.trigger_set import MAX_TRIGGERS

FIRST_HEAD: Final = bytes(32)

MAX_LABELS = 1000
MAX_LABEL_CHARACTERS = 200


@dataclass(frozen=True)
class Role(Record):
    """Why a question was asked: a trigger, the look-alike of one, or a cover; `repeat` 1 is the second asking."""

    kind: str = field(metadata=as_form(choice("trigger", "look-alike", "cover")))
    index: int = field(metadata=as_form(integer(0, 2**32 - 1)))
    repeat: int = field(metadata=as_form(integer(0, 1)))

    def commit(self, blind: bytes) -> bytes:
        """Commit to the role under 32 bytes of randomness."""
        return sha256(lp(tag("role"), blind, self.encode()))


@dataclass(frozen=True)
class Query(Record):
    """One question and its answer; `labels` is empty and `error` a stable word if there was none."""

    n: int = field(metadata=as_form(integer(0, 2**32 - 1)))
    role_commitment: bytes = field(metadata=as_form(octets(32)))
    attempt: int = field(metadata=as_form(integer(1, 5)))
    sent_at: str = field(metadata=as_form(timestamp()))
    request_sha256: bytes = field(metadata=as_form(octets(32)))
    status: int | None = field(metadata=as_form(nullable(integer(100, 999))))
    response_sha256: bytes = field(metadata=as_form(octets(32, or_empty=True)))
    labels: tuple[str, ...] = field(metadata=as_form(sequence(text(0, MAX_LABEL_CHARACTERS), 0, MAX_LABELS)))
    error: str = field(metadata=as_form(text(0, 64, pattern="[a-z0-9_]*")))
    address: str = field(metadata=as_form(text(0, 64)))
    certificate_sha256: bytes = field(metadata=as_form(octets(32, or_empty=True)))


@dataclass(frozen=True)
class AskedQuery(Record):
    """A query with what opens its role and the exact bytes that went out and came back."""

    NAME: ClassVar[str] = "asked-query"

    block: int = field(metadata=as_form(integer(0, MAX_TRIGGERS)))
    record: Query = field(metadata=as_form(Query.form()))
    role: Role = field(metadata=as_form(Role.form()))
    blind: bytes = field(metadata=as_form(octets(32)))
    request: bytes = field(metadata=as_form(octets()))
    response: bytes = field(metadata=as_form(octets()))


def block_head(previous: bytes, block: int, queries: Iterable[Query]) -> bytes:
    """Chain a block's query records, in the order of `n`, onto the head before."""
    return sha256(lp(tag("block"), previous, u32(block), *(query.encode() for query in queries)))
