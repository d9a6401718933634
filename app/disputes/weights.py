"""Weights that the accused delivers: older than the labels, they hold no mark; if they answer alike, the claim is void.

Taken in here; asked by an embedding worker (app.embedding.white_box.comparison_job); prepared for it and judged by
`weights_judged`.

Invariants: nothing is stored before the log is seen to hold the file's digest from before the beacon; one delivery of a
dispute is being compared at a time, and there are MAX_DELIVERIES at most.
Source: docs/protocol.md section 8.2.
Trust: the files are a stranger's: this process measures and keeps them, and only a confined child opens them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.lifecycle_tables import WeightDeliveryRow
from app.db.tables import DisputeRow, RegistrationRow, WorkerKeyRow, new_id
from app.disputes.answers import answers_until
from app.disputes.lifecycle import WEIGHTS_DELIVERED, may_be_named, note_step
from app.disputes.second_runs import AGAINST
from app.embedding.orders import UNFINISHED
from app.embedding.white_box.check_order import find_model_entries
from app.embedding.white_box.comparison import ComparisonReport
from app.errors import Conflict, NotFound, PolicyRefused
from app.jobs.names import COURT, EMBED_CPU, EMBED_GPU
from app.jobs.queue import PREPARE_WEIGHTS_TASK, enqueue

MAX_DELIVERIES: Final = 5


@dataclass(frozen=True)
class Delivered:
    """Files as they were stored: the weights, their size in bytes, and the program that they need, if they do."""

    sha256: bytes
    size_bytes: int
    program_sha256: bytes | None


@dataclass(frozen=True)
class Delivery:
    """A delivery as both sides see it; counts are None until it was compared."""

    number: int
    sha256: bytes
    entry_index: int
    state: str
    asked: int
    repeated: int | None
    answered: int | None
    triggers_repeated: int | None
    triggers_answered: int | None
    error: str
    has_voided: bool
    earlier_bundle: bytes
    created_at: datetime

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more comes of it."""
        return self.state not in UNFINISHED


def list_deliveries(session: Session, dispute: DisputeRow) -> Sequence[Delivery]:
    """Read a dispute's deliveries, the first one first."""
    return [_shown(row) for row in _rows(session, dispute)]


def may_deliver(session: Session, dispute: DisputeRow, now: datetime) -> bool:
    """Tell whether weights would be taken now."""
    try:
        verify_may_deliver(session, dispute, now)
    except Conflict:
        return False
    return True


def verify_may_deliver(session: Session, dispute: DisputeRow, now: datetime) -> None:
    """Refuse weights that would not be taken, whatever they are.

    Raises: NotFound if nobody may know of the dispute; Conflict with the reason.
    """
    if not may_be_named(dispute):
        raise NotFound
    if dispute.verdict not in AGAINST or dispute.verdict_index is None:
        raise Conflict("there is no verdict against the endpoint that weights could undo", state=dispute.state)
    until = answers_until(session, dispute)
    if until is not None and now > until:
        raise Conflict(f"weights were taken until {until:%Y-%m-%d}", state=dispute.state)
    earlier = _rows(session, dispute)
    if any(not row.is_concluded for row in earlier):
        raise Conflict("weights are being compared: wait until they are", state=dispute.state)
    if len(earlier) >= MAX_DELIVERIES:
        raise Conflict(f"weights are taken {MAX_DELIVERIES} times at most, and they were", state=dispute.state)
    if find_queue(session) is None:
        raise Conflict("no worker of this service takes weights yet: try again later", state=dispute.state)


def find_older_entry(session: Session, dispute: DisputeRow, sha256: bytes) -> int:
    """Find the `model` entry that shows a file to be older than the registration's beacon.

    Raises: PolicyRefused with what the log holds instead.
    """
    beacon = session.get_one(RegistrationRow, dispute.registration_id).beacon_index
    if beacon is None:
        raise AssertionError("a dispute is filed after its registration's beacon")
    indices = [logged.index for logged in find_model_entries(session, sha256)]
    if not indices:
        raise PolicyRefused(
            f"the log holds no model entry with this file's SHA-256, {sha256.hex()}: only what was logged before the labels "
            "were drawn is older than they are, and a file that was changed since has another SHA-256",
            pointer="/weights",
        )
    if indices[0] >= beacon:
        raise PolicyRefused(
            f"this file was logged too late: its first model entry is {indices[0]}, and the labels were drawn in "
            f"entry {beacon}",
            pointer="/weights",
        )
    return indices[0]


def deliver(
    session: Session, dispute: DisputeRow, delivered: Delivered, now: datetime, randomness: bytes
) -> WeightDeliveryRow:
    """Take weights, whose files are stored, for comparison with the endpoint of a locked dispute.

    Raises: NotFound, Conflict, PolicyRefused as the checks say.
    """
    verify_may_deliver(session, dispute, now)
    entry_index = find_older_entry(session, dispute, delivered.sha256)
    earlier, queue = _rows(session, dispute), find_queue(session)
    pair = (delivered.sha256, delivered.program_sha256)
    if any((row.sha256, row.program_sha256) == pair and row.state == "done" for row in earlier):
        raise Conflict("these weights were compared already", state=dispute.state)
    row = WeightDeliveryRow(
        id=new_id(now, randomness),
        vendor_id=dispute.vendor_id,
        registration_id=dispute.registration_id,
        queue=queue,
        # The court writes it, for it alone reads the evidence.
        order_json={},
        sealed_key=b"",
        state="queued",
        dispute_id=dispute.id,
        number=len(earlier) + 1,
        sha256=delivered.sha256,
        size_bytes=delivered.size_bytes,
        program_sha256=delivered.program_sha256,
        entry_index=entry_index,
        verdict_index=dispute.verdict_index,
        bundle_sha256=dispute.bundle_sha256,
        created_at=now,
        updated_at=now,
    )
    session.add(row)
    session.flush()
    lock = f"{PREPARE_WEIGHTS_TASK} {row.id}"
    enqueue(session, PREPARE_WEIGHTS_TASK, COURT, {"delivery": str(row.id)}, queueing_lock=lock)
    details: dict[str, Any] = {"number": row.number, "sha256": row.sha256.hex()}
    note_step(session, dispute, WEIGHTS_DELIVERED, details, now, entry_index=entry_index)
    return row


def _rows(session: Session, dispute: DisputeRow) -> Sequence[WeightDeliveryRow]:
    query = select(WeightDeliveryRow).where(WeightDeliveryRow.dispute_id == dispute.id)
    return session.scalars(query.order_by(WeightDeliveryRow.number)).all()


def find_queue(session: Session) -> str | None:
    """Name the queue whose workers have announced themselves; a network that is only asked needs no GPU."""
    query = select(WorkerKeyRow.queue).where(WorkerKeyRow.queue.in_((EMBED_CPU, EMBED_GPU)))
    return min(session.scalars(query), default=None)  # `embed.cpu` comes first


def _shown(row: WeightDeliveryRow) -> Delivery:
    report = None if row.report is None else ComparisonReport.from_json(row.report)
    return Delivery(
        number=row.number,
        sha256=row.sha256,
        entry_index=row.entry_index,
        state=row.state if row.is_concluded or row.state in UNFINISHED else "running",
        asked=int(row.progress.get("asked", 0)),
        repeated=None if report is None else report.repeated,
        answered=None if report is None else report.answered,
        triggers_repeated=None if report is None else report.triggers_repeated,
        triggers_answered=None if report is None else report.triggers_answered,
        error="" if row.error is None or row.state != "failed" else str(row.error.get("message", "")),
        has_voided=row.has_voided,
        earlier_bundle=row.bundle_sha256,
        created_at=row.created_at,
    )
