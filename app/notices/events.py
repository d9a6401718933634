"""The outbox: what has happened to a vendor's things, written in the transaction in which it happens.

Invariants: an event exists exactly if the step that it tells of was committed, and with it a delivery for each enabled
webhook that wants it; writing one waits for no receiver and takes no lock that another step needs, so jobs are placed by
the sweep (`delivery.sweep`) and not here; a dispute's event names the endpoint only once everybody may know it.
"""

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import any_, literal, select
from sqlalchemy.orm import Session

from app.canonical import encode_json
from app.db.notice_tables import EventRow, WebhookDeliveryRow, WebhookRow
from app.db.tables import ID_RANDOM_BYTES, new_id

# What a webhook can want; an event's kind is one of these, a dot, and what happened.
DISPUTE = "dispute"
TOPICS = ("registration", "embedding", "survival_report", "white_box_check", DISPUTE)

# To try a webhook: no topic, nobody else's business.
PING = "ping"


def announce(
    session: Session, vendor_id: UUID, kind: str, data: dict[str, Any], now: datetime, *, is_public: bool = False
) -> UUID:
    """Write down that something happened (`dispute.decided`), with ids and states; give the event's id.

    `is_public` puts it into the public feed, and is what lets a dispute's event name the endpoint.
    """
    topic = kind.partition(".")[0]
    if topic not in TOPICS:
        raise ValueError(f"{kind!r} has none of the topics {TOPICS}")
    if topic == DISPUTE and "endpoint" in data and not is_public:
        raise ValueError("a dispute's endpoint is named only once everybody may know it")
    # The lock keeps a webhook from being deleted under its new delivery; two events do not wait for each other.
    wanted = select(WebhookRow.id).where(
        WebhookRow.vendor_id == vendor_id, WebhookRow.is_enabled, literal(topic) == any_(WebhookRow.topics)
    )
    webhooks = session.scalars(wanted.with_for_update(read=True, key_share=True)).all()
    return write_event(session, vendor_id, kind, data, now, webhooks=webhooks, is_public=is_public)


def write_event(
    session: Session,
    vendor_id: UUID,
    kind: str,
    data: dict[str, Any],
    now: datetime,
    *,
    webhooks: Sequence[UUID],
    is_public: bool = False,
) -> UUID:
    """Write an event and its deliveries to these webhooks, whose rows are locked."""
    encode_json(data)  # raises here, where it is written, and not when it is sent
    event = EventRow(
        id=new_id(now, secrets.token_bytes(ID_RANDOM_BYTES)),
        vendor_id=vendor_id,
        kind=kind,
        data=data,
        is_public=is_public,
        created_at=now,
    )
    session.add(event)
    session.flush()
    session.add_all(
        WebhookDeliveryRow(webhook_id=webhook, event_id=event.id, state="waiting", next_attempt_at=now, error="")
        for webhook in webhooks
    )
    session.flush()
    return event.id
