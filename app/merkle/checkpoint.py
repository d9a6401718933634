"""A log's signed statement of its size and root, as a C2SP checkpoint in a signed note.

    <origin>
    <size>
    <root, base64>

    (em dash) <key name> <base64 of key id and signature>

Invariants: `encode_note(*parse_checkpoint(note))` is the note again, or it is Malformed; exactly the three lines above
(the specification allows more lines, which nobody could audit; here they are refused). Signatures by keys nobody knows,
such as a witness's, are kept and printed back.
Source: c2sp.org/tlog-checkpoint, c2sp.org/signed-note@v1.0.0.
Trust: a checkpoint is the word of whoever holds the log's private key; the public key must come from the caller, never
from the place that served the checkpoint.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.canonical import MAX_INTEGER, sha256
from app.errors import Malformed, ProofError, SignatureInvalid
from app.merkle.tree import HASH_BYTES
from app.signature import PUBLIC_KEY_BYTES, public_key_of, sign, verify_signature

# The origin is also the key name of the log's signature line, so neither spaces nor plus signs; ASCII, so that two that
# look the same are the same.
ORIGIN_PATTERN = r"[!-*,-~]{1,200}"

# signed-note: type byte of Ed25519 in key ids and verifier keys.
ED25519_TYPE = b"\x01"
KEY_ID_BYTES = 4

# Sixteen cosignatures, the least a reader must take, of 5 kB each fit twice.
MAX_NOTE_BYTES = 256 * 1024

SIGNATURE_START = "\u2014 "


@dataclass(frozen=True)
class Checkpoint:
    """How many entries the log of this origin holds, and the root over them."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        """Refuse what could not be read back."""
        if not re.fullmatch(ORIGIN_PATTERN, self.origin):
            raise Malformed("an origin is 1 to 200 ASCII characters without spaces and plus signs")
        if not 0 <= self.size <= MAX_INTEGER:
            raise Malformed("a tree size lies between 0 and 2^53-1")
        if len(self.root) != HASH_BYTES:
            raise Malformed(f"a root has {HASH_BYTES} bytes, not {len(self.root)}")


@dataclass(frozen=True)
class NoteSignature:
    """One signature line of a note; `key_id` only hints at the key."""

    name: str
    key_id: bytes
    signature: bytes

    def __post_init__(self) -> None:
        """Refuse what could not be read back."""
        if not self.name or any(c == "+" or c < " " or c.isspace() for c in self.name):
            raise Malformed("a key name is not empty and has no spaces, plus signs or control characters")
        if len(self.key_id) != KEY_ID_BYTES or not self.signature:
            raise Malformed("a note signature is a key id of 4 bytes and at least one byte more")


def encode_checkpoint(checkpoint: Checkpoint) -> str:
    """Write the text that the log signs."""
    return f"{checkpoint.origin}\n{checkpoint.size}\n{base64_text(checkpoint.root)}\n"


def encode_note(checkpoint: Checkpoint, signatures: Sequence[NoteSignature]) -> str:
    """Write a checkpoint and its signatures as a signed note."""
    lines = [f"{SIGNATURE_START}{s.name} {base64_text(s.key_id + s.signature)}\n" for s in signatures]
    return encode_checkpoint(checkpoint) + "\n" + "".join(lines)


def sign_checkpoint(checkpoint: Checkpoint, private_key: bytes) -> str:
    """Sign a checkpoint as its log, giving the note."""
    signature = sign(private_key, encode_checkpoint(checkpoint).encode())
    name = checkpoint.origin
    return encode_note(checkpoint, [NoteSignature(name, key_id(name, public_key_of(private_key)), signature)])


def parse_checkpoint(note: bytes | str) -> tuple[Checkpoint, tuple[NoteSignature, ...]]:
    """Read a signed note without believing it.

    Raises: Malformed unless writing it again gives the same note.
    """
    body, _, block = _decode(note).partition("\n\n")
    lines = body.split("\n")
    if len(lines) != 3:
        raise Malformed(f"a checkpoint has the three lines origin, size and root, not {len(lines)}")
    if not block.endswith("\n"):
        raise Malformed("a checkpoint is followed by an empty line and signature lines, each ending in a newline")
    checkpoint = Checkpoint(lines[0], parse_decimal(lines[1]), parse_base64(lines[2]))
    return checkpoint, tuple(_parse_signature(line) for line in block[:-1].split("\n"))


def verify_checkpoint(note: bytes | str, log_public_key: bytes, origin: str) -> Checkpoint:
    """Read a checkpoint that the log with this key and origin signed.

    Raises: Malformed if it is no checkpoint; ProofError if another log's, or not signed with this key.
    """
    checkpoint, signatures = parse_checkpoint(note)
    if checkpoint.origin != origin:
        raise ProofError(f"a checkpoint of the log {checkpoint.origin}, not of {origin}")
    known = (origin, key_id(origin, log_public_key))
    own = [s for s in signatures if (s.name, s.key_id) == known]
    if not own:
        raise ProofError(f"the checkpoint is not signed with the log key {fingerprint(log_public_key)}")
    signed = encode_checkpoint(checkpoint).encode()
    for line in own:
        try:
            verify_signature(log_public_key, line.signature, signed)
        except SignatureInvalid as error:
            raise ProofError("the log's signature does not fit the checkpoint") from error
    return checkpoint


def key_id(name: str, public_key: bytes) -> bytes:
    """Give the 4 bytes by which a note names an Ed25519 key.

    Raises: Malformed if the key has not 32 bytes.
    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise Malformed(f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, not {len(public_key)}")
    return sha256(name.encode() + b"\n" + ED25519_TYPE + public_key)[:KEY_ID_BYTES]


def verifier_key_text(origin: str, public_key: bytes) -> str:
    """Write a log's public key as other readers of signed notes take it: origin+id+key."""
    return f"{origin}+{key_id(origin, public_key).hex()}+{base64_text(ED25519_TYPE + public_key)}"


def parse_verifier_key(text: str) -> tuple[str, bytes]:
    """Read a verifier key into origin and Ed25519 public key.

    Raises: Malformed unless writing it again gives the same text.
    """
    origin, _, rest = text.partition("+")
    public_key = parse_base64(rest.partition("+")[2])[1:]
    if not re.fullmatch(ORIGIN_PATTERN, origin) or text != verifier_key_text(origin, public_key):
        raise Malformed("not a verifier key: origin+key id+base64 of byte 1 and the Ed25519 key, the id fitting both")
    return origin, public_key


def fingerprint(public_key: bytes) -> str:
    """Give the text by which people compare public keys: SHA-256 of the 32 bytes, in hex."""
    return sha256(public_key).hex()


def base64_text(data: bytes) -> str:
    """Write bytes in standard base64."""
    return base64.b64encode(data).decode()


def parse_base64(text: str) -> bytes:
    """Read standard base64.

    Raises: Malformed unless writing it again gives the same text.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Malformed(f"not base64: {error}") from error
    # Python lets unused low bits of the last character be anything.
    if base64_text(data) != text:
        raise Malformed("not canonical base64")
    return data


def parse_decimal(text: str) -> int:
    """Read an ASCII decimal of at most 2^53-1 without sign or leading zeros.

    Raises: Malformed.
    """
    if not re.fullmatch("0|[1-9][0-9]{0,15}", text) or int(text) > MAX_INTEGER:
        raise Malformed("a number is ASCII digits without leading zeros, at most 2^53-1")
    return int(text)


def _decode(note: bytes | str) -> str:
    if len(note) > MAX_NOTE_BYTES:
        raise Malformed(f"a signed note has at most {MAX_NOTE_BYTES} bytes")
    try:
        data = note.encode() if isinstance(note, str) else note
        return data.decode()
    except UnicodeError as error:
        raise Malformed("a signed note is UTF-8") from error


def _parse_signature(line: str) -> NoteSignature:
    name, space, encoded = line.removeprefix(SIGNATURE_START).partition(" ")
    if not line.startswith(SIGNATURE_START) or not space:
        raise Malformed("a signature line is an em dash, a space, the key name, a space and base64")
    data = parse_base64(encoded)
    return NoteSignature(name, data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])
