"""Story 1 through HTTP: sign up, register, receipt, beacon, labels; and what bad input gets."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select, text

from app.canonical import encode_json, sha256
from app.db.engine import transaction
from app.db.tables import ApiKeyRow, ArtifactRow, LogEntryRow, RegistrationRow, SigningChallengeRow, VendorRow
from app.keys.labels import draw_labels, salt_of
from app.keys.sealing import QueueKey
from app.log.store import LogIdentity
from app.merkle.checkpoint import parse_verifier_key, verify_checkpoint
from app.merkle.receipt import parse_receipt, verify_receipt
from app.merkle.tree import verify_consistency
from app.protocol.assessment import beacon_value
from app.protocol.records import BeaconEntry, ModelEntry, RegistrationEntry, VendorKeyEntry, parse_entry
from app.registry import vendors
from app.registry.worker_keys import announce_worker_key
from app.signature import public_key_of, sign, verify_signature
from tests.conftest import Database
from tests.flows.running_api import Service, running_service
from tests.flows.vendor_machine import VENDOR_KEY, a_marking_key, a_statement, another_statement, sign_claim

OTHER_KEY = b"\x33" * 32
ORIGIN = "test.localhost/log"
MAX_JSON_BYTES, MAX_ARTIFACT_BYTES = 20_000, 1_000_000
NOBODYS_ID = "0190a3c0-0000-7000-8000-000000000000"
GOOD = a_statement(ORIGIN).encode()
OBJECT = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def service(database: Database, tmp_path: Path) -> Iterator[Service]:
    limits = {"max_json_bytes": MAX_JSON_BYTES, "max_artifact_bytes": MAX_ARTIFACT_BYTES}
    with running_service(database, tmp_path, **limits) as running:
        yield running
        running.check_log()


@pytest.fixture
def vendor(service: Service) -> Iterator[httpx2.Client]:
    with service.client(service.sign_up()["api_key"]) as client:
        yield client


@pytest.fixture
def other_vendor(service: Service) -> Iterator[httpx2.Client]:
    with service.client(service.sign_up("Other", OTHER_KEY)["api_key"]) as client:
        yield client


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


# --- the story --------------------------------------------------------------------------------------------------------


def test_a_vendor_signs_up_registers_and_computes_its_labels(service: Service) -> None:
    vendor = service.sign_up()
    key_entry = VendorKeyEntry.parse(proven(vendor, service.identity))
    assert (key_entry.vendor, key_entry.public_key) == (vendor["id"], public_key_of(VENDOR_KEY))
    with service.client(vendor["api_key"]) as client:
        assert parse_verifier_key(client.get("/v1/log/key").text.strip()) == (ORIGIN, service.identity.public_key)
        statement = a_statement(ORIGIN)
        answer = register(client)
        entry = proven(answer, service.identity)
        assert RegistrationEntry.parse(entry).statement == statement

        path = f"/v1/registrations/{answer['id']}"
        assert_problem(client.get(f"{path}/beacon"), 409, "conflict")
        assert client.get(f"{path}/beacon").json()["state"] == "awaiting_beacon"
        assert client.get(path).json()["beacon_index"] is None
        beacon_index = service.open_beacon(answer["entry_index"])
        beacon = client.get(f"{path}/beacon").json()
        assert beacon["entry_index"] == beacon_index == client.get(path).json()["beacon_index"]
        opened = BeaconEntry.parse(proven(beacon, service.identity))
        assert sha256(opened.nonce) == RegistrationEntry.parse(entry).nonce_hash
        salt = salt_of(beacon_value(opened), statement.root, sha256(entry))
        assert len(draw_labels(a_marking_key(), salt, len(statement.classes))) == statement.count

        read = client.get(path).json()
        assert (read["statement"].encode(), read["assurance_class"]) == (statement.encode(), "A")
        receipt = client.get(f"{path}/receipt")
        assert receipt.headers["content-type"].startswith("text/plain")
        verify_receipt(parse_receipt(receipt.content), entry, service.identity.public_key, ORIGIN)


def test_a_receipt_leaves_only_what_is_in_the_database(service: Service, vendor: httpx2.Client) -> None:
    answer = register(vendor)
    with transaction(service.database.service) as session:
        assert session.get_one(LogEntryRow, answer["entry_index"]).data == answer["entry"].encode()
        assert session.scalars(select(RegistrationRow)).one().entry_index == answer["entry_index"]


def test_the_log_is_read_and_proven_by_anybody(service: Service, vendor: httpx2.Client) -> None:
    entries = [register(vendor, root=sha256(bytes([n])).hex()) for n in range(4)]
    identity = service.identity
    with service.client() as anybody:
        now = verify_checkpoint(anybody.get("/v1/log/checkpoint").content, identity.public_key, ORIGIN)
        assert now.size == 5
        for entry in entries:
            answer = anybody.get(f"/v1/log/entries/{entry['entry_index']}")
            assert (answer.content, answer.headers["content-type"]) == (entry["entry"].encode(), "application/json")
            receipt = anybody.get(f"/v1/log/entries/{entry['entry_index']}/receipt", params={"size": 5})
            verify_receipt(parse_receipt(receipt.content), answer.content, identity.public_key, ORIGIN)
        then = verify_receipt(
            parse_receipt(entries[0]["receipt"].encode()), entries[0]["entry"].encode(), identity.public_key, ORIGIN
        )
        path = anybody.get("/v1/log/consistency", params={"from": then.size, "to": now.size}).json()["path"]
        verify_consistency(then.size, then.root, now.size, now.root, [bytes.fromhex(item) for item in path])
        heads = anybody.get("/v1/log/entries", params={"limit": 3}).json()
        rest = anybody.get("/v1/log/entries", params={"cursor": heads["next_cursor"]}).json()
        assert [head["index"] for head in heads["items"] + rest["items"]] == [0, 1, 2, 3, 4]
        assert rest["next_cursor"] is None
        for path, status in (("entries/5", 404), ("entries/-1", 422), ("consistency?from=1&to=6", 422)):
            assert anybody.get(f"/v1/log/{path}").status_code == status


def test_registrations_are_listed_page_by_page(vendor: httpx2.Client, other_vendor: httpx2.Client) -> None:
    made = [register(vendor, root=sha256(bytes([n])).hex())["id"] for n in range(5)]
    seen, cursor = [], None
    while cursor is not None or not seen:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = vendor.get("/v1/registrations", params=params).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert seen == made
    assert other_vendor.get("/v1/registrations").json() == {"items": [], "next_cursor": None}


def test_a_key_changes_by_the_signature_of_the_old_one(service: Service, vendor: httpx2.Client) -> None:
    vendor_id = vendor.get("/v1/vendors/me").json()["id"]
    change = VendorKeyEntry.signed_bytes(public_key_of(OTHER_KEY), vendor_id)
    body = {
        "public_key": public_key_of(OTHER_KEY).hex(),
        "signature": sign(VENDOR_KEY, change).hex(),
        "possession": sign(OTHER_KEY, change).hex(),
    }
    for wrong in ({"signature": body["possession"]}, {"possession": body["signature"]}):
        assert_problem(vendor.post("/v1/vendors/me/key-rotations", json=body | wrong), 422, "signature_invalid")
    answer = vendor.post("/v1/vendors/me/key-rotations", json=body)
    entry = VendorKeyEntry.parse(proven(answer.json(), service.identity))
    verify_signature(public_key_of(VENDOR_KEY), entry.signature, change)
    assert vendor.get("/v1/vendors/me").json()["public_key"] == body["public_key"]
    old = signed(a_statement(ORIGIN).encode())
    assert_problem(vendor.post("/v1/registrations", json=old), 422, "policy_refused", "/statement/vendor_key")
    new = signed(a_statement(ORIGIN, vendor_key=OTHER_KEY).encode(), OTHER_KEY)
    assert vendor.post("/v1/registrations", json=new).status_code == 201


def test_a_model_commitment_is_dated_once(service: Service, vendor: httpx2.Client) -> None:
    digest, owner = sha256(b"weights"), public_key_of(VENDOR_KEY)
    body = {"sha256": digest.hex(), "signature": sign(VENDOR_KEY, ModelEntry.signed_bytes(owner, digest)).hex()}
    answer = vendor.post("/v1/models", json=body)
    assert ModelEntry.parse(proven(answer.json(), service.identity)).sha256 == digest
    assert_problem(vendor.post("/v1/models", json=body), 409, "conflict")
    assert [item["sha256"] for item in vendor.get("/v1/models").json()["items"]] == [digest.hex()]
    assert_problem(vendor.post("/v1/models", json=body | {"sha256": "00" * 32}), 422, "signature_invalid")


def test_queues_show_their_present_key(service: Service) -> None:
    first, second, other = (QueueKey(bytes([n] * 32)) for n in range(3))

    def announce(key: QueueKey, replaced: QueueKey | None, queue: str = "embed.cpu") -> int:
        with transaction(service.database.service) as session:
            now = session.scalars(select(func.now())).one()
            return announce_worker_key(session, service.identity, key, queue, replaced, now).entry_index

    assert announce(first, None) == announce(first, None) == 0
    assert announce(other, None, "embed.gpu") == 1
    assert announce(second, first) == 2
    with service.client() as anybody:
        shown = anybody.get("/v1/queues").json()["items"]
    assert [(item["queue"], item["public_key"]) for item in shown] == [
        ("embed.cpu", second.public.hex()),
        ("embed.gpu", other.public.hex()),
    ]
    for item in shown:
        proven(item, service.identity)


# --- API keys ---------------------------------------------------------------------------------------------------------


def test_two_keys_live_and_a_revoked_one_is_dead(service: Service, vendor: httpx2.Client) -> None:
    first = vendor.get("/v1/api-keys").json()["items"][0]
    made = vendor.post("/v1/api-keys", json={"name": "agent", "scopes": ["read", "dispute"]}).json()
    assert_problem(vendor.post("/v1/api-keys", json={"name": "third", "scopes": ["read"]}), 409, "conflict")
    with service.client(made["api_key"]) as agent:
        assert agent.get("/v1/vendors/me").status_code == 200
        assert_problem(agent.post("/v1/registrations", json=signed(a_statement(ORIGIN).encode())), 403, "forbidden")
        assert_problem(agent.get("/v1/api-keys"), 403, "forbidden")
    assert vendor.delete(f"/v1/api-keys/{made['id']}").status_code == 204
    with service.client(made["api_key"]) as agent:
        assert_problem(agent.get("/v1/vendors/me"), 401, "unauthenticated")
    listed = vendor.get("/v1/api-keys").json()["items"]
    assert [item["id"] for item in listed] == [first["id"], made["id"]]
    assert listed[1]["revoked_at"] is not None
    assert vendor.post("/v1/api-keys", json={"name": "third", "scopes": ["read"]}).status_code == 201


def test_the_database_holds_no_api_key(service: Service) -> None:
    api_key = service.sign_up()["api_key"]
    with transaction(service.database.service) as session:
        row = session.scalars(select(ApiKeyRow)).one()
    secret = api_key.removeprefix(f"ts_{row.id}_")
    assert row.secret_sha256 == sha256(secret.encode())
    assert secret not in repr(vars(row))


def test_scopes_are_a_list_of_known_words(vendor: httpx2.Client) -> None:
    for scopes in ([], ["everything"], "read"):
        assert vendor.post("/v1/api-keys", json={"name": "x", "scopes": scopes}).status_code == 422


# --- anonymous, and another vendor ------------------------------------------------------------------------------------

OWNED = ["vendors/me", "api-keys", "registrations", "models", "suspects", "disputes", "embeddings"]


def test_nobody_reads_without_a_key(service: Service) -> None:
    for api_key in ("", "ts_aaaaaaaaaaaa_" + "A" * 43, "nonsense", "ts_\x7f"):
        with service.client(api_key) as client:
            for path in OWNED:
                answer = client.get(f"/v1/{path}")
                assert_problem(answer, 401, "unauthenticated")
                assert answer.headers["www-authenticate"] == "Bearer"


def test_nobody_writes_without_a_key(service: Service) -> None:
    with service.client() as client:
        for path in ("api-keys", "registrations", "models", "artifacts", "vendors/me/key-rotations"):
            assert_problem(client.post(f"/v1/{path}", json={}), 401, "unauthenticated")


def test_another_vendors_object_is_the_same_bytes_as_none(vendor: httpx2.Client, other_vendor: httpx2.Client) -> None:
    registration = register(vendor)["id"]
    artifact = vendor.post("/v1/artifacts", content=b"weights", headers=OBJECT).json()["sha256"]
    api_key = vendor.get("/v1/api-keys").json()["items"][0]["id"]
    for mine, none in (
        (f"registrations/{registration}", f"registrations/{NOBODYS_ID}"),
        (f"registrations/{registration}/receipt", f"registrations/{NOBODYS_ID}/receipt"),
        (f"registrations/{registration}/beacon", f"registrations/{NOBODYS_ID}/beacon"),
        (f"artifacts/{artifact}", f"artifacts/{'00' * 32}"),
    ):
        answers = [other_vendor.get(f"/v1/{path}") for path in (mine, none)]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].content == answers[1].content
    answers = [other_vendor.delete(f"/v1/api-keys/{key}") for key in (api_key, "aaaaaaaaaaaa")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].content == answers[1].content
    assert vendor.get("/v1/vendors/me").status_code == 200


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
    ("GET", "/", 404, "not_found"),
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
