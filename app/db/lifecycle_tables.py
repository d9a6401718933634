"""The tables of a dispute's course as people follow it: more of the page `tables`, which is full.

Invariants: those of `tables`. Steps are numbered from 0 in a dispute, without gaps, and never changed.
Trust: of a link only the hash stands here; who reads the whole database can derive it from the dispute's secret.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.columns import Base, has_bytes, is_one_of
from app.db.tables import ORDER_STATES, DisputeId, EntryIndex, OrderRow

STEP_KINDS = (
    "filed",
    "challenge_drawn",
    "block_probed",
    "probing_ended",
    "withdrawn",
    "notice",
    "verdict",
    "answer",
    "second_run_asked",
    "second_run_filed",
    "weights_delivered",
    "weights_compared",
    "weights_failed",
    "cross_test_opened",
    "cross_test_delivered",
    "cross_test_failed",
    "cross_test_ended",
)


class DisputeStepRow(Base):
    """One step of a dispute: what happened, when, and the log entry that says so, if one does."""

    __tablename__ = "dispute_steps"
    dispute_id: Mapped[DisputeId] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    entry_index: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("log_entries.index"))
    details: Mapped[dict[str, Any]]
    # Whether whoever tells of this step may name the endpoint.
    is_public: Mapped[bool]
    created_at: Mapped[datetime]
    __table_args__ = (CheckConstraint("number >= 0", name="number_counts"), is_one_of("kind", STEP_KINDS))


class DisputeContactRow(Base):
    """Where the claimant wants the accused told; the address is forgotten when the mail is written, or cannot be."""

    __tablename__ = "dispute_contacts"
    dispute_id: Mapped[DisputeId] = mapped_column(primary_key=True)
    address: Mapped[str | None]
    state: Mapped[str]
    created_at: Mapped[datetime]
    told_at: Mapped[datetime | None]
    __table_args__ = (
        is_one_of("state", ("waiting", "mailed", "refused")),
        CheckConstraint("(state = 'waiting') = (address IS NOT NULL)", name="address_while_waiting"),
    )


class DisputeLinkRow(Base):
    """The link under which the accused finds a dispute, of which the hash is kept, and the log's `notice`."""

    __tablename__ = "dispute_links"
    dispute_id: Mapped[DisputeId] = mapped_column(primary_key=True)
    token_sha256: Mapped[bytes] = mapped_column(unique=True)
    record: Mapped[bytes]
    entry_index: Mapped[EntryIndex] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    __table_args__ = (has_bytes("token_sha256", 32),)


class DisputeAnswerRow(Base):
    """One answer of the accused: the record's bytes, and the blind under which the log hides it."""

    __tablename__ = "dispute_answers"
    dispute_id: Mapped[DisputeId] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    record: Mapped[bytes]
    blind: Mapped[bytes]
    entry_index: Mapped[EntryIndex] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    __table_args__ = (CheckConstraint("number >= 1", name="number_from_one"), has_bytes("blind", 32))


class SecondRunRow(Base):
    """The accused's request for a second run, and the dispute that the claimant filed upon it.

    `families_left` is how many families of the registration nobody had filed when it was asked for.
    """

    __tablename__ = "second_runs"
    dispute_id: Mapped[DisputeId] = mapped_column(primary_key=True)
    entry_index: Mapped[EntryIndex] = mapped_column(unique=True)
    families_left: Mapped[int]
    until: Mapped[datetime]
    filed_dispute_id: Mapped[UUID | None] = mapped_column(ForeignKey("disputes.id"), unique=True)
    created_at: Mapped[datetime]


class WeightDeliveryRow(OrderRow):
    """Weights that the accused delivered, and their comparison; an order without a key, which nobody needs for it.

    `entry_index` is the `model` entry that is older than the beacon; `verdict_index` and `bundle_sha256` are those of the
    verdict that they were delivered against. `is_concluded`: the dispute was told what came of them; `has_voided`: by a
    verdict VOID.
    """

    __tablename__ = "weight_deliveries"
    dispute_id: Mapped[DisputeId]
    number: Mapped[int]
    sha256: Mapped[bytes]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    program_sha256: Mapped[bytes | None]
    entry_index: Mapped[EntryIndex]
    verdict_index: Mapped[EntryIndex]
    bundle_sha256: Mapped[bytes]
    is_concluded: Mapped[bool] = mapped_column(default=False)
    has_voided: Mapped[bool] = mapped_column(default=False)
    __table_args__ = (
        UniqueConstraint("dispute_id", "number"),
        CheckConstraint("number >= 1", name="number_from_one"),
        has_bytes("sha256", 32),
        has_bytes("program_sha256", 32),
        has_bytes("bundle_sha256", 32),
        is_one_of("state", ORDER_STATES),
    )
