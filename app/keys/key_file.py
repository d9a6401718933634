"""The marking key as a file: plain, or sealed under a passphrase.

A browser can do all of it with WebCrypto: PBKDF2-HMAC-SHA256 and AES-256-GCM, the associated data being the canonical JSON
of every other field. A class B key (labels chosen by the vendor) has a type of its own, with the labels in it.
Source: docs/protocol.md section 3.
Trust: the plain file is the secret itself (mode 0600); the sealed one is as good as its passphrase.
"""

import base64
import binascii
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from app.canonical import (
    PROTOCOL,
    Form,
    Record,
    as_form,
    choice,
    encode_json,
    integer,
    octets,
    parse_loose_json,
    sequence,
)
from app.errors import Malformed, OpeningInvalid
from app.keys.commitment import KEY_BYTES, MarkingKey
from app.keys.trigger_set import KINDS, MAX_DIMENSION, MAX_RANK, MAX_TRIGGERS, parse_input

# A key file holds all inputs: 65,536 small ones or a few hundred photographs.
MAX_KEY_FILE_BYTES = 1024 * 1024 * 1024

# OWASP's figure for PBKDF2-HMAC-SHA256 (2023); docs/protocol.md section 3 makes it the least.
MIN_ITERATIONS = 600_000
MAX_ITERATIONS = 10_000_000


def base64_octets() -> Form[bytes]:
    """Take standard base64 with padding, exactly as it would be printed."""

    def parse(value: Any, pointer: str) -> bytes:
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise Malformed("must be base64", pointer=pointer) from error
        if base64.b64encode(data).decode() != value:
            raise Malformed("must be base64 as it is printed", pointer=pointer)
        return data

    return Form(parse, lambda data: base64.b64encode(data).decode())


@dataclass(frozen=True)
class InputList(Record):
    """Inputs of one kind and shape in a file: canonical bytes, base64 each."""

    count: int = field(metadata=as_form(integer(1, MAX_TRIGGERS)))
    kind: Any = field(metadata=as_form(choice(*KINDS)))
    shape: tuple[int, ...] = field(metadata=as_form(sequence(integer(1, MAX_DIMENSION), 1, MAX_RANK)))
    inputs: tuple[bytes, ...] = field(metadata=as_form(sequence(base64_octets(), 1, MAX_TRIGGERS)))

    def check(self, pointer: str) -> None:
        """Refuse a count, kind or shape that is not that of the inputs."""
        if self.count != len(self.inputs):
            raise Malformed(
                f"count is {self.count} but there are {len(self.inputs)} inputs", pointer=f"{pointer}/count"
            )
        for index, data in enumerate(self.inputs):
            opened = parse_input(data)
            if (opened.kind, opened.shape) != (self.kind, self.shape):
                raise Malformed("kind or shape is not the inputs'", pointer=f"{pointer}/inputs/{index}")


@dataclass(frozen=True)
class PlainKey(InputList):
    """A marking key of class A as a file."""

    NAME: ClassVar[str] = "marking-key"

    master: bytes = field(metadata=as_form(octets(KEY_BYTES)))


@dataclass(frozen=True)
class PlainKeyB(PlainKey):
    """A marking key of class B as a file: with the labels its vendor chose."""

    NAME: ClassVar[str] = "marking-key-b"

    labels: tuple[int, ...] = field(metadata=as_form(sequence(integer(0, MAX_TRIGGERS - 1), 1, MAX_TRIGGERS)))


@dataclass(frozen=True)
class SealedKey(Record):
    """A marking key encrypted under a passphrase."""

    NAME: ClassVar[str] = "sealed-key"

    kdf: Any = field(metadata=as_form(choice("PBKDF2-HMAC-SHA256")))
    iterations: int = field(metadata=as_form(integer(MIN_ITERATIONS, MAX_ITERATIONS)))
    salt: bytes = field(metadata=as_form(octets(16)))
    nonce: bytes = field(metadata=as_form(octets(12)))
    ciphertext: bytes = field(metadata=as_form(base64_octets()))


def encode_key_file(key: MarkingKey) -> bytes:
    """Write a marking key as its plain file."""
    values: dict[str, Any] = {
        "count": key.count,
        "kind": key.kind,
        "shape": key.shape,
        "inputs": key.inputs,
        "master": key.master,
    }
    record = PlainKey(**values) if key.labels is None else PlainKeyB(**values, labels=key.labels)
    return record.encode()


def encode_sealed_key_file(
    key: MarkingKey, passphrase: str, *, salt: bytes, nonce: bytes, iterations: int = MIN_ITERATIONS
) -> bytes:
    """Write a marking key sealed under a passphrase; `salt` (16 bytes) and `nonce` (12) are fresh randomness.

    Raises: Malformed if `parse_key_file` would refuse one of them.
    """
    empty = SealedKey("PBKDF2-HMAC-SHA256", iterations, salt, nonce, ciphertext=b"")
    SealedKey.from_json(empty.to_json())
    ciphertext = _cipher(empty, passphrase).encrypt(nonce, encode_key_file(key), _associated_data(empty))
    return replace(empty, ciphertext=ciphertext).encode()


def parse_key_file(data: bytes, passphrase: str | None = None) -> MarkingKey:
    """Read a key file, plain or sealed.

    Raises: Malformed; OpeningInvalid if the passphrase is missing or does not open it.
    """
    value = parse_canonical_file(data)
    name = value.get("type") if isinstance(value, dict) else None
    if name == f"{PROTOCOL}/{SealedKey.NAME}":
        return _unseal(SealedKey.from_json(value), passphrase)
    if name == f"{PROTOCOL}/{PlainKeyB.NAME}":
        class_b = PlainKeyB.from_json(value)
        return MarkingKey(class_b.master, class_b.inputs, class_b.labels)
    plain = PlainKey.from_json(value)
    return MarkingKey(plain.master, plain.inputs)


def _unseal(sealed: SealedKey, passphrase: str | None) -> MarkingKey:
    if passphrase is None:
        raise OpeningInvalid("this key file is sealed: give its passphrase")
    try:
        data = _cipher(sealed, passphrase).decrypt(sealed.nonce, sealed.ciphertext, _associated_data(sealed))
    except InvalidTag as error:
        raise OpeningInvalid("the passphrase does not open this key file, or the file was changed") from error
    return parse_key_file(data)


def parse_canonical_file(data: bytes) -> Any:
    """Read canonical JSON that may be far longer than a record.

    Raises: Malformed.
    """
    value = parse_loose_json(data, max_bytes=MAX_KEY_FILE_BYTES)
    if encode_json(value) != data:
        raise Malformed("not canonical: encode it as RFC 8785 says")
    return value


def _associated_data(sealed: SealedKey) -> bytes:
    return encode_json({name: value for name, value in sealed.to_json().items() if name != "ciphertext"})


def _cipher(sealed: SealedKey, passphrase: str) -> AESGCM:
    kdf = PBKDF2HMAC(algorithm=SHA256(), length=32, salt=sealed.salt, iterations=sealed.iterations)
    return AESGCM(kdf.derive(passphrase.encode()))
