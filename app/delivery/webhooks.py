"""A vendor's webhooks: where its events are sent, which of them, and under which secret.

Invariants: an address that the network rules refuse is never stored; a secret is shown once and kept sealed for this
webhook and its address; while it is replaced the old one signs along for a day; another vendor's webhook looks like none.
Trust: who holds a webhook's secret can forge our messages to it, and nothing else.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.canonical import lp, tag
from app.db.notice_tables import EventRow, WebhookDeliveryRow, WebhookRow
from app.db.tables import ID_RANDOM_BYTES, VendorRow, new_id
from app.delivery.signing import SECRET_BYTES, secret_text
from app.errors import Conflict, Malformed, NotFound, PolicyRefused, TooMany, Unavailable
from app.notices.events import PING, TOPICS, write_event
from app.storage.secret_box import SecretBox
from app.suspects.addresses import NetworkRules, parse_endpoint

MAX_WEBHOOKS = 5
WEBHOOK_RANDOM_BYTES = ID_RANDOM_BYTES + SECRET_BYTES

# For so long after a rotation the old secret signs, too.
OLD_SECRET = timedelta(days=1)

# What is shown of a webhook's past.
LISTED_DELIVERIES = 50

DISABLED = "disabled"


@dataclass(frozen=True)
class NewWebhook:
    """What a vendor wants sent, and where to."""

    url: str
    topics: Collection[str]


@dataclass(frozen=True)
class MadeWebhook:
    """A webhook with a new secret; `secret` is never to be had again."""

    row: WebhookRow
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Delivered:
    """A delivery and its event."""

    delivery: WebhookDeliveryRow
    event: EventRow

    @property
    def message_id(self) -> str:
        """Name the message."""
        return message_id_of(self.event.id)


def add_webhook(
    session: Session,
    box: SecretBox | None,
    rules: NetworkRules,
    vendor_id: UUID,
    wanted: NewWebhook,
    *,
    randomness: bytes,
    now: datetime,
) -> MadeWebhook:
    """Make a webhook from 42 random bytes.

    Raises: PolicyRefused if the address is not allowed or this service keeps no secrets; Malformed; TooMany.
    """
    box = _needed(box)
    try:
        parse_endpoint(wanted.url, rules)
    except PolicyRefused as error:
        raise PolicyRefused(error.message.replace("the endpoint", "the address"), pointer="/url") from error
    # The vendor's row is the lock: two requests at once do not pass the limit together.
    session.execute(select(VendorRow.id).where(VendorRow.id == vendor_id).with_for_update(key_share=True))
    if len(list_webhooks(session, vendor_id)) >= MAX_WEBHOOKS:
        raise TooMany(f"a vendor has at most {MAX_WEBHOOKS} webhooks: delete one first")
    row = WebhookRow(
        id=new_id(now, randomness[:ID_RANDOM_BYTES]),
        vendor_id=vendor_id,
        url=wanted.url,
        topics=_checked(wanted.topics),
        is_enabled=True,
        disabled_reason="",
        created_at=now,
    )
    secret = randomness[ID_RANDOM_BYTES:WEBHOOK_RANDOM_BYTES]
    row.sealed_secret = box.seal(secret, _purpose(row))
    session.add(row)
    session.flush()
    return MadeWebhook(row, secret_text(secret))


def list_webhooks(session: Session, vendor_id: UUID) -> Sequence[WebhookRow]:
    """Read a vendor's webhooks, the oldest first."""
    return session.scalars(select(WebhookRow).where(WebhookRow.vendor_id == vendor_id).order_by(WebhookRow.id)).all()


def load_webhook(session: Session, vendor_id: UUID, webhook_id: UUID, *, for_update: bool = False) -> WebhookRow:
    """Read a vendor's webhook.

    Raises: NotFound, also for another vendor's.
    """
    query = select(WebhookRow).where(WebhookRow.id == webhook_id, WebhookRow.vendor_id == vendor_id)
    # Events that are being written meanwhile hold the row's key, and must not wait for us.
    row = session.scalar(query.with_for_update(key_share=True) if for_update else query)
    if row is None:
        raise NotFound
    return row


def change_webhook(
    session: Session, vendor_id: UUID, webhook_id: UUID, *, topics: Collection[str] | None, is_enabled: bool | None
) -> WebhookRow:
    """Change what a webhook gets, or whether it gets anything; what waits for a disabled one is dropped.

    Raises: NotFound; Malformed.
    """
    row = load_webhook(session, vendor_id, webhook_id, for_update=True)
    if topics is not None:
        row.topics = _checked(topics)
    if is_enabled:
        row.is_enabled, row.disabled_reason = True, ""
        row.failing_since, row.failures_in_a_row, row.paused_until = None, 0, None
    elif is_enabled is not None:
        disable(session, row, "by the vendor")
    session.flush()
    return row


def disable(session: Session, row: WebhookRow, reason: str) -> None:
    """Send nothing more to a webhook."""
    row.is_enabled, row.disabled_reason = False, reason
    session.execute(
        update(WebhookDeliveryRow)
        .where(WebhookDeliveryRow.webhook_id == row.id, WebhookDeliveryRow.state == "waiting")
        .values(state="failed", error=DISABLED, next_attempt_at=None)
    )


def rotate_secret(
    session: Session, box: SecretBox | None, vendor_id: UUID, webhook_id: UUID, secret: bytes, now: datetime
) -> MadeWebhook:
    """Replace a webhook's secret by 32 random bytes; the old one signs along for a day.

    Raises: NotFound; PolicyRefused if this service keeps no secrets.
    """
    box = _needed(box)
    row = load_webhook(session, vendor_id, webhook_id, for_update=True)
    row.sealed_old_secret, row.old_secret_until = row.sealed_secret, now + OLD_SECRET
    row.sealed_secret = box.seal(secret, _purpose(row))
    session.flush()
    return MadeWebhook(row, secret_text(secret))


def open_secrets(box: SecretBox | None, row: WebhookRow, now: datetime) -> list[bytes]:
    """Give the secrets that sign now, the newest first.

    Raises: Unavailable if the key that sealed them is not here.
    """
    if box is None:
        raise Unavailable("the key of this service's secrets is not here: set TRAPSTREET_SECRETS_KEY_FILE")
    opened = [box.open(row.sealed_secret, _purpose(row))]
    if row.sealed_old_secret is not None and row.old_secret_until is not None and now < row.old_secret_until:
        opened.append(box.open(row.sealed_old_secret, _purpose(row)))
    return opened


def remove_webhook(session: Session, vendor_id: UUID, webhook_id: UUID) -> None:
    """Forget a webhook and what waits for it.

    Raises: NotFound.
    """
    # Locked against new deliveries first: an event that is being written must find no webhook, not half of one.
    query = select(WebhookRow).where(WebhookRow.id == webhook_id, WebhookRow.vendor_id == vendor_id)
    row = session.scalar(query.with_for_update())
    if row is None:
        raise NotFound
    session.execute(delete(WebhookDeliveryRow).where(WebhookDeliveryRow.webhook_id == webhook_id))
    session.delete(row)
    session.flush()


def ping(session: Session, vendor_id: UUID, webhook_id: UUID, now: datetime) -> UUID:
    """Have a `ping` sent to a webhook, even if it is being left alone; gives the event's id.

    Raises: NotFound; Conflict if it is disabled; TooMany if one waits.
    """
    row = load_webhook(session, vendor_id, webhook_id, for_update=True)
    if not row.is_enabled:
        raise Conflict("this webhook is disabled: enable it first", state=DISABLED)
    waiting = select(func.count()).select_from(WebhookDeliveryRow).join(EventRow)
    waits = (WebhookDeliveryRow.webhook_id == webhook_id) & (WebhookDeliveryRow.state == "waiting")
    if session.scalars(waiting.where(waits, EventRow.kind == PING)).one():
        raise TooMany("a ping is on its way already: see what becomes of it")
    row.paused_until = None
    return write_event(session, vendor_id, PING, {"webhook_id": str(row.id)}, now, webhooks=[row.id])


def message_id_of(event_id: UUID) -> str:
    """Name the message of an event; receivers tell repetitions by it."""
    return f"evt_{event_id.hex}"


def list_deliveries(session: Session, vendor_id: UUID, webhook_id: UUID) -> Sequence[Delivered]:
    """Read the newest deliveries to a webhook.

    Raises: NotFound.
    """
    load_webhook(session, vendor_id, webhook_id)
    query = select(WebhookDeliveryRow, EventRow).join(EventRow).where(WebhookDeliveryRow.webhook_id == webhook_id)
    found = session.execute(query.order_by(EventRow.id.desc()).limit(LISTED_DELIVERIES))
    return [Delivered(delivery, event) for delivery, event in found]


def _needed(box: SecretBox | None) -> SecretBox:
    if box is None:
        raise PolicyRefused(
            "this service keeps no secrets, so it cannot sign webhooks: its operator must give it a key "
            "(TRAPSTREET_SECRETS_KEY_FILE)"
        )
    return box


def _checked(topics: Collection[str]) -> list[str]:
    unknown = sorted(set(topics) - set(TOPICS))
    if unknown or not topics:
        raise Malformed(f"choose at least one of {', '.join(TOPICS)}", pointer="/events")
    return [topic for topic in TOPICS if topic in topics]


def _purpose(row: WebhookRow) -> bytes:
    return lp(tag("webhook-secret"), row.id.bytes, row.url)
