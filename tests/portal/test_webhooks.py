"""The page of webhooks and the feeds, in a browser and without one."""

import secrets
from datetime import UTC, datetime
from uuid import UUID

import httpx2
import pytest
from standardwebhooks import Webhook

from app.db.engine import transaction
from app.notices.events import announce
from app.people.persons import AUDITOR
from tests.flows.claimant import Claimant, Service, sign_up, wait_until
from tests.flows.test_webhooks import NOBODYS_ID
from tests.portal.conftest import Tab, opened, origin_of, sign_in, vendor_id_of
from tests.simulators.receiver import Receiver, Reply
from tests.unit.delivery.test_atom import ATOM, verify_atom

PAGE = "/vendor/webhooks"


@pytest.fixture(scope="module")
def hooked(service: Service) -> Claimant:
    return sign_up(service, "webhooks vendor")


def add(tab: Tab, url: str) -> str:
    """Fill in the form, and give the secret that is shown."""
    tab.go(PAGE)
    tab.page.get_by_label("Address").fill(url)
    tab.page.get_by_role("button", name="Add webhook").click()
    return tab.page.locator("#secret").inner_text()


def ask(service: Service, path: str, **headers: str) -> httpx2.Response:
    return httpx2.get(service.url + path, headers=headers, trust_env=False)


def happened(service: Service, vendor_id: UUID, kind: str, *, is_public: bool = False, **data: str) -> None:
    with transaction(service.database.service) as session:
        announce(session, vendor_id, kind, data, datetime.now(UTC), is_public=is_public)


def test_a_webhook_from_its_address_to_a_message_that_arrives(tab: Tab, service: Service, hooked: Claimant) -> None:
    sign_in(tab, service, vendor_id_of(hooked))
    tab.go(PAGE)
    tab.check()
    tab.check_phone()
    with Receiver() as receiver:
        secret = add(tab, receiver.url)
        tab.check()
        tab.check_phone()
        tab.page.get_by_role("button", name="I have stored it").click()
        tab.check()
        tab.page.get_by_role("button", name="Send a test message").click()
        (got,) = receiver.wait_for(1)
        assert Webhook(secret).verify(got.body, got.headers)["type"] == "ping"
        tab.page.get_by_role("cell", name="delivered").wait_for()  # the page finds out by itself
        tab.page.get_by_role("cell", name="HTTP 204").wait_for()
    tab.check()
    tab.check_phone()
    assert secret not in tab.page.content()
    tab.page.get_by_text("Replace the secret").first.click()
    tab.page.get_by_role("button", name="Replace the secret").click()
    assert tab.page.locator("#secret").inner_text() not in ("", secret)
    tab.page.get_by_role("button", name="I have stored it").click()
    tab.page.get_by_text("signs, too, until").wait_for()
    tab.page.get_by_role("button", name="Disable").click()
    tab.page.get_by_text("disabled: by the vendor").wait_for()
    tab.check()
    tab.page.get_by_role("button", name="Enable").click()
    tab.page.get_by_text("Other events").click()
    for box in tab.page.get_by_role("checkbox").all():
        box.uncheck()
    tab.page.get_by_role("button", name="Save").click()
    tab.page.get_by_role("alert").get_by_text("choose at least one").wait_for()
    tab.page.get_by_text("Delete", exact=True).click()
    tab.page.get_by_role("button", name="Delete this webhook").click()
    tab.page.get_by_text("There is none yet").wait_for()
    assert tab.faults == []


def test_a_failing_receiver_is_shown_and_nothing_of_its_answer(tab: Tab, service: Service, hooked: Claimant) -> None:
    sign_in(tab, service, vendor_id_of(hooked))
    with Receiver(lambda _: Reply(500, body=b"<script>told-you</script>")) as receiver:
        add(tab, receiver.url + "?a=<b>".replace("<b>", "%3Cb%3E"))
        tab.page.get_by_role("button", name="I have stored it").click()
        tab.page.get_by_role("button", name="Send a test message").click()
        tab.page.get_by_role("cell", name="HTTP 500 refused").wait_for()
    tab.page.get_by_text("failing since").wait_for()
    tab.page.get_by_role("button", name="Send a test message").click()
    tab.page.get_by_role("alert").get_by_text("on its way already").wait_for()
    tab.check()
    tab.check_phone()
    assert "told-you" not in tab.page.content()
    tab.go(PAGE)
    tab.page.get_by_text("failing since").wait_for()
    tab.check()
    tab.check_phone()


@pytest.mark.parametrize("url", ["https://10.0.0.1/", "javascript:alert(1)", "https://x.example/<script>", "h" * 3000])
def test_an_address_that_is_refused_comes_back_as_it_was_typed(
    plain_tab: Tab, service: Service, hooked: Claimant, url: str
) -> None:
    sign_in(plain_tab, service, vendor_id_of(hooked))
    plain_tab.go(PAGE)
    field = plain_tab.page.get_by_label("Address")
    plain_tab.page.get_by_label("a dispute moves on").uncheck()
    field.fill(url)
    with plain_tab.page.expect_response(lambda response: response.request.method == "POST") as answered:
        # The browser's own check of addresses is no help against who does not use one.
        plain_tab.page.locator("form[action='/vendor/webhooks']").evaluate("form => { form.noValidate = true }")
        plain_tab.page.get_by_role("button", name="Add webhook").click()
    assert answered.value.status == 422
    assert field.input_value() == url
    assert not plain_tab.page.get_by_label("a dispute moves on").is_checked()
    plain_tab.page.get_by_text("the address is refused").wait_for()


def test_everything_works_without_javascript(plain_tab: Tab, service: Service, hooked: Claimant) -> None:
    sign_in(plain_tab, service, vendor_id_of(hooked))
    with Receiver() as receiver:
        add(plain_tab, receiver.url)
        plain_tab.page.get_by_role("button", name="I have stored it").click()
        plain_tab.page.get_by_role("button", name="Send a test message").click()
        receiver.wait_for(1)
        plain_tab.page.get_by_role("cell", name="delivered").wait_for()
    plain_tab.page.get_by_text("Delete", exact=True).click()
    plain_tab.page.get_by_role("button", name="Delete this webhook").click()
    plain_tab.page.get_by_role("heading", name="Webhooks and feed").wait_for()


def test_an_auditor_and_another_vendor_reach_nothing(
    tab: Tab, browser: object, service: Service, hooked: Claimant, vendor: Claimant
) -> None:
    webhook = hooked.client.post("/v1/webhooks", {"url": "https://hooks.example.org/mine", "events": ["dispute"]})
    sign_in(tab, service, vendor_id_of(hooked), name="Audrey", role=AUDITOR)
    cookies = [cookie_of(tab)]
    with opened(browser, origin_of(service)) as other:  # type: ignore[arg-type]
        sign_in(other, service, vendor_id_of(vendor), name="Oscar")
        cookies.append(cookie_of(other))
    paths = [PAGE, f"{PAGE}/feed", f"{PAGE}/feed/end"]
    own = [f"{PAGE}/{{}}{act}" for act in ("/ping", "/secret", "/enable", "/disable", "/events", "/delete")]
    origin = {"Origin": origin_of(service)}
    with httpx2.Client(base_url=service.url, trust_env=False) as client:
        for path in paths + [path.format(webhook["id"]) for path in own]:
            answer = client.post(path, data={"url": "https://x.example"}, headers={"Cookie": cookies[0], **origin})
            assert answer.status_code == 403, path
            assert "as auditor of webhooks vendor" in answer.text
        for path in own:
            mine = client.post(path.format(webhook["id"]), data={}, headers={"Cookie": cookies[1], **origin})
            none = client.post(path.format(NOBODYS_ID), data={}, headers={"Cookie": cookies[1], **origin})
            assert (mine.status_code, mine.content) == (404, none.content), path
        shown = client.get(f"{PAGE}/{webhook['id']}", headers={"Cookie": cookies[1]})
        assert shown.status_code == 404
        assert client.get(PAGE, headers={"Cookie": cookies[0]}).status_code == 403
        elsewhere = client.post(f"{PAGE}/{webhook['id']}/delete", headers={"Cookie": cookies[1]}, data={})
        assert elsewhere.status_code == 403
    assert hooked.client.get(f"/v1/webhooks/{webhook['id']}")["is_enabled"]


def cookie_of(tab: Tab) -> str:
    cookie = tab.page.context.cookies()[0]
    return f"{cookie['name']}={cookie['value']}"


def test_a_feeds_address_is_shown_once_and_ends(tab: Tab, service: Service, vendor: Claimant) -> None:
    vendor_id = vendor_id_of(vendor)
    happened(service, vendor_id, "embedding.done", id="e1")
    sign_in(tab, service, vendor_id)
    tab.go(PAGE)
    tab.page.get_by_role("button", name="Make an address").click()
    first = tab.page.locator("#address").inner_text().removeprefix(tab.origin)
    tab.check()
    tab.check_phone()
    answer = ask(service, first)
    assert answer.headers["Content-Type"] == "application/atom+xml; charset=utf-8"
    assert answer.headers["Cache-Control"].startswith("private")
    titles = [entry.findtext(f"{ATOM}title") for entry in verify_atom(answer.content).findall(f"{ATOM}entry")]
    assert titles[0] == "embedding done (e1)"
    assert any(title and title.startswith("registration beacon drawn") for title in titles)
    tab.go(PAGE)
    assert first not in tab.page.content()
    tab.page.get_by_role("button", name="Make a new address").click()
    second = tab.page.locator("#address").inner_text().removeprefix(tab.origin)
    assert (ask(service, first).status_code, ask(service, second).status_code) == (404, 200)
    tab.go(PAGE)
    tab.page.get_by_role("button", name="End the address").click()
    tab.page.get_by_role("button", name="Make an address").wait_for()
    assert ask(service, second).status_code == 404
    nobodys = ask(service, f"/feeds/{secrets.token_hex(32)}.atom")
    assert (nobodys.status_code, nobodys.content) == (404, ask(service, second).content)


def test_the_public_feed_says_what_everybody_may_know_and_nothing_else(service: Service, hooked: Claimant) -> None:
    vendor_id = vendor_id_of(hooked)
    happened(service, vendor_id, "dispute.asking", id="hidden-dispute")
    before = ask(service, "/feed.atom")
    verify_atom(before.content)
    assert ask(service, "/feed.atom", **{"If-None-Match": before.headers["ETag"]}).status_code == 304
    assert ask(service, "/feed.atom", **{"If-None-Match": f'"x", W/{before.headers["ETag"]}'}).status_code == 304
    endpoint = "https://models.example.org/?<script>&"
    happened(service, vendor_id, "dispute.verdict", is_public=True, id="d1", endpoint=endpoint, verdict="CONFIRMED")
    after = ask(service, "/feed.atom", **{"If-None-Match": before.headers["ETag"]})
    assert after.status_code == 200
    root = verify_atom(after.content)
    assert root.findtext(f"{ATOM}entry/{ATOM}title") == "dispute verdict: CONFIRMED (d1)"
    assert endpoint in (root.findtext(f"{ATOM}entry/{ATOM}content") or "")
    assert b"hidden-dispute" not in after.content
    assert b"<script" not in after.content


def test_a_session_that_ends_while_an_address_is_typed_loses_nothing(
    tab: Tab, service: Service, hooked: Claimant
) -> None:
    sign_in(tab, service, vendor_id_of(hooked))
    tab.go(PAGE)
    tab.page.get_by_label("Address").fill("https://hooks.example.org/typed")
    tab.page.context.clear_cookies()
    tab.page.get_by_role("button", name="Add webhook").click()
    tab.page.get_by_role("heading", name="Your session has ended").wait_for()
    assert "https://hooks.example.org/typed" in tab.page.content()


def test_nothing_is_sent_before_the_step_is_committed_and_everything_after(service: Service, hooked: Claimant) -> None:
    with Receiver() as receiver:
        made = hooked.client.post("/v1/webhooks", {"url": receiver.url, "events": ["embedding"]})
        with transaction(service.database.service) as session:
            announce(session, vendor_id_of(hooked), "embedding.failed", {"id": "e2"}, datetime.now(UTC))
            assert receiver.got == []
        (got,) = receiver.wait_for(1)
        assert Webhook(made["secret"]).verify(got.body, got.headers)["data"] == {"id": "e2"}

        def is_noted() -> bool:
            items = hooked.client.get(f"/v1/webhooks/{made['id']}/deliveries")["items"]
            return [item["state"] for item in items] == ["delivered"]

        wait_until(is_noted, "the delivery is noted")
