"""What the clock does to disputes: deadlines pass, and work that got lost is set off again.

Invariants: one job and one transaction a dispute, so one that fails holds up no other.
"""

import logging
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.db.engine import transaction
from app.db.tables import DisputeRow
from app.disputes.course import ATTEND_TASK, find_idle, find_overdue, lock_dispute, replace_lost_job
from app.disputes.cross_tests import find_due, place_conclusion
from app.disputes.openings import pass_deadline
from app.disputes.states import FILED
from app.jobs.names import COURT
from app.jobs.queue import enqueue

logger = logging.getLogger(__name__)

# A job that died of something the operator has since repaired is placed again after this long.
IDLE_SECONDS = 1800


def pass_deadlines(engine: Engine, now: datetime) -> None:
    """Have every dispute attended to whose deadline has passed, or which has stood still for long; end cross-tests."""
    with transaction(engine) as session:
        for dispute_id in [*find_overdue(session, now), *find_idle(session, _idle_before(now))]:
            args = {"dispute": str(dispute_id)}
            enqueue(session, ATTEND_TASK, COURT, args, queueing_lock=f"{ATTEND_TASK} {dispute_id}")
        for cross_test_id in find_due(session, now):
            place_conclusion(session, cross_test_id)


def attend(engine: Engine, dispute_id: UUID, now: datetime) -> None:
    """Count as withheld what was to come before now, and wake a dispute that has stood still for long."""
    with transaction(engine) as session:
        row = lock_dispute(session, dispute_id)
        pass_deadline(session, row, now)
        if _is_idle(row, now):
            _wake(session, row, now)


def _is_idle(row: DisputeRow, now: datetime) -> bool:
    waits_for_us = row.deadline_at is None and row.verdict is None and row.state != FILED
    return waits_for_us and row.updated_at < _idle_before(now)


def _wake(session: Session, row: DisputeRow, now: datetime) -> None:
    # A job that still lives is only slow: a second one beside it would ask the suspect the same again.
    if replace_lost_job(session, row):
        logger.warning("dispute %s has stood still: its job is placed again", row.id)
    row.updated_at = now


def _idle_before(now: datetime) -> datetime:
    return now - timedelta(seconds=IDLE_SECONDS)
