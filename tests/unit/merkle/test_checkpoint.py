from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.canonical import sha256
from app.errors import Malformed, ProofError
from app.merkle.checkpoint import (
    MAX_NOTE_BYTES,
    Checkpoint,
    NoteSignature,
    encode_checkpoint,
    encode_note,
    fingerprint,
    key_id,
    parse_base64,
    parse_checkpoint,
    parse_decimal,
    parse_verifier_key,
    sign_checkpoint,
    verifier_key_text,
    verify_checkpoint,
)
from app.signature import public_key_of, verify_signature

ORIGIN = "log.example/trapstreet"
PRIVATE_KEY = sha256(b"a log key")
PUBLIC_KEY = public_key_of(PRIVATE_KEY)
CHECKPOINT = Checkpoint(ORIGIN, 20852163, sha256(b"root"))
NOTE = sign_checkpoint(CHECKPOINT, PRIVATE_KEY)

# The examples of c2sp.org/tlog-checkpoint and c2sp.org/signed-note.
PUBLISHED_CHECKPOINT = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "\u2014 example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
)
PUBLISHED_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
PUBLISHED_TEXT = b"This is an example message.\n"
PUBLISHED_SIGNATURE = "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="


def test_signed_checkpoint_verifies():
    assert verify_checkpoint(NOTE, PUBLIC_KEY, ORIGIN) == CHECKPOINT
    assert verify_checkpoint(NOTE.encode(), PUBLIC_KEY, ORIGIN) == CHECKPOINT


def test_published_checkpoint_prints_back():
    checkpoint, signatures = parse_checkpoint(PUBLISHED_CHECKPOINT)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert encode_note(checkpoint, signatures) == PUBLISHED_CHECKPOINT


def test_published_verifier_key_fits_its_signature():
    name, public_key = parse_verifier_key(PUBLISHED_KEY)
    assert name == "example.com/foo"
    assert verifier_key_text(name, public_key) == PUBLISHED_KEY
    signature = parse_base64(PUBLISHED_SIGNATURE)
    assert signature[:4] == key_id(name, public_key)
    verify_signature(public_key, signature[4:], PUBLISHED_TEXT)


def test_verifier_key_of_this_log_reads_back():
    assert parse_verifier_key(verifier_key_text(ORIGIN, PUBLIC_KEY)) == (ORIGIN, PUBLIC_KEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com/foo",
        PUBLISHED_KEY.replace("530d903a", "530d903b"),
        PUBLISHED_KEY.replace("530d903a", "530D903A"),
        PUBLISHED_KEY.replace("example.com/foo", "example.com/bar"),
        PUBLISHED_KEY.replace("example.com/foo", ""),
        PUBLISHED_KEY.replace("+Ae", "+Ai"),
        PUBLISHED_KEY[:-4],
        PUBLISHED_KEY + "\n",
        PUBLISHED_KEY.replace("2k", "2l"),
    ],
)
def test_verifier_key_with_anything_wrong_is_refused(text):
    with pytest.raises(Malformed):
        parse_verifier_key(text)


def test_verifier_key_with_spaces_in_its_name_is_refused_though_its_id_fits():
    with pytest.raises(Malformed, match="not a verifier key"):
        parse_verifier_key(verifier_key_text("two words", PUBLIC_KEY))


def test_fingerprint_is_what_sha256sum_prints_for_the_raw_key():
    assert fingerprint(bytes(32)) == "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"


def test_cosignatures_by_unknown_keys_are_kept_and_ignored():
    _, (own,) = parse_checkpoint(NOTE)
    witness = NoteSignature("zeuge.example/\u00fc1", b"\x00\x01\x02\x03", bytes(72))
    # Another key may share the log's name, or its id, but not both.
    same_name = NoteSignature(ORIGIN, b"\x00\x00\x00\x00", bytes(64))
    same_id = NoteSignature("witness.example", own.key_id, bytes(64))
    note = encode_note(CHECKPOINT, [witness, same_name, own, same_id])
    assert verify_checkpoint(note, PUBLIC_KEY, ORIGIN) == CHECKPOINT
    assert encode_note(*parse_checkpoint(note)) == note


def test_one_bad_signature_by_the_log_key_refuses_the_note_even_beside_a_good_one():
    _, (own,) = parse_checkpoint(NOTE)
    bad = NoteSignature(own.name, own.key_id, bytes(64))
    for lines in ([own, bad], [bad, own]):
        with pytest.raises(ProofError, match="does not fit"):
            verify_checkpoint(encode_note(CHECKPOINT, lines), PUBLIC_KEY, ORIGIN)


def test_checkpoint_of_another_origin_is_refused_though_signed_with_the_key():
    with pytest.raises(ProofError, match="not of log"):
        verify_checkpoint(NOTE, PUBLIC_KEY, "log.example/other")


def test_checkpoint_signed_with_another_key_is_refused_naming_the_expected_one():
    other = public_key_of(sha256(b"another key"))
    with pytest.raises(ProofError, match=fingerprint(other)):
        verify_checkpoint(NOTE, other, ORIGIN)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_log_key_of_another_length_is_refused(length):
    with pytest.raises(Malformed, match="32 bytes"):
        verify_checkpoint(NOTE, bytes(length), ORIGIN)


def test_any_bit_flipped_in_the_note_is_refused():
    data = NOTE.encode()
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises((Malformed, ProofError)):
                verify_checkpoint(bytes(damaged), PUBLIC_KEY, ORIGIN)


@pytest.mark.parametrize(
    "checkpoint",
    [
        ("", 1, bytes(32)),
        ("two words", 1, bytes(32)),
        ("a+b", 1, bytes(32)),
        ("line\n", 1, bytes(32)),
        ("\u00fc", 1, bytes(32)),
        ("a" * 201, 1, bytes(32)),
        ("a", -1, bytes(32)),
        ("a", 2**53, bytes(32)),
        ("a", 1, bytes(31)),
        ("a", 1, b""),
    ],
)
def test_checkpoint_that_could_not_be_read_back_cannot_be_made(checkpoint):
    with pytest.raises(Malformed):
        Checkpoint(*checkpoint)


@pytest.mark.parametrize(
    "signature",
    [
        ("", b"1234", b"1"),
        ("a b", b"1234", b"1"),
        ("a\u2003b", b"1234", b"1"),
        ("a+b", b"1234", b"1"),
        ("a\x01b", b"1234", b"1"),
        ("a", b"123", b"1"),
        ("a", b"1234", b""),
    ],
)
def test_signature_line_that_could_not_be_read_back_cannot_be_made(signature):
    with pytest.raises(Malformed):
        NoteSignature(*signature)


def test_note_that_is_oversized_or_not_utf8_is_malformed():
    for note in (b"a" * (MAX_NOTE_BYTES + 1), b"\xff", "\ud800", b"", ""):
        with pytest.raises(Malformed):
            parse_checkpoint(note)


def test_sixteen_long_cosignatures_fit():
    _, lines = parse_checkpoint(NOTE)
    cosignatures = [NoteSignature(f"witness.example/{i}", bytes(4), bytes(5000)) for i in range(16)]
    note = encode_note(CHECKPOINT, [*lines, *cosignatures])
    assert verify_checkpoint(note, PUBLIC_KEY, ORIGIN) == CHECKPOINT


@pytest.mark.parametrize("text", ["", "007", "-5", "+5", " 5", "5 ", "5\n", "\u0661", "1_0", "0x1", "1e3", str(2**53)])
def test_number_that_would_print_back_otherwise_is_malformed(text):
    with pytest.raises(Malformed):
        parse_decimal(text)


@pytest.mark.parametrize("number", [0, 1, 10, 2**53 - 1])
def test_number_prints_back(number):
    assert parse_decimal(str(number)) == number


@settings(deadline=None, max_examples=300)
@given(st.text())
def test_any_text_is_a_number_that_prints_back_or_malformed(text):
    with suppress(Malformed):
        assert str(parse_decimal(text)) == text


@settings(deadline=None, max_examples=500)
@given(st.integers(0, len(NOTE.encode())), st.integers(0, 12), st.binary(max_size=12) | st.text(max_size=6))
def test_any_bytes_are_a_note_that_prints_back_or_malformed(start, length, spliced):
    whole = NOTE.encode()
    spliced = spliced.encode() if isinstance(spliced, str) else spliced
    for data in (whole[:start] + spliced + whole[start + length :], spliced):
        with suppress(Malformed):
            assert encode_note(*parse_checkpoint(data)).encode() == data


@settings(deadline=None)
@given(st.integers(0, 2**53 - 1), st.binary(min_size=32, max_size=32))
def test_any_checkpoint_is_signed_read_and_verified(size, root):
    checkpoint = Checkpoint(ORIGIN, size, root)
    assert verify_checkpoint(sign_checkpoint(checkpoint, PRIVATE_KEY), PUBLIC_KEY, ORIGIN) == checkpoint
    assert encode_checkpoint(checkpoint).count("\n") == 3
