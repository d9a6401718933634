"""A record and its one byte string.

Every log entry and signed record is RFC 8785 JSON of exactly the keys its class names. `parse` accepts a byte string
only if encoding the parsed value gives the same bytes again, so a record has one form and one hash.

Invariants: `R.parse(b).encode() == b` or Malformed, whatever the bytes; numbers are integers 0..2^53-1; keys never
repeat; a record is at most 4 MiB.
Source: docs/protocol.md section 2; RFC 8785.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, Self, TypeVar

import rfc8785

from app.errors import Malformed

PROTOCOL = "trapstreet/v1"

# Largest record, in bytes, and largest integer that every JSON reader keeps exactly (docs/protocol.md section 2).
MAX_RECORD_BYTES = 4 * 1024 * 1024
MAX_INTEGER = 2**53 - 1

T = TypeVar("T")


def sha256(data: bytes) -> bytes:
    """Hash with SHA-256 (32 bytes)."""
    return hashlib.sha256(data).digest()


def u32(value: int) -> bytes:
    """Encode as 4 big-endian bytes."""
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    """Encode as 8 big-endian bytes."""
    return value.to_bytes(8, "big")


def lp(*items: bytes | str) -> bytes:
    """Join items, each preceded by its length in bytes as u32; strings are UTF-8."""
    parts: list[bytes] = []
    for item in items:
        data = item.encode() if isinstance(item, str) else item
        parts += (u32(len(data)), data)
    return b"".join(parts)


def tag(name: str) -> bytes:
    """Give the domain-separation bytes of a purpose."""
    return f"{PROTOCOL}/{name}".encode()


def encode_json(value: Any) -> bytes:
    """Encode a value of the protocol as RFC 8785 bytes.

    Raises: Malformed if the value holds something the protocol does not allow.
    """
    _refuse_foreign_values(value, "")
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, RecursionError) as error:
        raise Malformed(f"not a value of this protocol: {error}") from error


def parse_json(data: bytes, *, max_bytes: int = MAX_RECORD_BYTES) -> Any:
    """Read canonical JSON bytes.

    Raises: Malformed unless encoding the value again gives exactly `data`.
    """
    value = parse_loose_json(data, max_bytes=max_bytes)
    if encode_json(value) != data:
        raise Malformed("not canonical: encode it as RFC 8785 says (sorted keys, no spaces, shortest strings)")
    return value


def parse_loose_json(data: bytes, *, max_bytes: int = MAX_RECORD_BYTES) -> Any:
    """Read JSON that need not be canonical but still may not repeat a key, hold NaN, or be oversized or too deep."""
    if len(data) > max_bytes:
        raise Malformed(f"{len(data)} bytes, over the limit of {max_bytes}")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from error
    except ValueError as error:  # Python refuses integers of more than 4,300 digits this way
        raise Malformed(f"not JSON of this protocol: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Malformed("an object repeats a key")
    return value


def _no_constant(name: str) -> None:
    raise Malformed(f"{name} is not a value of this protocol")


def below(pointer: str, key: str) -> str:
    """Point to a key of the object at `pointer`, as RFC 6901 writes it."""
    return f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"


def _refuse_foreign_values(value: Any, pointer: str, depth: int = 0) -> None:
    if depth > 32:
        raise Malformed("nested deeper than 32 levels", pointer=pointer)
    match value:
        case None | bool():
            return
        case int():
            if not 0 <= value <= MAX_INTEGER:
                raise Malformed("integers lie between 0 and 2^53-1", pointer=pointer)
        case str():
            _refuse_surrogates(value, pointer)
        case list() | tuple():
            for index, item in enumerate(value):
                _refuse_foreign_values(item, f"{pointer}/{index}", depth + 1)
        case dict():
            for key, item in value.items():
                _refuse_foreign_values(key, pointer, depth + 1)
                _refuse_foreign_values(item, below(pointer, str(key)), depth + 1)
        case _:
            raise Malformed(f"{type(value).__name__} is not a value of this protocol", pointer=pointer)


def _refuse_surrogates(value: str, pointer: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Malformed("a string holds a lone surrogate", pointer=pointer) from error


@dataclass(frozen=True)
class Form(Generic[T]):
    """How one field stands in JSON: `parse(value, pointer)` reads it or raises Malformed, `show` writes it back."""

    parse: Callable[[Any, str], T]
    show: Callable[[T], Any]


def text(minimum: int, maximum: int, *, pattern: str = "") -> Form[str]:
    """Take a string of so many code points, matching `pattern` as a whole if given."""

    def parse(value: Any, pointer: str) -> str:
        if not isinstance(value, str):
            raise Malformed("must be a string", pointer=pointer)
        if not minimum <= len(value) <= maximum:
            raise Malformed(f"must have {minimum} to {maximum} characters", pointer=pointer)
        if pattern and not re.fullmatch(pattern, value, re.ASCII):
            raise Malformed(f"must match {pattern}", pointer=pointer)
        return value

    return Form(parse, lambda value: value)


def integer(minimum: int, maximum: int = MAX_INTEGER) -> Form[int]:
    """Take an integer between two bounds, both allowed."""

    def parse(value: Any, pointer: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Malformed("must be an integer", pointer=pointer)
        if not minimum <= value <= maximum:
            raise Malformed(f"must lie between {minimum} and {maximum}", pointer=pointer)
        return value

    return Form(parse, lambda value: value)


def octets(length: int | None = None, *, or_empty: bool = False) -> Form[bytes]:
    """Take lower-case hex of `length` bytes (any length for None; nothing too if `or_empty`) as bytes."""

    def parse(value: Any, pointer: str) -> bytes:
        try:
            data = bytes.fromhex(value)
        except (TypeError, ValueError) as error:
            raise Malformed("must be lower-case hex", pointer=pointer) from error
        # fromhex also takes capitals and spaces; printing it back is quicker than a pattern on megabytes.
        if data.hex() != value:
            raise Malformed("must be lower-case hex", pointer=pointer)
        if length is not None and len(data) != length and not (or_empty and not data):
            raise Malformed(f"must be {length} bytes of hex, not {len(data)}", pointer=pointer)
        return data

    return Form(parse, lambda value: value.hex())


def choice(*values: Any) -> Form[Any]:
    """Take one of the listed values (and of their types: true is not 1)."""

    def parse(value: Any, pointer: str) -> Any:
        if not any(value == known and type(value) is type(known) for known in values):
            raise Malformed("must be one of " + ", ".join(map(str, values)), pointer=pointer)
        return value

    return Form(parse, lambda value: value)


def flag() -> Form[bool]:
    """Take true or false."""
    return choice(*_BOOLEANS)


_BOOLEANS = (True, False)


def nullable(form: Form[T]) -> Form[T | None]:
    """Take null or what `form` takes."""
    return Form(
        lambda value, pointer: None if value is None else form.parse(value, pointer),
        lambda value: None if value is None else form.show(value),
    )


def sequence(form: Form[T], minimum: int, maximum: int) -> Form[tuple[T, ...]]:
    """Take an array of so many items."""

    def parse(value: Any, pointer: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise Malformed("must be an array", pointer=pointer)
        if not minimum <= len(value) <= maximum:
            raise Malformed(f"must have {minimum} to {maximum} items", pointer=pointer)
        return tuple(form.parse(item, f"{pointer}/{index}") for index, item in enumerate(value))

    return Form(parse, lambda items: [form.show(item) for item in items])


def json_object() -> Form[dict[str, Any]]:
    """Take any object of the protocol's values."""

    def parse(value: Any, pointer: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Malformed("must be an object", pointer=pointer)
        _refuse_foreign_values(value, pointer)
        return value

    return Form(parse, lambda value: value)


TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def timestamp() -> Form[str]:
    """Take a time in UTC as `YYYY-MM-DDTHH:MM:SSZ`."""

    def parse(value: Any, pointer: str) -> str:
        if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value, re.ASCII):
            raise Malformed("must be a UTC time like 2026-01-31T12:00:00Z", pointer=pointer)
        try:
            seconds_of(value)
        except ValueError as error:
            raise Malformed(f"no such time: {error}", pointer=pointer) from error
        return value

    return Form(parse, lambda value: value)


def time_text(moment: datetime) -> str:
    """Write an aware time as the protocol does, cut to the second."""
    return moment.astimezone(UTC).strftime(TIME_FORMAT)


def seconds_of(time: str) -> int:
    """Give the Unix seconds of a time as the protocol writes it."""
    return int(datetime.strptime(time, TIME_FORMAT).replace(tzinfo=UTC).timestamp())


def as_form(form: Form[Any]) -> Mapping[str, Form[Any]]:
    """Attach a form to a dataclass field: `field(metadata=as_form(...))`."""
    return {"form": form}


class Record:
    """Base of the frozen dataclasses whose fields carry a form; `NAME`, if given, is the record's `type`."""

    NAME: ClassVar[str] = ""

    @classmethod
    def form(cls) -> Form[Self]:
        """Give the form under which this record stands inside another."""
        return Form(cls.from_json, lambda value: value.to_json())

    @classmethod
    def from_json(cls, value: Any, pointer: str = "") -> Self:
        """Read a parsed JSON value.

        Raises: Malformed on a missing, extra or wrong key, naming it.
        """
        if not isinstance(value, dict):
            raise Malformed("must be an object", pointer=pointer)
        forms = {f.name: f.metadata["form"] for f in fields(cls)}  # type: ignore[arg-type]  # subclasses are dataclasses
        expected = set(forms) | ({"type"} if cls.NAME else set())
        if missing := sorted(expected - value.keys()):
            raise Malformed(f"the key {missing[0]!r} is missing", pointer=f"{pointer}/{missing[0]}")
        if extra := sorted(value.keys() - expected):
            raise Malformed(f"the key {extra[0]!r} does not belong here", pointer=below(pointer, extra[0]))
        if cls.NAME and value["type"] != f"{PROTOCOL}/{cls.NAME}":
            raise Malformed(f"must be {PROTOCOL}/{cls.NAME}", pointer=f"{pointer}/type")
        record = cls(**{name: form.parse(value[name], f"{pointer}/{name}") for name, form in forms.items()})
        record.check(pointer)
        return record

    def check(self, pointer: str) -> None:
        """Raise Malformed if fields do not fit each other; subclasses say how."""

    def to_json(self) -> dict[str, Any]:
        """Give the JSON value."""
        value = {f.name: f.metadata["form"].show(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]
        return {"type": f"{PROTOCOL}/{self.NAME}", **value} if self.NAME else value

    def encode(self) -> bytes:
        """Give the record's one byte string."""
        return encode_json(self.to_json())

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the record's one byte string.

        Raises: Malformed unless `parse(data).encode() == data`.
        """
        return cls.from_json(parse_json(data))
