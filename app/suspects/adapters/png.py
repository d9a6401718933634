"""An image as the plainest PNG, and back.

Only what we write is read: one IHDR, one IDAT, one IEND, 8 bits, grey or RGB, no filter, no interlace. Every other
chunk is refused, since a text chunk could tell the endpoint which answer is wanted.
Source: PNG specification (third edition), sections 5, 9, 10 and 11.
"""

import struct
import zlib

from app.errors import Malformed
from app.keys.trigger_set import ImageInput

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Colour type by channel count: greyscale and truecolour.
COLOUR_TYPES = {1: 0, 3: 2}


def encode_png(image: ImageInput) -> bytes:
    """Write an image as PNG."""
    stride = image.width * image.channels
    rows = b"".join(b"\0" + image.pixels[at : at + stride] for at in range(0, len(image.pixels), stride))
    return (
        SIGNATURE
        + _chunk(b"IHDR", _header(image.height, image.width, image.channels))
        + _chunk(b"IDAT", zlib.compress(rows, 6))
        + _chunk(b"IEND", b"")
    )


def decode_png(data: bytes, shape: tuple[int, ...]) -> ImageInput:
    """Read an image of exactly this height, width and channels out of our own PNG.

    Raises: Malformed.
    """
    height, width, channels = shape
    header = SIGNATURE + _chunk(b"IHDR", _header(height, width, channels))
    trailer = _chunk(b"IEND", b"")
    if not data.startswith(header) or not data.endswith(trailer):
        raise Malformed(f"the request does not hold a plain PNG of shape {shape}")
    body = data[len(header) : len(data) - len(trailer)]
    compressed = body[8:-4]
    if body != _chunk(b"IDAT", compressed):
        raise Malformed("the PNG holds more than one chunk of pixels, or a wrong checksum")
    rows = _inflate(compressed, height * (1 + width * channels))
    stride = 1 + width * channels
    if any(rows[::stride]):
        raise Malformed("the PNG's rows are filtered")
    return ImageInput(
        height, width, channels, b"".join(rows[at + 1 : at + stride] for at in range(0, len(rows), stride))
    )


def _inflate(compressed: bytes, size: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        rows = stream.decompress(compressed, size + 1)
    except zlib.error as error:
        raise Malformed("the PNG's pixels do not decompress") from error
    if len(rows) != size or not stream.eof or stream.unused_data:
        raise Malformed("the PNG does not hold exactly its pixels")
    return rows


def _header(height: int, width: int, channels: int) -> bytes:
    return struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPES[channels], 0, 0, 0)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
