"""Secrets that travel in links and cookies: 32 random bytes as text, of which only the hash is kept.

Trust: 256 random bits need no slow hash; who reads the database can use none of them.
"""

import base64
import binascii

from app.canonical import sha256, tag

TOKEN_BYTES = 32


def token_text(token: bytes) -> str:
    """Write a token as 43 characters that a URL and a cookie can hold."""
    return base64.urlsafe_b64encode(token).decode().rstrip("=")


def token_hash(text: str, purpose: str) -> bytes:
    """Give what is kept of a token: a hash that is good for one purpose only; of text that is no token, of nothing kept."""
    try:
        token = base64.urlsafe_b64decode(text.encode("ascii", "replace") + b"=")
    except (binascii.Error, ValueError):
        token = b""
    return sha256(tag(purpose) + token)
