"""A browser's session: how it begins, and how its cookie goes.

Invariants: whoever signs in gets a fresh session, and the one that this browser had before ends; no script sees the
cookie, and no other site sends it along with a change.
"""

import secrets
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from fastapi.responses import RedirectResponse, Response

from app.people.sessions import LIFETIME, end_session, start_session
from app.people.tokens import TOKEN_BYTES
from app.portal.visitors import Anyone
from app.web import InTransaction, Now, Service, ServiceOf


@dataclass(frozen=True)
class Entrance:
    """What signing in needs to know of a request."""

    request: Request
    visitor: Anyone
    session: InTransaction
    service: ServiceOf
    now: Now

    def enter(self, person_id: UUID, address: str) -> Response:
        """Sign a person in and lead to a page."""
        if self.visitor is not None:
            end_session(self.session, self.visitor)
        browser = self.request.headers.get("user-agent", "")
        token = secrets.token_bytes(TOKEN_BYTES)
        cookie = start_session(self.session, person_id, browser, token, self.now)
        response = RedirectResponse(address, 303)
        response.set_cookie(
            self.service.cookie_name,
            cookie,
            max_age=int(LIFETIME.total_seconds()),
            path="/",
            secure=self.service.is_secure,
            httponly=True,
            samesite="lax",
        )
        return response


def _entrance(request: Request, visitor: Anyone, session: InTransaction, service: ServiceOf, now: Now) -> Entrance:
    return Entrance(request, visitor, session, service, now)


Entering = Annotated[Entrance, Depends(_entrance, scope="function")]


def left(service: Service, address: str) -> Response:
    """Answer a browser that is signed out."""
    response = RedirectResponse(address, 303)
    response.delete_cookie(service.cookie_name, path="/", secure=service.is_secure, httponly=True, samesite="lax")
    return response
