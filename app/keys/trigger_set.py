"""The inputs of a trigger set: one canonical byte string each, and the families they fall into.

Invariants: `parse_input(b).encode() == b` or Malformed; tensor values are finite; families are disjoint and cover 0..N-1
in order; nothing is larger than the limits of docs/protocol.md section 2.
Source: docs/protocol.md sections 2 and 3.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NoReturn

from app.canonical import Record, as_form, integer, lp, tag, text, u32
from app.errors import Malformed

MAX_TRIGGERS = 65_536
MAX_FAMILIES = 64
MAX_RANK = 8
MAX_DIMENSION = 65_535
MAX_INPUT_BYTES = 16 * 1024 * 1024

Kind = Literal["image", "tensor"]
KINDS: tuple[Kind, ...] = ("image", "tensor")


@dataclass(frozen=True)
class ImageInput:
    """An image: uint8 pixels in row, column, channel order; `pixels` has height * width * channels bytes."""

    height: int
    width: int
    channels: int
    pixels: bytes

    kind: Kind = field(default="image", init=False)

    def __post_init__(self) -> None:
        """Refuse sizes outside the limits or pixels that do not fill them."""
        check_shape("image", self.shape)
        if len(self.pixels) != self.height * self.width * self.channels:
            raise Malformed(f"{len(self.pixels)} pixel bytes do not fill the shape {self.shape}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width, channels."""
        return (self.height, self.width, self.channels)

    def encode(self) -> bytes:
        """Give the canonical bytes."""
        size = u32(self.height) + u32(self.width) + u32(self.channels)
        return lp(tag("input"), "image", size, self.pixels)


@dataclass(frozen=True)
class TensorInput:
    """A tensor: `values` are its float32 values, little-endian, last dimension fastest."""

    shape: tuple[int, ...]
    values: bytes

    kind: Kind = field(default="tensor", init=False)

    def __post_init__(self) -> None:
        """Refuse shapes outside the limits, values that do not fill them, and values that are not finite."""
        check_shape("tensor", self.shape)
        if len(self.values) != 4 * math.prod(self.shape):
            raise Malformed(f"{len(self.values)} bytes do not fill float32 of shape {self.shape}")
        if not all(map(math.isfinite, self.floats())):
            raise Malformed("tensor values must be finite")

    @classmethod
    def of(cls, shape: Sequence[int], floats: Sequence[float]) -> "TensorInput":
        """Build from Python numbers, rounded to float32."""
        try:
            return cls(tuple(shape), struct.pack(f"<{len(floats)}f", *floats))
        except (OverflowError, struct.error) as error:
            raise Malformed(f"not a float32 value: {error}") from error

    def floats(self) -> tuple[float, ...]:
        """Give the values as Python floats, each exactly a float32."""
        return struct.unpack(f"<{len(self.values) // 4}f", self.values)

    def encode(self) -> bytes:
        """Give the canonical bytes."""
        return lp(tag("input"), "tensor", b"".join(map(u32, self.shape)), self.values)


def check_shape(kind: Kind, shape: Sequence[int], pointer: str = "") -> None:
    """Refuse a shape outside the limits of docs/protocol.md section 2 (an image: height, width, channels).

    Raises: Malformed.
    """
    if not 1 <= len(shape) <= MAX_RANK:
        raise Malformed(f"a shape has 1 to {MAX_RANK} dimensions", pointer=pointer)
    if not all(1 <= size <= MAX_DIMENSION for size in shape):
        raise Malformed(f"dimensions lie between 1 and {MAX_DIMENSION}", pointer=pointer)
    if kind == "image" and (len(shape) != 3 or shape[2] not in (1, 3)):
        raise Malformed("an image's shape is height, width, channels with 1 or 3 channels", pointer=pointer)
    if _canonical_bytes(kind, shape) > MAX_INPUT_BYTES:
        raise Malformed(f"an input may have {MAX_INPUT_BYTES} bytes", pointer=pointer)


def _canonical_bytes(kind: Kind, shape: Sequence[int]) -> int:
    header = lp(tag("input"), kind, bytes(4 * len(shape)), b"")
    return len(header) + math.prod(shape) * (1 if kind == "image" else 4)


def parse_input(data: bytes) -> ImageInput | TensorInput:
    """Read one input's canonical bytes.

    Raises: Malformed unless the parsed value encodes to exactly `data`.
    """
    if len(data) > MAX_INPUT_BYTES:
        raise Malformed(f"an input may have {MAX_INPUT_BYTES} bytes")
    items = _items(data)
    if len(items) != 4 or items[0] != tag("input"):
        raise Malformed("not a canonical input")
    _, kind, size, values = items
    if len(size) % 4:
        raise Malformed("not a canonical input: a dimension is cut short")
    shape = tuple(int.from_bytes(size[at : at + 4], "big") for at in range(0, len(size), 4))
    match kind:
        case b"image":
            if len(shape) != 3:
                raise Malformed("an image's shape is height, width, channels")
            return ImageInput(shape[0], shape[1], shape[2], values)
        case b"tensor":
            return TensorInput(shape, values)
        case b"text":
            raise Malformed("text inputs are not registered in trapstreet/v1")
        case _:
            raise Malformed("inputs are of kind image or tensor")


def _items(data: bytes) -> list[bytes]:
    items: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if at + 4 > len(data) or end > len(data):
            _cut_short()
        items.append(data[at + 4 : end])
        at = end
    return items


def _cut_short() -> NoReturn:
    raise Malformed("not a canonical input: an item is cut short")


@dataclass(frozen=True)
class Family(Record):
    """A named range of triggers, `start` included, `end` not."""

    name: str = field(metadata=as_form(text(1, 200)))
    start: int = field(metadata=as_form(integer(0, MAX_TRIGGERS)))
    end: int = field(metadata=as_form(integer(1, MAX_TRIGGERS)))

    @property
    def size(self) -> int:
        """Count the family's triggers."""
        return self.end - self.start


def check_families(families: Sequence[Family], count: int, pointer: str = "") -> None:
    """Refuse families that overlap, leave gaps, repeat a name or do not cover 0..count-1.

    Raises: Malformed.
    """
    at = 0
    for index, family in enumerate(families):
        if family.start != at or family.end <= family.start:
            raise Malformed(
                f"families follow each other without gap or overlap: this one must start at {at}",
                pointer=f"{pointer}/{index}/start",
            )
        at = family.end
    if at != count:
        raise Malformed(f"families must cover all {count} triggers; they end at {at}", pointer=pointer)
    if len({family.name for family in families}) != len(families):
        raise Malformed("two families have one name", pointer=pointer)
