"""Registrations through HTTP, as raw requests."""

from typing import Any

import httpx2

from app.log.store import LogIdentity
from app.merkle.receipt import parse_receipt, verify_receipt
from app.signature import sign
from tests.flows.vendor_machine import VENDOR_KEY, a_statement

OTHER_KEY = b"\x33" * 32
ORIGIN = "test.localhost/log"
MAX_JSON_BYTES, MAX_ARTIFACT_BYTES = 20_000, 1_000_000
NOBODYS_ID = "0190a3c0-0000-7000-8000-000000000000"
GOOD = a_statement(ORIGIN).encode()
OBJECT = {"Content-Type": "application/octet-stream"}


def signed(data: bytes, private_key: bytes = VENDOR_KEY) -> dict[str, str]:
    return {"statement": data.decode(), "signature": sign(private_key, data).hex()}


def register(client: httpx2.Client, **changes: Any) -> dict[str, Any]:
    answer = client.post("/v1/registrations", json=signed(a_statement(ORIGIN, **changes).encode()))
    assert answer.status_code == 201, answer.text
    return answer.json()


def proven(answer: dict[str, Any], identity: LogIdentity) -> bytes:
    """Verify an answer's receipt and give the entry's bytes."""
    entry = answer["entry"].encode()
    receipt = parse_receipt(answer["receipt"].encode())
    assert receipt.index == answer["entry_index"]
    verify_receipt(receipt, entry, identity.public_key, identity.origin)
    return entry


def assert_problem(answer: httpx2.Response, status: int, code: str, pointer: str | None = None) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    if pointer is not None:
        assert pointer in [error["pointer"] for error in answer.json()["errors"]]
