"""Becoming a vendor: the browser makes the key and signs with it, and whoever does so is the vendor's first owner.

Trust: the private key never comes here.
"""

import secrets

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app.canonical import octets
from app.db.tables import ID_RANDOM_BYTES
from app.people.persons import OWNER, add_member, checked_line
from app.people.sessions import act_for
from app.portal.forms import Form, Typed
from app.portal.rendering import render
from app.portal.visitors import SignedIn
from app.registry.vendors import VendorClaim, register_vendor
from app.web import InTransaction, Now, ServiceOf

router = APIRouter(prefix="/vendors")


@router.get("/new")
def new_vendor(request: Request, _visitor: SignedIn) -> Response:
    """Ask for a name, and for a key that a script makes."""
    return render(request, "vendors_new.html", typed=Typed())


@router.post("")
def make_vendor(
    request: Request, visitor: SignedIn, typed: Form, session: InTransaction, service: ServiceOf, now: Now
) -> Response:
    """Register a vendor whose key signed the challenge, with this person as its owner."""
    with typed.keeping(), session.begin_nested():
        claim = VendorClaim(
            challenge=octets(32).parse(typed.get("challenge"), "/form"),
            contact=checked_line(typed.get("contact"), "/contact"),
            name=checked_line(typed.get("name"), "/name"),
            public_key=octets(32).parse(typed.get("public_key"), "/form"),
        )
        signature = octets(64).parse(typed.get("signature"), "/form")
        randomness = secrets.token_bytes(ID_RANDOM_BYTES)
        made = register_vendor(session, service.identity, claim, signature, randomness, now)
        add_member(session, visitor.person_id, made.row.id, OWNER, now)
        act_for(session, visitor, made.row.id)
    if typed.errors:
        return render(request, "vendors_new.html", status=422, typed=typed)
    return RedirectResponse("/", 303)
