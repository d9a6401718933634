import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Malformed, OpeningInvalid
from app.keys.sealing import QueueKey, seal
from app.signature import verify_signature

QUEUE, OTHER = QueueKey(b"\x01" * 32), QueueKey(b"\x02" * 32)
ROOT = b"\x07" * 32


def test_what_is_sealed_to_a_queue_opens_there_and_nowhere_else():
    sealed = seal(QUEUE.public, b"marking key", ROOT)
    assert QUEUE.unseal(sealed, ROOT) == b"marking key"
    assert b"marking key" not in sealed
    for key, info in ((OTHER, ROOT), (QUEUE, bytes(32)), (QUEUE, b"")):
        with pytest.raises(OpeningInvalid):
            key.unseal(sealed, info)


def test_sealing_twice_gives_different_bytes():
    assert seal(QUEUE.public, b"x", ROOT) != seal(QUEUE.public, b"x", ROOT)


@given(st.integers(0), st.integers(1, 255))
@settings(deadline=None, max_examples=50)
def test_a_sealed_message_with_any_byte_changed_does_not_open(at, difference):
    sealed = bytearray(seal(QUEUE.public, b"marking key", ROOT))
    sealed[at % len(sealed)] ^= difference
    with pytest.raises(OpeningInvalid):
        QUEUE.unseal(bytes(sealed), ROOT)


@given(st.binary(max_size=120))
@settings(deadline=None, max_examples=50)
def test_bytes_that_nobody_sealed_do_not_open(data):
    with pytest.raises(OpeningInvalid):
        QUEUE.unseal(data, ROOT)


def test_a_queue_signs_with_the_first_half_of_its_public_bytes():
    signature = QUEUE.sign(b"successor")
    verify_signature(QUEUE.signing_public, signature, b"successor")
    assert QUEUE.public[:32] == QUEUE.signing_public
    assert len(QUEUE.public) == 64
    assert QUEUE.public[:32] != OTHER.public[:32]


def test_a_queue_key_prints_no_secret():
    assert repr(QUEUE) == "QueueKey()"


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(64)])
def test_a_seed_of_another_length_is_refused(seed):
    with pytest.raises(Malformed):
        QueueKey(seed)


@pytest.mark.parametrize("public", [b"", bytes(32), bytes(63), bytes(65), bytes(64), bytes(32) + b"\x01" + bytes(31)])
def test_nothing_is_sealed_to_what_is_no_queue_key(public):
    """The last two have a point of small order: whoever knows that could read what is sealed to it."""
    with pytest.raises(Malformed):
        seal(public, b"x", ROOT)
