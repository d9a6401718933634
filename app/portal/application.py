"""The portal as an application of its own inside the service: its pages, headers, files and errors.

Invariants: every answer carries the same strict headers; no script and no style stands in a page; an error is a page, in
words, and shows nothing of a traceback or of another vendor.
Source: CSP level 3; OWASP secure headers.
"""

import logging
import re
from collections.abc import MutableMapping
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.exc import DBAPIError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import NotFound, TooSlow, TrapstreetError
from app.portal import (
    pages_account,
    pages_contacts,
    pages_cross_tests,
    pages_disputes,
    pages_embeddings,
    pages_feeds,
    pages_filing,
    pages_home,
    pages_log,
    pages_members,
    pages_new_suspect,
    pages_public,
    pages_registrations,
    pages_sign_in,
    pages_survival,
    pages_suspects,
    pages_vendors,
    pages_verify,
    pages_webhooks,
    pages_weights,
    pages_white_box,
)
from app.portal.forms import read_form
from app.portal.rendering import STATIC, render, static_version
from app.portal.visitors import (
    SignInAgain,
    SignInFirst,
    VendorFirst,
    from_our_pages,
    sign_in_address,
    sign_in_again_address,
)
from app.web import READING, Service, status_of

logger = logging.getLogger(__name__)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

# In this order: /disputes/new is a page of filing, and no dispute's id.
ROUTERS = (
    pages_filing.router,
    pages_account.router,
    pages_contacts.router,
    pages_cross_tests.router,
    pages_disputes.router,
    pages_embeddings.router,
    pages_feeds.router,
    pages_home.router,
    pages_log.router,
    pages_members.router,
    pages_new_suspect.router,
    pages_public.router,
    pages_registrations.router,
    pages_sign_in.router,
    pages_survival.router,
    pages_suspects.router,
    pages_vendors.router,
    pages_verify.router,
    pages_webhooks.router,
    pages_weights.router,
    pages_white_box.router,
)

# Paths that are the API's: what it does not know is a problem document, not a page.
API_PATHS = re.compile(r"/v1(/.*)?|/healthz/?|/readyz/?", re.DOTALL)

# What is sent to a page: forms; a passkey's answer is JSON.
PAGES = re.compile("(?!/v1/).*", re.DOTALL)
# Forms with a file: larger than it may be, so that the page can say so and keep what was typed.
WITH_FILE = re.compile("/d/[^/]+/answers")
MAX_FORM_BYTES = 16 * 1024 * 1024
# Forms with weights, and with the program that they need.
WITH_WEIGHTS = re.compile("/d/[^/]+/weights|/disputes/[^/]+/cross-tests/[^/]+/model")
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "application/json")


class StrictHeaders:
    """The middleware that gives every answer the portal's headers; pages are never kept by a cache."""

    def __init__(self, app: ASGIApp, *, is_secure: bool) -> None:
        """Wrap an application."""
        self._app = app
        self._headers = HEADERS | ({"Strict-Transport-Security": "max-age=31536000"} if is_secure else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers that an answer does not have."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**self._headers, "Cache-Control": "no-store"}.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, sending)


class KeptFiles(StaticFiles):
    """Files whose address holds their hash: a browser may keep them for good."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Give a file."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


class PortalMount(Mount):
    """The portal at every path that is not the API's."""

    def matches(self, scope: Scope) -> tuple[Match, MutableMapping[str, Any]]:
        """Leave the API's paths alone."""
        if API_PATHS.fullmatch(scope["path"]):
            return Match.NONE, {}
        return super().matches(scope)


def create_portal(service: Service) -> ASGIApp:
    """Make the portal."""
    portal = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, dependencies=[Depends(from_our_pages)])
    portal.state.service = service
    portal.mount(f"/static/{static_version()}", KeptFiles(directory=STATIC), name="static")
    for router in ROUTERS:
        portal.include_router(router)
    _ask_to_sign_in(portal)
    _answer_refusals(portal)
    # Around everything, the framework's own answer to a bug included.
    return StrictHeaders(portal, is_secure=service.is_secure)


def _ask_to_sign_in(portal: FastAPI) -> None:
    @portal.exception_handler(SignInFirst)
    async def sign_in_first(request: Request, _error: SignInFirst) -> Response:
        if request.method in READING:
            return RedirectResponse(sign_in_address(request), 303)
        typed = await read_form(request)
        # What was typed while the session ended is sent again from this page, after signing in elsewhere.
        return render(request, "signed_out.html", status=401, typed=typed)

    @portal.exception_handler(SignInAgain)
    async def sign_in_again(request: Request, _error: SignInAgain) -> Response:
        if request.method in READING:
            return RedirectResponse(sign_in_again_address(request), 303)
        return render(request, "sign_in_again.html", status=401, typed=await read_form(request))

    @portal.exception_handler(VendorFirst)
    def vendor_first(_request: Request, _error: VendorFirst) -> Response:
        return RedirectResponse("/vendors/new", 303)


def _answer_refusals(portal: FastAPI) -> None:
    @portal.exception_handler(TrapstreetError)
    def ours(request: Request, error: TrapstreetError) -> Response:
        # Whoever sends too slowly is not waited for any longer.
        headers = {"Connection": "close"} if isinstance(error, TooSlow) else None
        return render(request, "error.html", status=status_of(error), headers=headers, message=error.message)

    @portal.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        message = NotFound().message if error.status_code == 404 else str(error.detail)
        if error.status_code == 413:
            message = f"{message}, which is what this page takes: choose a smaller file, or write less"
        return render(request, "error.html", status=error.status_code, message=message)

    @portal.exception_handler(RequestValidationError)
    def unreadable(request: Request, error: RequestValidationError) -> Response:
        # What was given may be a stranger's link: its place is named, it is not repeated.
        places = ", ".join(str(fault["loc"][-1]) for fault in error.errors() if fault["loc"])
        return render(request, "error.html", status=422, message=f"this address cannot be read: change {places}")

    @portal.exception_handler(DBAPIError)
    def database(request: Request, error: DBAPIError) -> Response:
        logger.error("the database refused a statement", exc_info=error)
        return render(request, "error.html", status=503, message="the database is busy; the same may succeed later")

    @portal.exception_handler(Exception)
    def bug(request: Request, _error: Exception) -> Response:
        return render(request, "error.html", status=500, message="an error of this service; nothing was changed")
