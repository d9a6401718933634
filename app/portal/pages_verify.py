"""Checking evidence in the browser, for everybody: the page only brings the checker and this service's public keys.

Invariants: nothing that is checked here is sent anywhere; the page says that it cannot vouch for the service it comes from.
Source: docs/protocol.md section 9; static/verify is what it runs.
"""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.portal.pages_log import key_of
from app.portal.rendering import render
from app.portal.visitors import Anyone
from app.web import ServiceOf

router = APIRouter()


@router.get("/verify")
def verify(request: Request, _visitor: Anyone, service: ServiceOf) -> Response:
    """Bring the checker."""
    arbiters = "\n".join(key.hex() for key in service.arbiter_keys)
    return render(request, "verify.html", log=key_of(service), arbiters=arbiters)
