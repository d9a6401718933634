"""Embedding orders as the API places, reads and cancels them; job.py is the worker's side of the same rows.

An order names what to train (a recipe), on what (the vendor's own artifacts), and for which registration; with it comes
the marking key, sealed to the queue by the vendor's machine and bound to the registration's root.

Invariants: row and job are placed in one transaction; an order ends once, as done, failed or cancelled, and its sealed
key is erased with it; whoever changes a row locks it first and its job after it.
Trust: this side sees the marking key as ciphertext only.
Source: protocol.md sections 3 and 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, defer

from app.canonical import Record, as_form, choice, nullable, octets
from app.db.tables import ArtifactRow, EmbeddingRow, RegistrationRow, WorkerKeyRow, new_id
from app.embedding.recipe import Recipe
from app.errors import Conflict, Malformed, NotFound, TooLarge
from app.jobs.names import EMBED_CPU, EMBED_GPU
from app.jobs.queue import EMBED_TASK, cancel, enqueue
from app.keys.statement import Statement, parse_statement

# Base64 of it and the rest of the order fit a body of 32 MiB; 512 triggers of 64x64x3 pixels take 8 MiB.
MAX_SEALED_KEY_BYTES = 23 * 1024 * 1024

UNFINISHED = ("queued", "running")


@dataclass(frozen=True)
class EmbeddingOrder(Record):
    """What is to be trained and on what; artifacts are named by SHA-256."""

    queue: Any = field(metadata=as_form(choice(EMBED_CPU, EMBED_GPU)))
    recipe: Recipe = field(metadata=as_form(Recipe.form()))
    train_data: bytes = field(metadata=as_form(octets(32)))
    # None: a share of the training data is held out, as the recipe says.
    test_data: bytes | None = field(metadata=as_form(nullable(octets(32))))
    # The weights to go on from, in mode `pretrained` and only there.
    model: bytes | None = field(metadata=as_form(nullable(octets(32))))

    def check(self, pointer: str) -> None:
        """Refuse an order whose parts do not fit each other."""
        if (self.recipe.mode == "pretrained") != (self.model is not None):
            raise Malformed(
                "weights go with the recipe's mode pretrained, and only with it", pointer=f"{pointer}/model"
            )
        if self.queue == EMBED_CPU and self.recipe.device == "cuda":
            raise Malformed(
                f"the workers of {EMBED_CPU} have no CUDA device: choose {EMBED_GPU} or another device",
                pointer=f"{pointer}/recipe/device",
            )

    @classmethod
    def from_request(cls, body: dict[str, Any]) -> "EmbeddingOrder":
        """Read an order as a caller writes it: the recipe may leave out what has a default.

        Raises: Malformed with a pointer to the value at fault.
        """
        recipe = Recipe.from_options(body["recipe"], "/recipe")
        return cls.from_json({**body, "recipe": recipe.to_json()})


def place(
    session: Session,
    vendor_id: UUID,
    registration_id: UUID,
    order: EmbeddingOrder,
    sealed_key: bytes,
    *,
    now: datetime,
    randomness: bytes,
) -> EmbeddingRow:
    """Place an order and its job.

    Raises: NotFound if registration or artifacts are not this vendor's; Conflict with state `awaiting_beacon` before
    the labels are drawn, `awaiting_worker` if the queue has no key yet; Malformed; TooLarge.
    """
    check_sealed_key(sealed_key)
    registration = session.get(RegistrationRow, registration_id)
    if registration is None or registration.vendor_id != vendor_id:
        raise NotFound
    statement = parse_statement(registration.statement)
    order.recipe.check_input(statement.kind, statement.shape, "/recipe")
    for name in ("train_data", "test_data", "model"):
        sha256 = getattr(order, name)
        if sha256 is not None and session.get(ArtifactRow, (vendor_id, sha256)) is None:
            raise NotFound("you have uploaded no such artifact", pointer=f"/{name}")
    check_ready(session, registration, statement, order.queue)
    row = EmbeddingRow(
        id=new_id(now, randomness),
        vendor_id=vendor_id,
        registration_id=registration_id,
        queue=order.queue,
        order_json=order.to_json(),
        sealed_key=sealed_key,
        state="queued",
        created_at=now,
        updated_at=now,
    )
    # No worker looks at the job before this transaction is committed, so the row may follow it.
    row.job_id = enqueue(session, EMBED_TASK, order.queue, {"embedding_id": str(row.id)})
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


def check_ready(session: Session, registration: RegistrationRow, statement: Statement, queue: str) -> None:
    """Refuse an order that nobody could train yet.

    Raises: Conflict with the state that is to be waited for.
    """
    if statement.assurance_class == "A" and registration.beacon_index is None:
        raise Conflict("the labels are not drawn yet: wait for the registration's beacon", state="awaiting_beacon")
    if session.scalar(select(WorkerKeyRow.id).where(WorkerKeyRow.queue == queue).limit(1)) is None:
        raise Conflict(f"no worker of {queue} has announced a key yet", state="awaiting_worker")


def load_embedding(session: Session, vendor_id: UUID, embedding_id: UUID) -> EmbeddingRow:
    """Read one order, without the sealed key.

    Raises: NotFound if there is none or it is another vendor's.
    """
    wanted = select(EmbeddingRow).options(defer(EmbeddingRow.sealed_key))
    wanted = wanted.where(EmbeddingRow.vendor_id == vendor_id, EmbeddingRow.id == embedding_id)
    row = session.scalars(wanted).one_or_none()
    if row is None:
        raise NotFound
    return row


def list_embeddings(session: Session, vendor_id: UUID, after: UUID | None, limit: int) -> Sequence[EmbeddingRow]:
    """Read a vendor's orders in order of creation, from behind `after`, without the sealed keys."""
    wanted = select(EmbeddingRow).options(defer(EmbeddingRow.sealed_key)).where(EmbeddingRow.vendor_id == vendor_id)
    if after is not None:
        wanted = wanted.where(EmbeddingRow.id > after)
    return session.scalars(wanted.order_by(EmbeddingRow.id).limit(limit)).all()


def cancel_embedding(session: Session, vendor_id: UUID, embedding_id: UUID, now: datetime) -> EmbeddingRow:
    """Cancel an order; a worker that is training it notices within seconds and ends its child.

    Raises: NotFound; Conflict with the state if it has ended, however it did.
    """
    row = session.get(EmbeddingRow, embedding_id, with_for_update=True)
    if row is None or row.vendor_id != vendor_id:
        raise NotFound
    if row.state not in UNFINISHED:
        raise Conflict(f"this order has ended: it is {row.state}", state=row.state)
    if row.job_id is not None:
        cancel(session, row.job_id)
    end_embedding(row, "cancelled", now)
    return row


def end_embedding(row: EmbeddingRow, state: str, now: datetime) -> None:
    """End an order; nobody needs its marking key any more, not even sealed."""
    row.state, row.sealed_key, row.updated_at = state, b"", now
