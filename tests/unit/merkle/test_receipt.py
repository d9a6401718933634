from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.canonical import sha256
from app.errors import Malformed, ProofError
from app.merkle.checkpoint import Checkpoint, sign_checkpoint
from app.merkle.receipt import MAX_RECEIPT_BYTES, Receipt, encode_receipt, parse_receipt, verify_receipt
from app.merkle.tree import MemoryTree, leaf_hash, node_hash
from app.signature import public_key_of

ORIGIN = "log.example/trapstreet"
PRIVATE_KEY = sha256(b"a log key")
PUBLIC_KEY = public_key_of(PRIVATE_KEY)
ENTRIES = [b"entry %d" % index for index in range(11)]
TREE = MemoryTree([leaf_hash(entry) for entry in ENTRIES])
CHECKPOINT = Checkpoint(ORIGIN, 11, TREE.root())
NOTE = sign_checkpoint(CHECKPOINT, PRIVATE_KEY)
RECEIPT = Receipt(6, tuple(TREE.path(6)), NOTE)


def test_receipt_prints_back_and_verifies():
    data = encode_receipt(RECEIPT)
    assert parse_receipt(data) == RECEIPT
    assert verify_receipt(RECEIPT, ENTRIES[6], PUBLIC_KEY, ORIGIN) == CHECKPOINT


def test_receipt_for_another_index_is_refused():
    for index in set(range(13)) - {6}:
        with pytest.raises(ProofError):
            verify_receipt(Receipt(index, RECEIPT.path, NOTE), ENTRIES[6], PUBLIC_KEY, ORIGIN)


def test_receipt_for_another_entry_log_or_key_is_refused():
    with pytest.raises(ProofError, match="another root"):
        verify_receipt(RECEIPT, ENTRIES[7], PUBLIC_KEY, ORIGIN)
    with pytest.raises(ProofError, match="not of log"):
        verify_receipt(RECEIPT, ENTRIES[6], PUBLIC_KEY, "log.example/other")
    with pytest.raises(ProofError, match="not signed"):
        verify_receipt(RECEIPT, ENTRIES[6], public_key_of(bytes(32)), ORIGIN)


def test_any_bit_flipped_in_the_receipt_is_refused():
    data = encode_receipt(RECEIPT)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        with pytest.raises((Malformed, ProofError)):
            verify_receipt(parse_receipt(bytes(damaged)), ENTRIES[6], PUBLIC_KEY, ORIGIN)


def test_receipt_of_the_deepest_tree_is_read():
    # The only leaf anybody knows of 2^53 - 1, the first one: 53 siblings up to the root.
    siblings = tuple(sha256(bytes([level])) for level in range(53))
    root = leaf_hash(b"first")
    for sibling in siblings:
        root = node_hash(root, sibling)
    note = sign_checkpoint(Checkpoint(ORIGIN, 2**53 - 1, root), PRIVATE_KEY)
    receipt = parse_receipt(encode_receipt(Receipt(0, siblings, note)))
    assert verify_receipt(receipt, b"first", PUBLIC_KEY, ORIGIN).size == 2**53 - 1


def test_receipt_with_a_longer_path_than_any_tree_has_is_malformed():
    with pytest.raises(Malformed, match="at most 53"):
        parse_receipt(encode_receipt(Receipt(0, (bytes(32),) * 54, NOTE)))


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"\n\n", b"c2sp.org/tlog-proof@v1", b"c2sp.org/tlog-proof@v1\nindex 0\n\n", b"a" * (2**19)],
)
def test_what_is_no_receipt_is_malformed(data):
    assert len(data) < 2**19 or len(data) > MAX_RECEIPT_BYTES
    with pytest.raises(Malformed):
        parse_receipt(data)


WHOLE = encode_receipt(RECEIPT)


@settings(deadline=None, max_examples=500)
@given(st.integers(0, len(WHOLE)), st.integers(0, 50), st.binary(max_size=12) | st.text(max_size=6))
def test_any_bytes_are_a_receipt_that_prints_back_or_malformed(start, length, spliced):
    spliced = spliced.encode() if isinstance(spliced, str) else spliced
    for data in (WHOLE[:start] + spliced + WHOLE[start + length :], spliced):
        with suppress(Malformed):
            assert encode_receipt(parse_receipt(data)) == data
