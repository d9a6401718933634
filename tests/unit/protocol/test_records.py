from dataclasses import replace

import pytest

from app.canonical import encode_json, lp, parse_json, sha256, tag
from app.errors import Malformed
from app.protocol.records import (
    ENTRIES,
    BeaconEntry,
    FilingRecord,
    ModelEntry,
    RegistrationEntry,
    VendorKeyEntry,
    VerdictEntry,
    WorkerKeyEntry,
    parse_entry,
)
from tests.unit.protocol.dispute_in_memory import Plan, play
from tests.unit.protocol.examples import ANSWER, ENTRY_EXAMPLES, NOTICE

RECORD = play(Plan()).evidence.record

# Protocol.md section 2: keys besides `type`.
KEYS = {
    "registration": "time statement signature nonce_hash",
    "beacon": "time entry nonce source round randomness signature",
    "filing": "time registration ordinal record_hash nonce_hash",
    "block": "time filing block head",
    "model": "time owner_key sha256 signature",
    "worker-key": "time public_key queue signature",
    "vendor-key": "time public_key vendor signature",
    "verdict": "time filing blind record verdict reason asked matches bundle",
    "withdrawal": "time filing blind record verdict reason asked matches bundle",
    "notice": "time filing record_hash",
    "answer": "time filing number record_hash",
    "second-run": "time filing verdict",
    "cross-test": "time parties result reason",
}


def test_every_entry_has_exactly_the_keys_of_the_protocol():
    assert {name: set(keys.split()) | {"type"} for name, keys in KEYS.items()} == {
        entry.NAME: set(entry.to_json()) for entry in ENTRY_EXAMPLES
    }
    assert set(ENTRIES) == set(KEYS)


@pytest.mark.parametrize("entry", ENTRY_EXAMPLES, ids=lambda entry: entry.NAME)
def test_an_entry_reads_back_as_its_own_kind(entry):
    parsed = parse_entry(entry.encode())
    assert (type(parsed), parsed) == (type(entry), entry)
    for other in ENTRY_EXAMPLES:
        if type(other) is not type(entry):
            with pytest.raises(Malformed):
                type(other).parse(entry.encode())


@pytest.mark.parametrize("entry", ENTRY_EXAMPLES, ids=lambda entry: entry.NAME)
def test_an_entry_with_a_missing_extra_or_null_key_is_malformed(entry):
    value = entry.to_json()
    for key in value:
        for changed in (
            {name: item for name, item in value.items() if name != key},
            value | {f"{key}x": value[key]},
            value | {key: None},
        ):
            with pytest.raises(Malformed):
                parse_entry(encode_json(changed))


@pytest.mark.parametrize("value", [[], 1, {}, {"type": 1}, {"type": "block"}, {"type": "trapstreet/v1/statement"}])
def test_what_is_no_entry_is_malformed(value):
    with pytest.raises(Malformed, match="not an entry of this log"):
        parse_entry(encode_json(value))


def policy(**changes):
    value = RECORD.to_json()
    return encode_json(value | {"policy": value["policy"] | changes})


@pytest.mark.parametrize(
    "changes",
    [
        *({"bits": bits} for bits in (0, 63, 65, 79, 81, 128, "64", True)),
        {"max_triggers": 0},
        {"max_triggers": 65_537},
        {"covers_per_trigger": 101},
        {"block_size": 0},
        {"block_size": 257},
        {"attempts": 0},
        {"attempts": 6},
        {"answer": "best"},
        {"opening_seconds": 0},
        {"opening_seconds": 604_801},
        {"lookahead": 2},
    ],
)
def test_a_policy_outside_the_limits_is_malformed(changes):
    with pytest.raises(Malformed) as caught:
        FilingRecord.parse(policy(**changes))
    assert caught.value.pointer == f"/policy/{next(iter(changes))}"


def test_a_filing_at_80_bits_is_read():
    assert FilingRecord.parse(policy(bits=80)).policy.bits == 80


def test_a_record_is_hidden_by_its_blind():
    assert RECORD.hidden_hash(bytes(32)) == sha256(lp(tag("filing"), bytes(32), RECORD.encode()))
    assert RECORD.hidden_hash(bytes(32)) != RECORD.hidden_hash(b"\x01" * 32)


def test_what_is_told_to_the_accused_and_what_it_answers_are_hidden_by_blinds():
    assert NOTICE.hidden_hash(bytes(32)) == sha256(lp(tag("notice"), bytes(32), NOTICE.encode()))
    assert ANSWER.hidden_hash(bytes(32)) == sha256(lp(tag("answer"), bytes(32), ANSWER.encode()))
    for record in (NOTICE, ANSWER):
        assert record.hidden_hash(bytes(32)) != record.hidden_hash(b"\x01" * 32)
        assert type(record).parse(record.encode()) == record


@pytest.mark.parametrize(
    ("record", "key", "value"),
    [
        (ANSWER, "number", 0),
        (ANSWER, "number", 11),
        (ANSWER, "words", ""),
        (ANSWER, "words", "x" * 10_001),
        (ANSWER, "prior_art", "x" * 10_001),
        (NOTICE, "link", "00" * 31),
        (NOTICE, "endpoint", ""),
    ],
)
def test_what_is_told_or_answered_outside_its_limits_is_malformed(record, key, value):
    with pytest.raises(Malformed) as caught:
        type(record).parse(encode_json(record.to_json() | {key: value}))
    assert caught.value.pointer == f"/{key}"


def test_what_is_signed_names_its_purpose_and_every_value():
    signed = [
        ModelEntry.signed_bytes(bytes(32), b"\x01" * 32),
        WorkerKeyEntry.signed_bytes(bytes(64), "gpu"),
        VendorKeyEntry.signed_bytes(bytes(32), "vendor"),
    ]
    assert [parse_json(data)["type"] for data in signed] == [
        "trapstreet/v1/model-commitment",
        "trapstreet/v1/worker-key-change",
        "trapstreet/v1/vendor-key-change",
    ]
    assert signed[0] != ModelEntry.signed_bytes(b"\x01" * 32, bytes(32))
    assert signed[1] != WorkerKeyEntry.signed_bytes(bytes(64), "cpu")
    assert signed[2] != VendorKeyEntry.signed_bytes(bytes(32), "another")


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (BeaconEntry, "source", "drand:xyz"),
        (BeaconEntry, "signature", "00" * 47),
        (RegistrationEntry, "signature", "00" * 63),
        (WorkerKeyEntry, "queue", "GPU"),
        (WorkerKeyEntry, "public_key", "00" * 32),
        (VendorKeyEntry, "vendor", ""),
        (VerdictEntry, "verdict", "GUILTY"),
        (VerdictEntry, "matches", 65_537),
        (VerdictEntry, "time", "2026-01-31T12:00:00.000Z"),
    ],
)
def test_an_entry_outside_its_limits_is_malformed(kind, key, value):
    entry = next(entry for entry in ENTRY_EXAMPLES if type(entry) is kind)
    with pytest.raises(Malformed) as caught:
        parse_entry(encode_json(entry.to_json() | {key: value}))
    assert caught.value.pointer == f"/{key}"


def test_an_entry_over_4_mib_is_malformed():
    registration = next(entry for entry in ENTRY_EXAMPLES if isinstance(entry, RegistrationEntry))
    long = replace(registration.statement, classes=tuple(f"{index:0200}" for index in range(22_000)))
    with pytest.raises(Malformed, match="over the limit"):
        parse_entry(replace(registration, statement=long).encode())
