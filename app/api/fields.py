"""Values as they stand in request and answer bodies, and pages of collections.

Invariants: bodies take no unknown keys and no loose types; bytes are lower-case hex as everywhere in the protocol; a
collection is read in the order of its key and never skips or repeats what was there when the first page was read.
"""

import base64
import binascii
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import Depends, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints, WithJsonSchema

from app.canonical import MAX_INTEGER, octets, time_text
from app.errors import Malformed, TrapstreetError

DEFAULT_LIMIT, MAX_LIMIT = 50, 200

T = TypeVar("T")
R = TypeVar("R")


class Body(BaseModel):
    """Base of what callers send."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """Base of what callers get."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class Page(Answer, Generic[T]):
    """A part of a collection; `next_cursor` is null on the last page."""

    items: list[T]
    next_cursor: str | None = None


def _hex_of(length: int) -> Callable[[Any], bytes]:
    form = octets(length)

    def read(value: Any) -> bytes:
        if isinstance(value, bytes):  # our own rows
            return value
        try:
            return form.parse(value, "")
        except Malformed as error:
            raise ValueError(error.message) from error

    return read


def _hex_schema(length: int) -> WithJsonSchema:
    pattern = f"^[0-9a-f]{{{2 * length}}}$"
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": ["0f" * length]})


_show_hex = PlainSerializer(bytes.hex, return_type=str)

Hex32 = Annotated[bytes, BeforeValidator(_hex_of(32)), _show_hex, _hex_schema(32)]
Hex64 = Annotated[bytes, BeforeValidator(_hex_of(64)), _show_hex, _hex_schema(64)]


def _read_base64(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError("must be base64 as a string")  # noqa: TRY004  # what pydantic listens to
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"must be base64 (RFC 4648 section 4): {error}") from error


Base64 = Annotated[
    bytes,
    BeforeValidator(_read_base64),
    WithJsonSchema({"type": "string", "contentEncoding": "base64", "examples": ["q83v"]}),
]

Moment = Annotated[
    datetime,
    PlainSerializer(time_text, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-01-31T12:00:00Z"]}),
]

# Names of people and things: one line, no control characters (PostgreSQL stores no NUL).
Line = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]

# A position in the log, also as a tree size.
LogNumber = Annotated[int, Field(ge=0, le=MAX_INTEGER)]


class Proven(Answer):
    """A log entry with its receipt, to be verified under the log's key."""

    entry_index: int = Field(examples=[7])
    entry: str = Field(description="The entry's canonical bytes as text: hash exactly these.")
    receipt: str = Field(description="A C2SP tlog-proof over the entry, as text.")


@dataclass(frozen=True)
class Paging:
    """Where a page begins and how long it may be."""

    limit: int
    cursor: str | None

    def after_id(self) -> UUID | None:
        """Give the id behind which the page begins.

        Raises: Malformed if the cursor is none of ours.
        """
        return None if self.cursor is None else self._read(lambda data: UUID(bytes=data))

    def after_number(self) -> int | None:
        """Give the number behind which the page begins.

        Raises: Malformed if the cursor is none of ours.
        """
        return None if self.cursor is None else self._read(_number)

    def page(self, rows: Sequence[R], key: Callable[[R], UUID | int], show: Callable[[R], T]) -> Page[T]:
        """Make a page of rows, of which one more than `limit` was asked for."""
        shown = rows[: self.limit]
        cursor = _cursor_of(key(shown[-1])) if len(rows) > self.limit else None
        return Page(items=[show(row) for row in shown], next_cursor=cursor)

    def _read(self, parse: Callable[[bytes], R]) -> R:
        try:
            return parse(base64.urlsafe_b64decode((self.cursor or "").encode("ascii") + b"=="))
        except ValueError as error:
            raise Malformed("cursor: use the next_cursor of the page before") from error


def read_paging(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Items on a page.")] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before.")] = None,
) -> Paging:
    """Read the parameters of a collection."""
    return Paging(limit, cursor)


PageOf = Annotated[Paging, Depends(read_paging)]


@contextmanager
def under(pointer: str) -> Iterator[None]:
    """Point errors of a value that came as text inside the body to its place there."""
    try:
        yield
    except TrapstreetError as error:
        if not error.pointer.startswith(pointer):
            error.pointer = pointer + error.pointer
        raise


def _number(data: bytes) -> int:
    if len(data) != 8:
        raise ValueError("not a number of ours")
    return min(int.from_bytes(data, "big"), MAX_INTEGER)


def _cursor_of(key: UUID | int) -> str:
    data = key.bytes if isinstance(key, UUID) else key.to_bytes(8, "big")
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
