import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from app.errors import Malformed, SignatureInvalid
from app.signature import public_key_of, public_key_pem, sign, verify_signature

# RFC 8032 section 7.1, test 3.
PRIVATE = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
PUBLIC = bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
DATA = bytes.fromhex("af82")
SIGNATURE = bytes.fromhex(
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)
# The order of the group; a signature with S + L is the same equation and must not be a second signature.
L = 2**252 + 27742317777372353535851937790883648493


def test_keys_and_signatures_are_those_of_rfc_8032():
    assert public_key_of(PRIVATE) == PUBLIC
    assert sign(PRIVATE, DATA) == SIGNATURE
    verify_signature(PUBLIC, SIGNATURE, DATA)


def test_a_public_key_prints_as_the_pem_that_other_tools_read():
    assert load_pem_public_key(public_key_pem(PUBLIC)).public_bytes_raw() == PUBLIC


def test_a_signature_off_by_any_bit_is_invalid():
    for bit in range(0, 512, 5):
        damaged = bytearray(SIGNATURE)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureInvalid):
            verify_signature(PUBLIC, bytes(damaged), DATA)


@pytest.mark.parametrize(
    ("public", "signature", "data"),
    [
        (PUBLIC, SIGNATURE, b"\xaf\x83"),
        (PUBLIC, SIGNATURE, b""),
        (PUBLIC, SIGNATURE[:-1], DATA),
        (PUBLIC, SIGNATURE + b"\0", DATA),
        (PUBLIC, b"", DATA),
        (PUBLIC[:-1], SIGNATURE, DATA),
        (b"", SIGNATURE, DATA),
        (public_key_of(bytes(32)), SIGNATURE, DATA),
        (PUBLIC, SIGNATURE[:32] + (int.from_bytes(SIGNATURE[32:], "little") + L).to_bytes(32, "little"), DATA),
    ],
)
def test_another_key_or_data_or_form_is_invalid(public, signature, data):
    with pytest.raises(SignatureInvalid):
        verify_signature(public, signature, data)


@pytest.mark.parametrize("private", [b"", bytes(31), bytes(64)])
def test_a_private_key_of_another_length_is_refused(private):
    with pytest.raises(Malformed):
        sign(private, DATA)
