"""What happens in a dispute, step by step, as its claimant, its accused and the public are told of it.

Invariants: every step is written by `note_step`, in the transaction in which it happens and under the dispute's lock, so
that numbers have no gaps; `details` never hold the endpoint, a blind or a role; until probing has ended no step may be
told to anybody but the claimant together with the endpoint (`is_public`).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.lifecycle_tables import DisputeStepRow
from app.db.tables import DisputeRow, LogEntryRow
from app.disputes.states import DECIDED, DECIDING, WITHDRAWN
from app.notices.events import DISPUTE as TOPIC
from app.notices.events import announce
from app.protocol.records import FilingRecord

FILED, CHALLENGE_DRAWN, BLOCK_PROBED = "filed", "challenge_drawn", "block_probed"
PROBING_ENDED, WITHDRAWAL, NOTICE, VERDICT = "probing_ended", "withdrawn", "notice", "verdict"
ANSWER, SECOND_RUN_ASKED, SECOND_RUN_FILED = "answer", "second_run_asked", "second_run_filed"
WEIGHTS_DELIVERED, WEIGHTS_COMPARED, WEIGHTS_FAILED = "weights_delivered", "weights_compared", "weights_failed"
CROSS_TEST_OPENED, CROSS_TEST_DELIVERED = "cross_test_opened", "cross_test_delivered"
CROSS_TEST_FAILED, CROSS_TEST_ENDED = "cross_test_failed", "cross_test_ended"

# The states in which nothing is asked any more: an endpoint that learns of the dispute can bend no answer.
OPEN_STATES: Final = (DECIDING, WITHDRAWN, DECIDED)


def may_be_named(dispute: DisputeRow) -> bool:
    """Tell whether a dispute's endpoint may be named to anybody but the claimant."""
    return dispute.state in OPEN_STATES


def decided_at(session: Session, dispute: DisputeRow) -> datetime | None:
    """Give the time of the verdict's entry, if there is one: what the accused's times are counted from."""
    if dispute.verdict_index is None:
        return None
    return session.scalars(select(LogEntryRow.created_at).where(LogEntryRow.index == dispute.verdict_index)).one()


def note_step(
    session: Session,
    dispute: DisputeRow,
    kind: str,
    details: dict[str, Any],
    now: datetime,
    *,
    entry_index: int | None = None,
) -> DisputeStepRow:
    """Write down a step of a dispute that is locked, or new, in the state that the step leads to."""
    session.flush()
    last = session.scalar(select(func.max(DisputeStepRow.number)).where(DisputeStepRow.dispute_id == dispute.id))
    step = DisputeStepRow(
        dispute_id=dispute.id,
        number=0 if last is None else last + 1,
        kind=kind,
        entry_index=entry_index,
        details=details,
        is_public=may_be_named(dispute),
        created_at=now,
    )
    session.add(step)
    session.flush()
    _tell(session, dispute, step)
    return step


def _tell(session: Session, dispute: DisputeRow, step: DisputeStepRow) -> None:
    """Have the claimant's webhooks and the feeds told of a step."""
    told = {
        **step.details,
        "id": str(dispute.id),
        "registration_id": str(dispute.registration_id),
        "step": step.number,
        "entry_index": step.entry_index,
    }
    if step.is_public:
        told["endpoint"] = FilingRecord.parse(dispute.filing_record).endpoint
    kind = f"{TOPIC}.{step.kind}"
    announce(session, dispute.vendor_id, kind, told, step.created_at, is_public=step.is_public)


def list_steps(session: Session, dispute: DisputeRow) -> Sequence[DisputeStepRow]:
    """Read a dispute's steps in their order."""
    query = select(DisputeStepRow).where(DisputeStepRow.dispute_id == dispute.id).order_by(DisputeStepRow.number)
    return session.scalars(query).all()
