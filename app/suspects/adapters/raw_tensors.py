"""Tensors as raw bytes behind a JSON object, as the Open Inference Protocol's binary extension has them.

How long the JSON is stands in a response's header, which a transcript does not keep; so its end is found in the bytes: where
the object that begins with the first byte closes.
Invariants: what follows the JSON is exactly the bytes that its outputs say they have, in their order.
Source: Open Inference Protocol, "binary tensor data extension": little-endian, rows first; BYTES are four bytes of length and
the bytes.
"""

import re
import struct
from collections.abc import Sequence
from typing import Any

from app.errors import SuspectMisbehaved
from app.suspects.adapters.answers import field_of

# Of what we send.
ITEM_BYTES = {"uint8": 1, "float32": 4}

# Of what a server may answer with; FP16 reads as IEEE 754 half.
_FORMATS = {
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
}

# A string that does not end takes all that is left: looking for its end again and again would take square time.
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[{}]', re.DOTALL)


def raw_tensor(texts: Sequence[str], dtype: str) -> bytes:
    """Write numbers, printed as JSON, as little-endian items of this dtype."""
    if dtype == "uint8":
        return bytes(map(int, texts))
    return struct.pack(f"<{len(texts)}f", *map(float, texts))


def numbers_of(data: bytes, dtype: str) -> list[float]:
    """Read little-endian items of this dtype; what is no finite number becomes one that no input has."""
    if dtype == "uint8":
        return list(data)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def split_json(body: bytes) -> tuple[bytes, bytes]:
    """Part a body where the object with which it begins closes; all is JSON where it does not.

    Raises: nothing; what is no JSON is refused by who reads it.
    """
    depth = at = 0
    while body.startswith(b"{") and (token := _TOKENS.search(body, at)):
        at = token.end()
        depth += {b"{": 1, b"}": -1}.get(token[0], 0)
        if depth == 0:
            return body[:at], body[at:]
    return body, b""


def with_raw_data(response: Any, data: bytes) -> Any:
    """Put the raw bytes of each output that has some into its `data`.

    Raises: SuspectMisbehaved `wrong_shape` or `wrong_count`.
    """
    outputs = field_of(response, "outputs")
    if not isinstance(outputs, list):
        raise SuspectMisbehaved("the outputs are no array", reason="wrong_shape")
    filled = []
    at = 0
    for output in outputs:
        size = _size_of(output)
        if size is None:
            filled.append(output)
            continue
        if size > len(data) - at:
            raise SuspectMisbehaved("the response ends before its outputs", reason="wrong_count")
        filled.append({**output, "data": _items(field_of(output, "datatype"), data[at : at + size])})
        at += size
    if at != len(data):
        raise SuspectMisbehaved("the response goes on after its outputs", reason="wrong_count")
    return {"outputs": filled}


def _size_of(output: Any) -> int | None:
    parameters = output.get("parameters") if isinstance(output, dict) else None
    if not isinstance(parameters, dict) or "binary_data_size" not in parameters:
        return None
    size = parameters["binary_data_size"]
    if type(size) is not int or size < 0 or "data" in output:
        raise SuspectMisbehaved("an output's size is none, or it has data twice", reason="wrong_shape")
    return size


def _items(datatype: Any, data: bytes) -> list[Any]:
    if datatype == "BYTES":
        return _texts(data)
    code = _FORMATS.get(datatype) if isinstance(datatype, str) else None
    if code is None:
        raise SuspectMisbehaved("an output has no known datatype", reason="wrong_shape")
    if len(data) % struct.calcsize(f"<{code}"):
        raise SuspectMisbehaved("an output's bytes are no whole items", reason="wrong_shape")
    return list(struct.unpack(f"<{len(data) // struct.calcsize(f'<{code}')}{code}", data))


def _texts(data: bytes) -> list[str]:
    texts = []
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        item = data[at + 4 : at + 4 + length]
        if len(data) - at < 4 or len(item) != length:
            raise SuspectMisbehaved("an output's texts are cut off", reason="wrong_shape")
        try:
            texts.append(item.decode())
        except UnicodeDecodeError as error:
            raise SuspectMisbehaved("a label is no text", reason="bad_label") from error
        at += 4 + length
    return texts
