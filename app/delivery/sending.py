"""The job `deliver`: send a webhook what waits for it, one message after the other.

  1. take the webhook, unless another worker holds it or it is being left alone; choose the message that is due first
  2. send it, signed now
  3. note what came of it; go on, or after a failure leave the receiver alone for a while

Invariants: a receiver holds up nobody but its own vendor: it is sent one message at a time, each for seconds at most; a
message arrives at least once, with the same id and body however often it is sent; order is not promised; of the answer
only its status is kept.
What a crash leaves behind: a message that is sent once more, when the hold has run out.
Source: Standard Webhooks 1.0.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app import __version__
from app.canonical import encode_json, time_text
from app.db.engine import transaction
from app.db.notice_tables import EventRow, WebhookDeliveryRow, WebhookRow
from app.delivery.schedule import next_attempt_at, pause_after
from app.delivery.signing import signed_headers
from app.delivery.webhooks import disable, message_id_of, open_secrets
from app.jobs.queue import Attempt
from app.storage.secret_box import SecretBox
from app.suspects.addresses import NetworkRules
from app.suspects.pacing import seconds_asked_for
from app.suspects.posting import POST_LIMITS, post_once
from app.suspects.transport import Exchange, Limits

logger = logging.getLogger(__name__)

# Task name: it stands in the database. Its argument is `webhook`.
DELIVER_TASK = "deliver"

# A job sends so many messages; what is left waits its turn behind other receivers.
MESSAGES_A_JOB = 20

# Longer than one message can take; a worker that died is no longer believed to be sending after this.
HOLD = timedelta(seconds=60)

# A receiver may ask for so much patience (`Retry-After`).
MAX_ASKED_PAUSE = timedelta(hours=6)

# An address to which nothing has arrived for so long is disabled.
FAILING = timedelta(days=5)

GONE = 410


@dataclass(frozen=True)
class Courier:
    """What a worker sends webhooks with."""

    engine: Engine
    rules: NetworkRules
    now: Callable[[], datetime]
    box: SecretBox | None = None
    limits: Limits = POST_LIMITS
    local_address: str | None = None


@dataclass(frozen=True)
class Message:
    """One message, ready to be signed; `held_until` is what we wrote when we took the webhook."""

    webhook_id: UUID
    event_id: UUID
    url: str
    body: bytes
    held_until: datetime
    secrets: list[bytes] = field(repr=False)

    @property
    def id(self) -> str:
        """Name the message."""
        return message_id_of(self.event_id)


def deliver(courier: Courier, attempt: Attempt, webhook_id: UUID) -> None:
    """Send what is due to a webhook.

    Raises: Stopped; Unavailable if the key of its secret is not here.
    """
    held_until: datetime | None = None
    for _ in range(MESSAGES_A_JOB):
        attempt.raise_if_stopping()
        message = _take(courier, webhook_id, held_until)
        if message is None:
            return
        held_until = message.held_until
        if not _note(courier, message, _send(courier, message)):
            return
    _release(courier, webhook_id, held_until)


def body_of(event: EventRow) -> bytes:
    """Write an event as it is sent and signed: the same bytes each time."""
    return encode_json({"type": event.kind, "timestamp": time_text(event.created_at), "data": event.data})


def _take(courier: Courier, webhook_id: UUID, held_until: datetime | None) -> Message | None:
    with transaction(courier.engine) as session:
        row, now = _lock(session, webhook_id), courier.now()
        if row is None or not row.is_enabled:
            return None
        if row.held_until != held_until and row.held_until is not None and row.held_until > now:
            return None  # another worker sends to it, and looks again before it ends
        if row.paused_until is not None and row.paused_until > now:
            row.held_until = None
            return None
        due = (WebhookDeliveryRow.webhook_id == webhook_id) & (WebhookDeliveryRow.state == "waiting")
        query = select(EventRow).join(WebhookDeliveryRow).where(due, WebhookDeliveryRow.next_attempt_at <= now)
        event = session.scalar(query.order_by(WebhookDeliveryRow.next_attempt_at, EventRow.id).limit(1))
        if event is None:
            row.held_until = None
            return None
        row.held_until = now + HOLD
        secrets = open_secrets(courier.box, row, now)
        return Message(row.id, event.id, row.url, body_of(event), row.held_until, secrets)


def _send(courier: Courier, message: Message) -> Exchange:
    headers = {
        "content-type": "application/json",
        "user-agent": f"Trapstreet/{__version__}",
        **signed_headers(message.secrets, message.id, int(courier.now().timestamp()), message.body),
    }
    return post_once(
        message.url,
        headers,
        message.body,
        courier.rules,
        limits=courier.limits,
        local_address=courier.local_address,
    )


def _note(courier: Courier, message: Message, exchange: Exchange) -> bool:
    """Write down what came of an attempt; say whether to go on with this receiver."""
    with transaction(courier.engine) as session:
        row, now = _lock(session, message.webhook_id), courier.now()
        delivery = session.get(WebhookDeliveryRow, (message.webhook_id, message.event_id))
        if row is None or delivery is None or delivery.state != "waiting":
            return False  # deleted or disabled meanwhile
        # What it says behind its status is of no interest, even if that is too long or never ends well.
        arrived = exchange.status is not None and 200 <= exchange.status < 300
        delivery.attempts += 1
        delivery.attempted_at, delivery.status = now, exchange.status
        delivery.error = "" if arrived else exchange.error or "refused"
        if arrived:
            delivery.state, delivery.next_attempt_at = "delivered", None
            row.failing_since, row.failures_in_a_row, row.paused_until = None, 0, None
            return True
        delivery.next_attempt_at = next_attempt_at(delivery.attempts, message.event_id.bytes, now)
        if delivery.next_attempt_at is None:
            delivery.state = "failed"
        _note_failure(session, row, exchange, now)
        return False


def _note_failure(session: Session, row: WebhookRow, exchange: Exchange, now: datetime) -> None:
    row.failing_since = row.failing_since or now
    row.failures_in_a_row += 1
    asked = timedelta(seconds=seconds_asked_for(exchange.retry_after, now) or 0.0)
    row.paused_until = now + max(pause_after(row.failures_in_a_row), min(asked, MAX_ASKED_PAUSE))
    row.held_until = None
    if exchange.status == GONE:
        disable(session, row, "it answered 410 Gone")
    elif now - row.failing_since >= FAILING:
        disable(session, row, f"nothing arrived for {FAILING.days} days")


def _release(courier: Courier, webhook_id: UUID, held_until: datetime | None) -> None:
    with transaction(courier.engine) as session:
        row = _lock(session, webhook_id)
        if row is not None and row.held_until == held_until:
            row.held_until = None


def _lock(session: Session, webhook_id: UUID) -> WebhookRow | None:
    # Not the key: events that are being written for this webhook go on.
    return session.scalar(select(WebhookRow).where(WebhookRow.id == webhook_id).with_for_update(key_share=True))
