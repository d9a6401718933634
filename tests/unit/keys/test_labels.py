from collections import Counter
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.canonical import lp, sha256, tag, u32
from app.keys.commitment import MarkingKey
from app.keys.labels import BeaconValue, draw_label, draw_labels, salt_of
from app.keys.trigger_set import TensorInput

BEACON = BeaconValue("local", 7, bytes(32), b"\x05" * 32)


def test_a_label_is_hkdf_of_the_label_key_under_the_salt():
    salt, key = b"\x01" * 32, b"\x02" * 32
    info = lp(tag("label"), u32(9), u32(1000))
    number = int.from_bytes(HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key), "big")
    assert draw_label(salt, key, 9, 1000) == number % 1000


@pytest.mark.parametrize(
    "other",
    [
        salt_of(replace(BEACON, source="drand:" + "ab" * 32), bytes(32), bytes(32)),
        salt_of(replace(BEACON, round=8), bytes(32), bytes(32)),
        salt_of(replace(BEACON, randomness=b"\x01" * 32), bytes(32), bytes(32)),
        salt_of(replace(BEACON, nonce=bytes(32)), bytes(32), bytes(32)),
        salt_of(BEACON, b"\x01" * 32, bytes(32)),
        salt_of(BEACON, bytes(32), b"\x01" * 32),
    ],
)
def test_the_salt_binds_everything_it_is_made_of(other):
    assert salt_of(BEACON, bytes(32), bytes(32)) != other


def test_labels_are_uniform_over_all_classes():
    counts = Counter(draw_label(bytes(32), sha256(u32(index)), index, 4) for index in range(4000))
    # Six standard deviations of a count of 4000 tries at 1/4; the draws are fixed, so this never flickers.
    assert all(abs(counts[label] - 1000) < 6 * 27.4 for label in range(4))


def test_the_labels_of_a_key_are_those_of_its_triggers():
    key = MarkingKey(bytes(32), tuple(TensorInput.of((1,), [index]).encode() for index in range(3)))
    assert draw_labels(key, b"\x09" * 32, 50) == [draw_label(b"\x09" * 32, key.label_key(i), i, 50) for i in range(3)]
