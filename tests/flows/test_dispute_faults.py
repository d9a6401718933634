"""Disputes whose processes are killed in the middle, and suspects that answer as slowly as they can.

Nothing is lost, asked twice without need, or decided twice; and nobody waits for a suspect who need not.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, text

from app.db.engine import transaction
from app.db.tables import BlockRow, DisputeRow, LogEntryRow, QueryRow
from app.disputes.probing import DISPUTE_MANNER, LOT, Prober, probe_block
from app.errors import DatabaseAway, Unavailable
from app.jobs.names import PROBE
from app.log.store import LogIdentity, check_log
from app.protocol.bundle import check_bundle
from app.protocol.records import BlockEntry, VerdictEntry, parse_entry
from app.storage.archive import unpack
from app.storage.objects import open_store
from app.suspects.adapter_codec import AdapterCodec
from app.suspects.addresses import NetworkRules
from app.suspects.probe import Manner
from app.suspects.transport import Limits
from app.worker import LANES
from tests.conftest import TEMPLATE, Server
from tests.flows.claimant import LOG_KEY, ORIGIN, Claimant, Service, innocent, running, sign_up, wait_until
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


def test_a_dispute_that_stood_still_is_not_asked_twice_while_its_job_lives(service: Service) -> None:
    claimant = sign_up(service, "slow one")
    with SuspectSimulator(claimant.stolen(1.0), latency_seconds=LATENCY_SECONDS) as suspect:
        # A block that is asked for seconds: the clock looks every second, and must come while its job still runs.
        dispute_id = claimant.file(suspect, lookahead=0, block_size=64)
        open_first_block(claimant, dispute_id)
        wait_until(lambda: stored(service, dispute_id), "the first lot of answers")
        with service.database.owner.begin() as connection:
            long_ago = text("UPDATE disputes SET updated_at = updated_at - interval '1 hour' WHERE id = :id")
            connection.execute(long_ago, {"id": dispute_id})
        attended = text("SELECT count(*) FROM procrastinate_jobs WHERE queueing_lock = :name AND status = 'succeeded'")
        with service.database.owner.connect() as connection:
            name = {"name": f"attend {dispute_id}"}
            wait_until(lambda: connection.scalar(attended, name), "the clock has looked after it")
        dispute = answer_whatever_happens(claimant, dispute_id)
    assert dispute["verdict"] == "CONFIRMED"
    assert len(suspect.requests) == len(verify_whole(claimant, dispute))


def test_a_dispute_that_cannot_be_attended_to_holds_up_no_other(service: Service) -> None:
    broken, sound = sign_up(service, "broken"), sign_up(service, "sound")
    damage = text("""
        UPDATE disputes SET deadline_at = deadline_at - interval '1 hour', filing_record = filing_record || :more
        WHERE id = :id
    """)
    repair = text("UPDATE disputes SET filing_record = :whole WHERE id = :id RETURNING blocks_labelled")
    with SuspectSimulator(innocent) as suspect:
        first = broken.file(suspect, covers_per_trigger=0)
        whole = broken.wait(first, lambda found: found["needs"]["inputs"], "the first need")["record"]
        with service.database.owner.begin() as connection:
            connection.execute(damage, {"id": first, "more": b"{}"})
        second = sound.file(suspect, covers_per_trigger=0, opening_seconds=1)
        assert sound.wait(second, lambda found: found["verdict"], "a verdict")["reason"] == "futile"
        with service.database.owner.begin() as connection:
            assert connection.scalar(repair, {"id": first, "whole": whole.encode()}) == 0
        broken.wait(first, lambda found: found["blocks_labelled"], "its deadline passes, too")


# --- slow suspects ----------------------------------------------------------------------------------------------------


def probes(service: Service, status: str) -> int:
    query = text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'probe_block' AND status::text = :status")
    with transaction(service.database.service) as session:
        return int(session.scalar(query, {"status": status}) or 0)


def asking_milliseconds(service: Service, dispute_id: str) -> int:
    with transaction(service.database.service) as session:
        return session.get_one(BlockRow, (UUID(dispute_id), 0)).asking_milliseconds


def test_a_suspect_that_never_answers_delays_neither_beacons_nor_deadlines_nor_verdicts(service: Service) -> None:
    at_once = dict(LANES)[PROBE,]
    with SuspectSimulator(lambda _: None, fault="hang") as tarpit, SuspectSimulator(lambda _: None) as suspect:
        for number in range(at_once // 2 + 1):
            accuser = sign_up(service, f"accuser {number}")
            for family in ("first", "second"):
                dispute_id = accuser.file(tarpit, family=family, max_triggers=32, covers_per_trigger=0)
                open_first_block(accuser, dispute_id)
        wait_until(lambda: probes(service, "doing") == at_once, "every place of the lane is taken")
        assert probes(service, "todo") > 0
        asked = len(tarpit.requests)
        claimant = sign_up(service, "unconcerned")  # waits for its registration's beacon
        withdrawn = claimant.file(suspect)
        claimant.wait(withdrawn, lambda found: found["needs"]["inputs"], "the filing's beacon")
        claimant.client.post(f"/v1/disputes/{withdrawn}/withdrawal")
        late = claimant.file(suspect, family="second", max_triggers=32, covers_per_trigger=0, opening_seconds=1)
        assert claimant.wait(withdrawn, lambda found: found["verdict"], "a verdict")["reason"] == "withdrawn"
        claimant.wait(late, lambda found: found["blocks_labelled"], "the deadline passes")
        assert claimant.wait(late, lambda found: found["verdict"], "a verdict")["reason"] in ("futile", "exhausted")
        # Nobody gave up a place meanwhile: the lane was full all the time.
        assert probes(service, "doing") == at_once
        assert 0 < asked <= len(tarpit.requests)
        assert suspect.requests == []


def test_the_time_of_a_block_is_counted_through_a_restart_and_what_is_left_is_recorded_unsent(
    service: Service,
) -> None:
    claimant = sign_up(service, "patient")
    with SuspectSimulator(claimant.stolen(1.0), latency_seconds=LATENCY_SECONDS) as suspect:
        dispute_id = claimant.file(suspect, lookahead=0)
        open_first_block(claimant, dispute_id)
        wait_until(lambda: stored(service, dispute_id) >= LOT, "the first lot of answers")
        service.kill("worker")
        kept, sent = stored(service, dispute_id), len(suspect.requests)
        assert asking_milliseconds(service, dispute_id) >= 1000 * LATENCY_SECONDS * LOT / Limits().connections
        with service.database.owner.begin() as connection:
            spent = text("UPDATE blocks SET asking_milliseconds = :all WHERE dispute_id = :id")
            connection.execute(spent, {"all": 1000 * DISPUTE_MANNER.budget_seconds, "id": dispute_id})
        service.start_worker()
        claimant.wait(dispute_id, lambda found: found["blocks_probed"] == 1, "the block is over")
        assert len(suspect.requests) == sent
        dispute = answer_whatever_happens(claimant, dispute_id)
    assert dispute["verdict"] == "CONFIRMED"
    errors = [query["record"]["error"] for query in verify_whole(claimant, dispute) if query["block"] == 0]
    assert errors == [""] * kept + ["out_of_time"] * (len(errors) - kept)
    assert len(errors) > kept


@dataclass(frozen=True)
class Held:
    """A job that this process took from the queue, as its handler sees it."""

    job_id: int
    number: int
    queue: str = PROBE
    is_last: bool = False

    def is_cancelled(self) -> bool:
        return False

    def is_stopping(self) -> bool:
        return False

    def raise_if_stopping(self) -> None:
        pass


def test_a_block_ends_in_time_however_slow_its_suspect_is(service: Service) -> None:
    claimant = sign_up(service, "punctual")
    with SuspectSimulator(claimant.stolen(1.0), latency_seconds=2 * LATENCY_SECONDS) as suspect:
        dispute_id = claimant.file(suspect, lookahead=0)
        needs = claimant.wait(dispute_id, lambda found: found["needs"]["inputs"], "the first need")["needs"]
        service.kill("worker")
        claimant.open_inputs(dispute_id, 0, needs["inputs"]["indices"])
        with transaction(service.database.service) as session:
            take = text("SELECT id, attempts FROM procrastinate_fetch_job_v2(ARRAY['probe'], NULL)")
            held = Held(*session.execute(take).one())
        prober = Prober(
            engine=service.database.service,
            identity=LogIdentity(ORIGIN, LOG_KEY),
            store=open_store((service.folder / "objects").as_uri()),
            rules=NetworkRules((ip_network("127.0.0.0/8"),), allow_http=True, ports=None),
            manner=Manner(budget_seconds=1.2),
            now=lambda: datetime.now(UTC),
        )
        probe_block(prober, held, UUID(dispute_id), 0)
        # A lot takes 0.8 s; the last question that was sent took its own time.
        assert 1200 <= asking_milliseconds(service, dispute_id) < 2000
        assert LOT < len(suspect.requests) < 2 * LOT
        sent = len(suspect.requests)
        service.start_worker()
        dispute = answer_whatever_happens(claimant, dispute_id)
    assert dispute["verdict"] == "CONFIRMED"
    errors = [query["record"]["error"] for query in verify_whole(claimant, dispute) if query["block"] == 0]
    assert errors == [""] * sent + ["out_of_time"] * (len(errors) - sent)


def test_a_host_whose_queries_of_the_day_are_used_up_is_asked_when_there_are_more_and_nothing_is_lost(
    service: Service,
) -> None:
    claimant = sign_up(service, "thrifty")

    def count(sql: str) -> None:
        with transaction(service.database.service) as session:
            session.execute(text(sql))

    with SuspectSimulator(claimant.stolen()) as suspect:
        # Tomorrow's count as well: this test may run at midnight.
        count("DELETE FROM endpoint_budgets")
        count(
            "INSERT INTO endpoint_budgets SELECT '127.0.0.1', 'disputes', to_char(day, 'YYYY-MM-DD'), 50000 "
            "FROM unnest(ARRAY[now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC' + interval '1 day']) AS day"
        )
        dispute_id = claimant.file(suspect, max_triggers=64)
        agent = claimant.agent

        def waits() -> bool:
            agent.answer_all()
            return "127.0.0.1 was sent as many queries today" in (service.folder / "worker.log").read_text()

        wait_until(waits, "the worker says why it waits")
        assert not suspect.requests
        count("DELETE FROM endpoint_budgets")
        decided = claimant.answer_until_decided(dispute_id)
        assert decided["verdict"] == "CONFIRMED"

        def is_given_back() -> bool:
            with transaction(service.database.service) as session:
                sum_of = text("SELECT sum(sent) FROM endpoint_budgets WHERE scope = 'disputes'")
                return bool(session.execute(sum_of).scalar_one() == len(suspect.requests))

        # What was counted and not sent is given back, of the block that was underway a moment later.
        wait_until(is_given_back, "what was not sent is given back")
