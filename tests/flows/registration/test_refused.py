"""Story 1 when it goes wrong: what bad input, a race or a failing database gets."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select, text

from app.canonical import encode_json, sha256
from app.db.engine import transaction
from app.db.tables import ArtifactRow, LogEntryRow, RegistrationRow, SigningChallengeRow, VendorRow
from app.merkle.receipt import parse_receipt, verify_receipt
from app.protocol.records import RegistrationEntry, VendorKeyEntry, parse_entry
from app.registry import vendors
from app.signature import public_key_of, sign
from tests.flows.registering import (
    GOOD,
    MAX_ARTIFACT_BYTES,
    MAX_JSON_BYTES,
    OBJECT,
    ORIGIN,
    OTHER_KEY,
    assert_problem,
    register,
    signed,
)
from tests.flows.running_api import Service
from tests.flows.vendor_machine import VENDOR_KEY, a_statement, another_statement, sign_claim

# --- what bad input gets ----------------------------------------------------------------------------------------------


def test_a_statement_is_registered_once_and_shown_again(
    service: Service, vendor: httpx2.Client, other_vendor: httpx2.Client
) -> None:
    first = register(vendor)
    again = vendor.post("/v1/registrations", json=signed(a_statement(ORIGIN).encode()))
    assert_problem(again, 409, "already_registered")
    assert (again.json()["receipt"], again.json()["registration_id"]) == (first["receipt"], first["id"])
    assert count(service, LogEntryRow) == 3
    stolen = other_vendor.post("/v1/registrations", json=signed(a_statement(ORIGIN).encode()))
    assert_problem(stolen, 422, "policy_refused", "/statement/vendor_key")
    assert "receipt" not in stolen.json()


def test_of_many_who_register_one_statement_at_once_one_does(service: Service, vendor: httpx2.Client) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: vendor.post("/v1/registrations", json=signed(GOOD)), range(6)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409, 409]
    assert len({answer.json()["receipt"] for answer in answers}) == 1
    assert count(service, RegistrationRow) == 1


def test_what_a_vendor_does_at_once_is_done_without_a_deadlock(service: Service, vendor: httpx2.Client) -> None:
    vendor_id = vendor.get("/v1/vendors/me").json()["id"]

    def rotate(old: bytes, new: bytes) -> int:
        change = VendorKeyEntry.signed_bytes(public_key_of(new), vendor_id)
        body = {"public_key": public_key_of(new).hex(), "signature": sign(old, change).hex()}
        answer = vendor.post("/v1/vendors/me/key-rotations", json=body | {"possession": sign(new, change).hex()})
        return answer.status_code

    def act(number: int) -> int:
        if number % 4 == 0:
            return rotate(VENDOR_KEY, bytes([number + 100] * 32))
        if number % 4 == 1:
            return vendor.post("/v1/api-keys", json={"name": "x", "scopes": ["read"]}).status_code
        data = another_statement(ORIGIN, bytes([number])).encode()
        return vendor.post("/v1/registrations", json=signed(data)).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(act, range(24)))
    assert {201, 422, 409} >= set(statuses)
    assert [statuses[number] for number in range(0, 24, 4)].count(
        201
    ) == 1  # the first rotation; then the key is another
    assert [statuses[number] for number in range(1, 24, 4)].count(201) == 1  # the second live key
    _assert_signed_by_the_present_key(service)


def _assert_signed_by_the_present_key(service: Service) -> None:
    present = b""
    with transaction(service.database.service) as session:
        for data in session.scalars(select(LogEntryRow.data).order_by(LogEntryRow.index)):
            entry = parse_entry(data)
            if isinstance(entry, VendorKeyEntry):
                present = entry.public_key
            elif isinstance(entry, RegistrationEntry):
                assert entry.statement.vendor_key == present


def bad_statement(**changes: Any) -> bytes:
    return encode_json(a_statement(ORIGIN).to_json() | changes)


BAD_STATEMENTS = [
    (GOOD.replace(b":", b": ", 1), "statement_not_canonical", "/statement"),
    (GOOD.replace(b"{", b'{"beacon":"local",', 1), "statement_not_canonical", "/statement"),
    (b"nonsense", "statement_not_canonical", "/statement"),
    (GOOD.replace(b'"covers":null,', b""), "malformed", "/statement/covers"),
    (bad_statement(root="00"), "malformed", "/statement/root"),
    (bad_statement(families=[{"name": "a", "start": 1, "end": 4}]), "malformed", "/statement/families/0/start"),
    (bad_statement(classes=["zero"]), "malformed", "/statement/classes"),
    (a_statement("other/log").encode(), "policy_refused", "/statement/log"),
    (bad_statement(beacon="drand:" + "52" * 32), "policy_refused", "/statement/beacon"),
    (a_statement(ORIGIN, vendor_key=OTHER_KEY).encode(), "policy_refused", "/statement/vendor_key"),
]


def test_a_bad_statement_has_its_own_code(service: Service, vendor: httpx2.Client) -> None:
    for data, code, pointer in BAD_STATEMENTS:
        assert_problem(vendor.post("/v1/registrations", json=signed(data)), 422, code, pointer)
    assert count(service, RegistrationRow) == 0


@pytest.mark.parametrize("private_key", [OTHER_KEY, VENDOR_KEY], ids=["another key", "another statement"])
def test_a_signature_must_fit(service: Service, vendor: httpx2.Client, private_key: bytes) -> None:
    data = a_statement(ORIGIN).encode()
    signature = sign(private_key, data if private_key is OTHER_KEY else another_statement(ORIGIN, b"x").encode())
    answer = vendor.post("/v1/registrations", json={"statement": data.decode(), "signature": signature.hex()})
    assert_problem(answer, 422, "signature_invalid")
    assert count(service, RegistrationRow) == 0


BAD_BODIES = [
    (b"{", ""),
    (b"[]", ""),
    (b'{"statement":"{}"}', "/signature"),
    (b'{"statement":"{}","signature":"%s","x":1}' % (b"00" * 64), "/x"),
    (b'{"statement":7,"signature":"%s"}' % (b"00" * 64), "/statement"),
    (b'{"statement":"{}","signature":"%s"}' % (b"AA" * 64), "/signature"),
    (b'{"statement":"\\ud800","signature":"%s"}' % (b"00" * 64), "/statement"),
]


def test_a_malformed_body_says_where(vendor: httpx2.Client) -> None:
    for body, pointer in BAD_BODIES:
        answer = vendor.post("/v1/registrations", content=body, headers={"Content-Type": "application/json"})
        assert_problem(answer, 422, "malformed", pointer)


def test_json_endpoints_take_json_only(vendor: httpx2.Client) -> None:
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}, {}):
        assert_problem(vendor.post("/v1/registrations", content=b"{}", headers=headers), 415, "unsupported_media_type")


def test_artifacts_take_no_other_media_types(vendor: httpx2.Client) -> None:
    answer = vendor.post("/v1/artifacts", content=b"x", headers={"Content-Type": "text/html"})
    assert_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_body_over_its_limit_is_cut_and_nothing_is_stored(
    service: Service, vendor: httpx2.Client, streamed: bool
) -> None:
    for path, limit, headers in (
        ("registrations", MAX_JSON_BYTES, {"Content-Type": "application/json"}),
        ("artifacts", MAX_ARTIFACT_BYTES, OBJECT),
    ):
        content = (b"x" * 1000 for _ in range(limit // 1000 + 1)) if streamed else b"x" * (limit + 1)
        assert_problem(vendor.post(f"/v1/{path}", content=content, headers=headers), 413, "too_large")
    assert count(service, ArtifactRow) == 0
    assert [path for path in (service.settings.data_dir / "objects").rglob("*") if path.is_file()] == []


def test_an_upload_that_ends_early_leaves_nothing(service: Service, vendor: httpx2.Client) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        vendor.post("/v1/artifacts", content=broken(), headers=OBJECT)
    assert vendor.get("/v1/vendors/me").status_code == 200
    assert count(service, ArtifactRow) == 0
    assert not list((service.settings.data_dir / "objects").rglob("sha256"))


def test_an_artifact_comes_back_as_it_was(vendor: httpx2.Client) -> None:
    for size in (0, 1, MAX_ARTIFACT_BYTES):
        data = bytes(size)
        for _ in range(2):
            answer = vendor.post("/v1/artifacts", content=data, headers={"Content-Type": "application/zip"})
            assert (answer.status_code, answer.json()) == (201, {"sha256": sha256(data).hex(), "size_bytes": size})
        back = vendor.get(f"/v1/artifacts/{sha256(data).hex()}")
        assert (back.content, back.headers["content-type"]) == (data, "application/zip")


REFUSALS = [
    ("GET", "/v1/nothing", 404, "not_found"),
    ("GET", "/v1/", 404, "not_found"),
    ("DELETE", "/v1/vendors/me", 405, "method_not_allowed"),
    ("GET", "/v1/registrations/7", 422, "malformed"),
    ("GET", "/v1/registrations?limit=0", 422, "malformed"),
    ("GET", "/v1/registrations?limit=1000", 422, "malformed"),
    ("GET", "/v1/registrations?cursor=%00", 422, "malformed"),
    ("GET", "/v1/registrations?cursor=AAAA", 422, "malformed"),
    ("GET", "/v1/log/entries/9223372036854775808", 422, "malformed"),
    ("GET", "/v1/artifacts/00", 422, "malformed"),
]


def test_every_refusal_is_a_problem(vendor: httpx2.Client) -> None:
    for method, path, status, code in REFUSALS:
        assert_problem(vendor.request(method, path), status, code)


def test_a_challenge_is_used_once_and_only_if_given_out(service: Service) -> None:
    with service.client() as client:
        challenge = client.post("/v1/vendors/challenges").json()["challenge"]
        wrong = sign_claim(challenge) | {"name": "Somebody else"}
        assert_problem(client.post("/v1/vendors", json=wrong), 422, "signature_invalid")
        assert client.post("/v1/vendors", json=sign_claim(challenge)).status_code == 201
        assert_problem(client.post("/v1/vendors", json=sign_claim(challenge)), 409, "conflict")
        assert_problem(client.post("/v1/vendors", json=sign_claim("00" * 32)), 409, "conflict")
        fresh = client.post("/v1/vendors/challenges").json()["challenge"]
        taken = client.post("/v1/vendors", json=sign_claim(fresh, name="Twin"))
        assert (taken.status_code, taken.json()["state"]) == (409, "key_taken")
    assert count(service, VendorRow) == 1


def test_challenges_that_expired_or_were_used_make_room(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendors, "MAX_WAITING_CHALLENGES", 2)
    with service.client() as client:

        def ask() -> httpx2.Response:
            return client.post("/v1/vendors/challenges")

        first, second = ask().json()["challenge"], ask()
        assert second.status_code == 201
        assert_problem(ask(), 429, "too_many")
        assert client.post("/v1/vendors", json=sign_claim(first)).status_code == 201
        assert ask().status_code == 201
        assert_problem(ask(), 429, "too_many")
        with service.database.owner.begin() as connection:
            connection.execute(text("UPDATE signing_challenges SET expires_at = now() - interval '1 second'"))
        assert ask().status_code == 201
    assert count(service, SigningChallengeRow) == 1


def test_a_vendors_name_is_one_line(service: Service) -> None:
    with service.client() as client:
        challenge = client.post("/v1/vendors/challenges").json()["challenge"]
        for name in ("", "x" * 201, "two\nlines", "nul\x00"):
            assert_problem(client.post("/v1/vendors", json=sign_claim(challenge, name=name)), 422, "malformed", "/name")


# --- the database fails -----------------------------------------------------------------------------------------------

AT_COMMIT = """
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {act}; RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON registrations DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION fail();
"""


@pytest.mark.parametrize(
    ("act", "status"),
    [("RAISE EXCEPTION 'no'", 500), ("PERFORM pg_terminate_backend(pg_backend_pid())", 503)],
    ids=["refused", "connection lost"],
)
def test_no_receipt_leaves_if_the_commit_fails(service: Service, vendor: httpx2.Client, act: str, status: int) -> None:
    with service.database.owner.begin() as connection:
        connection.execute(text(AT_COMMIT.format(act=act)))
    answer = vendor.post("/v1/registrations", json=signed(GOOD))
    assert_problem(answer, status, {500: "internal", 503: "database_away"}[status])
    assert "receipt" not in answer.text
    assert (count(service, RegistrationRow), count(service, LogEntryRow)) == (0, 1)
    with service.database.owner.begin() as connection:
        connection.execute(text("DROP TRIGGER fail ON registrations"))
    register(vendor)


def test_a_database_that_is_away_is_a_503_and_then_all_goes_on(service: Service, vendor: httpx2.Client) -> None:
    database = service.database.owner.url.database
    service.database.server.run(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
    service.database.server.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
    answer = vendor.post("/v1/registrations", json=signed(GOOD))
    assert_problem(answer, 503, "database_away")
    assert int(answer.headers["retry-after"]) > 0
    assert_problem(vendor.get("/readyz"), 503, "database_away")
    assert vendor.get("/livez").status_code == 200
    service.database.server.run(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
    assert register(vendor)["entry_index"] == 1
    assert vendor.get("/readyz").status_code == 200


def test_an_answer_that_was_lost_can_be_had_again(service: Service, vendor: httpx2.Client) -> None:
    """The commit succeeded, the answer did not arrive: the same call again shows the first receipt."""
    first = register(vendor)
    again = vendor.post("/v1/registrations", json=signed(GOOD)).json()
    receipt = parse_receipt(again["receipt"].encode())
    verify_receipt(receipt, first["entry"].encode(), service.identity.public_key, ORIGIN)


def test_a_schema_of_another_version_is_not_ready(service: Service) -> None:
    with service.database.owner.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with service.client() as client:
        assert_problem(client.get("/readyz"), 503, "unavailable")


def count(service: Service, table: type) -> int:
    with transaction(service.database.service) as session:
        return session.scalars(select(func.count()).select_from(table)).one()
