"""Story 1 through HTTP: sign up, register, receipt, beacon, labels; and what bad input gets."""

import httpx2
from sqlalchemy import func, select

from app.canonical import sha256
from app.db.engine import transaction
from app.db.tables import ApiKeyRow, LogEntryRow, RegistrationRow
from app.keys.labels import draw_labels, salt_of
from app.keys.sealing import QueueKey
from app.merkle.checkpoint import parse_verifier_key, verify_checkpoint
from app.merkle.receipt import parse_receipt, verify_receipt
from app.merkle.tree import verify_consistency
from app.protocol.assessment import beacon_value
from app.protocol.records import BeaconEntry, ModelEntry, RegistrationEntry, VendorKeyEntry
from app.registry.worker_keys import announce_worker_key
from app.signature import public_key_of, sign, verify_signature
from tests.flows.registering import (
    NOBODYS_ID,
    OBJECT,
    ORIGIN,
    OTHER_KEY,
    assert_problem,
    proven,
    register,
    signed,
)
from tests.flows.running_api import Service
from tests.flows.vendor_machine import VENDOR_KEY, a_marking_key, a_statement

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
