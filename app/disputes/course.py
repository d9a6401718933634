"""A dispute's row and how it moves on: counters, the claimant's deadline, and the jobs that follow.

Invariants: every step holds the row's lock until it is committed, and looks first whether it is its turn, so steps of one
dispute never overlap though its jobs may; whoever also appends to the log locks the row first; a dispute that waits for us
has a job, and one that waits for the claimant has a deadline; of one block (or decision) one job lives at a time.
The deadline is that of everything asked for now, and moves only when what is asked for changes.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.canonical import sha256
from app.db.paging import page_of
from app.db.tables import BlockRow, DisputeRow, RegistrationRow
from app.disputes import lifecycle
from app.disputes.lifecycle import note_step
from app.disputes.states import ASKING, Progress, next_state
from app.errors import NotFound
from app.jobs.names import COURT, PROBE
from app.jobs.queue import enqueue, is_alive
from app.keys.statement import Statement
from app.log.store import load_entry
from app.protocol.assessment import beacon_value
from app.protocol.challenge import challenge_order, seed_of
from app.protocol.records import BeaconEntry, FilingRecord, Policy

# Task names stand in the database. All of them wait where only the light worker listens.
PROBE_BLOCK_TASK, DECIDE_TASK, ATTEND_TASK = "probe_block", "decide", "attend"


def load_dispute(session: Session, vendor_id: UUID, dispute_id: UUID, *, for_update: bool = False) -> DisputeRow:
    """Read a vendor's dispute.

    Raises: NotFound if there is none or it is another vendor's.
    """
    query = select(DisputeRow).where(DisputeRow.id == dispute_id, DisputeRow.vendor_id == vendor_id)
    row = session.scalar(query.with_for_update() if for_update else query)
    if row is None:
        raise NotFound
    return row


def list_disputes(
    session: Session,
    vendor_id: UUID,
    after: UUID | None,
    limit: int,
    *,
    needs_opening: bool = False,
    newest_first: bool = False,
) -> Sequence[DisputeRow]:
    """Read a vendor's disputes in the order in which they were filed, behind `after`; all, or those that wait for it."""
    query = select(DisputeRow).where(DisputeRow.vendor_id == vendor_id)
    if needs_opening:
        query = query.where(DisputeRow.deadline_at.is_not(None))
    return session.scalars(page_of(query, DisputeRow.id, after, limit, newest_first=newest_first)).all()


def lock_dispute(session: Session, dispute_id: UUID) -> DisputeRow:
    """Read a dispute as it is now and keep others from moving it until this transaction ends."""
    query = select(DisputeRow).where(DisputeRow.id == dispute_id)
    return session.scalars(query.with_for_update().execution_options(populate_existing=True)).one()


def record_of(row: DisputeRow) -> FilingRecord:
    """Give the filing record."""
    return FilingRecord.parse(row.filing_record)


def policy_of(row: DisputeRow) -> Policy:
    """Give the policy under which a dispute is run."""
    return record_of(row).policy


def load_statement(session: Session, row: DisputeRow) -> Statement:
    """Read the statement whose family is held against the suspect."""
    return Statement.parse(session.get_one(RegistrationRow, row.registration_id).statement)


def progress_of(row: DisputeRow) -> Progress:
    """Give a dispute's place among its blocks."""
    policy = policy_of(row)
    return Progress(
        state=row.state,
        total=-(-len(row.challenge or ()) // policy.block_size),
        lookahead=policy.lookahead,
        opened=row.blocks_opened,
        probed=row.blocks_probed,
        labelled=row.blocks_labelled,
        withheld_in_a_row=row.withheld_in_a_row,
    )


def indices_of(row: DisputeRow, block: int) -> list[int]:
    """Give the triggers of a block, in challenge order."""
    size = policy_of(row).block_size
    return (row.challenge or [])[block * size : (block + 1) * size]


def load_unasked(session: Session, row: DisputeRow) -> set[int]:
    """Read which blocks were withheld before they could be asked."""
    query = select(BlockRow.number).where(BlockRow.dispute_id == row.id, BlockRow.state == "unasked")
    return set(session.scalars(query))


def load_seed(session: Session, row: DisputeRow, beacon_index: int) -> bytes:
    """Derive the challenge seed from the log."""
    beacon = BeaconEntry.parse(load_entry(session, beacon_index))
    return seed_of(beacon_value(beacon), sha256(load_entry(session, row.filing_index)))


def begin_asking(session: Session, row: DisputeRow, beacon_index: int, now: datetime) -> None:
    """Draw the challenge from the filing's beacon and ask for the first block; once done, do nothing."""
    if row.beacon_index is not None:
        return
    statement, policy = load_statement(session, row), policy_of(row)
    seed = load_seed(session, row, beacon_index)
    row.state = next_state(row.state, "beacon")
    row.beacon_index = beacon_index
    row.challenge = challenge_order(seed, statement.family(row.family))[: policy.max_triggers]
    row.deadline_at = now + timedelta(seconds=policy.opening_seconds)
    row.updated_at = now
    details = {"triggers": len(row.challenge), "blocks": progress_of(row).total}
    note_step(session, row, lifecycle.CHALLENGE_DRAWN, details, now, entry_index=beacon_index)


def move(session: Session, row: DisputeRow, after: Progress, now: datetime, *, is_walk_over: bool = False) -> None:
    """Write new counters and set off what follows from them: the next probe, the end, or another deadline."""
    before = progress_of(row)
    row.blocks_opened, row.blocks_probed, row.blocks_labelled = after.opened, after.probed, after.labelled
    row.withheld_in_a_row, row.updated_at = after.withheld_in_a_row, now
    if after.state == ASKING and (is_walk_over or after.is_through):
        finish(session, row, "end", now)
        return
    if after.needs != before.needs:
        waits = any(block is not None for block in after.needs)
        row.deadline_at = now + timedelta(seconds=policy_of(row).opening_seconds) if waits else None
    if after.block_to_probe not in (None, before.block_to_probe):
        enqueue_probe(session, row)


def finish(session: Session, row: DisputeRow, act: str, now: datetime) -> None:
    """Ask nothing further (`act` is `end` or `withdrawal`) and have the dispute decided."""
    row.state = next_state(row.state, act)
    row.deadline_at, row.updated_at = None, now
    kind = lifecycle.PROBING_ENDED if act == "end" else lifecycle.WITHDRAWAL
    note_step(session, row, kind, {"asked": row.asked, "matches": row.matches}, now)
    enqueue_decision(session, row)


def enqueue_probe(session: Session, row: DisputeRow) -> None:
    """Have the block whose turn it is asked."""
    args = {"dispute": str(row.id), "block": row.blocks_probed}
    enqueue(session, PROBE_BLOCK_TASK, PROBE, args, queueing_lock=_probe_name(row))


def enqueue_decision(session: Session, row: DisputeRow) -> None:
    """Have a dispute decided in which nothing is asked any more."""
    enqueue(session, DECIDE_TASK, COURT, {"dispute": str(row.id)}, queueing_lock=_decision_name(row))


def replace_lost_job(session: Session, row: DisputeRow) -> bool:
    """Place the job that a dispute waits for, if it has none that waits or runs; say whether one was placed."""
    is_asking = row.state == ASKING
    if is_alive(session, _probe_name(row) if is_asking else _decision_name(row)):
        return False
    # Both find out by themselves whether there is anything to do.
    (enqueue_probe if is_asking else enqueue_decision)(session, row)
    return True


def _probe_name(row: DisputeRow) -> str:
    return f"probe {row.id} {row.blocks_probed}"


def _decision_name(row: DisputeRow) -> str:
    return f"decide {row.id}"


def find_overdue(session: Session, now: datetime) -> Sequence[UUID]:
    """Find disputes whose claimant's deadline has passed, the longest overdue first."""
    overdue = (DisputeRow.deadline_at <= now) & DisputeRow.verdict.is_(None)
    return session.scalars(select(DisputeRow.id).where(overdue).order_by(DisputeRow.deadline_at)).all()


def find_idle(session: Session, before: datetime) -> Sequence[UUID]:
    """Find disputes that wait for us and have not moved since `before`."""
    waiting = (DisputeRow.deadline_at.is_(None)) & DisputeRow.verdict.is_(None) & (DisputeRow.state != "filed")
    return session.scalars(select(DisputeRow.id).where(waiting, DisputeRow.updated_at < before)).all()
