"""Who looks at a page: anybody, somebody signed in, or somebody with a role.

Invariants: nothing changes by a request from another site, signed in or not; who is not signed in is sent to sign in and
comes back; who was signed in while a form was typed keeps the form.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import Depends, Request

from app.db.engine import transaction
from app.errors import Forbidden
from app.people.sessions import Visitor
from app.registry.api_keys import ADMIN, DISPUTE, EMBED, READ, REGISTER
from app.web import READING, InTransaction, Now, ServiceOf, check_origin, find_signed_in

# For so long after signing in a person may make what outlasts the session.
FRESH = timedelta(minutes=30)


class SignInFirst(Exception):
    """Nobody is signed in; the portal answers with the way there."""


class SignInAgain(Exception):
    """Too long ago for what would outlast the session; the portal answers with the way there."""


class VendorFirst(Exception):
    """The person acts for no vendor yet; the portal answers with the ways to one."""


def from_our_pages(request: Request, service: ServiceOf) -> None:
    """Refuse every change that does not come from one of our pages, whoever asks for it.

    Raises: Forbidden.
    """
    check_origin(request, service)


def look(request: Request, service: ServiceOf, session: InTransaction, now: Now) -> Visitor | None:
    """Say who looks at the page, if anybody is signed in."""
    request.state.visitor = visitor = find_signed_in(request, service, session, now)
    return visitor


Anyone = Annotated[Visitor | None, Depends(look, scope="function")]


def look_beforehand(request: Request, service: ServiceOf) -> Visitor | None:
    """Say who looks at a page that waits for something slow: the transaction ends before the page begins."""
    with transaction(service.engine) as session:
        return look(request, service, session, service.clock())


AnyoneBeforehand = Annotated[Visitor | None, Depends(look_beforehand)]


def signed_in(visitor: Anyone) -> Visitor:
    """Give whoever is signed in.

    Raises: SignInFirst.
    """
    if visitor is None:
        raise SignInFirst
    return visitor


SignedIn = Annotated[Visitor, Depends(signed_in, scope="function")]


def freshly_signed_in(visitor: SignedIn, now: Now) -> Visitor:
    """Give whoever signed in not long ago: what a stolen session must not make to last, such as a passkey or an API key.

    Raises: SignInAgain.
    """
    if now - visitor.signed_in_at > FRESH:
        raise SignInAgain
    return visitor


Fresh = Depends(freshly_signed_in, scope="function")


def may(scope: str) -> Callable[..., Visitor]:
    """Make a dependency: somebody signed in who may do this for their vendor."""

    def check(visitor: SignedIn) -> Visitor:
        if visitor.vendor_id is None:
            raise VendorFirst
        if scope not in visitor.scopes:
            raise Forbidden(f"as {visitor.role} of {visitor.vendor_name} you may not do this: ask an owner")
        return visitor

    return check


def may_beforehand(scope: str) -> Callable[..., Visitor]:
    """Make the same dependency for a page that waits for something slow: its transaction ends before the page begins."""

    def check(visitor: AnyoneBeforehand) -> Visitor:
        return may(scope)(signed_in(visitor))

    return check


MayRead = Annotated[Visitor, Depends(may(READ), scope="function")]
MayReadBeforehand = Annotated[Visitor, Depends(may_beforehand(READ))]
MayRegister = Annotated[Visitor, Depends(may(REGISTER), scope="function")]
MayEmbed = Annotated[Visitor, Depends(may(EMBED), scope="function")]
MayDispute = Annotated[Visitor, Depends(may(DISPUTE), scope="function")]
MayAdminister = Annotated[Visitor, Depends(may(ADMIN), scope="function")]


def vendor_of(visitor: Visitor) -> UUID:
    """Give the vendor that a visitor of a vendor's page acts for."""
    if visitor.vendor_id is None:
        raise VendorFirst
    return visitor.vendor_id


def sign_in_address(request: Request) -> str:
    """Give the address of the sign-in page that leads back to this one."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return f"/sign-in?next={quote(here, safe='')}" if request.method in READING else "/sign-in"


def sign_in_again_address(request: Request) -> str:
    """Give the address of the sign-in page for somebody who is signed in, leading back to this one."""
    return f"{sign_in_address(request)}&again=yes"


def safe_next(address: str) -> str:
    """Give where to go after signing in: a page of ours, whatever the address says."""
    is_ours = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if is_ours and "\\" not in address else "/"
