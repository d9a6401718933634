"""Webhooks: addresses to which the service sends what happens to a vendor's things (docs/webhooks.md).

Trust: a secret is shown once; what a receiver answers is never shown, only its status.
"""

import secrets
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import Field

from app.api.dependencies import require
from app.api.fields import Answer, Body, Moment, Page
from app.api.problems import WITH_KEY, problems
from app.db.notice_tables import WebhookRow
from app.delivery.signing import SECRET_BYTES
from app.delivery.webhooks import (
    WEBHOOK_RANDOM_BYTES,
    Delivered,
    MadeWebhook,
    NewWebhook,
    add_webhook,
    change_webhook,
    list_deliveries,
    list_webhooks,
    load_webhook,
    ping,
    remove_webhook,
    rotate_secret,
)
from app.registry.api_keys import ADMIN, Caller
from app.web import InTransaction, Now, ServiceOf

router = APIRouter(prefix="/webhooks", tags=["webhooks"], responses=WITH_KEY)

# An address of a receiver is a secret of its own, often: who may not say where events go does not read it either.
Admin = Annotated[Caller, Depends(require(ADMIN), scope="function")]
Topic = Literal["registration", "embedding", "survival_report", "white_box_check", "dispute"]

EXAMPLE_URL = "https://hooks.example.org/trapstreet"
EXAMPLE_SECRET = "whsec_ZmFrZS1zZWNyZXQtb2YtMzItYnl0ZXMtLS0tLS0tLS0="  # noqa: S105  # nobody's


class WebhookBody(Body):
    """Where to send what."""

    url: str = Field(max_length=2000, examples=[EXAMPLE_URL])
    events: list[Topic] = Field(min_length=1, max_length=5, description="Topics; their events are in docs/webhooks.md.")


class WebhookChange(Body):
    """What is to be different; null: nothing."""

    events: list[Topic] | None = Field(None, min_length=1, max_length=5)
    is_enabled: bool | None = Field(None, description="What waits for a webhook when it is disabled is dropped.")


class WebhookView(Answer):
    """A webhook, without its secret."""

    id: UUID
    url: str = Field(examples=[EXAMPLE_URL])
    events: list[Topic]
    is_enabled: bool
    disabled_reason: str = Field(description="Empty while it is enabled.", examples=[""])
    failing_since: Moment | None = Field(description="When the first attempt failed since one arrived.")
    created_at: Moment


class ShownWebhook(WebhookView):
    """A webhook with a new secret; `secret` is shown this once."""

    secret: str = Field(examples=[EXAMPLE_SECRET])


class DeliveryView(Answer):
    """An event on its way to a webhook."""

    event_id: UUID
    message_id: str = Field(description="The header `webhook-id`.", examples=["evt_019a0000000070008000000000000000"])
    type: str = Field(examples=["embedding.done"])
    state: Literal["waiting", "delivered", "failed"]
    attempts: int
    status: int | None = Field(description="HTTP status of the last answer; null if none arrived.", examples=[204])
    error: str = Field(description="Why the last attempt failed, as a stable word.", examples=[""])
    created_at: Moment
    attempted_at: Moment | None
    next_attempt_at: Moment | None


class Sent(Answer):
    """A ping that is on its way."""

    event_id: UUID


def show(row: WebhookRow) -> WebhookView:
    """Write a webhook for its vendor."""
    return WebhookView(
        id=row.id,
        url=row.url,
        events=row.topics,
        is_enabled=row.is_enabled,
        disabled_reason=row.disabled_reason,
        failing_since=row.failing_since,
        created_at=row.created_at,
    )


def show_secret(made: MadeWebhook) -> ShownWebhook:
    """Write a webhook with its new secret."""
    return ShownWebhook(**show(made.row).model_dump(), secret=made.secret)


def show_delivery(found: Delivered) -> DeliveryView:
    """Write a delivery for its vendor."""
    delivery, event = found.delivery, found.event
    return DeliveryView(
        event_id=event.id,
        message_id=found.message_id,
        type=event.kind,
        state=delivery.state,
        attempts=delivery.attempts,
        status=delivery.status,
        error=delivery.error,
        created_at=event.created_at,
        attempted_at=delivery.attempted_at,
        next_attempt_at=delivery.next_attempt_at,
    )


@router.post("", status_code=201, operation_id="add_webhook", responses=problems(429))
def add(body: WebhookBody, caller: Admin, session: InTransaction, service: ServiceOf, now: Now) -> ShownWebhook:
    """Have events sent to an address, signed as Standard Webhooks says."""
    made = add_webhook(
        session,
        service.secret_box,
        service.network_rules,
        caller.vendor_id,
        NewWebhook(body.url, body.events),
        randomness=secrets.token_bytes(WEBHOOK_RANDOM_BYTES),
        now=now,
    )
    return show_secret(made)


@router.get("", operation_id="list_webhooks")
def list_all(caller: Admin, session: InTransaction) -> Page[WebhookView]:
    """List the vendor's webhooks; there are few, so the first page is the last."""
    return Page(items=[show(row) for row in list_webhooks(session, caller.vendor_id)])


@router.get("/{webhook_id}", operation_id="read_webhook", responses=problems(404))
def read(webhook_id: UUID, caller: Admin, session: InTransaction) -> WebhookView:
    """Read a webhook."""
    return show(load_webhook(session, caller.vendor_id, webhook_id))


@router.patch("/{webhook_id}", operation_id="change_webhook", responses=problems(404))
def change(webhook_id: UUID, body: WebhookChange, caller: Admin, session: InTransaction) -> WebhookView:
    """Choose other events, or disable or enable it; an enabled one starts with a clean record."""
    changed = change_webhook(session, caller.vendor_id, webhook_id, topics=body.events, is_enabled=body.is_enabled)
    return show(changed)


@router.delete("/{webhook_id}", status_code=204, operation_id="remove_webhook", responses=problems(404))
def remove(webhook_id: UUID, caller: Admin, session: InTransaction) -> None:
    """Forget a webhook and what waits for it."""
    remove_webhook(session, caller.vendor_id, webhook_id)


@router.post("/{webhook_id}/secret", operation_id="rotate_webhook_secret", responses=problems(404))
def rotate(webhook_id: UUID, caller: Admin, session: InTransaction, service: ServiceOf, now: Now) -> ShownWebhook:
    """Replace the secret; for a day the old one signs, too."""
    fresh = secrets.token_bytes(SECRET_BYTES)
    return show_secret(rotate_secret(session, service.secret_box, caller.vendor_id, webhook_id, fresh, now))


@router.post("/{webhook_id}/ping", status_code=202, operation_id="ping_webhook", responses=problems(404, 409, 429))
def send_ping(webhook_id: UUID, caller: Admin, session: InTransaction, now: Now) -> Sent:
    """Send the event `ping`, to see whether it arrives."""
    return Sent(event_id=ping(session, caller.vendor_id, webhook_id, now))


@router.get("/{webhook_id}/deliveries", operation_id="list_webhook_deliveries", responses=problems(404))
def deliveries(webhook_id: UUID, caller: Admin, session: InTransaction) -> Page[DeliveryView]:
    """List the newest deliveries, and when what did not arrive is tried again."""
    return Page(items=[show_delivery(found) for found in list_deliveries(session, caller.vendor_id, webhook_id)])
