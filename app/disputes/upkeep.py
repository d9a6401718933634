"""What the clock does to disputes: deadlines pass, and work that got lost is set off again.

Invariants: one transaction a dispute, so one that fails holds up no other.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Engine, select

from app.db.engine import transaction
from app.db.tables import DisputeRow
from app.disputes.course import enqueue_decision, enqueue_probe, find_idle, lock_dispute
from app.disputes.openings import pass_deadline
from app.disputes.states import ASKING, DECIDED

logger = logging.getLogger(__name__)

# A job that died of something the operator has since repaired is placed again after this long; asking a block takes less.
IDLE_SECONDS = 1800


def pass_deadlines(engine: Engine, now: datetime) -> None:
    """Count everything as withheld whose deadline has passed, and wake disputes that have stood still for long."""
    for dispute_id in _find_late(engine, now):
        with transaction(engine) as session:
            pass_deadline(session, lock_dispute(session, dispute_id), now)
    with transaction(engine) as session:
        idle = find_idle(session, now - timedelta(seconds=IDLE_SECONDS))
    for dispute_id in idle:
        with transaction(engine) as session:
            row = lock_dispute(session, dispute_id)
            if row.state != DECIDED:
                logger.warning("dispute %s has stood still: its job is placed again", dispute_id)
                # Both find out by themselves whether there is anything to do.
                (enqueue_probe if row.state == ASKING else enqueue_decision)(session, row)
                row.updated_at = now


def _find_late(engine: Engine, now: datetime) -> Sequence[UUID]:
    with transaction(engine) as session:
        late = (DisputeRow.deadline_at <= now) & DisputeRow.verdict.is_(None)
        return session.scalars(select(DisputeRow.id).where(late)).all()
