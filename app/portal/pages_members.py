"""A vendor's people and its programs: members, invitations, API keys.

Invariants: only an owner changes anything here; what is secret is shown once, on the answer that made it.
"""

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import RedirectResponse, Response

from app.errors import Malformed
from app.people.invitations import (
    accept_invitation,
    invite,
    list_invitations,
    load_invitation,
    revoke_invitation,
)
from app.people.persons import (
    AUDITOR,
    ENGINEER,
    OWNER,
    change_role,
    checked_line,
    list_members,
    remove_member,
    vendors_of,
)
from app.people.sessions import Visitor, act_for
from app.people.tokens import TOKEN_BYTES
from app.portal.forms import Form, Typed
from app.portal.pages_account import digest_of, id_of
from app.portal.rendering import render
from app.portal.visitors import Anyone, Fresh, MayAdminister, MayRead, SignedIn, vendor_of
from app.registry.api_keys import ADMIN, RANDOM_BYTES, SCOPES, list_api_keys, make_api_key, revoke_api_key
from app.web import InTransaction, Now, ServiceOf

router = APIRouter()

MEMBERS, API_KEYS = "/vendor/members", "/vendor/api-keys"

ROLES = (
    (OWNER, "owner: everything, people and API keys included"),
    (ENGINEER, "engineer: registers, embeds, disputes"),
    (AUDITOR, "auditor: reads"),
)

EXPIRIES: Mapping[str, tuple[str, timedelta | None]] = {
    "90": ("in 90 days", timedelta(days=90)),
    "30": ("in 30 days", timedelta(days=30)),
    "365": ("in a year", timedelta(days=365)),
    "never": ("never", None),
}

Id = Annotated[str, Path(max_length=64)]


@router.get(MEMBERS)
def members(request: Request, visitor: MayRead, session: InTransaction, now: Now) -> Response:
    """Show who acts for the vendor."""
    return _members(request, visitor, session, now, Typed())


def _members(
    request: Request, visitor: Visitor, session: InTransaction, now: Now, typed: Typed, status: int = 200
) -> Response:
    may_change = ADMIN in visitor.scopes
    return render(
        request,
        "members.html",
        status=status,
        typed=typed,
        members=list_members(session, vendor_of(visitor)),
        invitations=list_invitations(session, vendor_of(visitor), now) if may_change else (),
        roles=ROLES,
        may_change=may_change,
    )


@router.post(f"{MEMBERS}/invitations", dependencies=[Fresh])
def make_invitation(
    request: Request, visitor: MayAdminister, typed: Form, session: InTransaction, service: ServiceOf, now: Now
) -> Response:
    """Make an invitation, and show its link this once."""
    token = secrets.token_bytes(TOKEN_BYTES)
    with typed.keeping():
        role, note = typed.get("role"), typed.get("note")
        text = invite(session, vendor_of(visitor), visitor.person_id, role, note, token=token, now=now)
        link = f"{service.portal_origin}/invitations/{text}"
        return render(request, "invitation_made.html", link=link, role=role)
    return _members(request, visitor, session, now, typed, 422)


@router.post(f"{MEMBERS}/invitations/{{digest}}/revoke")
def end_invitation(visitor: MayAdminister, session: InTransaction, digest: Id) -> Response:
    """Revoke an invitation."""
    revoke_invitation(session, vendor_of(visitor), digest_of(digest))
    return RedirectResponse(MEMBERS, 303)


@router.post(f"{MEMBERS}/{{person_id}}/role")
def set_role(
    request: Request, visitor: MayAdminister, typed: Form, session: InTransaction, now: Now, person_id: Id
) -> Response:
    """Change what a member may do."""
    with typed.keeping():
        change_role(session, id_of(person_id), vendor_of(visitor), typed.get("role"))
        return RedirectResponse(MEMBERS, 303)
    return _refused(request, visitor, session, now, typed)


@router.post(f"{MEMBERS}/{{person_id}}/remove")
def end_membership(
    request: Request, visitor: MayAdminister, typed: Form, session: InTransaction, now: Now, person_id: Id
) -> Response:
    """Remove a member."""
    with typed.keeping():
        remove_member(session, id_of(person_id), vendor_of(visitor))
        return RedirectResponse(MEMBERS, 303)
    return _refused(request, visitor, session, now, typed)


def _refused(request: Request, visitor: Visitor, session: InTransaction, now: Now, typed: Typed) -> Response:
    # Several small forms stand on this page: what is refused stands above them all.
    return _members(request, visitor, session, now, Typed({}, {"form": next(iter(typed.errors.values()))}), 422)


@router.get("/invitations/{token}")
def invitation(request: Request, visitor: Anyone, session: InTransaction, now: Now, token: Id) -> Response:
    """Say what an invitation is for, and ask."""
    found = load_invitation(session, token, now)
    is_member = visitor is not None and any(
        vendor.id == found.vendor_id for vendor, _ in vendors_of(session, visitor.person_id)
    )
    return render(request, "invitation.html", invitation=found, is_member=is_member)


@router.post("/invitations/{token}")
def accept(visitor: SignedIn, session: InTransaction, now: Now, token: Id) -> Response:
    """Accept an invitation, and act for its vendor from now on."""
    act_for(session, visitor, accept_invitation(session, token, visitor.person_id, now))
    return RedirectResponse("/", 303)


@router.get(API_KEYS)
def api_keys(request: Request, visitor: MayAdminister, session: InTransaction, now: Now) -> Response:
    """Show the vendor's API keys."""
    return _api_keys(request, visitor, session, now, Typed())


def _api_keys(
    request: Request, visitor: Visitor, session: InTransaction, now: Now, typed: Typed, status: int = 200
) -> Response:
    return render(
        request,
        "api_keys.html",
        status=status,
        typed=typed,
        keys=list_api_keys(session, vendor_of(visitor)),
        now=now,
        scopes=SCOPES,
        expiries=[(value, words) for value, (words, _) in EXPIRIES.items()],
    )


@router.post(API_KEYS, dependencies=[Fresh])
def new_api_key(request: Request, visitor: MayAdminister, typed: Form, session: InTransaction, now: Now) -> Response:
    """Make an API key, and show it this once."""
    with typed.keeping():
        made = make_api_key(
            session,
            vendor_of(visitor),
            checked_line(typed.get("name"), "/name"),
            set(typed.all("scopes")),
            expires_at=_expiry(typed.get("expiry"), now),
            randomness=secrets.token_bytes(RANDOM_BYTES),
            now=now,
        )
        return render(request, "api_key_made.html", key=made.row, text=made.text)
    return _api_keys(request, visitor, session, now, typed, 422)


def _expiry(typed: str, now: datetime) -> datetime | None:
    if typed not in EXPIRIES:
        raise Malformed("choose one of these", pointer="/expiry")
    lifetime = EXPIRIES[typed][1]
    return now + lifetime if lifetime else None


@router.post(f"{API_KEYS}/{{key_id}}/revoke")
def end_api_key(visitor: MayAdminister, session: InTransaction, now: Now, key_id: Id) -> Response:
    """Revoke an API key."""
    revoke_api_key(session, vendor_of(visitor), key_id, now)
    return RedirectResponse(API_KEYS, 303)
