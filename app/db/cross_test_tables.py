"""The tables of cross-tests: two registrants' models, tested with each other's triggers.

Invariants: those of `tables`. A pair of disputes is tested once; the dispute with the lower `filing_index` is `one`.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.columns import Base, has_bytes, is_one_of
from app.db.tables import ORDER_STATES, DisputeId, EntryIndex, Id, OrderRow

RESULTS = ("first", "not_decided")


class CrossTestRow(Base):
    """A test of two parties; the verdicts are those that it was opened upon, and `entry_index` the log's word of its end."""

    __tablename__ = "cross_tests"
    id: Mapped[Id]
    one_dispute_id: Mapped[DisputeId]
    other_dispute_id: Mapped[DisputeId]
    one_verdict_index: Mapped[EntryIndex]
    other_verdict_index: Mapped[EntryIndex]
    until: Mapped[datetime]
    result: Mapped[str | None]
    reason: Mapped[str | None]
    first_dispute_id: Mapped[UUID | None] = mapped_column(ForeignKey("disputes.id"))
    entry_index: Mapped[EntryIndex | None] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    __table_args__ = (
        UniqueConstraint("one_dispute_id", "other_dispute_id"),
        is_one_of("result", RESULTS),
        CheckConstraint("one_dispute_id <> other_dispute_id", name="two_disputes"),
        CheckConstraint("(first_dispute_id IS NOT NULL) = (result = 'first')", name="first_is_named"),
        Index(None, "other_dispute_id"),
        Index(None, "until", postgresql_where="entry_index IS NULL"),
    )


class CrossDeliveryRow(OrderRow):
    """A committed model that a party delivered, and what it answered; an order without a key, which nobody needs for it.

    `dispute_id` is the party's own; `model_index` is the model's entry, older than the other's filing.
    `is_told`: the party was told that its model could not be asked.
    """

    __tablename__ = "cross_deliveries"
    cross_test_id: Mapped[UUID] = mapped_column(ForeignKey("cross_tests.id"))
    dispute_id: Mapped[DisputeId]
    number: Mapped[int]
    sha256: Mapped[bytes]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    program_sha256: Mapped[bytes | None]
    model_index: Mapped[EntryIndex]
    is_told: Mapped[bool] = mapped_column(default=False)
    __table_args__ = (
        UniqueConstraint("cross_test_id", "dispute_id", "number"),
        CheckConstraint("number >= 1", name="number_from_one"),
        has_bytes("sha256", 32),
        has_bytes("program_sha256", 32),
        is_one_of("state", ORDER_STATES),
    )
