"""Verify that an entry is in the log, offline and for good: a C2SP tlog-proof.

    c2sp.org/tlog-proof@v1
    index <index>
    <path, one base64 hash a line, from the leaf's sibling up>

    <checkpoint, a signed note>

A receipt binds entry, index and size to one signed checkpoint: all of them are checked, or none is believed. Checking
one needs no code of ours: docs/verify-receipt.sh does it with openssl and coreutils.
Invariants: `encode_receipt(parse_receipt(b)) == b` or Malformed; no `extra` line, which nothing would authenticate.
Source: c2sp.org/tlog-proof; RFC 9162 section 2.1.3.2.
Trust: nothing here trusts the server; the log's public key and origin are the caller's.
"""

from dataclasses import dataclass

from app.errors import Malformed
from app.merkle.checkpoint import (
    MAX_NOTE_BYTES,
    Checkpoint,
    base64_text,
    parse_base64,
    parse_checkpoint,
    parse_decimal,
    verify_checkpoint,
)
from app.merkle.tree import HASH_BYTES, leaf_hash, verify_inclusion

FIRST_LINE = "c2sp.org/tlog-proof@v1"
INDEX_START = "index "

# Sizes are at most 2^53-1, so no path is longer.
MAX_PATH = 53

# The path takes 45 bytes a line; the rest of the header is under 100.
MAX_RECEIPT_BYTES = MAX_NOTE_BYTES + 4096


@dataclass(frozen=True)
class Receipt:
    """Where an entry stands, the path from it to the root, and the note that signs the root."""

    index: int
    path: tuple[bytes, ...]
    checkpoint_note: str


def encode_receipt(receipt: Receipt) -> bytes:
    """Write a receipt as the bytes of its file."""
    path = "".join(f"{base64_text(value)}\n" for value in receipt.path)
    return f"{FIRST_LINE}\n{INDEX_START}{receipt.index}\n{path}\n{receipt.checkpoint_note}".encode()


def parse_receipt(data: bytes) -> Receipt:
    """Read a receipt without believing it.

    Raises: Malformed unless writing it again gives the same bytes.
    """
    if len(data) > MAX_RECEIPT_BYTES:
        raise Malformed(f"a receipt has at most {MAX_RECEIPT_BYTES} bytes")
    try:
        header, _, note = data.decode().partition("\n\n")
    except UnicodeDecodeError as error:
        raise Malformed("a receipt is UTF-8") from error
    first, *lines = header.split("\n")
    if first != FIRST_LINE:
        raise Malformed(f"a receipt begins with the line {FIRST_LINE}")
    if not lines or not lines[0].startswith(INDEX_START):
        raise Malformed("the second line of a receipt is `index` and the entry's index")
    index = parse_decimal(lines[0].removeprefix(INDEX_START))
    path = tuple(_parse_hash(line) for line in lines[1 : MAX_PATH + 2])
    if len(path) > MAX_PATH:
        raise Malformed(f"a path has at most {MAX_PATH} hashes")
    parse_checkpoint(note)
    return Receipt(index, path, note)


def verify_receipt(receipt: Receipt, entry: bytes, log_public_key: bytes, origin: str) -> Checkpoint:
    """Check that these bytes are the entry at the receipt's index of the log, and give the checkpoint that says so.

    Raises: Malformed if the note is no checkpoint; ProofError if anything does not hold.
    """
    checkpoint = verify_checkpoint(receipt.checkpoint_note, log_public_key, origin)
    verify_inclusion(leaf_hash(entry), receipt.index, checkpoint.size, receipt.path, checkpoint.root)
    return checkpoint


def _parse_hash(line: str) -> bytes:
    value = parse_base64(line)
    if len(value) != HASH_BYTES:
        raise Malformed(f"a hash of the path has {HASH_BYTES} bytes, not {len(value)}")
    return value
