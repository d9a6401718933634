"""Disputes in a browser: filed, answered from the key file, decided; and each way in which that can go wrong."""

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx2
import pytest
from playwright.sync_api import Page, Route
from pypdf import PdfReader

from app.cli.client import file_dispute
from app.keys.commitment import MarkingKey
from app.keys.key_file import encode_key_file
from app.merkle.checkpoint import verifier_key_text
from app.people.persons import AUDITOR
from app.protocol.bundle import check_bundle
from app.signature import public_key_of
from app.storage.archive import unpack
from app.suspects.adapter_codec import AdapterCodec
from tests.flows.claimant import ARBITER, ORIGIN, Claimant, Service, innocent, sign_up
from tests.portal.conftest import Tab, needs_browser, sign_in, vendor_id_of
from tests.simulators.suspect import SuspectSimulator

pytestmark = needs_browser


@pytest.fixture(scope="module")
def claimant(service: Service) -> Claimant:
    return sign_up(service, "disputes claimant")


@pytest.fixture(scope="module")
def stolen(claimant: Claimant) -> Iterator[SuspectSimulator]:
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        yield suspect


@pytest.fixture
def key_file(claimant: Claimant, tmp_path: Path) -> Path:
    return written(tmp_path / "marking.key", encode_key_file(claimant.key))


@pytest.fixture
def vendor_key_file(claimant: Claimant, tmp_path: Path) -> Path:
    return written(tmp_path / "vendor.key", claimant.private_key.hex().encode() + b"\n")


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def say(tab: Tab) -> str:
    return tab.page.locator("#agent-said").inner_text()


def answer_in(page: Page, key_file: Path, log_key: str = "") -> None:
    page.get_by_label("Marking key file").set_input_files(key_file)
    if log_key:
        page.get_by_text("Hold the service to a log key").click()
        page.get_by_label("Log key", exact=True).fill(log_key)
    page.get_by_role("button", name="Answer in this tab").click()


def fetched(tab: Tab, path: str) -> httpx2.Response:
    cookie = tab.page.context.cookies()[0]
    with httpx2.Client(trust_env=False, timeout=60) as client:
        return client.get(tab.origin + path, headers={"Cookie": f"{cookie['name']}={cookie['value']}"})


def test_a_dispute_from_filing_to_verdict_in_the_browser(
    tab: Tab, service: Service, claimant: Claimant, stolen: SuspectSimulator, key_file: Path, vendor_key_file: Path
):
    sign_in(tab, service, vendor_id_of(claimant))
    page = tab.go("/disputes")
    assert "You have filed no dispute" in page.inner_text("main")
    tab.check()
    suspect_id = claimant.accuse(stolen)

    page.get_by_role("main").get_by_text("File a dispute").click()
    assert "2 times the strength" in page.inner_text("main")
    page.get_by_label("first, 192 triggers").check()
    tab.check()
    tab.check_phone()
    page.get_by_role("button", name="Go on to the suspect").click()
    page.locator(f"input[value='{suspect_id} claimant']").check()
    page.get_by_label("Upload a cover set").set_input_files(service.folder / "covers-disputes claimant.json")
    page.get_by_text("Uploaded covers-").wait_for()
    tab.check()
    tab.check_phone()
    page.get_by_role("button", name="Go on to the policy").click()
    assert page.get_by_label("Covers per trigger").input_value() == "10"
    page.get_by_label("Covers per trigger").fill("2")
    page.get_by_label("Triggers at most").fill("4")
    tab.check()
    page.get_by_role("button", name="See what follows").click()
    # Refused, with everything that was typed.
    assert "cannot reach the threshold" in page.inner_text("main")
    assert page.get_by_label("Covers per trigger").input_value() == "2"
    page.get_by_label("Triggers at most").fill("192")
    page.get_by_role("button", name="See what follows").click()
    assert "number 1 of this watermark" in page.inner_text("main")
    tab.check()
    tab.check_phone()
    at_signature = page.url

    # The wrong vendor key is refused in the tab, the right one files.
    wrong = written(vendor_key_file.parent / "wrong.key", b"ab" * 32 + b"\n")
    page.get_by_label("Your vendor key file").set_input_files(wrong)
    page.get_by_role("button", name="Sign and file").click()
    page.get_by_text("not the vendor key").wait_for()
    page.get_by_label("Your vendor key file").set_input_files(vendor_key_file)
    page.get_by_role("button", name="Sign and file").click()
    page.wait_for_url(re.compile(r"/disputes/[0-9a-f-]{36}$"))
    here = page.url
    dispute_id = here.rsplit("/", 1)[1]
    page.get_by_text("Running").wait_for()
    assert "nobody yet" in page.inner_text("main")
    tab.check()
    tab.check_phone()

    # A second tab that still stands at the signature is told so, and loses nothing.
    second = tab.page.context.new_page()
    second.goto(at_signature)
    assert "this family has an open dispute" in second.inner_text("main")

    # The wrong key file opens nothing; then two tabs answer at once.
    stranger = MarkingKey(b"\x07" * 32, claimant.key.inputs)
    answer_in(page, written(key_file.parent / "stranger.key", encode_key_file(stranger)))
    page.get_by_text("not the one that was registered").wait_for()
    assert claimant.read(dispute_id)["blocks_opened"] == 0
    second.goto(here)
    answer_in(page, key_file)
    answer_in(second, key_file)
    page.get_by_role("heading", name="Confirmed").wait_for()
    second.close()
    assert "delivered the last opening" not in page.inner_text("main")
    tab.check()
    tab.check_phone()
    said = page.inner_text("main")
    assert "It does not say" in said
    assert "theft" in said
    assert "1 in 10^19" in said

    checked = check_bundle(
        unpack(fetched(tab, f"/v1/disputes/{dispute_id}/evidence").content),
        AdapterCodec(),
        log_key=service.log_key(),
        arbiter_keys=[public_key_of(ARBITER)],
    )
    assert checked.decision.verdict == "CONFIRMED"
    first, again = (fetched(tab, f"/disputes/{dispute_id}/verdict.pdf") for _ in range(2))
    assert first.headers["Content-Type"] == "application/pdf"
    assert first.content == again.content
    paper = " ".join(sheet.extract_text() for sheet in PdfReader(io.BytesIO(first.content)).pages)
    assert "Verdict: Confirmed" in paper
    assert stolen.url in re.sub(r"\s+", " ", paper)
    html = fetched(tab, f"/disputes/{dispute_id}/verdict.html")
    assert "attachment" in html.headers["Content-Disposition"]
    assert "<script" not in html.text
    assert "Confirmed" in html.text
    page.goto(tab.origin + "/disputes")
    assert "Confirmed" in page.inner_text("main")
    tab.check()
    tab.check_phone()


def test_another_vendors_dispute_is_as_if_there_were_none(
    tab: Tab, service: Service, vendor: Claimant, stolen: SuspectSimulator
):
    theirs = sign_up(service, "disputes other")
    dispute_id = theirs.file(stolen, covers_per_trigger=0)
    sign_in(tab, service, vendor_id_of(vendor))
    none = fetched(tab, "/disputes/00000000-0000-7000-8000-000000000000")
    assert none.status_code == 404
    for path in ("", "/live", "/verdict.html", "/verdict.pdf"):
        answer = fetched(tab, f"/disputes/{dispute_id}{path}")
        assert (answer.status_code, answer.text) == (404, none.text)
    assert fetched(tab, "/disputes/nonsense").status_code == 404
    family = f"{theirs.registration_id} first"
    for step in ("suspect", "policy", "signature"):
        assert fetched(tab, f"/disputes/new/{step}?family={family}").status_code == 404


def test_an_auditor_watches_and_changes_nothing(tab: Tab, service: Service, stolen: SuspectSimulator):
    watched = sign_up(service, "disputes watched")
    dispute_id = watched.file(stolen, covers_per_trigger=0)
    sign_in(tab, service, vendor_id_of(watched), role=AUDITOR)
    page = tab.go(f"/disputes/{dispute_id}")
    assert "As auditor you may watch" in page.inner_text("main")
    assert page.get_by_role("button", name="Withdraw").count() == 0
    assert fetched(tab, "/disputes/new").status_code == 403
    answer = page.evaluate(
        "id => fetch(`/disputes/${id}/withdrawal`, {method: 'POST', body: new URLSearchParams({understood: 'yes'})})"
        ".then(answer => answer.status)",
        dispute_id,
    )
    assert answer == 403
    assert watched.read(dispute_id)["verdict"] is None


def test_without_javascript_a_dispute_can_be_followed_and_withdrawn(
    plain_tab: Tab, service: Service, stolen: SuspectSimulator
):
    plain = sign_up(service, "disputes plain")
    evil = "<img src=x onerror=alert(1)>"
    body = {"name": evil, "endpoint": stolen.url, "interface": stolen.interface.to_json()}
    suspect_id = str(plain.client.post("/v1/suspects", body)["id"])
    record = plain.record(stolen, covers_per_trigger=0)
    dispute_id = str(file_dispute(plain.client, suspect_id, record, plain.private_key, None)["id"])
    plain.wait(dispute_id, lambda found: found["needs"]["inputs"], "the first need")
    sign_in(plain_tab, service, vendor_id_of(plain))
    page = plain_tab.go(f"/disputes/{dispute_id}")
    assert page.get_by_role("heading", level=1).inner_text() == f"Dispute over {evil}"
    assert "inputs of block 1" in page.inner_text("main")
    assert "trapstreet agent" in page.inner_text("main")
    page.get_by_label("I know what this means").check()
    page.get_by_role("button", name="Withdraw the dispute").click()
    plain.wait(dispute_id, lambda found: found["verdict"], "the verdict")
    page = plain_tab.go(f"/disputes/{dispute_id}")
    assert "The claimant withdrew the dispute." in page.inner_text("main")


def test_a_suspect_that_is_down_is_told_as_such(tab: Tab, service: Service, tmp_path: Path):
    down = sign_up(service, "disputes down")
    with SuspectSimulator(innocent) as suspect:
        dispute_id = down.file(suspect, family="second", max_triggers=32, covers_per_trigger=1)
    sign_in(tab, service, vendor_id_of(down))
    page = tab.go(f"/disputes/{dispute_id}")
    answer_in(page, written(tmp_path / "down.key", encode_key_file(down.key)))
    page.get_by_role("heading", name="Inconclusive").wait_for()
    assert "answered less than half of the ordinary inputs" in page.inner_text("main")
    assert "0 of 32" in page.inner_text("main")
    tab.check()


def test_a_form_that_is_filled_while_the_session_ends_is_gone_on_with(service: Service, claimant: Claimant):
    chosen = f"/disputes/new/policy?family={claimant.registration_id}+first&suspect=nobody+claimant&bits=80"
    with httpx2.Client(base_url=service.url, trust_env=False) as client:
        answer = client.get(chosen)
    assert answer.status_code == 303
    assert unquote(answer.headers["Location"]) == f"/sign-in?next={chosen}"


# What a lying service shows a tab, and what the tab says instead of opening anything.
LIES: dict[str, tuple[str, Callable[[str], str], str]] = {
    "larger blocks": ("/v1/disputes/ID", lambda body: body.replace('block_size\\":8', 'block_size\\":24'), "signature"),
    "another blind": (
        "/v1/disputes/ID",
        # Whatever it begins with: a fixed beginning would be the true one's in one run of 256.
        lambda body: re.sub('"blind":"(.)', lambda found: '"blind":"' + ("1" if found[1] == "0" else "0"), body),
        "hides another record",
    ),
    "another order": ("/v1/disputes/ID", lambda body: shuffled(body), "are not block"),
    "another entry": (
        "/v1/log/entries/FILING",
        lambda body: body.replace('"ordinal":1', '"ordinal":2'),
        "another root",
    ),
    "another log": (
        "/v1/log/key",
        lambda body: verifier_key_text(ORIGIN, public_key_of(b"\x09" * 32)),
        "another log key",
    ),
    "a forged receipt": ("/v1/log/entries/FILING/receipt", lambda body: body[:-9] + "AAAAAA==\n", "signature"),
}


def shuffled(body: str) -> str:
    shown = json.loads(body)
    if shown["needs"]["inputs"]:
        shown["needs"]["inputs"]["indices"].reverse()
    return json.dumps(shown)


def lying(page: Page, path: str, lie: Callable[[str], str]) -> None:
    def answer(route: Route) -> None:
        told = route.fetch()
        route.fulfill(response=told, body=lie(told.text()))

    page.route(lambda url: urlsplit(url).path == path, answer)


def test_a_tab_opens_nothing_that_the_log_does_not_prove(
    tab: Tab, service: Service, stolen: SuspectSimulator, tmp_path: Path
):
    lied_to = sign_up(service, "disputes lied to")
    dispute_id = lied_to.file(stolen, covers_per_trigger=0, block_size=8)
    shown = lied_to.wait(dispute_id, lambda found: found["needs"]["inputs"], "the first need")
    key_file = written(tmp_path / "lied.key", encode_key_file(lied_to.key))
    sign_in(tab, service, vendor_id_of(lied_to))
    page = tab.go(f"/disputes/{dispute_id}")
    names = {"ID": dispute_id, "FILING": str(shown["filing_index"])}
    # The log key is pinned by now: the browser saw it with the first dispute that it answers.
    page.evaluate("key => localStorage.setItem('trapstreet log key', key)", log_key_of(service))
    for name, (path, lie, said) in LIES.items():
        for word, value in names.items():
            path = path.replace(word, value)
        lying(page, path, lie)
        answer_in(page, key_file)
        page.get_by_text("Nothing more is opened").wait_for()
        assert said in say(tab), name
        page.unroute_all()
        page.reload()
    assert lied_to.read(dispute_id)["blocks_opened"] == 0


def test_a_tab_that_was_told_the_truth_is_not_lied_to_later(
    tab: Tab, service: Service, stolen: SuspectSimulator, tmp_path: Path
):
    later = sign_up(service, "disputes lied to later")
    dispute_id = later.file(stolen, covers_per_trigger=0, block_size=8)
    sign_in(tab, service, vendor_id_of(later))
    page = tab.go(f"/disputes/{dispute_id}")

    def lie(body: str) -> str:
        shown = json.loads(body)
        if shown["blocks_labelled"] == 0 or not shown["needs"]["labels"]:
            return body
        # The next three blocks called one, over which the head of its first then seems to stand.
        shown["record"] = shown["record"].replace('"block_size":8', '"block_size":24')
        shown["needs"]["labels"]["block"] = 0
        return json.dumps(shown)

    lying(page, f"/v1/disputes/{dispute_id}", lie)
    answer_in(page, written(tmp_path / "later.key", encode_key_file(later.key)), log_key_of(service))
    page.get_by_text("Nothing more is opened").wait_for()
    assert "signature does not fit the filing record" in say(tab)
    assert later.read(dispute_id)["blocks_labelled"] == 1


def log_key_of(service: Service) -> str:
    return verifier_key_text(ORIGIN, service.log_key())


def test_a_tab_whose_session_ends_goes_on_after_signing_in_again(
    tab: Tab, service: Service, stolen: SuspectSimulator, tmp_path: Path
):
    ended = sign_up(service, "disputes ended")
    dispute_id = ended.file(stolen, covers_per_trigger=0)
    ended.wait(dispute_id, lambda found: found["needs"]["inputs"], "the first need")
    sign_in(tab, service, vendor_id_of(ended))
    cookies = tab.page.context.cookies()
    page = tab.go(f"/disputes/{dispute_id}")
    page.context.clear_cookies()
    page.locator("#live").get_by_text("Your session has ended").wait_for()
    answer_in(page, written(tmp_path / "ended.key", encode_key_file(ended.key)))
    page.locator("#agent-said").get_by_text("Your session has ended").wait_for()
    page.context.add_cookies(cookies)
    page.get_by_role("heading", name="Not supported").wait_for()
