"""Ed25519 over canonical bytes.

Keys and signatures are raw bytes: private 32 (the seed), public 32, signature 64. The bytes that are signed are always a
record's one byte string, whose `type` separates the purposes.
Source: RFC 8032; docs/protocol.md section 2.
Trust: whoever holds a private key speaks for its owner; nothing here stores one.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.errors import Malformed, SignatureInvalid

PRIVATE_KEY_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64


def public_key_of(private_key: bytes) -> bytes:
    """Give the public key of a private one."""
    return _private(private_key).public_key().public_bytes_raw()


def sign(private_key: bytes, data: bytes) -> bytes:
    """Sign bytes (64-byte signature)."""
    return _private(private_key).sign(data)


def verify_signature(public_key: bytes, signature: bytes, data: bytes) -> None:
    """Check a signature over exactly these bytes.

    Raises: SignatureInvalid.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError) as error:
        raise SignatureInvalid("the signature does not fit this key and these bytes") from error


def public_key_pem(public_key: bytes) -> bytes:
    """Write a public key as the PEM file that openssl reads."""
    key = Ed25519PublicKey.from_public_bytes(public_key)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _private(private_key: bytes) -> Ed25519PrivateKey:
    if len(private_key) != PRIVATE_KEY_BYTES:
        raise Malformed(f"an Ed25519 private key has {PRIVATE_KEY_BYTES} bytes, not {len(private_key)}")
    return Ed25519PrivateKey.from_private_bytes(private_key)
