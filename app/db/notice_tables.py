"""The tables of what vendors and others are told: events, webhooks and what is on its way to them, feeds, mail.

Invariants: those of `tables`. An event is written with the step that it tells of; a delivery is one event on its way to
one webhook.
Trust: a webhook's secret is sealed by the service's key; of a feed's token only the hash is kept; the address and the text
of a mail stand here until it has left.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db.columns import Base, has_bytes, is_one_of
from app.db.tables import Id, VendorId

DELIVERY_STATES = ("waiting", "delivered", "failed")
MAIL_STATES = ("waiting", "sent", "failed")


class EventRow(Base):
    """Something that happened to a vendor's things; `is_public` says that everybody may know."""

    __tablename__ = "events"
    id: Mapped[Id]
    vendor_id: Mapped[VendorId]
    kind: Mapped[str]
    data: Mapped[dict[str, Any]]
    is_public: Mapped[bool]
    created_at: Mapped[datetime]
    __table_args__ = (
        Index(None, "vendor_id", "id"),
        Index("ix_events_public", "id", postgresql_where="is_public"),
    )


class WebhookRow(Base):
    """A receiver of a vendor's events.

    While a worker sends to it nobody else does before `held_until`; after a failure nobody does before `paused_until`.
    """

    __tablename__ = "webhooks"
    id: Mapped[Id]
    vendor_id: Mapped[VendorId]
    url: Mapped[str]
    topics: Mapped[list[str]]
    sealed_secret: Mapped[bytes]
    sealed_old_secret: Mapped[bytes | None]
    old_secret_until: Mapped[datetime | None]
    is_enabled: Mapped[bool]
    disabled_reason: Mapped[str]
    failing_since: Mapped[datetime | None]
    failures_in_a_row: Mapped[int] = mapped_column(default=0)
    held_until: Mapped[datetime | None]
    paused_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    __table_args__ = (Index(None, "vendor_id", "id"),)


class WebhookDeliveryRow(Base):
    """An event on its way to a webhook; `status` and `error` are those of the last attempt."""

    __tablename__ = "webhook_deliveries"
    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhooks.id"), primary_key=True)
    event_id: Mapped[UUID] = mapped_column(ForeignKey("events.id"), primary_key=True)
    state: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None]
    attempted_at: Mapped[datetime | None]
    status: Mapped[int | None]
    error: Mapped[str]
    __table_args__ = (
        is_one_of("state", DELIVERY_STATES),
        Index(None, "event_id"),
        Index("ix_webhook_deliveries_due", "next_attempt_at", postgresql_where="state = 'waiting'"),
    )


class VendorFeedRow(Base):
    """The secret address of a vendor's feed."""

    __tablename__ = "vendor_feeds"
    vendor_id: Mapped[VendorId] = mapped_column(primary_key=True)
    token_sha256: Mapped[bytes] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    __table_args__ = (has_bytes("token_sha256", 32),)


class MailRow(Base):
    """A mail on its way; address and text are emptied when it has left or is given up."""

    __tablename__ = "mails"
    id: Mapped[Id]
    recipient: Mapped[str]
    recipient_sha256: Mapped[bytes]
    subject: Mapped[str]
    body: Mapped[str]
    state: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None]
    error: Mapped[str]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    __table_args__ = (
        is_one_of("state", MAIL_STATES),
        has_bytes("recipient_sha256", 32),
        Index(None, "recipient_sha256", "created_at"),
        Index("ix_mails_due", "next_attempt_at", postgresql_where="state = 'waiting'"),
    )
