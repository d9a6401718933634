"""Which triggers are asked, in which order, and what they are hidden among.

The challenge of a filing comes from its own beacon, so neither claimant nor service chooses it. Each trigger has a
look-alike, the same input with its tiles shuffled: an honest endpoint treats the two alike.

A family is asked once: its first challenge spends all of it. If what was left could be asked again, a claimant who knows
all labels and has tried the endpoint in private would leave just the triggers that match (tests/unit/protocol/
test_soundness.py plays it).
Source: docs/protocol.md sections 6 and 8; what the first design left open is marked "ours" there.
"""

import hashlib
import hmac

from app.canonical import lp, sha256, tag, u32, u64
from app.keys.labels import BeaconValue
from app.keys.trigger_set import Family, ImageInput, TensorInput, parse_input

TILE_PIXELS = 4
TILE_VALUES = 16

# 5 % of triggers and look-alikes are asked twice: the first of every twenty in challenge order (ours).
REPEAT_EVERY = 20


def seed_of(beacon: BeaconValue, entry_hash: bytes) -> bytes:
    """Derive the 32-byte challenge seed from a filing's beacon and SHA-256 of its log entry."""
    return sha256(
        lp(tag("challenge-seed"), beacon.source, u64(beacon.round), beacon.randomness, beacon.nonce, entry_hash)
    )


def challenge_order(seed: bytes, family: Family) -> list[int]:
    """Order the indices of a family."""
    indices = range(family.start, family.end)
    return sorted(indices, key=lambda index: hmac.digest(seed, lp(tag("challenge"), u32(index)), hashlib.sha256))


def is_repeated(position: int) -> bool:
    """Tell whether the trigger at this position of the order is asked twice, with its look-alike."""
    return position % REPEAT_EVERY == 0


def look_alike(seed: bytes, index: int, canonical_input: bytes) -> bytes:
    """Shuffle an opened input's 4x4-pixel tiles, or its blocks of 16 values; what fills no tile stays in place."""
    opened = parse_input(canonical_input)
    if isinstance(opened, ImageInput):
        return _shuffle_tiles(seed, index, opened).encode()
    size = 4 * TILE_VALUES
    whole = len(opened.values) // size
    blocks = [opened.values[tile * size : (tile + 1) * size] for tile in range(whole)]
    shuffled = b"".join(blocks[tile] for tile in _tile_order(seed, index, whole))
    return TensorInput(opened.shape, shuffled + opened.values[whole * size :]).encode()


def _shuffle_tiles(seed: bytes, index: int, image: ImageInput) -> ImageInput:
    rows, columns = image.height // TILE_PIXELS, image.width // TILE_PIXELS
    pixels = bytearray(image.pixels)
    width_bytes = TILE_PIXELS * image.channels
    for target, source in enumerate(_tile_order(seed, index, rows * columns)):
        for line in range(TILE_PIXELS):
            to = _tile_at(image, target, columns, line)
            at = _tile_at(image, source, columns, line)
            pixels[to : to + width_bytes] = image.pixels[at : at + width_bytes]
    return ImageInput(image.height, image.width, image.channels, bytes(pixels))


def _tile_at(image: ImageInput, tile: int, columns: int, line: int) -> int:
    row, column = divmod(tile, columns)
    return ((row * TILE_PIXELS + line) * image.width + column * TILE_PIXELS) * image.channels


def _tile_order(seed: bytes, index: int, tiles: int) -> list[int]:
    return sorted(
        range(tiles),
        key=lambda tile: hmac.digest(seed, lp(tag("look-alike"), u32(index), u32(tile)), hashlib.sha256),
    )
