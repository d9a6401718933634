"""Two registrants, one model: each vendor with a confirmed dispute about an address delivers a model it committed to.

Opened by the court when a second vendor's dispute about the address is confirmed. Taken in here; asked by an embedding
worker (app.embedding.white_box.cross_test_job); prepared for it and judged by `cross_tests_judged`.

Invariants: a pair of disputes of two vendors is tested once; whoever changes a cross-test holds both disputes' locks, the
one that was filed first first; nothing is stored before the log is seen to hold the file's digest, as this vendor's, from
before the other's filing; a party delivers until one model of its could be asked, and that one stays.
Source: docs/protocol.md section 10.1.
Trust: of the other party a vendor learns its name and what stands in the log; the files are for the court alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from app.db.cross_test_tables import CrossDeliveryRow, CrossTestRow
from app.db.tables import (
    DisputeRow,
    EmbeddingRow,
    ModelCommitmentRow,
    RegistrationRow,
    VendorRow,
    new_id,
)
from app.disputes.addresses import host_of, is_same_address
from app.disputes.course import lock_dispute, record_of
from app.disputes.lifecycle import CROSS_TEST_DELIVERED, CROSS_TEST_OPENED, note_step
from app.disputes.states import DECIDED
from app.disputes.weights import Delivered, find_queue
from app.embedding.orders import UNFINISHED
from app.errors import Conflict, NotFound, PolicyRefused
from app.jobs.names import COURT
from app.jobs.queue import CONCLUDE_CROSS_TEST_TASK, PREPARE_CROSS_TASK, enqueue
from app.log.store import load_entry
from app.protocol.cross_test import MAX_CROSS_TESTS, Party
from app.protocol.records import CrossTestEntry

# Both parties have so long to deliver.
DELIVER_DAYS: Final = 30

# A model that came in time and was not asked yet holds a test up so long, should its worker be away for good.
WAIT_DAYS: Final = 7

# Of each party: files that no worker could ask do not count as delivered.
MAX_DELIVERIES: Final = 5


@dataclass(frozen=True)
class Sent:
    """What a party delivered, as it may read it; what its model answered is told to both when the test ends."""

    number: int
    sha256: bytes
    model_index: int
    state: str
    asked: int
    error: str
    created_at: datetime

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more comes of it."""
        return self.state not in UNFINISHED


@dataclass(frozen=True)
class CrossTest:
    """A cross-test as one party sees it; the result is "" until it ended, and then `own` and `other` hold the counts.

    `deliveries` are the party's own. `is_first`: whether the result names this party.
    """

    id: UUID
    opened_at: datetime
    until: datetime
    vendor: str
    registration_index: int
    filing_index: int
    verdict_index: int
    own_verdict_index: int
    may_deliver: bool
    deliveries: Sequence[Sent]
    result: str
    reason: str
    is_first: bool
    entry_index: int | None
    own: Party | None
    other: Party | None
    # The places of both transcripts in the counts: the party's own, then the other's.
    places: tuple[int, int]


def is_standing(dispute: DisputeRow, verdict_index: int) -> bool:
    """Tell whether a confirmed verdict still stands."""
    return (dispute.state, dispute.verdict, dispute.verdict_index) == (DECIDED, "CONFIRMED", verdict_index)


def find_opponents(session: Session, dispute: DisputeRow) -> list[UUID]:
    """Find other vendors' disputes about the same address that are confirmed, the oldest verdict first."""
    if dispute.verdict != "CONFIRMED":
        return []
    record = record_of(dispute)
    text = func.lower(func.convert_from(DisputeRow.filing_record, "UTF8"))
    query = select(DisputeRow).where(
        DisputeRow.verdict == "CONFIRMED",
        DisputeRow.vendor_id != dispute.vendor_id,
        text.contains(host_of(record), autoescape=True),
    )
    found = session.scalars(query.order_by(DisputeRow.verdict_index))
    return [other.id for other in found if is_same_address(record, record_of(other))]


def lock_pair(session: Session, pair: tuple[UUID, UUID]) -> tuple[DisputeRow, DisputeRow]:
    """Lock two disputes, the one that was filed first first, and give them in this order."""
    query = select(DisputeRow.id).where(DisputeRow.id.in_(pair)).order_by(DisputeRow.filing_index)
    one, other = session.scalars(query).all()
    return lock_dispute(session, one), lock_dispute(session, other)


def open_cross_test(session: Session, pair: tuple[UUID, UUID], now: datetime, randomness: bytes) -> CrossTestRow | None:
    """Open the test of two disputes; None if there was one, a verdict fell, or either has had as many as it may."""
    one, other = lock_pair(session, pair)
    for dispute in (one, other):
        if dispute.verdict_index is None or not is_standing(dispute, dispute.verdict_index):
            return None
        if len(_rows(session, dispute)) >= MAX_CROSS_TESTS:
            return None
    if _find(session, one, other) is not None:
        return None
    row = CrossTestRow(
        id=new_id(now, randomness),
        one_dispute_id=one.id,
        other_dispute_id=other.id,
        one_verdict_index=one.verdict_index,
        other_verdict_index=other.verdict_index,
        until=now + timedelta(days=DELIVER_DAYS),
        created_at=now,
    )
    session.add(row)
    for own, its in ((one, other), (other, one)):
        details: dict[str, Any] = {
            "cross_test": str(row.id),
            "other_verdict": its.verdict_index,
            "until": f"{row.until:%Y-%m-%dT%H:%M:%SZ}",
        }
        note_step(session, own, CROSS_TEST_OPENED, details, now)
    return row


def place_conclusion(session: Session, cross_test_id: UUID) -> None:
    """Have the court look at where a cross-test stands."""
    lock = f"{CONCLUDE_CROSS_TEST_TASK} {cross_test_id}"
    enqueue(session, CONCLUDE_CROSS_TEST_TASK, COURT, {"cross_test": str(cross_test_id)}, queueing_lock=lock)


def find_due(session: Session, now: datetime) -> Sequence[UUID]:
    """Find open tests whose time is over, and those with a verdict that fell."""
    one, other = aliased(DisputeRow), aliased(DisputeRow)
    stands = and_(
        one.verdict == "CONFIRMED",
        one.verdict_index == CrossTestRow.one_verdict_index,
        other.verdict == "CONFIRMED",
        other.verdict_index == CrossTestRow.other_verdict_index,
    )
    awaited = exists().where(CrossDeliveryRow.cross_test_id == CrossTestRow.id, CrossDeliveryRow.state.in_(UNFINISHED))
    is_over = (CrossTestRow.until < now) & ~awaited | (CrossTestRow.until < now - timedelta(days=WAIT_DAYS))
    query = (
        select(CrossTestRow.id)
        .join(one, one.id == CrossTestRow.one_dispute_id)
        .join(other, other.id == CrossTestRow.other_dispute_id)
        .where(CrossTestRow.entry_index.is_(None), is_over | ~stands)
    )
    return session.scalars(query.order_by(CrossTestRow.until)).all()


def load_cross_test(session: Session, dispute: DisputeRow, cross_test_id: UUID) -> CrossTestRow:
    """Read a cross-test of a dispute.

    Raises: NotFound if there is none, or it is other disputes'.
    """
    row = session.get(CrossTestRow, cross_test_id)
    if row is None or dispute.id not in (row.one_dispute_id, row.other_dispute_id):
        raise NotFound
    return row


def list_cross_tests(session: Session, dispute: DisputeRow, now: datetime) -> Sequence[CrossTest]:
    """Read a dispute's cross-tests as its claimant sees them, the first one first."""
    return [_shown(session, dispute, row, now) for row in _rows(session, dispute)]


def list_ended(session: Session, dispute: DisputeRow) -> Sequence[CrossTestRow]:
    """Read those of a dispute's cross-tests that ended."""
    return [row for row in _rows(session, dispute) if row.entry_index is not None]


def verify_may_deliver(session: Session, dispute: DisputeRow, row: CrossTestRow, now: datetime) -> None:
    """Refuse a model that would not be taken, whatever it is.

    Raises: Conflict with the reason.
    """
    if row.result is not None:
        raise Conflict("this test has ended", state=row.result)
    own, other = _sides(session, dispute, row)
    if not all(is_standing(side, index) for side, index in (own, other)):
        raise Conflict("a verdict that this test was opened upon fell: there is nothing to test", state="open")
    if now > row.until:
        raise Conflict(f"models were taken until {row.until:%Y-%m-%d}", state="open")
    sent = list_sent(session, row, dispute.id)
    if any(delivery.state == "done" for delivery in sent):
        raise Conflict("you delivered a model, and it stays the one", state="open")
    if any(not delivery.is_over for delivery in sent):
        raise Conflict("your model is being asked: wait until it was", state="open")
    if len(sent) >= MAX_DELIVERIES:
        raise Conflict(f"models are taken {MAX_DELIVERIES} times at most, and they were", state="open")
    if find_queue(session) is None:
        raise Conflict("no worker of this service asks models yet: try again later", state="open")


def find_committed(session: Session, dispute: DisputeRow, row: CrossTestRow, sha256: bytes) -> int:
    """Find the party's own `model` entry of a file that is older than the other's filing.

    Behind it triggers are sent to the endpoint: whoever runs that could train them away. Raises: PolicyRefused with what the
    log holds instead.
    """
    indices = _own_entries(session, dispute.vendor_id, sha256)
    if not indices:
        raise PolicyRefused(
            f"the log holds no model entry of yours with this file's SHA-256, {sha256.hex()}: only a model that you "
            "committed to before counts, and a file that was changed since has another SHA-256",
            pointer="/sha256",
        )
    filing = _sides(session, dispute, row)[1][0].filing_index
    if indices[0] >= filing:
        raise PolicyRefused(
            f"this file was logged too late: your first model entry of it is {indices[0]}, and the other registrant filed "
            f"its dispute in entry {filing}",
            pointer="/sha256",
        )
    return indices[0]


def deliver_model(
    session: Session, dispute_id: UUID, cross_test_id: UUID, delivered: Delivered, now: datetime, randomness: bytes
) -> CrossDeliveryRow:
    """Take a committed model, whose files are stored, as a dispute's party.

    Raises: NotFound, Conflict, PolicyRefused as the checks say.
    """
    row = load_cross_test(session, session.get_one(DisputeRow, dispute_id), cross_test_id)
    one, other = lock_pair(session, (row.one_dispute_id, row.other_dispute_id))
    session.refresh(row)
    own = one if one.id == dispute_id else other
    verify_may_deliver(session, own, row, now)
    delivery = CrossDeliveryRow(
        id=new_id(now, randomness),
        vendor_id=own.vendor_id,
        registration_id=own.registration_id,
        queue=find_queue(session),
        # The court writes it, for it alone reads the evidence.
        order_json={},
        sealed_key=b"",
        state="queued",
        cross_test_id=row.id,
        dispute_id=own.id,
        number=len(list_sent(session, row, own.id)) + 1,
        sha256=delivered.sha256,
        size_bytes=delivered.size_bytes,
        program_sha256=delivered.program_sha256,
        model_index=find_committed(session, own, row, delivered.sha256),
        created_at=now,
        updated_at=now,
    )
    session.add(delivery)
    session.flush()
    lock = f"{PREPARE_CROSS_TASK} {delivery.id}"
    enqueue(session, PREPARE_CROSS_TASK, COURT, {"delivery": str(delivery.id)}, queueing_lock=lock)
    # Which entry it is the other learns when the test has ended.
    details: dict[str, Any] = {"cross_test": str(row.id), "number": delivery.number}
    note_step(session, own, CROSS_TEST_DELIVERED, details, now)
    return delivery


def list_sent(session: Session, row: CrossTestRow, dispute_id: UUID) -> Sequence[Sent]:
    """Read what one party delivered, the first one first."""
    mine = CrossDeliveryRow.dispute_id == dispute_id
    query = select(CrossDeliveryRow).where(CrossDeliveryRow.cross_test_id == row.id, mine)
    return [
        Sent(
            number=found.number,
            sha256=found.sha256,
            model_index=found.model_index,
            state=found.state,
            asked=int(found.progress.get("asked", 0)),
            error="" if found.error is None or found.state != "failed" else str(found.error.get("message", "")),
            created_at=found.created_at,
        )
        for found in session.scalars(query.order_by(CrossDeliveryRow.number))
    ]


def _own_entries(session: Session, vendor_id: UUID, sha256: bytes) -> list[int]:
    """Find a vendor's `model` entries of a digest: its commitments, and weights that workers made for it."""
    committed = select(ModelCommitmentRow.entry_index).where(
        ModelCommitmentRow.sha256 == sha256, ModelCommitmentRow.vendor_id == vendor_id
    )
    made = select(EmbeddingRow.entry_index).where(
        EmbeddingRow.artifact_sha256 == sha256, EmbeddingRow.vendor_id == vendor_id
    )
    return sorted({*session.scalars(committed), *(index for index in session.scalars(made) if index is not None)})


def _rows(session: Session, dispute: DisputeRow) -> Sequence[CrossTestRow]:
    mine = or_(CrossTestRow.one_dispute_id == dispute.id, CrossTestRow.other_dispute_id == dispute.id)
    return session.scalars(select(CrossTestRow).where(mine).order_by(CrossTestRow.created_at, CrossTestRow.id)).all()


def _find(session: Session, one: DisputeRow, other: DisputeRow) -> CrossTestRow | None:
    pair = (CrossTestRow.one_dispute_id == one.id) & (CrossTestRow.other_dispute_id == other.id)
    return session.scalar(select(CrossTestRow).where(pair))


def _sides(
    session: Session, dispute: DisputeRow, row: CrossTestRow
) -> tuple[tuple[DisputeRow, int], tuple[DisputeRow, int]]:
    """Give a party's own dispute and the other's, each with the verdict that the test was opened upon."""
    one = (session.get_one(DisputeRow, row.one_dispute_id), row.one_verdict_index)
    other = (session.get_one(DisputeRow, row.other_dispute_id), row.other_verdict_index)
    return (one, other) if dispute.id == row.one_dispute_id else (other, one)


def _shown(session: Session, dispute: DisputeRow, row: CrossTestRow, now: datetime) -> CrossTest:
    (_, own_verdict), (other, other_verdict) = _sides(session, dispute, row)
    places = (0, 1) if dispute.id == row.one_dispute_id else (1, 0)
    parties = None
    if row.entry_index is not None:
        parties = CrossTestEntry.parse(load_entry(session, row.entry_index)).parties
    return CrossTest(
        id=row.id,
        opened_at=row.created_at,
        until=row.until,
        vendor=session.get_one(VendorRow, other.vendor_id).name,
        registration_index=session.get_one(RegistrationRow, other.registration_id).entry_index,
        filing_index=other.filing_index,
        verdict_index=other_verdict,
        own_verdict_index=own_verdict,
        may_deliver=_may_deliver(session, dispute, row, now),
        deliveries=list_sent(session, row, dispute.id),
        result=row.result or "",
        reason=row.reason or "",
        is_first=row.first_dispute_id == dispute.id,
        entry_index=row.entry_index,
        own=None if parties is None else parties[places[0]],
        other=None if parties is None else parties[places[1]],
        places=places,
    )


def _may_deliver(session: Session, dispute: DisputeRow, row: CrossTestRow, now: datetime) -> bool:
    try:
        verify_may_deliver(session, dispute, row, now)
    except Conflict:
        return False
    return True
