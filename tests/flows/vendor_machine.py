"""What stands on a vendor's machine: keys, statements, signatures."""

from typing import Any

from app.canonical import encode_json, sha256
from app.keys.commitment import MarkingKey
from app.keys.statement import Statement
from app.keys.trigger_set import Family, ImageInput
from app.signature import public_key_of, sign

VENDOR_KEY = b"\x11" * 32


def a_marking_key(count: int = 4) -> MarkingKey:
    """Make a marking key over tiny grey images."""
    inputs = tuple(ImageInput(2, 2, 1, bytes([number] * 4)).encode() for number in range(count))
    return MarkingKey(b"\x22" * 32, inputs, None)


def a_statement(log: str, *, vendor_key: bytes = VENDOR_KEY, **changes: Any) -> Statement:
    """Make a statement over `a_marking_key`; `changes` replace keys of its JSON."""
    key = a_marking_key()
    value = {
        "type": "trapstreet/v1/statement",
        "log": log,
        "vendor_key": public_key_of(vendor_key).hex(),
        "root": key.root().hex(),
        "count": key.count,
        "kind": key.kind,
        "shape": list(key.shape),
        "classes": ["zero", "one"],
        "families": [Family("all", 0, key.count).to_json()],
        "label_source": "beacon",
        "beacon": "local",
        "covers": None,
        "unmarked_model": None,
        **changes,
    }
    return Statement.parse(encode_json(value))


def another_statement(log: str, seed: bytes, **changes: Any) -> Statement:
    """Make a statement with a root of its own."""
    return a_statement(log, root=sha256(seed).hex(), **changes)


def sign_claim(challenge: str, *, name: str = "Vendor", private_key: bytes = VENDOR_KEY) -> dict[str, str]:
    """Make the body of a vendor's registration."""
    claim = {
        "challenge": challenge,
        "contact": "vendor@example.org",
        "name": name,
        "public_key": public_key_of(private_key).hex(),
    }
    signature = sign(private_key, encode_json({"type": "trapstreet/v1/vendor-registration", **claim}))
    return {**claim, "signature": signature.hex()}
