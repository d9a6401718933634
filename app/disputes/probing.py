"""Asking a block: whoever does it knows no label of it.

Steps: 1. plan the block's questions from the dispute's row; 2. ask what no earlier attempt has stored; each lot is stored in
a transaction of its own with the time taken so far, while the next one is asked; what is left when the block's time is
spent is stored unsent, as `out_of_time`; 3. in one transaction, log the head over all of it and move the dispute on.

Invariants: a stored answer is never asked again; a lot that was asked but not stored (the worker was killed) is asked again
whole, before anybody saw its answers; only the job's present holder writes; a block that stores its lots ends in time,
however slow the suspect is and however often the worker restarts; when the host's queries of the day are used up the
block waits for the next day and loses nothing by it, else whoever uses them up could spoil another's dispute.
Source: docs/protocol.md section 6.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from obstore.store import ObjectStore
from sqlalchemy import ColumnElement, Engine, func, insert, select
from sqlalchemy.orm import Session

from app.db.engine import transaction
from app.db.tables import BlockRow, DisputeRow, OpeningRow, QueryRow
from app.disputes.budgets import DISPUTES, give_back, may_spend
from app.disputes.course import (
    indices_of,
    load_seed,
    load_statement,
    load_unasked,
    lock_dispute,
    move,
    policy_of,
    progress_of,
    record_of,
)
from app.disputes.credentials import open_credentials
from app.disputes.filing import CoverShelf, dispute_covers
from app.disputes.lifecycle import BLOCK_PROBED, note_step
from app.disputes.questions import BlockPlan, Planned, plan_questions
from app.disputes.states import ASKING, after_probe
from app.errors import Unavailable
from app.jobs.queue import Attempt, verify_current
from app.log.store import LogIdentity, append, entry_time
from app.protocol.records import BlockEntry
from app.protocol.transcript import FIRST_HEAD, Query, block_head
from app.storage.secret_box import SecretBox
from app.suspects import probe
from app.suspects.addresses import NetworkRules, parse_endpoint
from app.suspects.pacing import TrafficOf
from app.suspects.probe import OUT_OF_TIME, Asked, Manner, Question, Suspect
from app.suspects.transport import Limits

# Questions a transaction: a killed worker asks again what was not stored, the lot under way and the one begun behind it.
LOT = 32

# A block may take ten minutes, a question 20 seconds an attempt: else a suspect that drips its answers keeps a worker's
# place for as long as it likes. `attempts` is the policy's.
DISPUTE_MANNER = Manner(budget_seconds=600.0, limits=Limits(read_seconds=20.0, total_seconds=20.0))

# A dispute of 256 triggers with ten covers each takes some 3,200 queries.
QUERIES_A_DAY = 50_000


@dataclass(frozen=True)
class Prober:
    """What a worker asks with; the manner's budget is a block's, `queries_a_day` is a host's for all disputes."""

    engine: Engine
    identity: LogIdentity
    store: ObjectStore
    rules: NetworkRules
    manner: Manner
    now: Callable[[], datetime]
    box: SecretBox | None = None
    queries_a_day: int = QUERIES_A_DAY
    traffic_of: TrafficOf = field(default_factory=TrafficOf)
    shelf: CoverShelf = field(default_factory=CoverShelf)

    @property
    def egresses(self) -> int:
        """Count the addresses it asks from; what is asked twice is asked from two of them."""
        return min(2, max(1, len(self.manner.egress_addresses)))


@dataclass(frozen=True)
class _Task:
    dispute_id: UUID
    block: int
    suspect: Suspect
    host: str
    manner: Manner
    planned: Sequence[Planned]
    missing: Sequence[Planned]
    taken: timedelta


def probe_block(prober: Prober, attempt: Attempt, dispute_id: UUID, block: int) -> None:
    """Ask a block and log its head; do nothing if it is not this block's turn (any more)."""
    task = _plan(prober, dispute_id, block)
    if task is None:
        return
    budget_seconds = max(0.0, task.manner.budget_seconds - task.taken.total_seconds())
    manner = replace(task.manner, budget_seconds=budget_seconds)
    session = probe.Session(task.suspect, prober.rules, manner, prober.now, prober.traffic_of)
    lots = list(_lots(task.missing))
    try:
        probe.ask_lots(session, [_questions(lot) for lot in lots], _Ledger(prober, attempt, task, iter(lots)))
    except _Over:
        return
    with transaction(prober.engine) as database:
        _log_head(database, prober, attempt, dispute_id, block)


class _Over(Exception):
    """Nothing more is asked: the dispute has ended, or was withdrawn."""


class _Ledger:
    """What is written down while a block is asked: the host's budget before each lot, its answers after."""

    def __init__(self, prober: Prober, attempt: Attempt, task: _Task, lots: Iterator[Sequence[Planned]]) -> None:
        self._prober, self._attempt, self._task, self._lots = prober, attempt, task, lots
        self._began_at = prober.now()
        self._counted: deque[tuple[int, datetime]] = deque()

    def begin(self, questions: int) -> None:
        """Count the queries of a lot, for as many attempts as each may take."""
        self._attempt.raise_if_stopping()
        counted, now = questions * self._task.manner.attempts, self._prober.now()
        spend(self._prober, self._task.host, counted, now)
        self._counted.append((counted, now))

    def end(self, asked: Sequence[Asked]) -> None:
        """Store a lot's answers and the time that asking has taken, and give back what was not sent."""
        task, lot = self._task, next(self._lots)
        counted, at = self._counted.popleft()
        taken = task.taken + max(self._prober.now() - self._began_at, timedelta())
        with transaction(self._prober.engine) as session:
            verify_current(session, self._attempt)
            give_back(session, task.host, DISPUTES, counted - count_sent(asked), at)
            is_asking = session.get_one(DisputeRow, task.dispute_id).state == ASKING
            if is_asking:
                rows = [_query_row(task, planned, seen) for planned, seen in zip(lot, asked, strict=True)]
                session.execute(insert(QueryRow), rows)
                block = session.get_one(BlockRow, (task.dispute_id, task.block))
                block.asking_milliseconds = taken // timedelta(milliseconds=1)
        if not is_asking:
            raise _Over


def _questions(lot: Sequence[Planned]) -> list[Question]:
    return [Question(planned.n, planned.input, egress=planned.role.repeat) for planned in lot]


def _lots(planned: Sequence[Planned]) -> Iterator[Sequence[Planned]]:
    for start in range(0, len(planned), LOT):
        yield planned[start : start + LOT]


def spend(prober: Prober, host: str, queries: int, now: datetime) -> None:
    """Count queries to a host before they are sent.

    Raises: Unavailable if it was sent as many today as the operator allows.
    """
    with transaction(prober.engine) as session:
        if may_spend(session, host, DISPUTES, queries, prober.queries_a_day, now):
            return
    raise Unavailable(
        f"{host} was sent as many queries today as TRAPSTREET_ENDPOINT_QUERIES_A_DAY ({prober.queries_a_day}) allows: "
        "its disputes go on tomorrow (UTC), or with a higher limit"
    )


def count_sent(asked: Sequence[Asked]) -> int:
    """Count the queries that left for these answers, every attempt of each."""
    return sum(seen.attempt for seen in asked if seen.error != OUT_OF_TIME)


def _plan(prober: Prober, dispute_id: UUID, block: int) -> _Task | None:
    with transaction(prober.engine) as session:
        row = session.get_one(DisputeRow, dispute_id)
        if progress_of(row).block_to_probe != block or row.beacon_index is None:
            return None
        record = record_of(row)
        covers = dispute_covers(prober.store, prober.shelf, row, record, load_statement(session, row))
        planned = plan_questions(
            row.role_blind_seed,
            load_seed(session, row, row.beacon_index),
            _block_plan(session, row, block),
            covers.inputs,
            record.policy.covers_per_trigger,
            seen=covers.seen,
        )
        stored = set(session.scalars(select(QueryRow.n).where(_of_block(dispute_id, block))))
        manner = prober.manner
        # The operator's pace is no fault of the suspect: it comes on top of the block's time.
        budget_seconds = manner.budget_seconds + manner.pace_seconds * record.policy.attempts * len(planned)
        return _Task(
            dispute_id,
            block,
            suspect=Suspect(
                record.endpoint,
                record.interface,
                len(load_statement(session, row).classes),
                open_credentials(session, prober.box, row.suspect_id, record.endpoint),
                by_ranking=record.by_ranking,
            ),
            host=parse_endpoint(record.endpoint, prober.rules).host,
            manner=replace(manner, attempts=record.policy.attempts, budget_seconds=budget_seconds),
            planned=planned,
            missing=[question for question in planned if question.n not in stored],
            taken=timedelta(milliseconds=session.get_one(BlockRow, (dispute_id, block)).asking_milliseconds),
        )


def _block_plan(session: Session, row: DisputeRow, block: int) -> BlockPlan:
    openings = session.scalars(select(OpeningRow).where(OpeningRow.dispute_id == row.id, OpeningRow.block == block))
    inputs = {opening.trigger_index: opening.input for opening in openings}
    earlier = select(func.count()).where(QueryRow.dispute_id == row.id, QueryRow.block < block)
    return BlockPlan(
        number=block,
        first_position=block * policy_of(row).block_size,
        triggers=[(index, inputs[index]) for index in indices_of(row, block)],
        first_n=session.scalars(earlier).one(),
    )


def _query_row(task: _Task, planned: Planned, seen: Asked) -> dict[str, Any]:
    record = Query(
        n=planned.n,
        role_commitment=planned.role.commit(planned.blind),
        attempt=seen.attempt,
        sent_at=seen.sent_at,
        request_sha256=seen.request_sha256,
        status=seen.status,
        response_sha256=seen.response_sha256,
        labels=seen.labels,
        error=seen.error,
        address=seen.address,
        certificate_sha256=seen.certificate_sha256,
    )
    return {
        "dispute_id": task.dispute_id,
        "n": planned.n,
        "block": task.block,
        "record": record.encode(),
        "role": planned.role.encode(),
        "blind": planned.blind,
        "request": seen.request,
        "response": seen.response,
    }


def _log_head(session: Session, prober: Prober, attempt: Attempt, dispute_id: UUID, block: int) -> None:
    row = lock_dispute(session, dispute_id)
    verify_current(session, attempt)
    progress = progress_of(row)
    if progress.block_to_probe != block:
        return
    records = session.scalars(select(QueryRow.record).where(_of_block(dispute_id, block)).order_by(QueryRow.n))
    head = block_head(_previous_head(session, row), block, map(Query.parse, records))
    now = prober.now()
    entry = BlockEntry(time=entry_time(session, now), filing=row.filing_index, block=block, head=head)
    appended = append(session, prober.identity, entry, now)
    # A dispute was asked from two addresses only if each of its blocks was.
    row.egresses = min(row.egresses, prober.egresses) if row.blocks_probed else prober.egresses
    asked = session.get_one(BlockRow, (dispute_id, block))
    asked.state, asked.head, asked.entry_index, asked.probed_at = "probed", head, appended.index, now
    note_step(session, row, BLOCK_PROBED, {"block": block}, now, entry_index=appended.index)
    move(session, row, after_probe(progress, block, load_unasked(session, row)), now)


def _previous_head(session: Session, row: DisputeRow) -> bytes:
    logged = (BlockRow.dispute_id == row.id) & BlockRow.head.is_not(None)
    head = session.scalar(select(BlockRow.head).where(logged).order_by(BlockRow.number.desc()).limit(1))
    return FIRST_HEAD if head is None else head


def _of_block(dispute_id: UUID, block: int) -> ColumnElement[bool]:
    return (QueryRow.dispute_id == dispute_id) & (QueryRow.block == block)
