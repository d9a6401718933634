from dataclasses import replace

import pytest

from app.canonical import encode_json, lp, sha256, tag, u32
from app.errors import Malformed
from app.protocol.transcript import FIRST_HEAD, Query, Role, block_head

QUERY = Query(
    n=0,
    role_commitment=bytes(32),
    attempt=1,
    sent_at="2026-01-31T12:00:00Z",
    request_sha256=bytes(32),
    status=200,
    response_sha256=bytes(32),
    labels=("cat",),
    error="",
    address="192.0.2.1",
    certificate_sha256=b"",
)


def test_a_query_has_exactly_the_keys_of_the_protocol():
    assert set(QUERY.to_json()) == {
        "n",
        "role_commitment",
        "attempt",
        "sent_at",
        "request_sha256",
        "status",
        "response_sha256",
        "labels",
        "error",
        "address",
        "certificate_sha256",
    }


def test_a_head_covers_every_query_its_order_its_block_and_the_head_before():
    second = replace(QUERY, n=1)
    head = block_head(FIRST_HEAD, 0, [QUERY, second])
    assert head == sha256(lp(tag("block"), bytes(32), u32(0), QUERY.encode(), second.encode()))
    others = [
        block_head(FIRST_HEAD, 0, [second, QUERY]),
        block_head(FIRST_HEAD, 0, [QUERY]),
        block_head(FIRST_HEAD, 1, [QUERY, second]),
        block_head(b"\x01" * 32, 0, [QUERY, second]),
        block_head(FIRST_HEAD, 0, [replace(QUERY, labels=("dog",)), second]),
    ]
    assert head not in others


def test_a_role_is_hidden_by_its_blind():
    role = Role("trigger", 3, 0)
    assert role.commit(bytes(32)) == sha256(lp(tag("role"), bytes(32), role.encode()))
    assert len({role.commit(bytes(32)), role.commit(b"\x01" * 32), Role("cover", 3, 0).commit(bytes(32))}) == 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n", -1),
        ("attempt", 0),
        ("attempt", 6),
        ("status", 99),
        ("status", True),
        ("response_sha256", "00" * 31),
        ("labels", "cat"),
        ("labels", ["c" * 201]),
        ("labels", ["c"] * 1001),
        ("error", "Not a word"),
        ("sent_at", "2026-01-31T12:00:00+00:00"),
    ],
)
def test_a_query_outside_its_limits_is_malformed(key, value):
    with pytest.raises(Malformed) as caught:
        Query.parse(encode_json(QUERY.to_json() | {key: value}))
    assert caught.value.pointer.startswith(f"/{key}")
