"""Feeds: what everybody may know of disputes, and a vendor's own events under a secret address."""

import hashlib
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from app.db.notice_tables import EventRow
from app.delivery.atom import MEDIA_TYPE, Feed, encode_feed
from app.delivery.feeds import public_events, vendor_events, vendor_of_feed
from app.web import InTransaction, Service, ServiceOf

router = APIRouter()

# Readers may ask again after this; until then they need not.
FRESH_SECONDS = 60


@router.get("/feed.atom")
def public_feed(request: Request, session: InTransaction, service: ServiceOf) -> Response:
    """Give the steps of disputes that everybody may know."""
    return _answer(request, service, "Trapstreet: disputes", public_events(session), "public")


@router.get("/feeds/{token}.atom")
def vendor_feed(
    request: Request, token: Annotated[str, Path(max_length=64)], session: InTransaction, service: ServiceOf
) -> Response:
    """Give a vendor's events to whoever has the address."""
    events = vendor_events(session, vendor_of_feed(session, token))
    return _answer(request, service, "Trapstreet: your events", events, "private")


def _answer(request: Request, service: Service, title: str, events: Sequence[EventRow], kept_by: str) -> Response:
    address = service.portal_origin + request.url.path
    body = encode_feed(Feed(title, address, address, f"{service.portal_origin}/log"), events)
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": f"{kept_by}, max-age={FRESH_SECONDS}"}
    asked = request.headers.get("if-none-match", "")
    if etag in (tag.strip().removeprefix("W/") for tag in asked.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=f"{MEDIA_TYPE}; charset=utf-8")
