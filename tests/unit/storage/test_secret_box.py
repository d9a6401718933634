import pytest

from app.errors import Unavailable
from app.storage.secret_box import SecretBox

BOX = SecretBox(bytes(range(32)))
SECRET = b"s3cr3t-of-the-vendor"


def test_a_secret_opens_for_its_purpose_alone():
    sealed = BOX.seal(SECRET, b"suspect 1")
    assert BOX.open(sealed, b"suspect 1") == SECRET
    assert SECRET not in sealed
    with pytest.raises(Unavailable):
        BOX.open(sealed, b"suspect 2")


def test_the_same_secret_is_never_sealed_alike():
    assert BOX.seal(SECRET, b"") != BOX.seal(SECRET, b"")


@pytest.mark.parametrize("at", range(8 + 12 + len(SECRET) + 16))
def test_a_changed_bit_anywhere_is_noticed(at):
    sealed = bytearray(BOX.seal(SECRET, b"suspect 1"))
    sealed[at] ^= 1
    with pytest.raises(Unavailable):
        BOX.open(bytes(sealed), b"suspect 1")


@pytest.mark.parametrize("length", [0, 7, 8, 19, 20, 35])
def test_what_was_cut_short_is_noticed(length):
    with pytest.raises(Unavailable):
        BOX.open(BOX.seal(SECRET, b"")[:length], b"")


def test_another_key_is_told_by_name_and_no_key_is_shown():
    other = SecretBox(bytes(32))
    with pytest.raises(Unavailable, match=BOX.key_id.hex()):
        other.open(BOX.seal(SECRET, b""), b"")
    assert repr(BOX.key) not in repr(BOX)
    assert BOX.key.hex() not in repr(BOX)
