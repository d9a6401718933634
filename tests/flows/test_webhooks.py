"""Webhooks to real receivers: signed, sent again, given up, rotated; and what receivers must not be able to do."""

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from sqlalchemy import select, text
from standardwebhooks import Webhook, WebhookVerificationError

from app.db.engine import transaction
from app.db.notice_tables import EventRow, WebhookRow
from app.delivery.schedule import MAX_ATTEMPTS
from app.delivery.sending import FAILING, HOLD, MESSAGES_A_JOB, Courier, deliver
from app.delivery.sweep import KEPT, sweep
from app.delivery.webhooks import MAX_WEBHOOKS, OLD_SECRET
from app.errors import Unavailable
from app.notices.events import announce
from app.registry.registrations import BEACON_DRAWN
from app.settings import load_secret_box
from app.suspects.transport import Limits
from tests.conftest import TEMPLATE, Database, Server
from tests.flows.claimant import Service as Processes
from tests.flows.claimant import sign_up, wait_until
from tests.flows.registering import NOBODYS_ID, assert_problem, register
from tests.flows.running_api import Service, running_service
from tests.flows.vendor_machine import VENDOR_KEY
from tests.simulators.receiver import Receiver, Reply
from tests.simulators.suspect import SuspectSimulator
from tests.unit.delivery.test_atom import ATOM, verify_atom

BRIEF = Limits(connect_seconds=1.0, read_seconds=0.5, total_seconds=0.5, body_bytes=1024, connections=1)
OPEN = {"allowed_networks": ["127.0.0.0/8"], "allow_http": True}


class Attempt:
    """An attempt of a worker that is not stopping."""

    job_id, number, queue, is_last = 1, 0, "post", False

    def is_cancelled(self) -> bool:
        return False

    def is_stopping(self) -> bool:
        return False

    def raise_if_stopping(self) -> None:
        """Go on."""


class Desk:
    """A vendor with webhooks, and the worker's part done by hand at a time of the test's choice."""

    def __init__(self, service: Service, client: httpx2.Client) -> None:
        self.service, self.client = service, client
        self.now = datetime.now(UTC)
        self.vendor_id = UUID(client.get("/v1/vendors/me").json()["id"])
        self.courier = Courier(
            service.database.service,
            service.settings.network_rules,
            lambda: self.now,
            load_secret_box(service.settings),
            BRIEF,
        )

    def add(self, url: str, *events: str) -> dict[str, Any]:
        answer = self.client.post("/v1/webhooks", json={"url": url, "events": events or ["registration"]})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def announce(self, kind: str = BEACON_DRAWN, **data: str) -> UUID:
        with transaction(self.service.database.service) as session:
            return announce(session, self.vendor_id, kind, {"id": "r1", **data}, self.now)

    def deliver(self, webhook: dict[str, Any]) -> None:
        deliver(self.courier, Attempt(), UUID(webhook["id"]))

    def placed(self) -> list[str]:
        """Sweep, and name the webhooks for which a job waits."""
        engine = self.service.database.service
        with transaction(engine) as session:
            session.execute(text("DELETE FROM procrastinate_jobs WHERE task_name = 'deliver'"))
        sweep(engine, self.now)
        with transaction(engine) as session:
            rows = session.scalars(text("SELECT args FROM procrastinate_jobs WHERE task_name = 'deliver'"))
            mine = [webhook["id"] for webhook in self.client.get("/v1/webhooks").json()["items"]]
            return [args["webhook"] for args in rows if args["webhook"] in mine]

    def deliveries(self, webhook: dict[str, Any]) -> list[dict[str, Any]]:
        return self.client.get(f"/v1/webhooks/{webhook['id']}/deliveries").json()["items"]

    def read(self, webhook: dict[str, Any]) -> dict[str, Any]:
        return self.client.get(f"/v1/webhooks/{webhook['id']}").json()

    def set_back(self, **values: Any) -> None:
        """Set values of the vendor's webhooks' rows."""
        with transaction(self.service.database.service) as session:
            for row in session.scalars(select(WebhookRow).where(WebhookRow.vendor_id == self.vendor_id)):
                for name, value in values.items():
                    setattr(row, name, value)


def verified(secret: str, got: Any) -> dict[str, Any]:
    """Check a message as its receiver would, and give what it says."""
    return Webhook(secret).verify(got.body, got.headers)


@pytest.fixture(scope="module")
def house(servers: Callable[[str], Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The API alone; tests do the worker's part."""
    folder = tmp_path_factory.mktemp("webhooks")
    key_file = folder / "secrets.key"
    key_file.touch(mode=0o600)
    key_file.write_text(secrets.token_hex(32))
    with servers("embedded").database(TEMPLATE) as database, running_service(database, folder, **OPEN) as service:
        yield service
        service.check_log()


@contextmanager
def newcomer(service: Service, private_key: bytes = b"") -> Iterator[Desk]:
    made = service.sign_up(private_key=private_key or secrets.token_bytes(32))
    with service.client(made["api_key"]) as client:
        yield Desk(service, client)


@pytest.fixture
def desk(house: Service) -> Iterator[Desk]:
    with newcomer(house) as desk:
        yield desk


def test_a_message_says_what_happened_and_is_signed_as_receivers_libraries_check(house: Service) -> None:
    with Receiver() as receiver, newcomer(house, VENDOR_KEY) as desk:
        webhook = desk.add(receiver.url)
        registration = register(desk.client)
        drawn = desk.service.open_beacon(registration["entry_index"])
        desk.now = datetime.now(UTC)
        desk.deliver(webhook)
        (delivery,) = desk.deliveries(webhook)
    (got,) = receiver.got
    said = verified(webhook["secret"], got)
    assert said["type"] == "registration.beacon_drawn"
    assert said["data"] == {
        "id": registration["id"],
        "entry_index": registration["entry_index"],
        "beacon_index": drawn,
    }
    assert datetime.fromisoformat(said["timestamp"]) <= datetime.now(UTC)
    assert (got.path, got.headers["content-type"]) == ("/hook", "application/json")
    assert (delivery["state"], delivery["status"], delivery["attempts"]) == ("delivered", 204, 1)
    assert delivery["message_id"] == got.headers["webhook-id"]


def test_a_message_that_is_replayed_or_changed_is_seen_through(desk: Desk) -> None:
    with Receiver() as receiver:
        webhook = desk.add(receiver.url)
        desk.now -= timedelta(minutes=6)
        desk.announce()
        desk.deliver(webhook)
    with pytest.raises(WebhookVerificationError, match="too old"):
        verified(webhook["secret"], receiver.got[0])
    headers = receiver.got[0].headers | {"webhook-timestamp": str(int(datetime.now(UTC).timestamp()))}
    with pytest.raises(WebhookVerificationError, match="No matching"):
        Webhook(webhook["secret"]).verify(receiver.got[0].body, headers)


def test_what_was_rolled_back_is_told_to_nobody(desk: Desk) -> None:
    with Receiver() as receiver:
        webhook = desk.add(receiver.url)
        with pytest.raises(ZeroDivisionError), transaction(desk.service.database.service) as session:  # noqa: PT012
            announce(session, desk.vendor_id, BEACON_DRAWN, {}, desk.now)
            raise ZeroDivisionError
        desk.deliver(webhook)
    assert receiver.got == []
    assert desk.deliveries(webhook) == []


def test_only_the_topics_that_were_chosen_and_only_the_vendors_own_events_are_sent(desk: Desk) -> None:
    with Receiver() as receiver, newcomer(desk.service) as other:
        mine = desk.add(receiver.url, "embedding")
        theirs = other.add(receiver.url + "/other", "registration", "embedding")
        desk.announce()
        desk.announce("embedding.done")
        desk.deliver(mine)
        desk.deliver(theirs)
    assert [verified(mine["secret"], got)["type"] for got in receiver.got] == ["embedding.done"]


@pytest.mark.parametrize(
    ("reply", "status", "error"),
    [
        (Reply(500), 500, "refused"),
        (Reply(404), 404, "refused"),
        (Reply(after_seconds=5.0), None, "timeout"),
        (Reply(302, {"location": "http://127.0.0.1:1/elsewhere"}), 302, "refused"),
        (Reply(307, {"location": "/elsewhere"}), 307, "refused"),
    ],
)
def test_what_did_not_arrive_is_sent_again_with_the_same_id_and_body(
    desk: Desk, reply: Reply, status: int | None, error: str
) -> None:
    with Receiver(lambda number: reply if number == 0 else Reply()) as receiver:
        webhook = desk.add(receiver.url)
        desk.announce()
        desk.deliver(webhook)
        (delivery,) = desk.deliveries(webhook)
        assert (delivery["state"], delivery["status"], delivery["error"]) == ("waiting", status, error)
        assert desk.read(webhook)["failing_since"] is not None
        desk.deliver(webhook)  # too early
        assert len(receiver.got) == 1
        assert desk.placed() == []
        desk.now += timedelta(seconds=10)
        assert desk.placed() == [webhook["id"]]
        desk.deliver(webhook)
    first, second = receiver.got
    assert (first.path, second.path) == ("/hook", "/hook")  # redirects are not followed
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    verified(webhook["secret"], second)
    (delivery,) = desk.deliveries(webhook)
    assert (delivery["state"], delivery["attempts"], delivery["error"]) == ("delivered", 2, "")
    assert desk.read(webhook)["failing_since"] is None


def test_nothing_of_an_answer_is_kept_or_shown(desk: Desk) -> None:
    with Receiver(lambda _: Reply(400, body=b"<b>told-you</b>", headers={"x-said": "told-you"})) as receiver:
        webhook = desk.add(receiver.url)
        desk.announce()
        desk.deliver(webhook)
        assert "told-you" not in desk.client.get(f"/v1/webhooks/{webhook['id']}/deliveries").text
    with transaction(desk.service.database.service) as session:
        rows = session.scalars(text("SELECT webhook_deliveries::text FROM webhook_deliveries")).all()
    assert "told-you" not in str(rows)


def test_an_answer_too_long_to_read_still_says_that_it_arrived(desk: Desk) -> None:
    with Receiver(lambda _: Reply(200, body=b"x" * 100_000)) as receiver:
        webhook = desk.add(receiver.url)
        desk.announce()
        desk.deliver(webhook)
    assert [delivery["state"] for delivery in desk.deliveries(webhook)] == ["delivered"]


def test_after_about_a_day_a_message_is_given_up(desk: Desk) -> None:
    with Receiver(lambda _: Reply(503)) as receiver:
        webhook = desk.add(receiver.url)
        desk.announce()
        for _ in range(MAX_ATTEMPTS + 2):
            desk.deliver(webhook)
            desk.now += timedelta(hours=13)
        assert len(receiver.got) == MAX_ATTEMPTS
    (delivery,) = desk.deliveries(webhook)
    assert (delivery["state"], delivery["next_attempt_at"]) == ("failed", None)


def test_a_receiver_that_fails_for_days_is_disabled_and_starts_anew_when_it_is_enabled(desk: Desk) -> None:
    with Receiver(lambda number: Reply(500) if number < 2 else Reply()) as receiver:
        webhook = desk.add(receiver.url)
        desk.announce()
        desk.deliver(webhook)
        desk.now += FAILING
        desk.announce()
        desk.deliver(webhook)
        found = desk.read(webhook)
        assert (found["is_enabled"], found["disabled_reason"]) == (False, "nothing arrived for 5 days")
        assert {delivery["error"] for delivery in desk.deliveries(webhook)} == {"disabled"}
        desk.announce()
        assert desk.placed() == []
        desk.deliver(webhook)
        assert len(receiver.got) == 2
        desk.client.patch(f"/v1/webhooks/{webhook['id']}", json={"is_enabled": True})
        desk.announce()
        desk.deliver(webhook)
        assert len(receiver.got) == 3
    assert desk.read(webhook)["failing_since"] is None


def test_gone_disables_at_once(desk: Desk) -> None:
    with Receiver(lambda _: Reply(410)) as receiver:
        webhook = desk.add(receiver.url)
        desk.announce()
        desk.deliver(webhook)
    assert desk.read(webhook)["disabled_reason"] == "it answered 410 Gone"


def test_a_receiver_that_asks_for_patience_gets_it(desk: Desk) -> None:
    with Receiver(lambda number: Reply(429, {"retry-after": "3600"}) if number == 0 else Reply()) as receiver:
        webhook = desk.add(receiver.url)
        desk.announce()
        desk.deliver(webhook)
        desk.now += timedelta(minutes=59)
        assert desk.placed() == []
        desk.deliver(webhook)
        assert len(receiver.got) == 1
        desk.now += timedelta(minutes=2)
        desk.deliver(webhook)
        assert len(receiver.got) == 2


def test_a_failing_receiver_is_asked_once_however_much_waits_for_it(desk: Desk) -> None:
    with Receiver(lambda _: Reply(after_seconds=5.0)) as receiver:
        webhook = desk.add(receiver.url)
        for _ in range(30):
            desk.announce()
        desk.deliver(webhook)
        desk.deliver(webhook)
        assert len(receiver.got) == 1


def test_a_job_ends_so_that_other_receivers_get_their_turn(desk: Desk) -> None:
    with Receiver() as receiver:
        webhook = desk.add(receiver.url)
        for _ in range(MESSAGES_A_JOB + 1):
            desk.announce()
        desk.deliver(webhook)
        assert len(receiver.got) == MESSAGES_A_JOB
        assert desk.placed() == [webhook["id"]]
        desk.deliver(webhook)
        assert len({got.headers["webhook-id"] for got in receiver.got}) == MESSAGES_A_JOB + 1


def test_of_two_workers_one_sends_and_a_dead_ones_hold_runs_out(desk: Desk) -> None:
    with Receiver() as receiver:
        webhook = desk.add(receiver.url)
        desk.announce()
        desk.set_back(held_until=desk.now + HOLD)
        desk.deliver(webhook)
        assert (receiver.got, desk.placed()) == ([], [])
        desk.now += HOLD
        assert desk.placed() == [webhook["id"]]
        desk.deliver(webhook)
        assert len(receiver.got) == 1


def test_a_webhook_that_is_deleted_while_it_is_sent_to_is_gone(desk: Desk) -> None:
    made: dict[str, Any] = {}

    def reply(_: int) -> Reply:
        desk.client.delete(f"/v1/webhooks/{made['id']}").raise_for_status()
        return Reply()

    with Receiver(reply) as receiver:
        made |= desk.add(receiver.url)
        desk.announce()
        desk.deliver(made)
        assert len(receiver.got) == 1
    assert_problem(desk.client.get(f"/v1/webhooks/{made['id']}"), 404, "not_found")


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.1/",
        "https://169.254.169.254/latest",
        "https://[::1]/",
        "https://2130706433/",
        "https://user:password@hooks.example.org/",
        "https://hooks.example.org/#part",
        "https://hooks.example.org/\nHost: elsewhere",
        "ftp://hooks.example.org/",
        "javascript:alert(1)",
        "",
    ],
)
def test_an_address_that_is_not_allowed_is_refused_when_it_is_named(desk: Desk, url: str) -> None:
    answer = desk.client.post("/v1/webhooks", json={"url": url, "events": ["dispute"]})
    assert_problem(answer, 422, "policy_refused", "/url")
    assert desk.client.get("/v1/webhooks").json()["items"] == []


def test_a_name_that_leads_to_a_private_address_is_refused_when_it_is_sent_to(desk: Desk) -> None:
    with Receiver() as receiver:
        # Stored while the operator allowed it, which it does no longer.
        by_name = desk.add(receiver.url.replace("127.0.0.1", "localhost"))
        by_address = desk.add(receiver.url)
        desk.announce()
        closed = type(desk.courier.rules)(allow_http=True, ports=None)
        desk.courier = Courier(desk.courier.engine, closed, lambda: desk.now, desk.courier.box, BRIEF)
        for webhook in (by_name, by_address):
            desk.deliver(webhook)
            (delivery,) = desk.deliveries(webhook)
            assert (delivery["error"], delivery["status"]) == ("address_refused", None)
        assert receiver.got == []


def test_a_rotated_secret_signs_at_once_and_the_old_one_for_a_day(desk: Desk) -> None:
    with Receiver() as receiver:
        webhook = desk.add(receiver.url)
        rotated = desk.client.post(f"/v1/webhooks/{webhook['id']}/secret").json()
        assert rotated["secret"] != webhook["secret"]
        desk.announce()
        desk.deliver(webhook)
        verified(rotated["secret"], receiver.got[0])
        verified(webhook["secret"], receiver.got[0])
        desk.set_back(old_secret_until=desk.now)
        desk.announce()
        desk.deliver(webhook)
        verified(rotated["secret"], receiver.got[1])
        with pytest.raises(WebhookVerificationError):
            verified(webhook["secret"], receiver.got[1])
    assert timedelta(days=1) <= OLD_SECRET


def test_a_secret_is_shown_once_and_stored_sealed_for_its_address(desk: Desk) -> None:
    with Receiver() as receiver:
        webhook = desk.add(receiver.url)
        raw = Webhook(webhook["secret"])._whsecret
        for answer in (
            desk.client.get("/v1/webhooks"),
            desk.client.get(f"/v1/webhooks/{webhook['id']}"),
            desk.client.patch(f"/v1/webhooks/{webhook['id']}", json={}),
        ):
            assert "secret" not in answer.json()
            assert webhook["secret"] not in answer.text
        with transaction(desk.service.database.service) as session:
            stored = str(session.scalars(text("SELECT webhooks::text FROM webhooks")).all())
            assert raw.hex() not in stored
            assert webhook["secret"] not in stored
        # Whoever writes the database has the messages signed for no other address.
        desk.set_back(url=f"{receiver.url}/elsewhere")
        desk.announce()
        with pytest.raises(Unavailable):
            desk.deliver(webhook)
        assert receiver.got == []


def test_without_a_key_of_secrets_webhooks_are_refused_with_the_reason(database: Database, tmp_path: Path) -> None:
    with running_service(database, tmp_path, **OPEN) as service, service.client(service.sign_up()["api_key"]) as client:
        body = {"url": "https://hooks.example.org/", "events": ["dispute"]}
        answer = client.post("/v1/webhooks", json=body)
    assert_problem(answer, 422, "policy_refused")
    assert "TRAPSTREET_SECRETS_KEY_FILE" in answer.json()["detail"]


def test_another_vendors_webhook_looks_like_none_and_a_key_without_the_scope_sees_none(desk: Desk) -> None:
    webhook = desk.add("https://hooks.example.org/")
    weak = desk.client.post("/v1/api-keys", json={"name": "weak", "scopes": ["read", "dispute", "embed", "register"]})
    strange = desk.service.sign_up("Other", secrets.token_bytes(32))["api_key"]
    calls = [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/secret"), ("POST", "/ping"), ("GET", "/deliveries")]
    with desk.service.client(strange) as other, desk.service.client(weak.json()["api_key"]) as reader:
        for method, path in calls:
            body = {"json": {}} if method == "PATCH" else {}
            theirs = other.request(method, f"/v1/webhooks/{webhook['id']}{path}", **body)
            nobodys = other.request(method, f"/v1/webhooks/{NOBODYS_ID}{path}", **body)
            assert (theirs.status_code, theirs.content) == (404, nobodys.content)
            assert reader.request(method, f"/v1/webhooks/{webhook['id']}{path}", **body).status_code == 403
        assert other.get("/v1/webhooks").json()["items"] == []
        assert reader.get("/v1/webhooks").status_code == 403
    assert desk.read(webhook)["is_enabled"]


def test_there_are_as_many_webhooks_as_are_good_for_the_others(desk: Desk) -> None:
    for number in range(MAX_WEBHOOKS):
        desk.add(f"https://hooks.example.org/{number}")
    body = {"url": "https://hooks.example.org/", "events": ["dispute"]}
    assert_problem(desk.client.post("/v1/webhooks", json=body), 429, "too_many")


@pytest.mark.parametrize("events", [[], ["everything"], ["ping"], "dispute", None])
def test_what_is_no_topic_is_refused(desk: Desk, events: Any) -> None:
    body = {"url": "https://hooks.example.org/", "events": events}
    assert desk.client.post("/v1/webhooks", json=body).status_code == 422


def test_one_ping_is_on_its_way_at_a_time_and_none_to_a_disabled_webhook(desk: Desk) -> None:
    with Receiver() as receiver:
        webhook = desk.add(receiver.url)
        address = f"/v1/webhooks/{webhook['id']}"
        assert desk.client.post(f"{address}/ping").status_code == 202
        assert_problem(desk.client.post(f"{address}/ping"), 429, "too_many")
        desk.now = datetime.now(UTC)
        desk.deliver(webhook)
        assert verified(webhook["secret"], receiver.got[0])["data"] == {"webhook_id": webhook["id"]}
        desk.client.patch(address, json={"is_enabled": False})
        assert_problem(desk.client.post(f"{address}/ping"), 409, "conflict")


def test_an_endpoint_is_not_named_before_everybody_may_know_it(desk: Desk) -> None:
    with transaction(desk.service.database.service) as session:
        data = {"id": "d1", "endpoint": "https://models.example.org"}
        with pytest.raises(ValueError, match="named only once"):
            announce(session, desk.vendor_id, "dispute.asking", data, desk.now)
        announce(session, desk.vendor_id, "dispute.probed", data, desk.now, is_public=True)


def test_what_is_old_is_forgotten(desk: Desk) -> None:
    webhook = desk.add("https://hooks.example.org/")
    desk.announce()
    desk.now += KEPT + timedelta(hours=1)
    kept = desk.announce()
    sweep(desk.service.database.service, desk.now)
    assert [item["event_id"] for item in desk.deliveries(webhook)] == [str(kept)]
    with transaction(desk.service.database.service) as session:
        mine = select(EventRow.id).where(EventRow.vendor_id == desk.vendor_id)
        assert session.scalars(mine).all() == [kept]


def test_a_dispute_is_told_step_by_step_and_names_the_endpoint_only_when_probing_has_ended(service: Processes) -> None:
    claimant = sign_up(service, "told")
    with Receiver() as receiver, SuspectSimulator(claimant.stolen()) as suspect:
        webhook = claimant.client.post("/v1/webhooks", {"url": receiver.url, "events": ["dispute"]})
        dispute_id = claimant.file(suspect)
        decided = claimant.answer_until_decided(dispute_id)
        told: list[dict[str, Any]] = []

        def is_told() -> bool:
            told[:] = [verified(webhook["secret"], got) for got in receiver.got]
            return "dispute.verdict" in [event["type"] for event in told]

        wait_until(is_told, "the verdict is told")
    told.sort(key=lambda event: event["data"]["step"])
    assert {event["data"]["id"] for event in told} == {dispute_id}
    kinds = [event["type"] for event in told]
    assert kinds[:3] == ["dispute.filed", "dispute.challenge_drawn", "dispute.block_probed"]
    ended = kinds.index("dispute.probing_ended")
    for event in told[:ended]:
        assert suspect.url not in json.dumps(event)
        assert "endpoint" not in event["data"]
    assert {event["data"]["endpoint"] for event in told[ended:]} == {suspect.url}
    verdict = told[kinds.index("dispute.verdict")]["data"]
    assert (verdict["verdict"], verdict["entry_index"]) == ("CONFIRMED", decided["verdict_index"])
    feed = httpx2.get(f"{service.url}/feed.atom", trust_env=False)
    titles = [entry.findtext(f"{ATOM}title") or "" for entry in verify_atom(feed.content).findall(f"{ATOM}entry")]
    mine = [title for title in titles if dispute_id in title]
    assert f"dispute verdict: CONFIRMED ({dispute_id})" in mine
    assert [title for title in mine if "filed" in title or "block" in title] == []


def test_the_service_itself_sends_and_a_receiver_that_hangs_keeps_nobody_else_waiting(service: Processes) -> None:
    claimant = sign_up(service, "hooked")
    with Receiver(lambda _: Reply(after_seconds=30.0)) as slow, Receiver() as quick:
        made = {}
        for name, receiver in (("slow", slow), ("quick", quick)):
            made[name] = claimant.client.post("/v1/webhooks", {"url": receiver.url, "events": ["registration"]})
        claimant.client.post(f"/v1/webhooks/{made['slow']['id']}/ping")
        slow.wait_for(1)
        claimant.client.post(f"/v1/webhooks/{made['quick']['id']}/ping")
        (got,) = quick.wait_for(1, 10.0)
        assert verified(made["quick"]["secret"], got)["type"] == "ping"
        sign_up(service, "not hooked")  # its beacon is drawn meanwhile

        def delivered() -> bool:
            (item,) = claimant.client.get(f"/v1/webhooks/{made['quick']['id']}/deliveries")["items"]
            return bool(item["state"] == "delivered")

        wait_until(delivered, "the delivery is noted")
        assert len(quick.got) == 1
        assert json.loads(got.body)["data"] == {"webhook_id": made["quick"]["id"]}
