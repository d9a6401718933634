"""An image as the most faithful JPEG, and nearly back.

Quality 100, no subsampling, baseline. Only the segments that we write are read: a comment or an application segment
could tell the endpoint which answer is wanted.
Source: ITU-T T.81 (markers); Pillow's JPEG plugin.
"""

import io
import warnings

from PIL import Image, UnidentifiedImageError

from app.errors import Malformed
from app.keys.trigger_set import ImageInput

MODES = {1: "L", 3: "RGB"}

# Start, JFIF header, quantisation tables, baseline frame, Huffman tables, scan.
_SOI, _APP0, _DQT, _SOF0, _DHT, _SOS, _EOI = 0xD8, 0xE0, 0xDB, 0xC0, 0xC4, 0xDA, 0xD9
_SEGMENTS = {_APP0, _DQT, _SOF0, _DHT, _SOS}
_JFIF = b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"

# Size of a segment with one table, without a Huffman table's symbols; and the tables of a grey and of a colour picture.
_TABLE_BYTES = {_DQT: 65, _DHT: 17}
_TABLES = {
    1: [(_DHT, b"\x00"), (_DHT, b"\x10"), (_DQT, b"\x00")],
    3: [(_DHT, b"\x00"), (_DHT, b"\x01"), (_DHT, b"\x10"), (_DHT, b"\x11"), (_DQT, b"\x00"), (_DQT, b"\x01")],
}


def encode_jpeg(image: ImageInput) -> bytes:
    """Write an image as JPEG."""
    picture = Image.frombytes(MODES[image.channels], (image.width, image.height), image.pixels)
    out = io.BytesIO()
    picture.save(out, format="JPEG", quality=100, subsampling=0, optimize=False, progressive=False)
    return out.getvalue()


def decode_jpeg(data: bytes, shape: tuple[int, ...]) -> ImageInput:
    """Read the pixels of our own JPEG of exactly this height, width and channels.

    Raises: Malformed.
    """
    height, width, channels = shape
    _check_segments(data, channels)
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            warnings.simplefilter("error")  # a decompression bomb is a warning first
            if (picture.mode, picture.size) != (MODES[channels], (width, height)):
                raise Malformed(f"the request does not hold a JPEG of shape {shape}")
            return ImageInput(height, width, channels, picture.tobytes())
    except (UnidentifiedImageError, OSError, ValueError, Warning) as error:
        raise Malformed("the request's JPEG cannot be read") from error


def _check_segments(data: bytes, channels: int) -> None:
    """Walk the markers before the scan; after it, only entropy-coded bytes and the end may follow."""
    if data[:2] != bytes((0xFF, _SOI)) or data[-2:] != bytes((0xFF, _EOI)):
        raise Malformed("the request does not hold exactly one JPEG")
    at, marker = 2, _SOI
    tables = []
    while marker != _SOS:
        if at + 4 > len(data) or data[at] != 0xFF:
            raise Malformed("the request's JPEG has no scan")
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : at + 2 + length]
        if marker not in _SEGMENTS or (marker == _APP0 and segment != _JFIF):
            raise Malformed("the request's JPEG holds something other than a picture")
        if marker in _TABLE_BYTES:
            tables.append((marker, segment[:1]))
            if len(segment) != _TABLE_BYTES[marker] + (sum(segment[1:17]) if marker == _DHT else 0):
                raise Malformed("the request's JPEG holds more or less than one table where a table stands")
        at += 2 + length
    # A table that the scan does not use could hold anything.
    if sorted(tables) != _TABLES[channels]:
        raise Malformed("the request's JPEG holds other tables than its picture needs")
    scan = data[at:-2]
    stuffed = scan.count(b"\xff")
    if stuffed != scan.count(b"\xff\x00"):
        raise Malformed("the request's JPEG goes on after its scan")
