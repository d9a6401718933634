"""Evidence checked in a browser: the same verdicts and the same refusals as `trapstreet check`, without network."""

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from app.errors import ProofError, Refused
from app.merkle.checkpoint import fingerprint, verifier_key_text
from app.protocol.assessment import PriorModel
from app.protocol.beacon import QUICKNET
from app.protocol.bundle import check_bundle
from app.signature import public_key_of
from app.storage.archive import pack, unpack
from app.suspects.adapter_codec import AdapterCodec
from tests.flows.claimant import LOG_KEY, ORIGIN, Claimant, Service, natural, sign_up
from tests.portal.conftest import Tab, needs_browser
from tests.portal.made_bundles import file_of, spoken, with_evidence
from tests.simulators.suspect import Answer, SuspectSimulator
from tests.unit.protocol.dispute_in_memory import (
    ARBITER_PUBLIC,
    LOG_PUBLIC,
    Plan,
    bundle_of,
    innocent,
    seed,
    silent_on_triggers,
    stolen_and_forgetful,
    wavering_on_triggers,
)

pytestmark = needs_browser

Run = Callable[..., Any]

SMALL = Plan(triggers=12, block_size=12)
SPOKEN = spoken(SMALL)
FILES = bundle_of(SPOKEN)
GENUINE = pack(FILES)
FORGED = spoken(replace(SMALL, log_key=seed("forger")))


def in_browser(run_script: Run, data: bytes, log_key: bytes | None = LOG_PUBLIC) -> Any:
    """Check a bundle's file in the browser: what came out, or the refusal as text."""
    body = """const {checkBundle} = await load("verify/bundle");
        const {Refused} = await load("verify/canonical");
        const {fromBase64} = await load("protocol");
        try { return await checkBundle(fromBase64(given.data), given.keys, () => {}); }
        catch (error) { if (error instanceof Refused) return error.message; throw error; }"""
    keys = {"logKey": log_key.hex() if log_key else "", "arbiterKeys": [ARBITER_PUBLIC.hex()]}
    return run_script(body, data=base64.b64encode(data).decode(), keys=keys)


def check(data: bytes, log_key: bytes | None = LOG_PUBLIC) -> Any:
    """Check it as the command line does."""
    try:
        return check_bundle(unpack(data), AdapterCodec(), log_key=log_key, arbiter_keys=[ARBITER_PUBLIC])
    except Refused as error:
        raise ProofError(error.message) from error


# --- the page -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def claimant(service: Service) -> Claimant:
    return sign_up(service, "verify claimant")


@pytest.fixture(scope="module")
def bundle(claimant: Claimant, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the service, as anybody downloads it."""
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect))
    path = tmp_path_factory.mktemp("bundle") / "bundle.zip"
    path.write_bytes(claimant.client.download(f"/v1/disputes/{dispute['id']}/evidence"))
    return path


def loaded(tab: Tab) -> Page:
    """Open the page, wait for its checker, and cut the network."""
    page = tab.go("/verify")
    page.get_by_text("Ready. From here on").wait_for()
    page.context.set_offline(True)
    return page


def outcome(page: Page, path: Path) -> str:
    page.get_by_label("Evidence bundle or receipt").set_input_files(path)
    page.get_by_role("button", name="Check it here").click()
    page.get_by_text("Done.").wait_for()
    return page.locator("#result").inner_text()


def test_a_bundle_is_checked_without_network_and_nothing_is_sent(tab: Tab, bundle: Path):
    page = loaded(tab)
    tab.check()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    said = outcome(page, bundle)
    assert said.startswith("Verified")
    assert "The verdict is CONFIRMED (evidence)." in said
    assert fingerprint(public_key_of(LOG_KEY)) in said
    assert "this page brought it along" in said
    assert requests == []
    assert page.evaluate("document.activeElement.id") == "outcome"
    tab.check()
    tab.check_phone()


def test_what_was_tampered_with_is_refused_on_the_page_and_another_file_can_follow(
    tab: Tab, bundle: Path, tmp_path: Path
):
    page = loaded(tab)
    files = unpack(bundle.read_bytes())
    forged = tmp_path / "forged.zip"
    forged.write_bytes(pack(files | {"report.json": files["report.json"].replace(b'"matches":', b'"matches":1')}))
    said = outcome(page, forged)
    assert said.startswith("Refused\n\nreport.json was changed: its SHA-256 is not the one in evidence.json.")
    assert "Computed again" not in said
    tab.check()
    assert outcome(page, bundle).startswith("Verified")
    page.get_by_label("The log's key").fill(verifier_key_text("other.example/log", LOG_PUBLIC))
    assert "Refused\n\nthe bundle names the log key" in outcome(page, bundle)
    page.get_by_label("The log's key").fill("")
    assert outcome(page, bundle).startswith("Consistent, log not authenticated")


def test_a_receipt_is_checked_with_its_entry(tab: Tab, service: Service, claimant: Claimant, tmp_path: Path):
    entry, receipt = tmp_path / "entry.json", tmp_path / "receipt.txt"
    entry.write_bytes(claimant.client.download(f"/v1/log/entries/{claimant.registration}"))
    receipt.write_bytes(claimant.client.download(f"/v1/log/entries/{claimant.registration}/receipt"))
    page = loaded(tab)
    page.get_by_label("Evidence bundle or receipt").set_input_files(receipt)
    page.get_by_role("button", name="Check it here").click()
    page.get_by_text("choose the entry's file as well").wait_for()
    page.get_by_label("Entry, if it is a receipt").set_input_files(entry)
    said = outcome(page, receipt)
    assert said.startswith("Verified")
    assert f"entry {claimant.registration} of " in said
    assert ORIGIN in said
    entry.write_bytes(entry.read_bytes().replace(b'"count":224', b'"count":225'))
    page.get_by_label("Entry, if it is a receipt").set_input_files(entry)
    assert "to another root" in outcome(page, receipt)


def test_wrong_files_and_keys_are_refused_in_words_that_say_what_to_do(tab: Tab, tmp_path: Path):
    page = loaded(tab)
    nothing = tmp_path / "<b>nothing.txt"
    nothing.write_bytes(b"nothing")
    page.get_by_label("Evidence bundle or receipt").set_input_files(nothing)
    page.get_by_role("button", name="Check it here").click()
    page.get_by_text("neither an evidence bundle (a zip file) nor a receipt").wait_for()
    zipped = tmp_path / "bundle.zip"
    zipped.write_bytes(GENUINE)
    page.get_by_label("Evidence bundle or receipt").set_input_files(zipped)
    page.get_by_label("The log's key").fill("no key")
    page.get_by_role("button", name="Check it here").click()
    page.get_by_text("this is no log key").wait_for()
    page.get_by_label("The log's key").fill(verifier_key_text("log.example/trapstreet", LOG_PUBLIC))
    page.get_by_text("Arbiters whose word").click()
    page.get_by_label("Their public keys").fill("<script>")
    page.get_by_role("button", name="Check it here").click()
    page.get_by_text("64 lower-case hex digits").wait_for()
    tab.check()


def test_without_scripts_the_page_names_the_ways_that_need_none(plain_tab: Tab):
    page = plain_tab.go("/verify")
    assert "trapstreet check" in page.inner_text("noscript")
    assert page.get_by_role("button", name="Check it here").is_disabled()


# --- what holds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "verdict"),
    [
        (SMALL, "CONFIRMED"),
        (Plan(), "CONFIRMED"),
        (Plan(origin="countersigned"), "CONFIRMED"),
        (Plan(beacon=QUICKNET.source), "CONFIRMED"),
        (Plan(origin="claimant"), "CONFIRMED"),
        (Plan(endpoint=innocent, triggers=32), "NOT_SUPPORTED"),
        (Plan(endpoint=silent_on_triggers, end="exhausted"), "NON_COOPERATIVE"),
        (Plan(endpoint=wavering_on_triggers, end="exhausted", triggers=40, classes=10), "NOT_SUPPORTED"),
        (Plan(max_triggers=8, end="budget"), "INCONCLUSIVE"),
        (Plan(withheld=frozenset({0, 1}), end="withheld"), "INCONCLUSIVE"),
        (Plan(blocks=0, end="withdrawn"), "INCONCLUSIVE"),
        (Plan(assurance_class="B", end="exhausted"), "INDICATIVE"),
        (Plan(labelled=True, covers_per_trigger=3, triggers=40), "CONFIRMED"),
        (Plan(evidence="ranking", endpoint=stolen_and_forgetful, triggers=64, classes=20), "CONFIRMED"),
    ],
)
def test_a_bundle_gives_the_verdict_again_and_every_figure_of_its_report(run_script: Run, plan: Plan, verdict: str):
    data = file_of(spoken(plan))
    expected = check(data)
    found = in_browser(run_script, data)
    assert found["outcome"] == "verified"
    assert found["summary"]["verdict"] == expected.entry.verdict == verdict
    assert found["summary"]["fingerprint"] == fingerprint(LOG_PUBLIC)
    assert found["summary"]["log_size"] == expected.checkpoint.size


def test_without_a_key_a_bundle_is_consistent_and_no_more(run_script: Run):
    found = in_browser(run_script, GENUINE, log_key=None)
    assert (found["outcome"], found["isAuthenticated"]) == ("consistent", False)
    forged = in_browser(run_script, file_of(FORGED), log_key=None)
    assert forged["outcome"] == "consistent"
    assert forged["summary"]["fingerprint"] != fingerprint(LOG_PUBLIC)


def test_a_void_verdict_is_checked_like_any_other(run_script: Run):
    void = with_evidence(SPOKEN, replace(SPOKEN.evidence, signature=bytes(64)))
    found = in_browser(run_script, file_of(void))
    assert (found["outcome"], found["summary"]["verdict"]) == ("verified", "VOID")
    answered = sum(bool(query.record.labels) for query in SPOKEN.evidence.queries)
    prior = PriorModel(SPOKEN.evidence.interface_entry, answered, answered)
    found = in_browser(run_script, file_of(with_evidence(SPOKEN, replace(SPOKEN.evidence, prior_model=prior))))
    assert (found["outcome"], found["summary"]["reason"]) == ("verified", "prior_model")


def test_of_a_derived_interface_the_rule_is_run_again(run_script: Run, service: Service):
    claimant = sign_up(service, "verify deriver", covers=400, cover_class=natural)

    def stolen(question: bytes) -> Answer:
        return f"Klasse {claimant.labels.get(question, natural(question))}"

    metadata = {"/v1/models": {"models": ["digits"]}}
    with SuspectSimulator(stolen, metadata=metadata) as suspect:
        suspect_id = claimant.accuse(suspect)
        derived = claimant.derive(suspect_id)
        dispute = claimant.answer_until_decided(claimant.file_derived(suspect, suspect_id, derived))
    data = claimant.client.download(f"/v1/disputes/{dispute['id']}/evidence")
    found = in_browser(run_script, data, public_key_of(LOG_KEY))
    assert (found["outcome"], found["summary"]["verdict"]) == ("verified", "CONFIRMED")
