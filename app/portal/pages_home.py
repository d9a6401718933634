"""The first page, and signing in and out: what needs no passkey."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import RedirectResponse, Response

from app.people.links import use_link
from app.people.sessions import LIFETIME, end_session, start_session
from app.people.tokens import TOKEN_BYTES
from app.portal.rendering import render
from app.portal.visitors import Anyone, SignedIn, safe_next
from app.web import InTransaction, Now, Service, ServiceOf

router = APIRouter()


@router.get("/")
def home(request: Request, visitor: Anyone) -> Response:
    """Say what this service is, or what to do next."""
    return render(request, "home.html", visitor=visitor)


@router.get("/sign-in")
def sign_in(request: Request, visitor: Anyone, next: Annotated[str, Query(max_length=2000)] = "/") -> Response:  # noqa: A002
    """Ask who is there."""
    if visitor is not None:
        return RedirectResponse(safe_next(next), 303)
    return render(request, "sign_in.html", next=safe_next(next))


@router.get("/sign-in/{token}")
def confirm_link(request: Request, token: Annotated[str, Path(max_length=64)]) -> Response:
    """Ask before a link is used up: programs open links, too."""
    return render(request, "confirm_link.html", token=token)


@router.post("/sign-in/{token}")
def use_sign_in_link(
    request: Request,
    _visitor: Anyone,
    token: Annotated[str, Path(max_length=64)],
    session: InTransaction,
    service: ServiceOf,
    now: Now,
) -> Response:
    """Sign in with a one-time link."""
    person_id = use_link(session, token, now)
    browser = request.headers.get("user-agent", "")
    cookie = start_session(session, person_id, browser, secrets.token_bytes(TOKEN_BYTES), now)
    return signed_in_response(service, cookie, "/")


@router.post("/sign-out")
def sign_out(visitor: SignedIn, session: InTransaction, service: ServiceOf) -> Response:
    """Sign this browser out."""
    end_session(session, visitor)
    response = RedirectResponse("/", 303)
    response.delete_cookie(service.cookie_name, path="/", secure=service.is_secure, httponly=True, samesite="lax")
    return response


def signed_in_response(service: Service, cookie: str, address: str) -> Response:
    """Answer with a fresh session's cookie and the way to a page."""
    response = RedirectResponse(address, 303)
    set_session_cookie(response, service, cookie)
    return response


def set_session_cookie(response: Response, service: Service, cookie: str) -> None:
    """Give a browser its session: no script sees it, no other site sends it along with a change."""
    response.set_cookie(
        service.cookie_name,
        cookie,
        max_age=int(LIFETIME.total_seconds()),
        path="/",
        secure=service.is_secure,
        httponly=True,
        samesite="lax",
    )
