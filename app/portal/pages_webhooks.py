"""Where a vendor's events go: its webhooks, what became of each delivery, and the address of its feed.

A new secret is shown in the answer to the form that made it, once; everything else is a form and a page after it.
"""

import secrets
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app.delivery.feeds import TOKEN_BYTES, drop_feed, find_feed, make_feed
from app.delivery.signing import SECRET_BYTES
from app.delivery.webhooks import (
    MAX_WEBHOOKS,
    WEBHOOK_RANDOM_BYTES,
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
from app.notices.events import TOPICS
from app.people.sessions import Visitor
from app.portal.forms import Form, Typed
from app.portal.rendering import render
from app.portal.visitors import MayAdminister, vendor_of
from app.web import InTransaction, Now, ServiceOf

router = APIRouter(prefix="/vendor/webhooks")

# What a topic's events say, for who chooses among them.
WORDS = {
    "registration": "a registration's labels are drawn",
    "embedding": "an embedding ends",
    "survival_report": "a survival report ends",
    "white_box_check": "a white-box check ends",
    "dispute": "a dispute moves on",
}


@router.get("")
def overview(request: Request, visitor: MayAdminister, session: InTransaction) -> Response:
    """Show the webhooks, a form for another, and the feed."""
    return _page(request, visitor, session, Typed())


@router.post("")
def add(
    request: Request, visitor: MayAdminister, session: InTransaction, service: ServiceOf, now: Now, typed: Form
) -> Response:
    """Make a webhook and show its secret."""
    made = None
    with typed.keeping():
        made = add_webhook(
            session,
            service.secret_box,
            service.network_rules,
            vendor_of(visitor),
            NewWebhook(typed.get("url").strip(), typed.all("events")),
            randomness=secrets.token_bytes(WEBHOOK_RANDOM_BYTES),
            now=now,
        )
    if made is None:
        return _page(request, visitor, session, typed, status=422)
    return render(request, "webhooks_secret.html", visitor=visitor, made=made, rotated=False)


@router.post("/feed")
def make_address(
    request: Request, visitor: MayAdminister, session: InTransaction, service: ServiceOf, now: Now
) -> Response:
    """Make a new address for the feed and show it."""
    token = make_feed(session, vendor_of(visitor), secrets.token_bytes(TOKEN_BYTES), now)
    address = f"{service.portal_origin}/feeds/{token}.atom"
    return render(request, "webhooks_feed.html", visitor=visitor, address=address)


@router.post("/feed/end")
def end_address(visitor: MayAdminister, session: InTransaction) -> Response:
    """End the feed's address."""
    drop_feed(session, vendor_of(visitor))
    return RedirectResponse("/vendor/webhooks", 303)


@router.get("/{webhook_id}")
def show(request: Request, webhook_id: UUID, visitor: MayAdminister, session: InTransaction) -> Response:
    """Show a webhook and what became of its deliveries."""
    return _webhook_page(request, visitor, session, webhook_id, "webhooks_one.html")


@router.get("/{webhook_id}/deliveries")
def deliveries(request: Request, webhook_id: UUID, visitor: MayAdminister, session: InTransaction) -> Response:
    """Show the deliveries alone, for the page that stands open."""
    return _webhook_page(request, visitor, session, webhook_id, "webhooks_deliveries.html")


@router.post("/{webhook_id}/ping")
def send_ping(
    request: Request, webhook_id: UUID, visitor: MayAdminister, session: InTransaction, now: Now, typed: Form
) -> Response:
    """Send the event `ping`."""
    with typed.keeping():
        ping(session, vendor_of(visitor), webhook_id, now)
    if typed.errors:
        problem = typed.errors["form"]
        return _webhook_page(request, visitor, session, webhook_id, "webhooks_one.html", status=409, problem=problem)
    return _to(webhook_id)


@router.post("/{webhook_id}/secret")
def rotate(
    request: Request, webhook_id: UUID, visitor: MayAdminister, session: InTransaction, service: ServiceOf, now: Now
) -> Response:
    """Replace the secret and show the new one."""
    fresh = secrets.token_bytes(SECRET_BYTES)
    made = rotate_secret(session, service.secret_box, vendor_of(visitor), webhook_id, fresh, now)
    return render(request, "webhooks_secret.html", visitor=visitor, made=made, rotated=True)


@router.post("/{webhook_id}/enable")
def enable(webhook_id: UUID, visitor: MayAdminister, session: InTransaction) -> Response:
    """Send to it again."""
    change_webhook(session, vendor_of(visitor), webhook_id, topics=None, is_enabled=True)
    return _to(webhook_id)


@router.post("/{webhook_id}/disable")
def disable(webhook_id: UUID, visitor: MayAdminister, session: InTransaction) -> Response:
    """Send nothing more to it."""
    change_webhook(session, vendor_of(visitor), webhook_id, topics=None, is_enabled=False)
    return _to(webhook_id)


@router.post("/{webhook_id}/events")
def choose(request: Request, webhook_id: UUID, visitor: MayAdminister, session: InTransaction, typed: Form) -> Response:
    """Send other events to it."""
    with typed.keeping():
        change_webhook(session, vendor_of(visitor), webhook_id, topics=typed.all("events"), is_enabled=None)
    if typed.errors:
        problem = next(iter(typed.errors.values()))
        return _webhook_page(request, visitor, session, webhook_id, "webhooks_one.html", status=422, problem=problem)
    return _to(webhook_id)


@router.post("/{webhook_id}/delete")
def delete(webhook_id: UUID, visitor: MayAdminister, session: InTransaction) -> Response:
    """Forget it."""
    remove_webhook(session, vendor_of(visitor), webhook_id)
    return RedirectResponse("/vendor/webhooks", 303)


def _page(request: Request, visitor: Visitor, session: InTransaction, typed: Typed, status: int = 200) -> Response:
    vendor_id = vendor_of(visitor)
    return render(
        request,
        "webhooks_list.html",
        visitor=visitor,
        status=status,
        typed=typed,
        webhooks=list_webhooks(session, vendor_id),
        most=MAX_WEBHOOKS,
        topics=[(topic, WORDS[topic]) for topic in TOPICS],
        feed=find_feed(session, vendor_id),
    )


def _webhook_page(
    request: Request, visitor: Visitor, session: InTransaction, webhook_id: UUID, template: str, **more: Any
) -> Response:
    vendor_id = vendor_of(visitor)
    webhook = load_webhook(session, vendor_id, webhook_id)
    found = list_deliveries(session, vendor_id, webhook_id)
    values = {"status": 200, "problem": "", **more}
    return render(
        request,
        template,
        visitor=visitor,
        webhook=webhook,
        deliveries=found,
        topics=[(topic, WORDS[topic]) for topic in TOPICS],
        **values,
    )


def _to(webhook_id: UUID) -> Response:
    return RedirectResponse(f"/vendor/webhooks/{webhook_id}", 303)
