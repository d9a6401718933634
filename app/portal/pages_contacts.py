"""Where the accused of a dispute is told by mail: a page apart from the dispute's, which looks again by itself."""

from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app.db.tables import DisputeRow
from app.disputes.contacts import find_contact, give_contact
from app.disputes.course import load_dispute, record_of
from app.disputes.links import find_link, link_at
from app.errors import Conflict, Malformed
from app.portal.forms import Form, Typed
from app.portal.rendering import render
from app.portal.visitors import MayDispute, MayRead, vendor_of
from app.web import InTransaction, Now, ServiceOf

router = APIRouter(prefix="/disputes")


@router.get("/{dispute_id:uuid}/contact")
def show_contact(request: Request, dispute_id: UUID, visitor: MayRead, session: InTransaction) -> Response:
    """Ask for an address, or say what became of the mail."""
    return _page(request, session, load_dispute(session, vendor_of(visitor), dispute_id), Typed())


@router.post("/{dispute_id:uuid}/contact")
def name_contact(
    request: Request,
    dispute_id: UUID,
    visitor: MayDispute,
    session: InTransaction,
    typed: Form,
    service: ServiceOf,
    now: Now,
) -> Response:
    """Keep the address, or write to it now if the link is there."""
    row = load_dispute(session, vendor_of(visitor), dispute_id, for_update=True)
    token = find_link(session, row)
    link = None if token is None else link_at(service.portal_origin, token)
    if not service.sends_mail:
        return _page(request, session, row, typed, status=503)
    try:
        give_contact(session, row, typed.get("address"), link, now)
    except Malformed as error:
        typed.errors["address"] = error.message
    except Conflict as error:
        typed.errors["form"] = error.message
    if typed.errors:
        return _page(request, session, row, typed, status=422)
    return RedirectResponse(f"/disputes/{row.id}/contact", 303)


def _page(request: Request, session: InTransaction, row: DisputeRow, typed: Typed, status: int = 200) -> Response:
    return render(
        request,
        "dispute_contact.html",
        status=status,
        row=row,
        endpoint=record_of(row).endpoint,
        sends_mail=request.app.state.service.sends_mail,
        contact=find_contact(session, row),
        has_link=find_link(session, row) is not None,
        typed=typed,
    )
