"""Secrets that the service keeps for others: encrypted with the service's key, each bound to what it is for.

Invariants: what was sealed for one purpose opens for no other; a sealed secret names the key that opens it, so a wrong key
is told apart from damage; nothing of a secret stands in a message.
Source: AES-256-GCM with a random nonce of 96 bits (NIST SP 800-38D: 2^32 messages a key, far more than there are suspects).
Trust: whoever holds the key and the database reads every secret; the database alone shows how long they are.
"""

import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.canonical import lp, sha256, tag
from app.errors import Unavailable

KEY_BYTES, KEY_ID_BYTES, NONCE_BYTES = 32, 8, 12


@dataclass(frozen=True)
class SecretBox:
    """The service's key for secrets that are not its own."""

    key: bytes = field(repr=False)

    @property
    def key_id(self) -> bytes:
        """Name the key."""
        return sha256(lp(tag("secret-box-key"), self.key))[:KEY_ID_BYTES]

    def seal(self, secret: bytes, purpose: bytes) -> bytes:
        """Encrypt a secret for one purpose: key's name, nonce, ciphertext."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return self.key_id + nonce + AESGCM(self.key).encrypt(nonce, secret, purpose)

    def open(self, sealed: bytes, purpose: bytes) -> bytes:
        """Decrypt what was sealed for this purpose.

        Raises: Unavailable if it was sealed with another key, for something else, or was changed.
        """
        if sealed[:KEY_ID_BYTES] != self.key_id:
            raise Unavailable(f"sealed with the key {sealed[:KEY_ID_BYTES].hex()}, and this one is {self.key_id.hex()}")
        nonce, ciphertext = sealed[KEY_ID_BYTES:][:NONCE_BYTES], sealed[KEY_ID_BYTES + NONCE_BYTES :]
        try:
            return AESGCM(self.key).decrypt(nonce, ciphertext, purpose)
        except (InvalidTag, ValueError) as error:
            raise Unavailable("this secret was changed, or sealed for something else: give it again") from error
