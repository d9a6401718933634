"""Evidence checked in a browser: the same verdicts and the same refusals as `trapstreet check`, without network."""

import base64
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from app.canonical import encode_json, parse_json, sha256
from app.errors import ProofError, Refused
from app.merkle.checkpoint import fingerprint, verifier_key_text
from app.portal.rendering import static_url
from app.protocol.assessment import PriorModel
from app.protocol.bundle import check_bundle
from app.protocol.interface import Interface
from app.protocol.records import VerdictEntry
from app.signature import public_key_of
from app.storage.archive import pack, unpack
from app.suspects.adapter_codec import AdapterCodec
from tests.flows.claimant import LOG_KEY, ORIGIN, Claimant, Service, natural, sign_up
from tests.portal.conftest import Tab, needs_browser, opened, origin_of
from tests.portal.made_bundles import file_of, spoken, with_evidence
from tests.simulators.suspect import Answer, SuspectSimulator
from tests.unit.protocol.altered_evidence import reasked, relogged
from tests.unit.protocol.dispute_in_memory import (
    ARBITER_PUBLIC,
    LOG_PUBLIC,
    Plan,
    bundle_of,
    innocent,
    input_of,
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


@pytest.fixture(scope="module")
def run(browser: Browser, service: Service) -> Iterator[Run]:
    """Run a function body on a page of the portal; `load(name)` gives a module of static/."""
    with opened(browser, origin_of(service)) as tab:
        tab.go("/")

        def evaluate(body: str, **given: Any) -> Any:
            given |= {"statics": static_url("")}
            loading = "const load = (name) => import(`${given.statics}${name}.js`);"
            return tab.page.evaluate(f"async (given) => {{ {loading} {body} }}", given)

        yield evaluate


def in_browser(run: Run, data: bytes, log_key: bytes | None = LOG_PUBLIC) -> Any:
    """Check a bundle's file in the browser: what came out, or the refusal as text."""
    body = """const {checkBundle} = await load("verify/bundle");
        const {Refused} = await load("verify/canonical");
        const {fromBase64} = await load("protocol");
        try { return await checkBundle(fromBase64(given.data), given.keys, () => {}); }
        catch (error) { if (error instanceof Refused) return error.message; throw error; }"""
    keys = {"logKey": log_key.hex() if log_key else "", "arbiterKeys": [ARBITER_PUBLIC.hex()]}
    return run(body, data=base64.b64encode(data).decode(), keys=keys)


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
        (Plan(origin="claimant"), "CONFIRMED"),
        (Plan(endpoint=innocent, triggers=32), "NOT_SUPPORTED"),
        (Plan(endpoint=silent_on_triggers, end="exhausted"), "NON_COOPERATIVE"),
        (Plan(endpoint=wavering_on_triggers, end="exhausted", triggers=100, classes=10), "NOT_SUPPORTED"),
        (Plan(max_triggers=8, end="budget"), "INCONCLUSIVE"),
        (Plan(withheld=frozenset({0, 1}), end="withheld"), "INCONCLUSIVE"),
        (Plan(blocks=0, end="withdrawn"), "INCONCLUSIVE"),
        (Plan(assurance_class="B", end="exhausted"), "INDICATIVE"),
        (Plan(labelled=True, covers_per_trigger=3, triggers=40), "CONFIRMED"),
        (Plan(evidence="ranking", endpoint=stolen_and_forgetful, triggers=64, classes=20), "CONFIRMED"),
    ],
)
def test_a_bundle_gives_the_verdict_again_and_every_figure_of_its_report(run: Run, plan: Plan, verdict: str):
    data = file_of(spoken(plan))
    expected = check(data)
    found = in_browser(run, data)
    assert found["outcome"] == "verified"
    assert found["summary"]["verdict"] == expected.entry.verdict == verdict
    assert found["summary"]["fingerprint"] == fingerprint(LOG_PUBLIC)
    assert found["summary"]["log_size"] == expected.checkpoint.size


def test_without_a_key_a_bundle_is_consistent_and_no_more(run: Run):
    found = in_browser(run, GENUINE, log_key=None)
    assert (found["outcome"], found["isAuthenticated"]) == ("consistent", False)
    forged = in_browser(run, file_of(FORGED), log_key=None)
    assert forged["outcome"] == "consistent"
    assert forged["summary"]["fingerprint"] != fingerprint(LOG_PUBLIC)


def test_a_void_verdict_is_checked_like_any_other(run: Run):
    void = with_evidence(SPOKEN, replace(SPOKEN.evidence, signature=bytes(64)))
    found = in_browser(run, file_of(void))
    assert (found["outcome"], found["summary"]["verdict"]) == ("verified", "VOID")
    answered = sum(bool(query.record.labels) for query in SPOKEN.evidence.queries)
    prior = PriorModel(SPOKEN.evidence.interface_entry, answered, answered)
    found = in_browser(run, file_of(with_evidence(SPOKEN, replace(SPOKEN.evidence, prior_model=prior))))
    assert (found["outcome"], found["summary"]["reason"]) == ("verified", "prior_model")


def test_requests_that_are_not_read_here_leave_a_bundle_consistent_and_no_more(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    gradio = Interface(adapter="gradio", options={}, preprocessing={}, label_map={"by": "name"})
    monkeypatch.setattr("tests.unit.protocol.dispute_in_memory.INTERFACE", gradio)
    data = file_of(spoken(replace(SMALL, covers_per_trigger=2)))
    assert check(data).decision.verdict == "CONFIRMED"
    found = in_browser(run, data)
    assert (found["outcome"], found["isAuthenticated"]) == ("consistent", True)
    assert any("requests and answers of the adapter gradio are not read here" in said for said in found["notChecked"])


def test_a_derived_interface_is_checked_but_for_the_rule(run: Run, service: Service):
    claimant = sign_up(service, "verify deriver", covers=400, cover_class=natural)

    def stolen(question: bytes) -> Answer:
        return f"Klasse {claimant.labels.get(question, natural(question))}"

    metadata = {"/v1/models": {"models": ["digits"]}}
    with SuspectSimulator(stolen, metadata=metadata) as suspect:
        suspect_id = claimant.accuse(suspect)
        derived = claimant.derive(suspect_id)
        dispute = claimant.answer_until_decided(claimant.file_derived(suspect, suspect_id, derived))
    data = claimant.client.download(f"/v1/disputes/{dispute['id']}/evidence")
    found = in_browser(run, data, public_key_of(LOG_KEY))
    assert (found["outcome"], found["summary"]["verdict"]) == ("consistent", "CONFIRMED")
    assert any("the rule of derivation" in said for said in found["notChecked"])


# --- what does not ------------------------------------------------------------------------------------------------------


def edited(**changes: bytes | None) -> bytes:
    """The genuine files with some changed or, for None, left out; a name's `__` is a slash and `_x_` a dot."""
    named = {name.replace("__", "/").replace("_x_", "."): data for name, data in changes.items()}
    return pack({name: data for name, data in {**FILES, **named}.items() if data is not None})


def flipped(name: str, at: int) -> bytes:
    data = FILES[name]
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def compressed() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(FILES):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), FILES[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def lying(**stated: Any) -> bytes:
    """What a log signed that does not follow the evidence."""
    return file_of(SPOKEN, **stated)


def broken(**changes: Any) -> bytes:
    """Evidence with a fault, under a verdict that does not say so."""
    evidence = replace(SPOKEN.evidence, **changes)
    return file_of(with_evidence(SPOKEN, evidence), verdict="CONFIRMED", reason="evidence")


def asked_otherwise(kind: str, **changes: Any) -> bytes:
    """The first question of a kind changed, with everything that depends on it computed anew."""
    queries = list(SPOKEN.evidence.queries)
    n = next(query.record.n for query in queries if query.role.kind == kind)
    record = changes.pop("record", {})
    if "request" in changes:
        record["request_sha256"] = sha256(changes["request"])
    if "response" in changes:
        record["response_sha256"] = sha256(changes["response"])
    queries[n] = replace(queries[n], record=replace(queries[n].record, **record), **changes)
    evidence = reasked(SPOKEN.evidence, queries)
    return file_of(with_evidence(SPOKEN, evidence), verdict="CONFIRMED", reason="evidence")


def first(kind: str) -> Any:
    return next(query for query in SPOKEN.evidence.queries if query.role.kind == kind)


def report(**changes: Any) -> dict[str, bytes]:
    return {"report.json": encode_json(parse_json(FILES["report.json"]) | changes)}


def course(**changes: Any) -> dict[str, bytes]:
    return {"course.json": encode_json(parse_json(FILES["course.json"]) | changes)}


EVIDENCE = SPOKEN.evidence
INPUTS, LABELS = EVIDENCE.input_openings, EVIDENCE.label_openings
OTHER_STATEMENT = replace(EVIDENCE.statement, unmarked_model=bytes(32))
FLAGS = parse_json(FILES["report.json"])["flags"]

# Bundles that are refused; where the browser has other words for the reason, those stand beside.
TAMPERED: dict[str, tuple[Callable[[], bytes], str]] = {
    # the file
    "a byte of a file": (
        lambda: GENUINE.replace(b'"type":"trapstreet/v1/course"', b'"type":"trapstreet/v1/coursf"'),
        "",
    ),
    "a byte after the archive": (lambda: GENUINE + b"\0", "not a zip file"),
    "an archive cut short": (lambda: GENUINE[:-1], "not a zip file"),
    "files compressed": (compressed, ""),
    "another date in the archive": (lambda: GENUINE.replace(b"\x21\x00", b"\x22\x00", 1), ""),
    "no zip at all": (lambda: b"nothing", ""),
    "a file too few": (lambda: edited(course_x_json=None), ""),
    "a file too many": (lambda: edited(notes_x_txt=b""), ""),
    "an entry too many": (lambda: edited(entries__99_x_json=FILES["entries/1.json"]), ""),
    "evidence changed": (lambda: edited(queries_x_jsonl=flipped("queries.jsonl", 700)), ""),
    "the list changed": (lambda: edited(evidence_x_json=flipped("evidence.json", 60)), ""),
    "an index that is not canonical": (lambda: edited(bundle_x_json=b" " + FILES["bundle.json"]), ""),
    "an index with a key twice": (
        lambda: edited(bundle_x_json=FILES["bundle.json"].replace(b'"filing":', b'"filing":3,"filing":', 1)),
        "not canonical",
    ),
    # the log
    "an entry changed": (lambda: edited(entries__1_x_json=FILES["entries/2.json"]), ""),
    "a receipt for another entry": (
        lambda: edited(receipts__1_x_txt=FILES["receipts/2.txt"]),
        "",
    ),
    "a receipt of an older checkpoint": (
        lambda: edited(receipts__1_x_txt=SPOKEN.log.receipt(1).encode()),
        "",
    ),
    "a checkpoint's signature": (
        lambda: edited(receipts__1_x_txt=FILES["receipts/1.txt"][:-9] + b"AAAAAAA=\n"),
        "does not fit the checkpoint",
    ),
    "a forger's log": (lambda: file_of(FORGED), ""),
    "a forger's log under the genuine name": (
        lambda: pack(
            bundle_of(FORGED)
            | {"bundle.json": encode_json(parse_json(bundle_of(FORGED)["bundle.json"]) | {"log_key": LOG_PUBLIC.hex()})}
        ),
        "entry 0: the checkpoint is not signed with the log key",
    ),
    "a statement for another log": (
        lambda: file_of(spoken(replace(SMALL, registered_for="another.example/log"))),
        "",
    ),
    # what the log signed but does not follow
    "another verdict": (lambda: lying(verdict="NOT_SUPPORTED"), "but the log says NOT_SUPPORTED"),
    "another reason": (lambda: lying(reason="luck"), "but the log says CONFIRMED (luck)"),
    "fewer matches": (lambda: lying(matches=3), "3 of"),
    "a void that nothing voids": (lambda: lying(verdict="VOID", reason="check_failed"), "but the log says VOID"),
    "another blind": (lambda: lying(blind=bytes(32)), ""),
    "a verdict of another filing": (lambda: lying(filing=0), ""),
    "another list": (lambda: lying(bundle=bytes(32)), ""),
    "a figure of the report": (lambda: lying(files=report(log2_e="99")), ""),
    "a sentence of the report": (lambda: lying(files=report(says="It is stolen.")), ""),
    "a flag of the report": (lambda: lying(files=report(flags=FLAGS | {"accuracy": {}})), ""),
    "no questions": (lambda: lying(files={"queries.jsonl": b""}), ""),
    "questions cut short": (lambda: lying(files={"queries.jsonl": b"{}"}), ""),
    "a question without keys": (lambda: lying(files={"queries.jsonl": b"{}\n"}), ""),
    "a course that was cut": (lambda: lying(files=course(blocks_done=0)), "but the log says"),
    "another end": (lambda: lying(files=course(end="budget")), ""),
    "a withdrawal that is none": (
        lambda: file_of(spoken(Plan(blocks=0, end="withdrawn")), entry=VerdictEntry),
        "",
    ),
    # beacons, signatures, interface
    "a nonce of choice": (
        lambda: broken(registration_beacon=relogged(EVIDENCE.registration_beacon, nonce=bytes(32))),
        "",
    ),
    "a round of choice": (lambda: broken(registration_beacon=relogged(EVIDENCE.registration_beacon, round=99)), ""),
    "randomness of choice": (
        lambda: broken(filing_beacon=relogged(EVIDENCE.filing_beacon, randomness=b"\x01" * 32)),
        "",
    ),
    "another source": (
        lambda: broken(registration_beacon=relogged(EVIDENCE.registration_beacon, source="drand:" + "ab" * 32)),
        "",
    ),
    "a statement that nobody signed": (
        lambda: broken(registration=relogged(EVIDENCE.registration, statement=OTHER_STATEMENT)),
        "",
    ),
    "a filing that nobody signed": (lambda: broken(signature=bytes(64)), ""),
    "a stranger's countersignature": (
        lambda: file_of(spoken(replace(SMALL, origin="countersigned"))),
        "",
    ),
    # openings
    "an input opened twice": (lambda: broken(input_openings=(*INPUTS, INPUTS[0])), ""),
    "an input that was not registered": (
        lambda: broken(input_openings=(replace(INPUTS[0], input=input_of(99)), *INPUTS[1:])),
        "",
    ),
    "a label key that was not committed": (
        lambda: broken(label_openings=(replace(LABELS[0], label_key=bytes(32)), *LABELS[1:])),
        "",
    ),
    "a label chosen in class A": (lambda: broken(label_openings=(replace(LABELS[0], label=1), *LABELS[1:])), ""),
    "a label without its input": (lambda: broken(input_openings=INPUTS[1:]), ""),
    # blocks and questions
    "questions out of order": (
        lambda: file_of(
            with_evidence(SPOKEN, reasked(EVIDENCE, [EVIDENCE.queries[1], EVIDENCE.queries[0], *EVIDENCE.queries[2:]])),
            verdict="CONFIRMED",
            reason="evidence",
        ),
        "",
    ),
    "a head over other questions": (
        lambda: broken(blocks=tuple(relogged(block, head=bytes(32)) for block in EVIDENCE.blocks)),
        "",
    ),
    "another role": (lambda: asked_otherwise("trigger", role=replace(first("trigger").role, kind="look-alike")), ""),
    "a role without its blind": (lambda: asked_otherwise("cover", blind=bytes(32)), ""),
    "asked too often": (lambda: asked_otherwise("trigger", record={"attempt": 2}), ""),
    "another request": (lambda: asked_otherwise("trigger", request=first("cover").request), ""),
    "a request that was not recorded": (
        lambda: asked_otherwise("trigger", record={"request_sha256": bytes(32)}),
        "",
    ),
    "a request that carries more": (
        lambda: asked_otherwise("trigger", request=first("trigger").request.replace(b"}", b',"hint":1}')),
        "",
    ),
    "a request that is no JSON": (lambda: asked_otherwise("trigger", request=b"{"), "the request is not JSON"),
    "another label than the response's": (lambda: asked_otherwise("trigger", record={"labels": ("class 0",)}), ""),
    "another response": (
        lambda: asked_otherwise("look-alike", response=b'{"predictions": ["class 99"]}'),
        "",
    ),
    "an answer without its response": (
        lambda: asked_otherwise("cover", record={"status": None}),
        "",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_the_command_line_refuses_the_browser_refuses_for_the_same_reason(run: Run, name: str):
    make, words = TAMPERED[name]
    data = make()
    arbiters = [] if "stranger" in name else [ARBITER_PUBLIC]
    with pytest.raises((Refused, ProofError)) as caught:
        check_bundle(unpack(data), AdapterCodec(), log_key=LOG_PUBLIC, arbiter_keys=arbiters)
    body = """const {checkBundle} = await load("verify/bundle");
        const {Refused} = await load("verify/canonical");
        const {fromBase64} = await load("protocol");
        try { await checkBundle(fromBase64(given.data), given.keys, () => {}); return "nothing was refused"; }
        catch (error) { return error instanceof Refused ? error.message : `broke: ${error.stack}`; }"""
    keys = {"logKey": LOG_PUBLIC.hex(), "arbiterKeys": [key.hex() for key in arbiters]}
    said = run(body, data=base64.b64encode(data).decode(), keys=keys)
    if words:
        assert words in said, (caught.value.message, said)
    else:
        assert said == caught.value.message
