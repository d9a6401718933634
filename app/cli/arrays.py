"""Labelled arrays out of a safetensors file, without numpy: a header of JSON, then plain bytes.

Invariants: nothing is unpickled; sizes are checked before anything is cut out; what is not understood is refused.
Source: safetensors format, "Format" section of its README.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from app.canonical import parse_loose_json
from app.cli.files import read_file
from app.errors import Malformed
from app.keys.trigger_set import MAX_TRIGGERS, ImageInput, TensorInput

# Names and shapes of two arrays; a file with more in it is none of ours.
MAX_HEADER_BYTES = 1024 * 1024

# Labels by their safetensors type: bytes each, and how Python's struct calls it.
LABEL_TYPES = {"I64": (8, "q"), "I32": (4, "i"), "U8": (1, "B")}


@dataclass(frozen=True)
class _Array:
    kind: str
    shape: tuple[int, ...]
    data: bytes


def read_labelled_arrays(path: Path) -> tuple[tuple[bytes, ...], tuple[int, ...]]:
    """Read `inputs` (N, ...) and `labels` (N) as canonical inputs and class indices.

    float32 inputs become tensors; uint8 ones of shape (N, height, width, channels) become images.
    Raises: NotFound; Malformed.
    """
    arrays = _read(read_file(path))
    if not {"inputs", "labels"} <= arrays.keys():
        raise Malformed(f"{path} needs the arrays `inputs` and `labels`")
    inputs, labels = arrays["inputs"], arrays["labels"]
    count = inputs.shape[0] if inputs.shape else 0
    if not 1 <= count <= MAX_TRIGGERS or labels.shape != (count,):
        raise Malformed(f"inputs and labels must be 1 to {MAX_TRIGGERS} and as many; labels have one dimension")
    return tuple(_inputs(inputs)), tuple(_labels(labels))


def _inputs(array: _Array) -> list[bytes]:
    count, shape = array.shape[0], array.shape[1:]
    size = len(array.data) // count
    rows = [array.data[at * size : (at + 1) * size] for at in range(count)]
    if array.kind == "F32":
        return [TensorInput(shape, row).encode() for row in rows]
    if array.kind == "U8" and len(shape) == 3:
        return [ImageInput(*shape, row).encode() for row in rows]
    raise Malformed(
        f"inputs are float32, or uint8 of shape (N, height, width, channels), not {array.kind} {array.shape}"
    )


def _labels(array: _Array) -> tuple[int, ...]:
    if array.kind not in LABEL_TYPES:
        raise Malformed(f"labels are int64, int32 or uint8, not {array.kind}")
    size, letter = LABEL_TYPES[array.kind]
    return struct.unpack(f"<{len(array.data) // size}{letter}", array.data)


def _read(data: bytes) -> dict[str, _Array]:
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(MAX_HEADER_BYTES, len(data) - 8):
        raise Malformed("not a safetensors file, or its header is longer than it may be")
    header, body = parse_loose_json(data[8 : 8 + size]), data[8 + size :]
    if not isinstance(header, dict):
        raise Malformed("not a safetensors file: its header is no object")
    return {name: _array(value, body) for name, value in header.items() if name != "__metadata__"}


def _array(value: Any, body: bytes) -> _Array:
    sizes = {"F32": 4} | {kind: size for kind, (size, _) in LABEL_TYPES.items()}
    match value:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [int(start), int(end)]} if kind in sizes:
            whole = all(type(length) is int and length >= 0 for length in shape)
            if whole and 0 <= start <= end <= len(body) and end - start == sizes[kind] * prod(shape):
                return _Array(kind, tuple(shape), body[start:end])
    raise Malformed(
        f"an array of {_kind_of(value)} lies outside the file, or is of a type that inputs and labels never are"
    )


def _kind_of(value: Mapping[str, Any] | Any) -> str:
    return str(value.get("dtype")) if isinstance(value, dict) else "no type"
