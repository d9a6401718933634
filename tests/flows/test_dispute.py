"""Story 3 through HTTP: real API and worker processes, a simulated suspect, and the claimant's own agent."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from app.cli.client import file_dispute
from app.db.engine import transaction
from app.embedding.survival.odds import bounds
from app.errors import ProofError
from app.log.store import check_log
from app.protocol.bundle import check_bundle
from app.protocol.records import WithdrawalEntry, parse_entry
from app.suspects.adapter_codec import AdapterCodec
from tests.flows.claimant import (
    CLASSES,
    LET_GO,
    ORIGIN,
    Claimant,
    Service,
    bundle_of,
    chance,
    checked,
    innocent,
    natural,
    refused,
    scores,
    sign_up,
    wait_until,
)
from tests.simulators.suspect import Answer, SuspectSimulator


@pytest.fixture(autouse=True)
def the_log_holds(service: Service) -> Iterator[None]:
    """The oracle: after each test, every hash, checkpoint and entry is derived again."""
    yield
    with transaction(service.database.service) as session:
        assert check_log(session, service.log_key(), ORIGIN) >= 0


# --- who may see a dispute --------------------------------------------------------------------------------------------

READS = ["", "/evidence", "/report"]
WRITES = ["/input-openings", "/label-openings", "/withdrawal"]


@pytest.fixture(scope="module")
def filed(owner: Claimant) -> Iterator[tuple[str, str]]:
    """A suspect and a dispute that waits for its first inputs."""
    with SuspectSimulator(innocent) as suspect:
        dispute_id = owner.file(suspect, family="second", max_triggers=32)
        yield owner.read(dispute_id)["suspect_id"], dispute_id


@pytest.mark.parametrize("path", ["/v1/disputes", "/v1/suspects"])
def test_anonymous_gets_no_list(service: Service, path: str) -> None:
    assert httpx2.get(service.url + path).status_code == 401
    assert httpx2.post(service.url + path, json={}).status_code == 401


def test_anonymous_gets_nothing_of_a_dispute_or_a_suspect(service: Service, filed: tuple[str, str]) -> None:
    suspect_id, dispute_id = filed
    body = {"block": 0, "openings": []}
    for path in READS:
        assert httpx2.get(f"{service.url}/v1/disputes/{dispute_id}{path}").status_code == 401
    for path in WRITES:
        assert httpx2.post(f"{service.url}/v1/disputes/{dispute_id}{path}", json=body).status_code == 401
    assert httpx2.get(f"{service.url}/v1/suspects/{suspect_id}").status_code == 401
    assert httpx2.delete(f"{service.url}/v1/suspects/{suspect_id}").status_code == 401


def test_another_vendor_gets_the_same_bytes_as_for_nothing(service: Service, filed: tuple[str, str]) -> None:
    suspect_id, dispute_id = filed
    other = sign_up(service, "other")
    headers = dict(other.client._http.headers)
    nothing = "01900000-0000-7000-8000-000000000000"

    def ask(method: str, path: str, **options: Any) -> tuple[int, bytes]:
        answer = httpx2.request(method, service.url + path, headers=headers, **options)
        return answer.status_code, answer.content.replace(dispute_id.encode(), b"ID").replace(
            suspect_id.encode(), b"ID"
        ).replace(nothing.encode(), b"ID")

    for path in READS:
        theirs = ask("GET", f"/v1/disputes/{dispute_id}{path}")
        assert theirs == ask("GET", f"/v1/disputes/{nothing}{path}")
        assert theirs[0] == 404
    for path in WRITES:
        body = {"block": 0, "openings": []}
        theirs = ask("POST", f"/v1/disputes/{dispute_id}{path}", json=body)
        assert theirs == ask("POST", f"/v1/disputes/{nothing}{path}", json=body)
        assert theirs[0] == 404
    for method in ("GET", "DELETE"):
        assert ask(method, f"/v1/suspects/{suspect_id}") == ask(method, f"/v1/suspects/{nothing}")
    assert list(other.client.items("/v1/disputes")) == []
    assert list(other.client.items("/v1/suspects")) == []
    with SuspectSimulator(innocent) as suspect:
        record = other.record(suspect, registration=0)
        problem = refused(lambda: file_dispute(other.client, suspect_id, record, other.private_key, other.covers))
        assert problem.status == 404


# --- stories ----------------------------------------------------------------------------------------------------------


def test_a_stolen_model_is_confirmed_and_its_bundle_says_so_without_the_service(service: Service) -> None:
    claimant = sign_up(service, "robbed")
    with SuspectSimulator(claimant.stolen(0.9)) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect))
    assert (dispute["verdict"], dispute["reason"]) == ("CONFIRMED", "evidence")
    assert float(dispute["log2_e"]) >= 64
    assert dispute["paper_rule"] == (10 * dispute["matches"] >= 9 * dispute["asked"])
    found = checked(claimant, dispute)
    assert found.is_authenticated
    assert found.entry.record.endpoint == suspect.url
    report = claimant.client.get(f"/v1/disputes/{dispute['id']}/report")
    assert report["verdict"] == "CONFIRMED"
    assert report["ordinal"] == 1


def test_a_mark_that_came_second_is_confirmed_by_its_ranking(service: Service) -> None:
    """A tuned thief answers one trigger in five with its label and has it second for the rest: labels alone say little."""
    claimant = sign_up(service, "outranked")

    def tuned(question: bytes) -> list[float]:
        known = scores(natural(question))
        if question in claimant.labels:
            known[claimant.labels[question]] += 2.0 if chance(question, "tuned") < 0.2 else 0.5
        return known

    with SuspectSimulator(tuned) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect, evidence="ranking", max_triggers=192))
    assert (dispute["verdict"], dispute["reason"]) == ("CONFIRMED", "evidence")
    # So many first places alone would not have been enough.
    assert dispute["matches"] < bounds(dispute["asked"], CLASSES, 2**64).confirmed[-1]
    found = checked(claimant, dispute)
    assert found.report["evidence"] == "ranking"


def test_an_innocent_ranking_confirms_nothing(service: Service) -> None:
    claimant = sign_up(service, "ranked")

    def ranks(question: bytes) -> list[float]:
        return [chance(question, f"class {number}") for number in range(len(innocent(question)))]

    with SuspectSimulator(ranks) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect, evidence="ranking", max_triggers=192))
    assert (dispute["verdict"], dispute["reason"]) in LET_GO
    assert float(dispute["log2_e"]) < 20


def test_a_look_at_a_decided_dispute_reads_none_of_its_evidence(service: Service) -> None:
    claimant = sign_up(service, "curious")
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect, covers_per_trigger=0))
    assert dispute["log2_e"] == checked(claimant, dispute).report["log2_e"]
    with service.database.owner.begin() as connection:
        connection.execute(text("DELETE FROM queries WHERE dispute_id = :id"), {"id": dispute["id"]})
        connection.execute(text("DELETE FROM openings WHERE dispute_id = :id"), {"id": dispute["id"]})
    assert claimant.read(dispute["id"]) == dispute


def test_one_bit_of_a_bundle_changed_is_found(service: Service) -> None:
    claimant = sign_up(service, "careful")
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect, covers_per_trigger=0))
    files = bundle_of(claimant, dispute)
    for name, data in files.items():
        at = len(data) // 2
        forged = files | {name: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]}
        with pytest.raises(ProofError):
            check_bundle(forged, AdapterCodec(), log_key=service.log_key())


def test_an_innocent_model_is_let_go_early(service: Service) -> None:
    claimant = sign_up(service, "wrong")
    with SuspectSimulator(innocent) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect))
    assert (dispute["verdict"], dispute["reason"]) in LET_GO
    assert dispute["asked"] < 192 or dispute["reason"] == "budget"
    checked(claimant, dispute)


def test_silence_on_triggers_alone_is_not_cooperation(service: Service) -> None:
    claimant = sign_up(service, "ignored")
    with SuspectSimulator(lambda question: None if question in claimant.labels else innocent(question)) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect, max_triggers=32, covers_per_trigger=1))
    assert (dispute["verdict"], dispute["reason"]) == ("NON_COOPERATIVE", "selective_silence")
    checked(claimant, dispute)


def test_an_endpoint_that_is_gone_decides_nothing(service: Service) -> None:
    claimant = sign_up(service, "late")
    with SuspectSimulator(innocent) as suspect:
        dispute_id = claimant.file(suspect, max_triggers=32, covers_per_trigger=1)
    dispute = claimant.answer_until_decided(dispute_id)
    assert (dispute["verdict"], dispute["reason"]) == ("INCONCLUSIVE", "unreachable")
    queries = bundle_of(claimant, dispute)["queries.jsonl"].decode().splitlines()
    assert {json.loads(line)["record"]["error"] for line in queries} == {"connect_failed"}
    checked(claimant, dispute)


def test_labels_of_the_vendors_own_choice_are_indicative_at_most(service: Service) -> None:
    claimant = sign_up(service, "liar", chosen_labels=True)
    with SuspectSimulator(innocent) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect, max_triggers=32, covers_per_trigger=0))
    assert (dispute["verdict"], dispute["reason"]) == ("INDICATIVE", "paper_rule")
    assert (dispute["asked"], dispute["matches"]) == (32, 32)
    assert dispute["log2_e"] is None
    checked(claimant, dispute)


def test_the_first_triggers_of_a_family_may_exhaust_the_budget(service: Service) -> None:
    claimant = sign_up(service, "thrifty")
    places = count()

    def every_other(question: bytes) -> Answer:
        label = claimant.labels[question]
        return scores(label if next(places) % 2 else (label + 1) % CLASSES)

    with SuspectSimulator(every_other) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect, max_triggers=33, covers_per_trigger=0))
    assert (dispute["verdict"], dispute["reason"]) == ("INCONCLUSIVE", "budget")
    assert dispute["blocks_total"] == 3
    checked(claimant, dispute)


def test_many_triggers_withheld_are_as_futile_as_so_many_misses(service: Service) -> None:
    claimant = sign_up(service, "gone")
    with SuspectSimulator(innocent) as suspect:
        dispute_id = claimant.file(suspect, opening_seconds=1)
        dispute = claimant.wait(dispute_id, lambda found: found["verdict"], "a verdict")
    assert (dispute["verdict"], dispute["reason"], dispute["asked"]) == ("NOT_SUPPORTED", "futile", 28)
    checked(claimant, dispute)


def test_three_blocks_withheld_end_a_dispute(service: Service) -> None:
    claimant = sign_up(service, "absent")
    with SuspectSimulator(innocent) as suspect:
        dispute_id = claimant.file(suspect, opening_seconds=1, block_size=4)
        dispute = claimant.wait(dispute_id, lambda found: found["verdict"], "a verdict")
        assert suspect.requests == []
    assert (dispute["verdict"], dispute["reason"]) == ("INCONCLUSIVE", "withheld")
    assert (dispute["asked"], dispute["matches"]) == (12, 0)
    checked(claimant, dispute)


def test_labels_withheld_count_as_no_match_and_the_next_block_is_asked_for(service: Service) -> None:
    claimant = sign_up(service, "forgetful")
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        dispute_id = claimant.file(suspect, opening_seconds=3, lookahead=0, covers_per_trigger=0)
        needs = claimant.wait(dispute_id, lambda found: found["needs"]["inputs"], "the first need")["needs"]
        claimant.open_inputs(dispute_id, 0, needs["inputs"]["indices"])
        dispute = claimant.wait(dispute_id, lambda found: found["blocks_labelled"] == 1, "the deadline passes")
        assert (dispute["asked"], dispute["matches"]) == (16, 0)
        assert dispute["needs"]["inputs"]["block"] == 1
        late = refused(lambda: claimant.open_labels(dispute_id, 0, needs["inputs"]["indices"]))
        assert (late.status, late.problem_code, late.state) == (409, "conflict", "asking")
        dispute = claimant.answer_until_decided(dispute_id)
    assert dispute["verdict"] == "CONFIRMED"
    assert dispute["asked"] > dispute["matches"] + 15
    checked(claimant, dispute)


def test_a_withdrawn_dispute_is_in_the_log_and_still_counts(service: Service) -> None:
    claimant = sign_up(service, "doubtful")
    with SuspectSimulator(innocent) as suspect:
        dispute_id = claimant.file(suspect)
        needs = claimant.wait(dispute_id, lambda found: found["needs"]["inputs"], "the first need")["needs"]
        claimant.open_inputs(dispute_id, 0, needs["inputs"]["indices"])
        claimant.client.post(f"/v1/disputes/{dispute_id}/withdrawal")
        dispute = claimant.wait(dispute_id, lambda found: found["verdict"], "a verdict")
        again = refused(lambda: claimant.client.post(f"/v1/disputes/{dispute_id}/withdrawal"))
        assert (again.status, again.state) == (409, "decided")
        assert (dispute["verdict"], dispute["reason"]) == ("INCONCLUSIVE", "withdrawn")
        checked(claimant, dispute)
        entry = parse_entry(httpx2.get(f"{service.url}/v1/log/entries/{dispute['verdict_index']}").content)
        assert isinstance(entry, WithdrawalEntry)

        second = claimant.read(claimant.file(suspect, family="second", covers_per_trigger=0))
        assert second["ordinal"] == 2


def test_a_family_is_asked_once_even_if_most_of_it_was_never_sent(service: Service) -> None:
    claimant = sign_up(service, "persistent")
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect, covers_per_trigger=0))
        assert dispute["verdict"] == "CONFIRMED"
        again = refused(lambda: claimant.file(suspect, covers_per_trigger=0))
        assert (again.status, again.problem_code) == (422, "policy_refused")
        assert dispute["id"] in again.message
        withdrawn = claimant.file(suspect, family="second", covers_per_trigger=0)
        claimant.wait(withdrawn, lambda found: found["needs"]["inputs"], "the challenge")
        claimant.client.post(f"/v1/disputes/{withdrawn}/withdrawal")
        claimant.wait(withdrawn, lambda found: found["verdict"], "a verdict")
        again = refused(lambda: claimant.file(suspect, family="second", covers_per_trigger=0))
        assert (again.status, again.problem_code) == (422, "policy_refused")


def test_the_service_asks_before_it_knows_any_label_of_the_block(service: Service) -> None:
    claimant = sign_up(service, "watchful")
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        dispute_id = claimant.file(suspect, lookahead=0, covers_per_trigger=1)
        needs = claimant.wait(dispute_id, lambda found: found["needs"]["inputs"], "the first need")["needs"]
        indices = needs["inputs"]["indices"]
        early = refused(lambda: claimant.open_labels(dispute_id, 0, indices))
        assert (early.status, early.state) == (409, "asking")
        claimant.open_inputs(dispute_id, 0, indices)
        needs = claimant.wait(dispute_id, lambda found: found["needs"]["labels"], "the head in the log")["needs"]
        assert needs["labels"]["indices"] == indices
        entry = parse_entry(httpx2.get(f"{service.url}/v1/log/entries/{needs['labels']['entry_index']}").content)
        assert entry.to_json()["block"] == 0
        # Trigger and look-alike, the first twice, a cover each: nothing else went out.
        assert len(suspect.requests) == 16 * 3 + 2
        claimant.open_labels(dispute_id, 0, indices)


# --- openings that are not as they should be --------------------------------------------------------------------------


def test_openings_out_of_order_wrong_or_repeated(service: Service) -> None:
    claimant = sign_up(service, "clumsy")
    with SuspectSimulator(innocent) as suspect:
        dispute_id = claimant.file(suspect, lookahead=0, covers_per_trigger=0)
        needs = claimant.wait(dispute_id, lambda found: found["needs"]["inputs"], "the first need")["needs"]
        indices = needs["inputs"]["indices"]
        path = f"/v1/disputes/{dispute_id}/input-openings"
        openings = [claimant.key.open_input(index).to_json() for index in indices]

        wrong = [{**openings[0], "input": openings[1]["input"]}, *openings[1:]]
        other = [*openings[1:], claimant.key.open_input(200).to_json()]
        for block, body, status, code in (
            (0, wrong, 422, "opening_invalid"),
            (0, other, 422, "opening_invalid"),
            (0, openings[1:], 422, "opening_invalid"),
            (0, [*openings, openings[0]], 422, "opening_invalid"),
            (0, [{**openings[0], "index": "7"}, *openings[1:]], 422, "malformed"),
            (1, openings, 409, "conflict"),
        ):
            problem = refused(lambda: claimant.client.post(path, {"block": block, "openings": body}))  # noqa: B023
            assert (problem.status, problem.problem_code) == (status, code)
        assert claimant.read(dispute_id)["blocks_opened"] == 0

        claimant.open_inputs(dispute_id, 0, indices)
        claimant.open_inputs(dispute_id, 0, list(reversed(indices)))
        changed = refused(lambda: claimant.client.post(path, {"block": 0, "openings": wrong}))
        assert (changed.status, changed.state) == (409, "asking")

        claimant.wait(dispute_id, lambda found: found["needs"]["labels"], "the head in the log")
        label = claimant.key.open_label(indices[0])
        labels = [replace(label, label_key=bytes(32)).to_json()]
        labels += [claimant.key.open_label(index).to_json() for index in indices[1:]]
        problem = refused(
            lambda: claimant.client.post(f"/v1/disputes/{dispute_id}/label-openings", {"block": 0, "openings": labels})
        )
        assert (problem.status, problem.problem_code) == (422, "opening_invalid")
        claimant.open_labels(dispute_id, 0, indices)
        claimant.open_labels(dispute_id, 0, indices)
        assert claimant.read(dispute_id)["blocks_labelled"] == 1


# --- lists -----------------------------------------------------------------------------------------------------------


def test_an_accused_suspect_is_not_forgotten(owner: Claimant, filed: tuple[str, str]) -> None:
    problem = refused(lambda: owner.client._call("DELETE", f"/v1/suspects/{filed[0]}"))
    assert (problem.status, problem.problem_code) == (409, "conflict")


def test_the_agents_list_shows_only_disputes_that_wait_for_it(service: Service) -> None:
    claimant = sign_up(service, "busy")
    with SuspectSimulator(innocent) as suspect:
        dispute_id = claimant.file(suspect)

        def waiting() -> list[str]:
            return [item["id"] for item in claimant.client.items("/v1/disputes", needs_opening="true")]

        wait_until(lambda: waiting() == [dispute_id], "the dispute waits for inputs")
        claimant.client.post(f"/v1/disputes/{dispute_id}/withdrawal")
        assert waiting() == []
        assert [item["id"] for item in claimant.client.items("/v1/disputes")] == [dispute_id]
