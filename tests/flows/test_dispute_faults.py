"""Disputes whose processes are killed in the middle: nothing is lost, asked twice without need, or decided twice."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from app.cli.client import ApiProblem
from app.db.engine import transaction
from app.db.tables import DisputeRow, LogEntryRow, QueryRow
from app.disputes.probing import LOT
from app.errors import DatabaseAway, Unavailable
from app.log.store import check_log
from app.protocol.bundle import check_bundle
from app.protocol.records import BlockEntry, VerdictEntry, parse_entry
from app.storage.archive import unpack
from app.suspects.adapter_codec import AdapterCodec
from tests.conftest import TEMPLATE, Server
from tests.flows.claimant import ORIGIN, Claimant, Service, running, sign_up, wait_until
from tests.simulators.suspect import SuspectSimulator

# Slow enough to be killed in the middle of a block, quick enough to wait for.
LATENCY_SECONDS = 0.1


@pytest.fixture(scope="module")
def service(servers: Callable[[str], Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for this file; whoever kills a process starts it again."""
    folder: Path = tmp_path_factory.mktemp("service")
    with servers("embedded").database(TEMPLATE) as database, running(database, folder) as service:
        yield service


def stored(service: Service, dispute_id: str) -> int:
    try:
        with transaction(service.database.service) as session:
            return session.scalars(select(func.count()).where(QueryRow.dispute_id == dispute_id)).one()
    except DatabaseAway:
        return 0


def answer_whatever_happens(claimant: Claimant, dispute_id: str) -> dict[str, Any]:
    """Answer every opening until there is a verdict, as the command does: what is away comes back."""
    agent = claimant.agent

    def look() -> dict[str, Any] | None:
        try:
            agent.answer_all()
            dispute = claimant.read(dispute_id)
        except Unavailable:
            return None
        except ApiProblem as problem:
            if problem.status != 503:
                raise
            return None
        return dispute if dispute["verdict"] else None

    decided: dict[str, Any] = wait_until(look, "a verdict")
    return decided


def verify_whole(claimant: Claimant, dispute: dict[str, Any]) -> list[dict[str, Any]]:
    """Check log and bundle, that every entry of the dispute stands there once, and give its questions."""
    service = claimant.service
    with transaction(service.database.service) as session:
        check_log(session, service.log_key(), ORIGIN)
        entries = [parse_entry(data) for data in session.scalars(select(LogEntryRow.data))]
        filing = session.get_one(DisputeRow, dispute["id"]).filing_index
    heads = Counter(entry.block for entry in entries if isinstance(entry, BlockEntry) and entry.filing == filing)
    assert set(heads.values()) == {1}
    assert sum(isinstance(entry, VerdictEntry) and entry.filing == filing for entry in entries) == 1
    files = unpack(claimant.client.download(f"/v1/disputes/{dispute['id']}/evidence"))
    found = check_bundle(files, AdapterCodec(), log_key=service.log_key())
    assert found.entry.verdict == dispute["verdict"]
    return [json.loads(line) for line in files["queries.jsonl"].decode().splitlines()]


def open_first_block(claimant: Claimant, dispute_id: str) -> None:
    needs = claimant.wait(dispute_id, lambda found: found["needs"]["inputs"], "the first need")["needs"]
    claimant.open_inputs(dispute_id, 0, needs["inputs"]["indices"])


def test_a_killed_workers_block_is_finished_by_another(service: Service) -> None:
    claimant = sign_up(service, "first")
    with SuspectSimulator(claimant.stolen(1.0), latency_seconds=LATENCY_SECONDS) as suspect:
        dispute_id = claimant.file(suspect)
        open_first_block(claimant, dispute_id)
        wait_until(lambda: stored(service, dispute_id) >= LOT, "the first lot of answers")
        service.kill("worker")
        kept = stored(service, dispute_id)
        assert claimant.read(dispute_id)["blocks_probed"] == 0
        service.start_worker()
        dispute = answer_whatever_happens(claimant, dispute_id)
        assert dispute["verdict"] == "CONFIRMED"
        queries = verify_whole(claimant, dispute)
        assert kept >= LOT
        # Nothing that was stored is asked again: at most the lot that was under way, and a block opened ahead.
        ahead = len(suspect.requests) - len(queries)
        assert ahead <= LOT + 16 * 4 + 4


def test_two_workers_at_once_log_every_block_once(service: Service) -> None:
    claimant = sign_up(service, "second")
    service.start_worker("another")
    try:
        with SuspectSimulator(claimant.stolen(1.0)) as suspect:
            dispute = answer_whatever_happens(claimant, claimant.file(suspect, block_size=4))
    finally:
        service.kill("another")
    assert dispute["verdict"] == "CONFIRMED"
    verify_whole(claimant, dispute)


def test_the_api_may_be_killed_while_openings_come(service: Service) -> None:
    claimant = sign_up(service, "third")
    with SuspectSimulator(claimant.stolen(1.0), latency_seconds=LATENCY_SECONDS / 2) as suspect:
        dispute_id = claimant.file(suspect, block_size=8)
        open_first_block(claimant, dispute_id)
        service.kill("api")
        wait_until(lambda: stored(service, dispute_id) >= LOT, "the worker goes on alone")
        service.start_api()
        dispute = answer_whatever_happens(claimant, dispute_id)
    assert dispute["verdict"] == "CONFIRMED"
    verify_whole(claimant, dispute)


def test_postgres_may_be_killed_in_the_middle_of_a_block(service: Service) -> None:
    claimant = sign_up(service, "fourth")
    with SuspectSimulator(claimant.stolen(1.0), latency_seconds=LATENCY_SECONDS) as suspect:
        dispute_id = claimant.file(suspect)
        open_first_block(claimant, dispute_id)
        wait_until(lambda: stored(service, dispute_id) >= LOT, "the first lot of answers")
        service.database.server.kill()
        dispute = answer_whatever_happens(claimant, dispute_id)
    assert dispute["verdict"] == "CONFIRMED"
    verify_whole(claimant, dispute)


def test_everything_is_killed_between_the_last_block_and_the_verdict(service: Service) -> None:
    claimant = sign_up(service, "fifth")
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        dispute_id = claimant.file(suspect, covers_per_trigger=0, lookahead=0)
        agent = claimant.agent

        def is_second_head_logged() -> bool:
            found = claimant.read(dispute_id)
            if found["blocks_labelled"] == 0 or found["needs"]["inputs"]:
                agent.answer_all()
            return bool(found["blocks_probed"] == 2)

        wait_until(is_second_head_logged, "the second block's head")
        service.kill("worker")
        agent.answer_all()
        assert claimant.read(dispute_id)["state"] == "deciding"
        service.kill("api")
        service.start_worker()
        service.start_api()
        dispute = answer_whatever_happens(claimant, dispute_id)
    assert dispute["verdict"] == "CONFIRMED"
    verify_whole(claimant, dispute)


def test_a_dispute_whose_job_was_lost_is_set_off_again(service: Service) -> None:
    claimant = sign_up(service, "sixth")
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        dispute_id = claimant.file(suspect, covers_per_trigger=0)
        needs = claimant.wait(dispute_id, lambda found: found["needs"]["inputs"], "the first need")["needs"]
        service.kill("worker")
        for block in (0, 1):
            claimant.open_inputs(dispute_id, block, needs["inputs"]["indices"])
            needs = claimant.read(dispute_id)["needs"]
        assert (needs["inputs"], needs["labels"]) == (None, None)
        with service.database.owner.begin() as connection:
            lost = text("DELETE FROM procrastinate_jobs WHERE task_name = 'probe_block' RETURNING id")
            assert connection.execute(lost).all()
            long_ago = text("UPDATE disputes SET updated_at = updated_at - interval '1 hour' WHERE id = :id")
            connection.execute(long_ago, {"id": dispute_id})
        service.start_worker()
        dispute = answer_whatever_happens(claimant, dispute_id)
    assert dispute["verdict"] == "CONFIRMED"
    verify_whole(claimant, dispute)
