"""From a beacon's value to labels: why a false claim has an exact bound.

The salt binds registration, nonce and public randomness, all fixed or drawn after the inputs were committed; each label is
a pseudo-random function of the salt and the trigger's own label key. So every label is uniform on all K classes and
independent of whatever an innocent endpoint answers. The natural class is not excluded.
Source: docs/protocol.md sections 5 and 8.3 (the proof); RFC 5869.
"""

import hashlib
import hmac
from dataclasses import dataclass

from app.canonical import lp, sha256, tag, u32, u64
from app.keys.commitment import MarkingKey


@dataclass(frozen=True)
class BeaconValue:
    """What a beacon entry opens: `randomness` and `nonce` are 32 bytes."""

    source: str
    round: int
    randomness: bytes
    nonce: bytes


def salt_of(beacon: BeaconValue, root: bytes, entry_hash: bytes) -> bytes:
    """Derive the 32-byte salt of a registration from its beacon, its root and SHA-256 of its log entry."""
    return sha256(
        lp(tag("beacon"), beacon.source, u64(beacon.round), beacon.randomness, beacon.nonce, root, entry_hash)
    )


def draw_label(salt: bytes, label_key: bytes, index: int, classes: int) -> int:
    """Draw the label of one trigger, 0..classes-1 (bias below classes * 2^-256)."""
    # HKDF of RFC 5869 for exactly one block of output, spelled out: 65,536 labels must take seconds, not minutes.
    extracted = hmac.digest(salt, label_key, hashlib.sha256)
    info = lp(tag("label"), u32(index), u32(classes))
    return int.from_bytes(hmac.digest(extracted, info + b"\x01", hashlib.sha256), "big") % classes


def draw_labels(key: MarkingKey, salt: bytes, classes: int) -> list[int]:
    """Draw the labels of all triggers of a marking key."""
    return [draw_label(salt, key.label_key(index), index, classes) for index in range(key.count)]
