"""Watermarks: what is registered, and registering from a browser that keeps its keys.

Trust: what a key file holds never comes here; the page's script sends root, statement and signature to the API as its person.
"""

from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.keys.statement import Statement
from app.log.beacon import find_beacon
from app.log.store import load_entry
from app.portal.rendering import render
from app.portal.visitors import MayRead, MayRegister, vendor_of
from app.registry.registrations import list_registrations, load_registration
from app.web import InTransaction, ServiceOf

router = APIRouter(prefix="/registrations")

# A vendor with more registrations reads on from the last.
LISTED = 50


@router.get("")
def list_watermarks(request: Request, visitor: MayRead, session: InTransaction, after: UUID | None = None) -> Response:
    """List the vendor's registrations."""
    rows = list_registrations(session, vendor_of(visitor), after, LISTED + 1, newest_first=True)
    shown = [(row, Statement.parse(row.statement)) for row in rows[:LISTED]]
    more = shown[-1][0].id if len(rows) > LISTED else None
    return render(request, "registrations_list.html", shown=shown, more=more)


@router.get("/new")
def new_watermark(request: Request, _visitor: MayRegister, service: ServiceOf) -> Response:
    """Choose triggers, make the key, register: a script does it, so that the key stays where it is made."""
    return render(request, "registrations_new.html", log=service.identity.origin, beacon=service.beacon_source)


@router.get("/{registration_id}")
def show_watermark(request: Request, visitor: MayRead, session: InTransaction, registration_id: UUID) -> Response:
    """Show a registration, its place in the log, and its labels to whoever has the key."""
    row = load_registration(session, vendor_of(visitor), registration_id)
    entry = load_entry(session, row.entry_index)
    found = find_beacon(session, row.entry_index)
    return render(
        request,
        "registrations_show.html",
        # Once the labels are there the page has more to offer than the part that waited for them.
        headers={"HX-Refresh": "true"} if found and "hx-request" in request.headers else None,
        row=row,
        statement=Statement.parse(row.statement),
        entry=entry.decode(),
        beacon=found,
    )
