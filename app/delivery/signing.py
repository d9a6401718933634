"""How a receiver knows that a webhook is ours and fresh: HMAC-SHA256 over id, time and body.

Invariants: a secret is shown with the prefix `whsec_` and is 32 random bytes; while one is being replaced both sign.
Source: Standard Webhooks 1.0, "Symmetric" (`v1`); the library `standardwebhooks` is the oracle of the tests.
"""

import base64
import hmac
from collections.abc import Sequence

SECRET_BYTES = 32
SECRET_PREFIX = "whsec_"  # noqa: S105  # what stands before every secret


def secret_text(secret: bytes) -> str:
    """Write a secret as receivers' libraries read it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def signed_headers(secrets: Sequence[bytes], message_id: str, seconds: int, body: bytes) -> dict[str, str]:
    """Give the headers of one attempt, made at this Unix time; each secret signs."""
    signed = f"{message_id}.{seconds}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(secret, signed, "sha256")).decode() for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
