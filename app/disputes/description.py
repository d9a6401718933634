"""A dispute as its claimant sees it: what is asked for, and what came of it.

Invariants: labels are asked for only with the proof that their block's head is in the log; figures are those
that were stored with the verdict, so a look at a decided dispute costs nothing.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from app.db.tables import BlockRow, DisputeRow
from app.disputes.course import indices_of, progress_of
from app.disputes.states import DECIDED
from app.log.store import receipt_for
from app.protocol.verdict import is_paper_rule_met


@dataclass(frozen=True)
class NeededInputs:
    """A block whose inputs are asked for."""

    block: int
    indices: list[int]


@dataclass(frozen=True)
class NeededLabels(NeededInputs):
    """A block whose label keys are asked for, and where its head stands in the log."""

    entry_index: int
    receipt: str


@dataclass(frozen=True)
class Asked:
    """What the claimant is asked for now, and until when."""

    inputs: NeededInputs | None
    labels: NeededLabels | None
    deadline_at: datetime | None


@dataclass(frozen=True)
class Description:
    """What a dispute's row does not say by itself."""

    record: str
    blocks_total: int
    needs: Asked
    paper_rule: bool | None


def describe(session: Session, row: DisputeRow) -> Description:
    """Describe a dispute to its claimant."""
    return Description(
        record=row.filing_record.decode(),
        blocks_total=progress_of(row).total,
        needs=_needs(session, row),
        paper_rule=is_paper_rule_met(row.matches, row.asked) if row.state == DECIDED else None,
    )


def _needs(session: Session, row: DisputeRow) -> Asked:
    needs = progress_of(row).needs
    inputs = labels = None
    if needs.inputs is not None:
        inputs = NeededInputs(needs.inputs, indices_of(row, needs.inputs))
    if needs.labels is not None:
        head = session.get_one(BlockRow, (row.id, needs.labels)).entry_index
        if head is None:
            raise AssertionError("labels are asked for only once the block's head is in the log")
        labels = NeededLabels(needs.labels, indices_of(row, needs.labels), head, receipt_for(session, head))
    return Asked(inputs, labels, row.deadline_at)
