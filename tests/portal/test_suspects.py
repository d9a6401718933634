"""Suspects: naming one, with what it speaks and what that costs, testing it, deriving, keys; and who tries to misuse it."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from app.cli.client import register_vendor
from app.disputes.trials import LOOK_SECONDS, TRY_SECONDS
from app.people.persons import AUDITOR
from app.portal.pages_suspects import PAGE
from tests.flows.claimant import Claimant, Service, free_port, innocent, natural, scores, sign_up
from tests.portal.conftest import Tab, origin_of, sign_in, vendor_id_of
from tests.simulators.suspect import SuspectSimulator

LISTED = {"/v1/models": {"models": ["digits"]}}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"
DETECT = "Find out what it speaks"


@pytest.fixture(scope="module")
def accuser(service: Service) -> Claimant:
    """A vendor with committed labelled covers."""
    return sign_up(service, "suspects accuser", covers=400, cover_class=natural)


@pytest.fixture(scope="module")
def suspect() -> Iterator[SuspectSimulator]:
    with SuspectSimulator(innocent, metadata=LISTED) as running:
        yield running


def add(claimant: Claimant, suspect: SuspectSimulator, name: str = "rival") -> str:
    body = {"name": name, "endpoint": suspect.url, "interface": suspect.interface.to_json()}
    return str(claimant.client.post("/v1/suspects", body)["id"])


def cookies_of(tab: Tab) -> dict[str, str]:
    return {cookie["name"]: cookie["value"] for cookie in tab.page.context.cookies()}


def post(tab: Tab, service: Service, path: str, data: dict[str, str] | None = None) -> httpx2.Response:
    """Send a form as the tab's person, past what the page offers."""
    headers = {"Origin": origin_of(service)}
    with httpx2.Client(base_url=service.url, trust_env=False, cookies=cookies_of(tab), timeout=60) as client:
        return client.post(path, data=data or {}, headers=headers)


def counted_today(tab: Tab) -> int:
    found = re.search(r"(\d+) of 1000", tab.page.locator("main").inner_text())
    assert found is not None
    return int(found[1])


def get(tab: Tab, service: Service, path: str) -> httpx2.Response:
    with httpx2.Client(base_url=service.url, trust_env=False, cookies=cookies_of(tab)) as client:
        return client.get(path)


def test_an_empty_list_says_what_to_do_and_a_vendor_without_a_watermark_is_led_to_one(
    tab: Tab, service: Service
) -> None:
    made = register_vendor(service.connect(), "suspects newcomer", "n@example.org", b"\x61" * 32)
    with service.connect(made["api_key"]) as client:
        vendor_id = client.get("/v1/vendors/me")["id"]
    sign_in(tab, service, vendor_id)
    tab.go("/suspects")
    tab.page.get_by_role("heading", name="No suspect yet").wait_for()
    tab.check()
    tab.page.get_by_role("button", name="Add a suspect").click()
    assert tab.page.get_by_role("link", name="Register a watermark").get_attribute("href") == "/registrations/new"
    tab.check()


def test_the_list_begins_with_what_was_just_added_and_older_pages_follow(
    tab: Tab, service: Service, suspect: SuspectSimulator
) -> None:
    owner = sign_up(service, "suspects many")
    body = {"endpoint": suspect.url, "interface": suspect.interface.to_json()}
    for number in range(PAGE + 2):
        owner.client.post("/v1/suspects", body | {"name": f"number {number}"})
    sign_in(tab, service, vendor_id_of(owner))
    names = tab.go("/suspects").locator("tbody th").all_inner_texts()
    assert names == [f"number {number}" for number in range(PAGE + 1, 1, -1)]
    tab.page.get_by_role("link", name="Older suspects").click()
    tab.page.wait_for_url("**/suspects?after=*")
    assert tab.page.locator("tbody th").all_inner_texts() == ["number 1", "number 0"]
    assert tab.page.get_by_role("link", name="Older suspects").count() == 0
    tab.check()


def test_an_endpoint_is_looked_at_priced_and_added(
    tab: Tab, service: Service, accuser: Claimant, suspect: SuspectSimulator
) -> None:
    sign_in(tab, service, vendor_id_of(accuser))
    page = tab.go("/suspects/new")
    tab.check()
    page.get_by_label("Address").fill(suspect.url)
    page.get_by_label("Name, for yourselves").fill(HOSTILE)
    page.get_by_role("button", name=DETECT).click()
    page.get_by_text("It answered as kserve_v1 does").wait_for()
    assert page.get_by_label("Options, as JSON").input_value() == '{"model":"digits"}'
    assert page.get_by_label("Name, for yourselves").input_value() == HOSTILE
    seen = page.locator("#detected").inner_text()
    assert "POST /v1/models/digits:predict" in seen
    assert '{"predictions"' in seen
    page.get_by_text("well-known routes that were looked at").click()
    assert '{"models": ["digits"]}' in page.locator("#detected").inner_text()
    assert "8 bits" in page.locator("#price").inner_text()
    tab.check()
    tab.check_phone()
    # The price follows the form.
    page.get_by_label("Class by class, as written below").check()
    page.locator("#price").get_by_text("54 bits").wait_for()
    page.get_by_text("choose that, which costs nothing of its own").wait_for()
    page.get_by_label(re.compile("By index")).check()
    page.locator("#price").get_by_text("8 bits of evidence").wait_for()
    page.get_by_role("button", name="Add this suspect").click()
    page.get_by_text("then tick this").wait_for()
    assert page.get_by_label("Name, for yourselves").input_value() == HOSTILE
    page.get_by_label("I compared the labels").check()
    page.get_by_role("button", name="Add this suspect").click()
    page.wait_for_url("**/suspects/*-*")
    assert page.get_by_role("heading", level=1).inner_text() == HOSTILE
    tab.check()
    tab.check_phone()
    tab.go("/suspects")
    page.get_by_role("link", name=HOSTILE).wait_for()
    tab.check()
    tab.check_phone()


def test_without_javascript_an_endpoint_is_looked_at_priced_added_and_tested(
    plain_tab: Tab, service: Service, accuser: Claimant, suspect: SuspectSimulator
) -> None:
    sign_in(plain_tab, service, vendor_id_of(accuser))
    page = plain_tab.go("/suspects/new")
    page.get_by_label("Address").fill(suspect.url)
    page.get_by_role("button", name=DETECT).click()
    page.get_by_text("It answered as kserve_v1 does").wait_for()
    page.get_by_label("Preprocessing, as JSON").fill('{"layout":"flat"}')
    page.get_by_role("button", name="Work out the price").click()
    page.get_by_text(
        f"{8 * len('{}') + 8 * len(json.dumps({'layout': 'flat'}, separators=(',', ':')))} bits"
    ).wait_for()
    page.get_by_label("Preprocessing, as JSON").fill("")
    page.get_by_label("I compared the labels").check()
    page.get_by_role("button", name="Add this suspect").click()
    page.get_by_role("button", name="Test the connection").click()
    page.get_by_text("It answered.").wait_for()


def test_a_test_shows_request_and_answer_and_a_wrong_adapter_what_to_change(
    tab: Tab, service: Service, accuser: Claimant
) -> None:
    sign_in(tab, service, vendor_id_of(accuser))
    with SuspectSimulator(lambda asked: [HOSTILE], metadata=LISTED) as hostile:
        suspect_id = add(accuser, hostile)
        page = tab.go(f"/suspects/{suspect_id}")
        page.get_by_role("button", name="Test the connection").click()
        page.get_by_text("the label map knows no such label").wait_for()
        shown = page.locator("main").inner_text()
        assert HOSTILE in shown
        assert '{"instances":[' in shown
        counted = counted_today(tab)
        tab.check()
        tab.check_phone()
        hostile.fault = "not_json"
        page.get_by_role("button", name="Test the connection").click()
        page.get_by_text("It answered something else than JSON").wait_for()
        assert "<html>" in page.locator("main").inner_text()
        assert counted_today(tab) == counted + 1
        tab.check()
    # It has gone away since.
    page.get_by_role("button", name="Test the connection").click()
    page.get_by_text("check host and port, and that the endpoint is up").wait_for()


@pytest.mark.parametrize(
    ("fault", "words"),
    [("not_json", "It answered something else than JSON"), ("status_500", "It failed over the question")],
)
def test_a_guess_that_is_not_answered_keeps_the_form_and_says_what_to_change(
    tab: Tab, service: Service, accuser: Claimant, fault: str, words: str
) -> None:
    sign_in(tab, service, vendor_id_of(accuser))
    with SuspectSimulator(innocent, metadata=LISTED, fault=fault) as wrong:
        page = tab.go("/suspects/new")
        page.get_by_label("Address").fill(wrong.url)
        page.get_by_label("Adapter").select_option("mlflow")
        page.get_by_role("button", name=DETECT).click()
        page.get_by_role("alert").filter(has_text=words).wait_for()
    assert page.get_by_label("Adapter").input_value() == "mlflow"
    assert page.get_by_label("Address").input_value() == wrong.url
    tab.check()


def test_a_suspect_that_is_down_or_hostile_in_what_it_tells_is_an_error_in_words(
    tab: Tab, service: Service, accuser: Claimant
) -> None:
    sign_in(tab, service, vendor_id_of(accuser))
    page = tab.go("/suspects/new")
    page.get_by_label("Address").fill(f"http://127.0.0.1:{free_port()}")
    page.get_by_role("button", name=DETECT).click()
    page.get_by_text("Nobody listens there").wait_for()
    page.get_by_label("Address").fill("http://169.254.169.254")
    page.get_by_role("button", name=DETECT).click()
    page.get_by_text("private or special network").wait_for()
    told = {"/v1/models": {"models": ["../x"]}, "/ping": {"status": HOSTILE}, "/v2": {"name": HOSTILE}}
    with SuspectSimulator(innocent, metadata=told) as hostile:
        page.get_by_label("Address").fill(hostile.url)
        page.get_by_role("button", name=DETECT).click()
        page.get_by_text("No route told").wait_for()
    assert "<script>alert(1)" in page.locator("#detected").inner_text()
    tab.check()


def test_detection_ends_while_a_slow_endpoint_still_drips_and_is_counted(
    tab: Tab, service: Service, accuser: Claimant
) -> None:
    sign_in(tab, service, vendor_id_of(accuser))
    with SuspectSimulator(innocent, metadata=LISTED, fault="drip") as slow:
        suspect_id = add(accuser, slow)
        page = tab.go(f"/suspects/{suspect_id}")
        before = counted_today(tab)
        tab.go("/suspects/new")
        page.get_by_label("Address").fill(slow.url)
        began = time.monotonic()
        page.get_by_role("button", name=DETECT).click()
        page.get_by_text("No guess was answered").wait_for()
        assert time.monotonic() - began < LOOK_SECONDS + TRY_SECONDS + 15
        requests = len(slow.requests)
    tab.go(f"/suspects/{suspect_id}")
    # What was not sent is given back, up to the looks that may have been sent twice.
    assert requests <= counted_today(tab) - before <= 3 * requests


def test_an_interface_is_derived_from_an_uploaded_file_and_free(tab: Tab, service: Service, accuser: Claimant) -> None:
    vendor_id = vendor_id_of(accuser)
    sign_in(tab, service, vendor_id)
    with SuspectSimulator(lambda asked: scores(natural(asked)), metadata=LISTED) as honest:
        suspect_id = add(accuser, honest)
        page = tab.go(f"/suspects/{suspect_id}")
        page.get_by_role("button", name="Derive the interface").click()
        page.get_by_text("64 hex digits").first.wait_for()
        page.get_by_label("Its labelled cover file").set_input_files(
            Path(service.folder) / "covers-suspects accuser.json"
        )
        page.get_by_role("button", name="Derive the interface").click()
        page.get_by_role("heading", name="Derived as kserve_v1: free").wait_for()
        assert "It costs 0 bits" in page.locator("#derivations").inner_text()
        tab.check()
        tab.check_phone()


def test_credentials_are_kept_shown_by_name_and_forgotten(
    tab: Tab, service: Service, accuser: Claimant, suspect: SuspectSimulator
) -> None:
    sign_in(tab, service, vendor_id_of(accuser))
    suspect_id = add(accuser, suspect)
    page = tab.go(f"/suspects/{suspect_id}")
    page.get_by_text("Give credentials").click()
    page.get_by_role("button", name="Keep them").click()
    page.get_by_text("write the value, or an AWS key").wait_for()
    page.get_by_label("Its value").fill("Bearer hush-of-the-page")
    page.get_by_role("button", name="Keep them").click()
    page.get_by_text("Sent with each request: authorization").wait_for()
    assert "hush-of-the-page" not in page.content()
    tab.check()
    page.get_by_role("button", name="Test the connection").click()
    page.get_by_text("It answered.").wait_for()
    assert suspect.requests[-1].headers["authorization"] == "Bearer hush-of-the-page"
    page.get_by_role("button", name="Forget them").click()
    page.get_by_text("it is asked without saying who asks").wait_for()
    page.get_by_role("button", name="Forget this suspect").click()
    page.wait_for_url("**/suspects")
    assert get(tab, service, f"/suspects/{suspect_id}").status_code == 404


def test_what_another_vendor_has_is_not_there(
    tab: Tab, service: Service, accuser: Claimant, vendor: Claimant, suspect: SuspectSimulator
) -> None:
    theirs, none = add(accuser, suspect), "0190a0a0-0000-7000-8000-000000000000"
    sign_in(tab, service, vendor_id_of(vendor))
    sent = len(suspect.requests)
    for path in ("", "/derivations"):
        pages = [get(tab, service, f"/suspects/{one}{path}") for one in (theirs, none, "no-id")]
        assert {page.status_code for page in pages} == {404}
        assert len({page.text for page in pages}) == 1
    form = {"registration": vendor.registration_id, "covers": "0" * 64, "header_value": "x"}
    for path in ("test", "derivation", "credentials", "credentials/forget", "remove"):
        answers = [post(tab, service, f"/suspects/{one}/{path}", form) for one in (theirs, none)]
        assert {answer.status_code for answer in answers} == {404}
    # Another vendor's watermark is no key to its own classes either.
    mine = add(vendor, suspect)
    assert post(tab, service, f"/suspects/{mine}/test", {"registration": accuser.registration_id}).status_code == 404
    looking = {"registration": accuser.registration_id, "endpoint": suspect.url}
    assert post(tab, service, "/suspects/new/look", looking).status_code == 404
    assert len(suspect.requests) == sent


def test_an_auditor_reads_and_changes_nothing(
    tab: Tab, service: Service, accuser: Claimant, suspect: SuspectSimulator
) -> None:
    suspect_id = add(accuser, suspect, "for the auditor")
    sign_in(tab, service, vendor_id_of(accuser), role=AUDITOR)
    page = tab.go(f"/suspects/{suspect_id}")
    assert page.get_by_role("main").get_by_role("button").count() == 0
    tab.check()
    tab.go("/suspects")
    assert page.get_by_role("button", name="Add a suspect").count() == 0
    assert get(tab, service, "/suspects/new").status_code == 403
    sent = len(suspect.requests)
    form = {"registration": accuser.registration_id, "endpoint": suspect.url, "header_value": "x"}
    for path in ("", "/new/look", "/new/price", *(f"/{suspect_id}/{act}" for act in ("test", "derivation", "remove"))):
        assert post(tab, service, f"/suspects{path}", form).status_code == 403
    assert post(tab, service, f"/suspects/{suspect_id}/credentials", form).status_code == 403
    assert len(suspect.requests) == sent


def test_huge_and_malformed_forms_are_refused_with_the_field(
    tab: Tab, service: Service, accuser: Claimant, suspect: SuspectSimulator
) -> None:
    sign_in(tab, service, vendor_id_of(accuser))
    fine = {"registration": accuser.registration_id, "endpoint": suspect.url, "adapter": "kserve_v1", "map": "index"}
    fine |= {"options": '{"model":"digits"}', "confirmed": "yes"}
    for changed, words in (
        ({"options": "{" * 30_000}, "at most 20000 characters"),
        ({"options": "[1]"}, "write a JSON object"),
        ({"options": '{"no": 1}'}, ""),
        ({"adapter": "pickle"}, "must be one of"),
        ({"map": "json", "map_json": '{"7": ["no class"]}'}, "no registered class"),
        ({"map": "classes"}, "beside at least one class"),
        ({"endpoint": "javascript:alert(1)"}, "https://host/path"),
        ({"name": "x" * 10_000}, "at most 200 characters"),
        ({"header_value": "a\nb", "header_name": "authorization"}, "one line"),
        ({"header_value": "3120", "header_name": "x-labels"}, "only headers that say who asks"),
    ):
        answer = post(tab, service, "/suspects", fine | changed)
        assert (answer.status_code, words in answer.text) == (422, True), (changed, answer.text[-3000:])
    many = {f"label_{number}": "x" for number in range(500)}
    assert post(tab, service, "/suspects", fine | many).status_code == 400


def test_a_key_is_not_sent_over_http_to_another_machine_unless_the_box_is_ticked(
    tab: Tab, service: Service, accuser: Claimant
) -> None:
    sign_in(tab, service, vendor_id_of(accuser))
    form = {"registration": accuser.registration_id, "endpoint": "http://models.example.org", "header_value": "x"}
    answer = post(tab, service, "/suspects/new/look", form)
    assert answer.status_code == 422
    assert "over http everybody on the way reads" in answer.text
