"""How a marking key travels to the workers of one queue and to nobody else.

A queue's workers hold one 32-byte seed. From it come an Ed25519 key, which signs (a successor, a finished model), and an
X25519 key, to which vendors seal with HPKE. Both public halves, 64 bytes, stand in a `worker-key` log entry, so that a
vendor seals to a key that everybody saw.
Source: RFC 9180 (base mode, X25519, HKDF-SHA256, AES-256-GCM).
Trust: API, database and object store see ciphertext only; whoever holds the seed reads every key sealed to the queue.
"""

from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from app.canonical import lp, tag
from app.errors import Malformed, OpeningInvalid
from app.signature import public_key_of, sign

SEED_BYTES = 32
PUBLIC_BYTES = 64

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


@dataclass(frozen=True)
class QueueKey:
    """The secret of one queue's workers."""

    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse a seed of another length."""
        if len(self.seed) != SEED_BYTES:
            raise Malformed(f"a queue key has {SEED_BYTES} bytes, not {len(self.seed)}")

    @property
    def public(self) -> bytes:
        """Give the 64 public bytes: Ed25519, then X25519."""
        return public_key_of(self._derive("queue-signing")) + self._private().public_key().public_bytes_raw()

    @property
    def signing_public(self) -> bytes:
        """Give the Ed25519 public key alone."""
        return self.public[:32]

    def sign(self, data: bytes) -> bytes:
        """Sign bytes as this queue's workers."""
        return sign(self._derive("queue-signing"), data)

    def unseal(self, sealed: bytes, info: bytes) -> bytes:
        """Open what was sealed to this queue with the same `info`.

        Raises: OpeningInvalid.
        """
        try:
            return bytes(_SUITE.decrypt(sealed, self._private(), info=_info(info)))
        except (InvalidTag, ValueError) as error:
            raise OpeningInvalid("this was not sealed to this queue's key, or was changed") from error

    def _private(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self._derive("queue-sealing"))

    def _derive(self, purpose: str) -> bytes:
        return HKDFExpand(algorithm=SHA256(), length=32, info=lp(tag(purpose))).derive(self.seed)


def seal(public: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Seal bytes to a queue's 64 public bytes; `info` (the registration's root) must be given again to open them.

    Raises: Malformed if `public` is no queue key.
    """
    if len(public) != PUBLIC_BYTES:
        raise Malformed(f"a queue's public key has {PUBLIC_BYTES} bytes, not {len(public)}")
    recipient = X25519PublicKey.from_public_bytes(public[32:])
    try:
        return bytes(_SUITE.encrypt(plaintext, recipient, info=_info(info)))
    except ValueError as error:
        raise Malformed("this is no queue's public key: nothing sealed to it would be secret") from error


def _info(info: bytes) -> bytes:
    return lp(tag("sealed-to-queue"), info)
