"""How an input stands in a request: as numbers, as a picture in text, or as the whole body.

An encoding is named in an adapter's options. `nested` and `flat` are numbers of the preprocessing's dtype; `pixels_...` and
`floats_...` say the dtype themselves; `png` and `jpeg` are the picture's bytes, `..._base64` and `..._data_url` the same
as text. JPEG is for endpoints that take nothing else: it is written at quality 100 without subsampling, and an auditor
accepts pixels within `JPEG_TOLERANCE` of the committed ones.

Invariants: `read_input(write_input(x))` is `x` (for JPEG within the tolerance); text that we would not write is refused.
"""

import base64
import binascii
import json
import math
from typing import Any

from app.errors import Malformed
from app.keys.trigger_set import ImageInput, TensorInput
from app.suspects.adapters.codec import (
    MAX_REQUEST_BYTES,
    Preprocessing,
    enlarge,
    flatten,
    input_of,
    nest,
    number_texts,
    reduce,
    sent_shape,
)
from app.suspects.adapters.jpeg import decode_jpeg, encode_jpeg
from app.suspects.adapters.png import decode_png, encode_png

NUMBER_ENCODINGS = ("nested", "flat", "pixels_nested", "pixels_flat", "floats_nested", "floats_flat")
TEXT_ENCODINGS = ("png_base64", "jpeg_base64", "png_data_url", "jpeg_data_url")
BODY_ENCODINGS = ("png", "jpeg")

MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg"}

# What JPEG at quality 100 without subsampling loses at most, with room: its own rounding, and other decoders'.
JPEG_TOLERANCE = 16


def tolerance_of(encoding: str) -> int:
    """Say how far a pixel read back may lie from the one sent."""
    return JPEG_TOLERANCE if encoding.startswith("jpeg") else 0


def usual_encoding(picture: str, rules: Preprocessing, kind: str) -> str:
    """Give the encoding that carries an input where none is named: this picture, or numbers where no picture can."""
    return picture if kind == "image" and rules == Preprocessing(size=rules.size) else "nested"


def check_encoding(encoding: str, rules: Preprocessing, kind: str, pointer: str) -> None:
    """Refuse an encoding that cannot carry what the preprocessing makes of an input.

    Raises: Malformed.
    """
    if encoding not in NUMBER_ENCODINGS:
        if kind != "image" or rules != Preprocessing(size=rules.size):
            raise Malformed(
                "a picture carries an image's plain pixels: only `size` may stand beside it", pointer=pointer
            )
    elif encoding.startswith("pixels") and rules.dtype != "uint8":
        raise Malformed("pixels are whole numbers: use floats, or the dtype uint8", pointer=pointer)
    elif encoding.startswith("floats") and rules.dtype != "float32":
        raise Malformed("floats need the dtype float32 in the preprocessing", pointer=pointer)


def write_input(encoding: str, rules: Preprocessing, question: ImageInput | TensorInput) -> bytes:
    """Write an input as JSON text (numbers and pictures as text) or as the body itself (`png`, `jpeg`)."""
    if encoding in NUMBER_ENCODINGS:
        return nest(number_texts(question, rules), _dimensions(encoding, rules, question.kind, question.shape))
    if not isinstance(question, ImageInput):
        raise Malformed("only an image can be sent as a picture")
    picture = enlarge(question, rules)
    codec = encoding.partition("_")[0]
    data = encode_png(picture) if codec == "png" else encode_jpeg(picture)
    if encoding in BODY_ENCODINGS:
        return data
    return json.dumps(_prefix(encoding) + base64.b64encode(data).decode()).encode()


def read_input(encoding: str, rules: Preprocessing, value: Any, kind: str, shape: tuple[int, ...]) -> bytes:
    """Read the canonical input out of a parsed JSON value, or out of the body's bytes.

    Raises: Malformed unless it is what `write_input` writes.
    """
    if encoding in NUMBER_ENCODINGS:
        return input_of(flatten(value, _dimensions(encoding, rules, kind, shape)), rules, kind, shape)
    data = value if encoding in BODY_ENCODINGS else _from_text(encoding, value)
    sent = (*rules.sent_size(shape), shape[2])
    codec = encoding.partition("_")[0]
    picture = decode_png(data, sent) if codec == "png" else decode_jpeg(data, sent)
    return reduce(picture, rules, shape, slack=tolerance_of(encoding)).encode()


def write_body(encoding: str, rules: Preprocessing, question: ImageInput | TensorInput) -> bytes:
    """Write a picture as a request's whole body: its bytes, or its text without quotes."""
    written = write_input(encoding, rules, question)
    return written[1:-1] if encoding in TEXT_ENCODINGS else written


def read_body(encoding: str, rules: Preprocessing, body: bytes, kind: str, shape: tuple[int, ...]) -> bytes:
    """Read the canonical input out of a request that is nothing but a picture.

    Raises: Malformed unless it is what `write_body` writes.
    """
    if len(body) > MAX_REQUEST_BYTES:
        raise Malformed(f"a request of {len(body)} bytes is over the limit of {MAX_REQUEST_BYTES}")
    # What is no ASCII is no base64 either, and is refused as such.
    value = body.decode("ascii", "replace") if encoding in TEXT_ENCODINGS else body
    return read_input(encoding, rules, value, kind, shape)


def _dimensions(encoding: str, rules: Preprocessing, kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    dimensions = sent_shape(rules, kind, shape)
    return (math.prod(dimensions),) if encoding.endswith("flat") else dimensions


def _prefix(encoding: str) -> str:
    codec, _, way = encoding.partition("_")
    return f"data:{MEDIA_TYPES[codec]};base64," if way == "data_url" else ""


def _from_text(encoding: str, value: Any) -> bytes:
    if not isinstance(value, str) or not value.startswith(_prefix(encoding)):
        raise Malformed("the request holds no text where the picture should stand")
    text = value.removeprefix(_prefix(encoding))
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("the request's picture is not base64") from error
    if base64.b64encode(data).decode() != text:
        raise Malformed("the request's picture is not canonical base64")
    return data
