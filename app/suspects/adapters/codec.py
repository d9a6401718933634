"""Inputs as JSON numbers and PNG, and back.

Preprocessing is an object whose keys all have defaults (an image: its uint8 pixels, rows first, channels last):
`scale` "0..255" or "0..1"; `layout` "hwc", "chw" or "flat"; `mean` and `std` in thousandths of the scaled unit, one
number a channel, or null; `dtype` "uint8" or "float32"; `size` [height, width] to which pixels are repeated (nearest
neighbour, enlarging only, so that every pixel can be read back), or null. A tensor is sent as it is: only `layout`
"nested" or "flat".

Invariants: a float32 is printed with nine significant digits, which give back the same float32; a preprocessed pixel
gives back the same pixel, because its number lies within a thousandth of a pixel step of the exact value.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any

from app.canonical import Record, as_form, choice, integer, nullable, sequence
from app.errors import Malformed
from app.keys.trigger_set import ImageInput, TensorInput

# A pixel read back from a request may lie this far from a whole number: float32 costs 2e-5 at the widest mean and std.
PIXEL_TOLERANCE = 1e-3
# Means and deviations in thousandths: at most 255 on the scale 0..255, so that the tolerance above holds.
MAX_MILLIS = 255_000
# Integers beyond this overflow a float somewhere; no score and no pixel is as large.
MAX_NUMBER = 2**1000
# No classifier takes larger pictures; with three channels of decimals this stays under a request's limit.
MAX_SENT_SIDE = 2048
# A request's body: an input of 16 MiB as decimal numbers stays well under it.
MAX_REQUEST_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Preprocessing(Record):
    """How an image's pixels become the numbers that the endpoint expects."""

    scale: str = field(default="0..255", metadata=as_form(choice("0..255", "0..1")))
    layout: str = field(default="hwc", metadata=as_form(choice("hwc", "chw", "flat")))
    mean: tuple[int, ...] | None = field(
        default=None, metadata=as_form(nullable(sequence(integer(0, MAX_MILLIS), 1, 3)))
    )
    std: tuple[int, ...] | None = field(
        default=None, metadata=as_form(nullable(sequence(integer(1, MAX_MILLIS), 1, 3)))
    )
    dtype: str = field(default="uint8", metadata=as_form(choice("uint8", "float32")))
    size: tuple[int, ...] | None = field(
        default=None, metadata=as_form(nullable(sequence(integer(1, MAX_SENT_SIDE), 2, 2)))
    )

    def sent_size(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Give height and width in which an image of this shape is sent."""
        return self.size or tuple(shape[:2])

    def check(self, pointer: str) -> None:
        """Refuse whole numbers where the values are fractions."""
        if self.dtype == "uint8" and not (self.scale == "0..255" and self.mean is None and self.std is None):
            raise Malformed("uint8 carries plain pixels only: use float32", pointer=f"{pointer}/dtype")


@dataclass(frozen=True)
class TensorPreprocessing(Record):
    """How a tensor stands in the request: its values are never changed."""

    layout: str = field(default="nested", metadata=as_form(choice("nested", "flat")))
    dtype: str = field(default="float32", metadata=as_form(choice("float32")))


def parse_preprocessing(value: Mapping[str, Any], kind: str, shape: tuple[int, ...]) -> Preprocessing:
    """Read preprocessing for inputs of this kind and shape; keys left out have their defaults.

    Raises: Malformed with a pointer.
    """
    if kind == "tensor":
        tensor = TensorPreprocessing.from_json(TensorPreprocessing().to_json() | dict(value), "/preprocessing")
        return Preprocessing(layout="flat" if tensor.layout == "flat" else "hwc", dtype="float32")
    known = Preprocessing.from_json(Preprocessing().to_json() | dict(value), "/preprocessing")
    for name, millis in (("mean", known.mean), ("std", known.std)):
        if millis is not None and len(millis) != shape[2]:
            raise Malformed(f"needs one number a channel: {shape[2]}", pointer=f"/preprocessing/{name}")
    if any(sent < own for sent, own in zip(known.sent_size(shape), shape, strict=False)):
        raise Malformed(
            f"pixels are repeated, never dropped: at least {shape[0]} by {shape[1]}, or register smaller inputs",
            pointer="/preprocessing/size",
        )
    return known


def sent_shape(preprocessing: Preprocessing, kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Give the dimensions in which an input's numbers are sent."""
    if kind == "image":
        shape = (*preprocessing.sent_size(shape), shape[2])
    if preprocessing.layout == "flat":
        return (math.prod(shape),)
    if kind == "image" and preprocessing.layout == "chw":
        return (shape[2], shape[0], shape[1])
    return shape


def enlarge(image: ImageInput, preprocessing: Preprocessing) -> ImageInput:
    """Repeat an image's pixels until it has the size in which it is sent."""
    height, width = preprocessing.sent_size(image.shape)
    if (height, width) == (image.height, image.width):
        return image
    stride, depth = image.width * image.channels, image.channels
    rows = []
    for y in range(image.height):
        row = image.pixels[y * stride : (y + 1) * stride]
        columns = _sources(width, image.width)
        rows.append(b"".join(row[x * depth : (x + 1) * depth] for x in columns))
    return ImageInput(height, width, depth, b"".join(rows[y] for y in _sources(height, image.height)))


def reduce(sent: ImageInput, preprocessing: Preprocessing, shape: tuple[int, ...], *, slack: int = 0) -> ImageInput:
    """Give the image of this shape that was enlarged; its repeated pixels may differ by `slack` where a JPEG carried them.

    Raises: Malformed if the picture is no enlargement of one.
    """
    height, width, channels = shape
    if (sent.height, sent.width) == (height, width):
        return sent
    firsts = [_first(_sources(sent.height, height), y) for y in range(height)]
    columns = [_first(_sources(sent.width, width), x) for x in range(width)]
    pixels = b"".join(
        sent.pixels[(y * sent.width + x) * channels : (y * sent.width + x + 1) * channels]
        for y in firsts
        for x in columns
    )
    image = ImageInput(height, width, channels, pixels)
    again = enlarge(image, preprocessing).pixels
    if again != sent.pixels and not is_near(again, sent.pixels, 2 * slack):
        raise Malformed("the picture in the request is not the input with its pixels repeated")
    return image


def is_near(one: bytes, other: bytes, slack: int) -> bool:
    """Say whether no byte differs by more than `slack`."""
    return len(one) == len(other) and all(abs(a - b) <= slack for a, b in zip(one, other, strict=True))


def _sources(sent: int, own: int) -> list[int]:
    return [at * own // sent for at in range(sent)]


def _first(sources: Sequence[int], own: int) -> int:
    return sources.index(own)


def number_texts(question: ImageInput | TensorInput, preprocessing: Preprocessing) -> list[str]:
    """Print an input's numbers as JSON, in the order in which they are sent."""
    if isinstance(question, TensorInput):
        return list(map(float_text, question.floats()))
    image = enlarge(question, preprocessing)
    channels = [
        list(map(pixel_table(preprocessing, channel).__getitem__, image.pixels[channel :: image.channels]))
        for channel in range(image.channels)
    ]
    if preprocessing.layout == "chw":
        return list(chain.from_iterable(channels))
    return list(chain.from_iterable(zip(*channels, strict=True)))


def input_of(numbers: Sequence[float], preprocessing: Preprocessing, kind: str, shape: tuple[int, ...]) -> bytes:
    """Give the canonical bytes of the input whose numbers, in the order sent, these are.

    Raises: Malformed if they are not the numbers of any input.
    """
    if kind == "tensor":
        return TensorInput.of(shape, numbers).encode()
    height, width = preprocessing.sent_size(shape)
    channels = shape[2]
    area = height * width
    pixels = bytearray(area * channels)
    for channel in range(channels):
        planar = preprocessing.layout == "chw"
        plane = numbers[channel * area : (channel + 1) * area] if planar else numbers[channel::channels]
        pixels[channel::channels] = _pixels(plane, preprocessing, channel)
    return reduce(ImageInput(height, width, channels, bytes(pixels)), preprocessing, shape).encode()


@lru_cache(maxsize=64)
def pixel_table(preprocessing: Preprocessing, channel: int) -> tuple[str, ...]:
    """Print what each of the 256 pixel values becomes."""
    if preprocessing.dtype == "uint8":
        return tuple(map(str, range(256)))
    offset, divisor = _affine(preprocessing, channel)
    return tuple(float_text((1000 * pixel - offset) / divisor) for pixel in range(256))


def _affine(preprocessing: Preprocessing, channel: int) -> tuple[int, int]:
    # number = (1000 pixel - offset) / divisor, in integers so that the table is the same on every machine
    unit = 255 if preprocessing.scale == "0..1" else 1
    mean = preprocessing.mean[channel] if preprocessing.mean else 0
    std = preprocessing.std[channel] if preprocessing.std else 1000
    return unit * mean, unit * std


def _pixels(numbers: Sequence[float], preprocessing: Preprocessing, channel: int) -> bytes:
    if preprocessing.dtype == "uint8":
        if set(map(type, numbers)) != {int} or min(numbers) < 0 or max(numbers) > 255:
            raise Malformed("a number in the request is no pixel of an image")
        return bytes(numbers)  # type: ignore[arg-type]  # all of them are integers
    offset, divisor = _affine(preprocessing, channel)
    exact = [(number * divisor + offset) / 1000 for number in numbers]
    if not all(-0.5 < value < 255.5 and abs(value - round(value)) <= PIXEL_TOLERANCE for value in exact):
        raise Malformed("a number in the request is no pixel of an image")
    return bytes(map(round, exact))


def float_text(value: float) -> str:
    """Print a float32 so that it reads back as the same float32, and as a float (servers take `1` for an integer)."""
    digits = f"{value:.9g}"
    return digits if "." in digits or "e" in digits else digits + ".0"


def nest(texts: Sequence[str], dimensions: Sequence[int]) -> bytes:
    """Write numbers as nested JSON arrays of these dimensions."""
    rows = list(texts)
    for size in reversed(dimensions):
        rows = ["[" + ",".join(rows[start : start + size]) + "]" for start in range(0, len(rows), size)]
    return rows[0].encode()


def flatten(value: Any, dimensions: Sequence[int]) -> list[float]:
    """Read nested arrays of exactly these dimensions as one list of finite numbers.

    Raises: Malformed on another shape or anything that is no number.
    """
    level = [value]
    for size in dimensions:
        if set(map(type, level)) != {list} or set(map(len, level)) != {size}:
            raise Malformed(f"the request does not hold an array of shape {tuple(dimensions)}")
        level = list(chain.from_iterable(level))
    if not are_finite_numbers(level):
        raise Malformed("the request holds something that is no finite number")
    return level


def are_finite_numbers(values: Sequence[Any]) -> bool:
    """Say whether all parsed JSON values are finite numbers (true and false are none; huge integers are no float)."""
    # Types first and all at once: a bundle holds millions of pixels, and an auditor reads each.
    types = set(map(type, values))
    if not types <= {int, float}:
        return False
    return not values or (min(values) > -MAX_NUMBER and max(values) < MAX_NUMBER and all(map(math.isfinite, values)))


def parse_body(body: bytes) -> Any:
    """Read a request's body as JSON in which no key repeats.

    Raises: Malformed.
    """
    if len(body) > MAX_REQUEST_BYTES:
        raise Malformed(f"a request of {len(body)} bytes is over the limit of {MAX_REQUEST_BYTES}")
    try:
        return json.loads(body.decode(), object_pairs_hook=unique_keys)
    except RecursionError as error:
        raise Malformed("the request is nested too deep") from error
    except ValueError as error:
        raise Malformed(f"the request is not JSON: {error}") from error


def unique_keys(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object whose keys differ.

    Raises: ValueError, as the JSON reader does.
    """
    listed = list(pairs)
    value = dict(listed)
    if len(value) != len(listed):
        raise ValueError("an object repeats a key")
    return value


def sent_value(template: Any, sent: Any, hole: Any) -> Any:
    """Find what stands in a request where its template has the `hole` (an object equal to it, exactly once).

    Raises: Malformed wherever the rest differs, in value, type or number of keys.
    """
    holes: list[Any] = []

    def compare(expected: Any, value: Any) -> None:
        if expected == hole:
            holes.append(value)
        elif isinstance(expected, dict) and isinstance(value, dict) and expected.keys() == value.keys():
            for key, inner in expected.items():
                compare(inner, value[key])
        elif isinstance(expected, list) and isinstance(value, list) and len(expected) == len(value):
            for inner, item in zip(expected, value, strict=True):
                compare(inner, item)
        elif isinstance(expected, dict | list) or type(expected) is not type(value) or expected != value:
            raise Malformed("the request holds something other than the input and its fixed frame")

    compare(template, sent)
    return holes[0]
