"""A dispute as its accused sees it: no account, no script; links that are guessed, answers that attack, times that pass."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from typer.testing import CliRunner

from app.canonical import sha256
from app.cli.commands import main as trapstreet
from app.db.engine import transaction
from app.db.lifecycle_tables import SecondRunRow
from app.db.tables import DisputeRow
from app.disputes.answers import MAX_FILE_BYTES, Said, add_answer
from app.disputes.claim import load_claim
from app.disputes.course import lock_dispute
from app.disputes.links import load_linked, token_of
from app.disputes.second_runs import ask_second_run, find_second_run
from app.errors import Conflict, ProofError
from app.log.store import LogIdentity, check_log
from app.merkle.checkpoint import verifier_key_text
from app.protocol.bundle import check_bundle
from app.protocol.records import MAX_ANSWERS, AnswerRecord, NoticeRecord
from app.protocol.steps import check_steps
from app.storage.archive import pack, unpack
from app.storage.objects import open_store
from app.suspects.adapter_codec import AdapterCodec
from tests.flows.claimant import LOG_KEY, ORIGIN, Claimant, Service, sign_up, wait_until
from tests.portal.conftest import Tab, needs_browser, origin_of, sign_in, vendor_id_of
from tests.simulators.suspect import SuspectSimulator

pytestmark = needs_browser

NOBODYS = "0" * 64
READS = ("", "/outcome", "/evidence", "/steps", "/answers/1/file", "/weights", "/weights/1/evidence")
WRITES = ("/answers", "/second-run", "/weights")


class Undone(Exception):
    """Ends a transaction without a trace."""


@dataclass
class Decided:
    """A dispute that went against its endpoint, and its link."""

    claimant: Claimant
    suspect: SuspectSimulator
    dispute: dict[str, Any]
    token: str


@pytest.fixture(scope="module")
def decided(service: Service) -> Iterator[Decided]:
    claimant = sign_up(service, "public claimant")
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect, max_triggers=64, covers_per_trigger=1))
        assert dispute["verdict"] == "CONFIRMED"
        yield Decided(claimant, suspect, dispute, link_of(claimant, dispute["id"]))


def link_of(claimant: Claimant, dispute_id: str) -> str:
    link = claimant.client.get(f"/v1/disputes/{dispute_id}/accused")["link"]
    assert re.fullmatch(rf"{origin_of(claimant.service)}/d/[0-9a-f]{{64}}", link)
    return str(link).rpartition("/")[2]


def ask(service: Service, path: str, method: str = "GET", **given: Any) -> httpx2.Response:
    given.setdefault("headers", {"Origin": origin_of(service)})
    with httpx2.Client(base_url=service.url, trust_env=False, timeout=60) as client:
        return client.request(method, path, **given)


def told(response: httpx2.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    headers = [(name, value) for name, value in response.headers.items() if name != "date"]
    return response.status_code, response.content, headers


# --- who finds it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", READS + WRITES)
def test_a_link_that_is_guessed_early_or_no_link_at_all_gets_one_and_the_same_answer(
    service: Service, decided: Decided, path: str
):
    method = "POST" if path in WRITES else "GET"
    given: dict[str, Any] = {"data": {"words": "who is it?"}} if path in WRITES else {}
    nothing = told(ask(service, f"/d/{NOBODYS}{path}", method, **given))
    assert nothing[0] == 404
    running = decided.claimant.file(decided.suspect, family="second", max_triggers=32) if path == "" else None
    tokens = [decided.token.upper(), decided.token[:-1], decided.token + "0", f" {decided.token}", "x", "é" * 64]
    tokens += ["0" * 3000, "..%2f..", decided.dispute["id"], decided.dispute["blind"]]
    if running is not None:
        with transaction(service.database.service) as session:
            tokens.append(token_of(session.get_one(DisputeRow, UUID(running))))
        assert decided.claimant.client.get(f"/v1/disputes/{running}/accused")["link"] is None
    for token in tokens:
        assert told(ask(service, f"/d/{token}{path}", method, **given)) == nothing, token
    if running is not None:
        withdraw(decided.claimant, running)
        assert ask(service, f"/d/{tokens[-1]}").status_code == 200


def withdraw(claimant: Claimant, dispute_id: str) -> None:
    wait_until(lambda: claimant.read(dispute_id)["state"] == "asking", "the challenge")
    claimant.client.post(f"/v1/disputes/{dispute_id}/withdrawal", {})
    wait_until(lambda: claimant.read(dispute_id)["verdict"], "the withdrawal's entry")


def test_no_page_that_everybody_can_read_names_the_endpoint_while_it_is_asked(service: Service):
    claimant = sign_up(service, "public quiet")
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        dispute_id = claimant.file(suspect)
        wait_until(lambda: claimant.read(dispute_id)["state"] == "asking", "the challenge")
        size = len(list(claimant.client.items("/v1/log/entries")))
        entries = [ask(service, f"/v1/log/entries/{index}").text for index in range(size)]
        assert not any(suspect.url in entry for entry in entries)
        withdraw(claimant, dispute_id)
        kinds = [entry["kind"] for entry in claimant.client.items("/v1/log/entries")]
        notice = ask(service, f"/v1/log/entries/{kinds.index('notice', size)}").text
        assert suspect.url not in notice
        page = ask(service, f"/d/{link_of(claimant, dispute_id)}").text
        assert suspect.url in page
        assert "The claimant withdrew" in page


def test_one_disputes_link_opens_nothing_of_another(service: Service, decided: Decided):
    other = sign_up(service, "public other")
    headers = {"Authorization": other.client._http.headers["Authorization"]}
    mine = f"/v1/disputes/{decided.dispute['id']}/accused"
    assert ask(service, mine).status_code == 401
    nothing = ask(service, "/v1/disputes/01900000-0000-7000-8000-000000000000/accused", headers=headers)
    theirs = ask(service, mine, headers=headers)
    assert theirs.status_code == nothing.status_code == 404
    assert theirs.json()["detail"] == nothing.json()["detail"]


# --- what it can do ---------------------------------------------------------------------------------------------------


def test_the_whole_page_works_without_javascript(plain_tab: Tab, tab: Tab, service: Service, decided: Decided):
    page = plain_tab.go(f"/d/{decided.token}")
    assert decided.suspect.url in page.get_by_role("heading", level=1).inner_text()
    assert "public claimant" in page.inner_text("main")
    assert "Confirmed" in page.inner_text("main")
    plain_tab.check_phone()
    page.get_by_label("What you have to say").fill("We trained it ourselves.\nIn 2024.")
    page.get_by_label("Prior art").fill("arXiv:1802.04633")
    page.get_by_label("A file").set_input_files({"name": "log.txt", "mimeType": "text/plain", "buffer": b"epoch 1"})
    page.get_by_role("button", name="Send the answer").click()
    page.wait_for_url("**/d/*#answers")
    shown = page.inner_text("main")
    assert "We trained it ourselves.\nIn 2024." in shown
    assert "arXiv:1802.04633" in shown
    assert sha256(b"epoch 1").hex() in shown
    with page.expect_download() as downloading:
        page.get_by_role("link", name="File “log.txt”").click()
    assert Path(downloading.value.path()).read_bytes() == b"epoch 1"
    tab.go(f"/d/{decided.token}")
    tab.check()
    tab.check_phone()


def test_the_claimant_sees_the_link_and_what_was_answered(tab: Tab, service: Service, decided: Decided):
    say(service, decided.token, words="seen by both sides")
    sign_in(tab, service, vendor_id_of(decided.claimant))
    page = tab.go(f"/disputes/{decided.dispute['id']}")
    assert f"/d/{decided.token}" in page.inner_text("main")
    assert "seen by both sides" in page.inner_text("main")
    tab.check()
    tab.check_phone()
    answers = decided.claimant.client.get(f"/v1/disputes/{decided.dispute['id']}/accused")["answers"]
    assert "seen by both sides" in [answer["words"] for answer in answers]


def say(service: Service, token: str, *, file: tuple[str, bytes] | None = None, **fields: str) -> httpx2.Response:
    files = {"file": (file[0], file[1], "text/html")} if file else {"file": ("", b"")}
    return ask(service, f"/d/{token}/answers", "POST", data=fields, files=files)


HOSTILE = '<script>document.title="taken"</script><img src=x onerror=alert(1)> javascript:alert(1) {{ 7*7 }} {verdict}'


@pytest.fixture(scope="module")
def hostile(service: Service) -> Iterator[Decided]:
    """A dispute that was withdrawn, to be answered by somebody who attacks."""
    claimant = sign_up(service, "public <b>hostile")
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        dispute_id = claimant.file(suspect, max_triggers=64, covers_per_trigger=1)
        withdraw(claimant, dispute_id)
        yield Decided(claimant, suspect, claimant.read(dispute_id), link_of(claimant, dispute_id))


def test_markup_in_an_answer_or_a_files_name_stays_text(tab: Tab, service: Service, hostile: Decided):
    sent = say(service, hostile.token, words=HOSTILE, prior_art=HOSTILE, file=('"><script>x</script>.html', b"<html>"))
    assert sent.status_code == 303
    page = tab.go(f"/d/{hostile.token}")
    assert "taken" not in page.title()
    assert page.locator(".words").first.inner_text() == HOSTILE
    assert page.locator("main script, main img, main b").count() == 0
    assert page.locator("a[href^='javascript']").count() == 0
    assert "49" not in page.locator(".words").first.inner_text()
    tab.check()
    file = ask(service, f"/d/{hostile.token}/answers/1/file")
    assert file.content == b"<html>"
    assert file.headers["Content-Type"] == "application/octet-stream"
    assert file.headers["Content-Disposition"] == 'attachment; filename="answer-1.bin"'
    assert file.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("number", ["0", "2", "11", "-1", "x", "1%2f..", "01"])
def test_a_file_that_is_none_is_not_found(service: Service, hostile: Decided, number: str):
    assert ask(service, f"/d/{hostile.token}/answers/{number}/file").status_code == 404


@pytest.mark.parametrize(
    ("fields", "file", "message"),
    [
        ({"words": ""}, None, "say something"),
        ({"words": "  \r\n "}, None, "say something"),
        ({"words": "x" * 10_001}, None, "10001 characters"),
        ({"words": "kept <i>words</i>", "prior_art": "y" * 10_001}, None, "10001 characters"),
        ({"words": "kept", "prior_art": "a\x00b"}, None, "control characters"),
        ({"words": "kept"}, ("big.bin", bytes(MAX_FILE_BYTES + 1)), "SHA-256"),
        ({"words": "kept"}, ("empty.bin", b""), "empty file"),
    ],
)
def test_an_answer_outside_the_limits_is_kept_in_its_form_and_nowhere_else(
    service: Service, hostile: Decided, fields: dict[str, str], file: tuple[str, bytes] | None, message: str
):
    before = answers_of(hostile)
    refused = say(service, hostile.token, file=file, **fields)
    assert refused.status_code == 422
    assert message in refused.text
    if fields["words"].startswith("kept"):
        assert fields["words"].replace("<", "&lt;").replace(">", "&gt;") in refused.text
    assert answers_of(hostile) == before


def test_a_body_over_any_limit_is_cut_off(service: Service, hostile: Decided):
    before = answers_of(hostile)
    # What was typed stands above the file, and is kept; of the file nothing is.
    page = say(service, hostile.token, words="kept <i>w</i>", file=("huge", bytes(17 * 1024 * 1024)))
    assert (page.status_code, page.headers["Content-Type"]) == (413, "text/html; charset=utf-8")
    assert "this file is too large" in page.text
    assert "kept &lt;i&gt;w&lt;/i&gt;</textarea>" in page.text
    assert say(service, hostile.token, words="x" * (2 * 1024 * 1024)).status_code == 400
    assert answers_of(hostile) == before


def test_a_page_that_is_sent_too_much_says_so_in_words(service: Service):
    headers = {"Origin": origin_of(service), "Content-Type": "application/x-www-form-urlencoded"}
    field = b"name=" + b"x" * 900_000 + b"&"
    # Whether its length is stated or it comes in pieces.
    for content in (field * 5, iter([field] * 5)):
        page = ask(service, "/sign-up", "POST", content=content, headers=headers)
        assert (page.status_code, page.headers["Content-Type"]) == (413, "text/html; charset=utf-8")
        assert "choose a smaller file, or write less" in page.text


def answers_of(decided: Decided) -> list[dict[str, Any]]:
    found = decided.claimant.client.get(f"/v1/disputes/{decided.dispute['id']}/accused")["answers"]
    assert isinstance(found, list)
    return found


def test_answers_are_bounded_and_change_no_verdict(service: Service, hostile: Decided):
    for number in range(len(answers_of(hostile)), MAX_ANSWERS):
        assert say(service, hostile.token, words=f"answer {number}").status_code == 303
    refused = say(service, hostile.token, words="one too many")
    assert (refused.status_code, "10 answers at most" in refused.text) == (422, True)
    assert len(answers_of(hostile)) == MAX_ANSWERS
    assert hostile.claimant.read(hostile.dispute["id"]) == hostile.dispute


@pytest.mark.parametrize("path", WRITES)
def test_nothing_changes_from_another_site(service: Service, hostile: Decided, path: str):
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {}):
        response = ask(service, f"/d/{hostile.token}{path}", "POST", data={"words": "x"}, headers=headers)
        assert response.status_code == 403


# --- what can be checked ----------------------------------------------------------------------------------------------


def test_everything_downloads_and_recomputes_without_the_service(service: Service, decided: Decided, tmp_path: Path):
    say(service, decided.token, words="to be checked")
    bundle = check_bundle(
        unpack(ask(service, f"/d/{decided.token}/evidence").content), AdapterCodec(), log_key=service.log_key()
    )
    assert bundle.entry.verdict == "CONFIRMED"
    files = unpack(ask(service, f"/d/{decided.token}/steps").content)
    checked = check_steps(files, log_key=service.log_key())
    notice = next(record for record in checked.records.values() if isinstance(record, NoticeRecord))
    assert (notice.endpoint, notice.filing) == (decided.suspect.url, decided.dispute["filing_index"])
    words = [record.words for record in checked.records.values() if isinstance(record, AnswerRecord)]
    assert "to be checked" in words
    name = next(name for name, data in files.items() if b"to be checked" in data)
    changed = files | {name: files[name].replace(b"to be checked", b"to be chicked")}
    with pytest.raises(ProofError, match="hides another"):
        check_steps(changed, log_key=service.log_key())
    file = tmp_path / "steps.zip"
    file.write_bytes(pack(files))
    log_key = verifier_key_text(ORIGIN, service.log_key())
    for arguments, status in ((["--log-key", log_key], 0), ([], 3)):
        said = CliRunner().invoke(trapstreet, ["check-steps", str(file), "--json", *arguments])
        assert said.exit_code == status
        assert json.loads(said.stdout)["endpoint"] == decided.suspect.url
    file.write_bytes(pack(changed))
    assert CliRunner().invoke(trapstreet, ["check-steps", str(file), "--log-key", log_key]).exit_code == 1
    with transaction(service.database.service) as session:
        assert check_log(session, service.log_key(), ORIGIN) > 0


# --- a second run -----------------------------------------------------------------------------------------------------


def test_a_second_run_is_asked_for_once_filed_with_another_family_and_told_when_it_is_over(
    plain_tab: Tab, tab: Tab, service: Service
):
    claimant = sign_up(service, "public second run")
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        first = claimant.answer_until_decided(claimant.file(suspect, max_triggers=64, covers_per_trigger=1))
        token = link_of(claimant, first["id"])
        page = plain_tab.go(f"/d/{token}")
        page.get_by_role("button", name="Ask for a second run").click()
        page.wait_for_url("**/d/*#second-run")
        asked = page.locator("section[aria-labelledby=second-run]").inner_text()
        assert "1 family of this watermark was unasked" in asked
        again = ask(service, f"/d/{token}/second-run", "POST")
        assert (again.status_code, "asked for already" in again.text) == (409, True)
        request = claimant.client.get(f"/v1/disputes/{first['id']}/accused")["second_run"]
        assert request["families_left"] == 1
        assert request["filed_dispute_id"] is None
        second = claimant.file(suspect, family="second", max_triggers=32, covers_per_trigger=1)
        own = claimant.client.get(f"/v1/disputes/{first['id']}/accused")["second_run"]
        assert own["filed_dispute_id"] == second
        # The accused is not told while it is asked, and not by what is missing either, however late it looks.
        page.reload()
        assert page.locator("section[aria-labelledby=second-run]").inner_text() == asked
        with transaction(service.database.service) as session:
            answered = load_linked(session, token)
            request_row = session.get_one(SecondRunRow, answered.id)
            for days in (1, 31, 59, 61, 365):
                seen = find_second_run(session, answered, request_row.created_at + timedelta(days=days))
                request_row.filed_dispute_id = None
                assert find_second_run(session, answered, request_row.created_at + timedelta(days=days)) == seen
                request_row.filed_dispute_id = UUID(second)
        decided = claimant.answer_until_decided(second)
        assert (decided["ordinal"], decided["verdict"]) == (2, "CONFIRMED")
        second_token = link_of(claimant, second)
        tab.go(f"/d/{token}")
        tab.check()
        tab.page.get_by_role("link", name="the second dispute").click()
        tab.page.wait_for_url(f"**/d/{second_token}")
        assert "second run that was asked for in an earlier dispute" in tab.page.inner_text("main")
        steps = check_steps(unpack(ask(service, f"/d/{second_token}/steps").content), log_key=service.log_key())
        notice = next(record for record in steps.records.values() if isinstance(record, NoticeRecord))
        assert notice.second_run == request["entry_index"]
        check_steps(unpack(ask(service, f"/d/{token}/steps").content), log_key=service.log_key())
        # No family is left for a third, and the page says so at once.
        page = plain_tab.go(f"/d/{second_token}")
        page.get_by_role("button", name="Ask for a second run").click()
        assert "no family of this watermark left" in page.locator("section[aria-labelledby=second-run]").inner_text()


def test_where_no_verdict_speaks_against_the_endpoint_there_is_nothing_to_run_again(service: Service, hostile: Decided):
    page = ask(service, f"/d/{hostile.token}")
    assert "There is no second run to ask for" in page.text
    refused = ask(service, f"/d/{hostile.token}/second-run", "POST")
    assert (refused.status_code, "nothing to run again" in refused.text) == (409, True)


def test_times_pass_and_the_page_says_so_plainly(service: Service, decided: Decided):
    identity, store = LogIdentity(ORIGIN, LOG_KEY), open_store("memory:///")
    dispute_id, now = UUID(decided.dispute["id"]), datetime.now(UTC)

    with suppress(Undone), transaction(service.database.service) as session:
        row = lock_dispute(session, dispute_id)
        add_answer(session, identity, store, row, Said("in time"), bytes(32), now + timedelta(days=89))
        with pytest.raises(Conflict, match="answers were taken until"):
            add_answer(session, identity, store, row, Said("too late"), bytes(32), now + timedelta(days=91))
        with pytest.raises(Conflict, match="could be asked for until"):
            ask_second_run(session, identity, row, now + timedelta(days=31))
        assert not load_claim(session, row, now + timedelta(days=91)).rights.may_answer
        later = now + timedelta(days=29)
        ask_second_run(session, identity, row, later)
        for days, is_over in ((1, False), (59, False), (61, True)):
            found = find_second_run(session, row, later + timedelta(days=days))
            assert found is not None
            assert (found.is_over, found.filed) == (is_over, None)
        # Nothing of it may stay: the log's time would have gone ahead.
        raise Undone
