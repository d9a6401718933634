"""Orders to the workers of a queue as the API places, reads and cancels them; attempts.py is the worker's side of them.

An order says what to do (its kind's own record), with which of the vendor's own artifacts, and for which registration;
with it comes the marking key, sealed to the queue by the vendor's machine and bound to the registration's root.

Invariants: row and job are placed in one transaction; an order ends once, as done, failed or cancelled, and its sealed
key is erased with it; whoever changes a row locks it first and its job after it.
Trust: this side sees the marking key as ciphertext only.
Source: docs/protocol.md sections 2, 3 and 5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, defer

from app.db.paging import page_of
from app.db.tables import (
    ArtifactRow,
    EmbeddingRow,
    OrderRow,
    RegistrationRow,
    SurvivalReportRow,
    WhiteBoxCheckRow,
    WorkerKeyRow,
    new_id,
)
from app.errors import Conflict, Malformed, NotFound, TooLarge
from app.jobs.names import EMBED_CPU, EMBED_GPU
from app.jobs.queue import cancel, enqueue
from app.keys.statement import Statement, parse_statement
from app.notices.events import announce

# Base64 of it and the rest of the order fit a body of 32 MiB; 512 triggers of 64x64x3 pixels take 8 MiB.
MAX_SEALED_KEY_BYTES = 23 * 1024 * 1024

UNFINISHED = ("queued", "running")

# Under which words webhooks and feeds are told of an order's end; the others are told of by whom they are for.
TOPIC_OF: Mapping[type[OrderRow], str] = {
    EmbeddingRow: "embedding",
    SurvivalReportRow: "survival_report",
    WhiteBoxCheckRow: "white_box_check",
}

R = TypeVar("R", bound=OrderRow)


class Order(Protocol):
    """What every kind of order says."""

    # Of the job that works on it.
    TASK: ClassVar[str]

    @property
    def queue(self) -> Any:
        """Name the queue whose workers it is for."""

    def artifacts(self) -> dict[str, bytes | None]:
        """Name what a worker has to fetch: the places in the request and the digests there."""

    def check_registered(self, statement: Statement) -> None:
        """Refuse an order that does not fit its registration."""

    def to_json(self) -> dict[str, Any]:
        """Write the order for its row."""


@dataclass(frozen=True)
class NewOrder:
    """An order as it comes from a vendor."""

    vendor_id: UUID
    registration_id: UUID
    order: Order
    sealed_key: bytes = field(repr=False)


def place(session: Session, row_type: type[R], new: NewOrder, *, now: datetime, randomness: bytes) -> R:
    """Place an order and its job.

    Raises: NotFound if registration or artifacts are not this vendor's; Conflict with state `awaiting_beacon` before
    the labels are drawn, `awaiting_worker` if the queue has no key yet; Malformed; TooLarge.
    """
    check_sealed_key(new.sealed_key)
    registration = session.get(RegistrationRow, new.registration_id)
    if registration is None or registration.vendor_id != new.vendor_id:
        raise NotFound
    statement = parse_statement(registration.statement)
    new.order.check_registered(statement)
    for name, sha256 in new.order.artifacts().items():
        if sha256 is not None and session.get(ArtifactRow, (new.vendor_id, sha256)) is None:
            raise NotFound("you have uploaded no such artifact", pointer=f"/{name}")
    check_ready(session, registration, statement, new.order.queue)
    row = row_type(
        id=new_id(now, randomness),
        vendor_id=new.vendor_id,
        registration_id=new.registration_id,
        queue=new.order.queue,
        order_json=new.order.to_json(),
        sealed_key=new.sealed_key,
        state="queued",
        created_at=now,
        updated_at=now,
    )
    # No worker looks at the job before this transaction is committed, so the row may follow it.
    row.job_id = enqueue(session, new.order.TASK, new.order.queue, {"order_id": str(row.id)})
    session.add(row)
    session.flush()
    return row


def check_sealed_key(sealed_key: bytes) -> None:
    """Refuse a sealed key that is empty or over its limit.

    Raises: Malformed; TooLarge.
    """
    if not sealed_key:
        raise Malformed("seal the marking key to the queue's public key", pointer="/sealed_key")
    if len(sealed_key) > MAX_SEALED_KEY_BYTES:
        raise TooLarge(f"a sealed key may have {MAX_SEALED_KEY_BYTES} bytes", pointer="/sealed_key")


def check_device(queue: str, device: str, pointer: str) -> None:
    """Refuse a device that the workers of a queue have not.

    Raises: Malformed.
    """
    if queue == EMBED_CPU and device == "cuda":
        raise Malformed(
            f"the workers of {EMBED_CPU} have no CUDA device: choose {EMBED_GPU} or another device", pointer=pointer
        )


def check_ready(session: Session, registration: RegistrationRow, statement: Statement, queue: str) -> None:
    """Refuse an order that nobody could train yet.

    Raises: Conflict with the state that is to be waited for.
    """
    if statement.assurance_class == "A" and registration.beacon_index is None:
        raise Conflict("the labels are not drawn yet: wait for the registration's beacon", state="awaiting_beacon")
    if session.scalar(select(WorkerKeyRow.id).where(WorkerKeyRow.queue == queue).limit(1)) is None:
        raise Conflict(f"no worker of {queue} has announced a key yet", state="awaiting_worker")


def load_order(session: Session, row_type: type[R], vendor_id: UUID, order_id: UUID) -> R:
    """Read one order, without the sealed key.

    Raises: NotFound if there is none or it is another vendor's.
    """
    wanted = select(row_type).options(defer(row_type.sealed_key))
    row = session.scalars(wanted.where(row_type.vendor_id == vendor_id, row_type.id == order_id)).one_or_none()
    if row is None:
        raise NotFound
    return row


def list_orders(
    session: Session, row_type: type[R], vendor_id: UUID, after: UUID | None, limit: int, *, newest_first: bool = False
) -> Sequence[R]:
    """Read a vendor's orders of one kind in order of creation, from behind `after`, without the sealed keys."""
    wanted = select(row_type).options(defer(row_type.sealed_key)).where(row_type.vendor_id == vendor_id)
    return session.scalars(page_of(wanted, row_type.id, after, limit, newest_first=newest_first)).all()


def lock_order(session: Session, row_type: type[R], order_id: UUID) -> R | None:
    """Find an order and hold it until the transaction ends; its sealed key, of megabytes, is read when it is asked for."""
    return session.get(row_type, order_id, with_for_update=True, options=[defer(row_type.sealed_key)])


def cancel_order(session: Session, row_type: type[R], vendor_id: UUID, order_id: UUID, now: datetime) -> R:
    """Cancel an order; a worker that is at it notices within seconds and ends its child.

    Raises: NotFound; Conflict with the state if it has ended, however it did.
    """
    row = lock_order(session, row_type, order_id)
    if row is None or row.vendor_id != vendor_id:
        raise NotFound
    if row.state not in UNFINISHED:
        raise Conflict(f"this order has ended: it is {row.state}", state=row.state)
    if row.job_id is not None:
        cancel(session, row.job_id)
    end_order(session, row, "cancelled", now)
    return row


def end_order(session: Session, row: OrderRow, state: str, now: datetime) -> None:
    """End an order and tell its vendor; nobody needs its marking key any more, not even sealed."""
    row.state, row.sealed_key, row.updated_at = state, b"", now
    if (topic := TOPIC_OF.get(type(row))) is not None:
        data = {"id": str(row.id), "registration_id": str(row.registration_id), "state": state}
        announce(session, row.vendor_id, f"{topic}.{state}", data, now)
