"""White-box checks: ask a suspect's weights that are at hand, without an endpoint.

Invariants: the count with a vendor's own head stands apart, beside the controls', and is called no evidence.
Trust: as in pages_embeddings.
"""

from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app.db.tables import EmbeddingRow, WhiteBoxCheckRow
from app.embedding.orders import cancel_order, list_orders, load_order
from app.embedding.white_box.check import WhiteBoxReport
from app.keys.statement import parse_statement
from app.portal.pages_embeddings import LISTED, UNFINISHED, registrations_to_choose
from app.portal.rendering import moment, render
from app.portal.visitors import MayEmbed, MayRead, vendor_of
from app.registry.registrations import load_registration
from app.registry.worker_keys import list_worker_keys
from app.web import InTransaction, Now

router = APIRouter(prefix="/white-box-checks")

# How many of a vendor's own trainings its head is chosen from; others go up as a file.
OFFERED = 200


@router.get("")
def list_checks(request: Request, visitor: MayRead, session: InTransaction, after: UUID | None = None) -> Response:
    """List the vendor's checks."""
    rows = list_orders(session, WhiteBoxCheckRow, vendor_of(visitor), after, LISTED + 1, newest_first=True)
    more = rows[LISTED - 1].id if len(rows) > LISTED else None
    return render(request, "white_box_list.html", rows=rows[:LISTED], more=more)


@router.get("/new")
def new_check(request: Request, visitor: MayEmbed, session: InTransaction) -> Response:
    """Ask for the suspect's weights, the key and perhaps a head."""
    return render(
        request,
        "white_box_new.html",
        registrations=registrations_to_choose(session, vendor_of(visitor)),
        heads=heads_to_choose(session, vendor_of(visitor)),
        queues=[row.queue for row in list_worker_keys(session)],
    )


@router.get("/{order_id:uuid}")
def show_check(request: Request, visitor: MayRead, session: InTransaction, order_id: UUID) -> Response:
    """Show a check: what the suspect answers, and apart from it what is no evidence."""
    row = load_order(session, WhiteBoxCheckRow, vendor_of(visitor), order_id)
    registration = load_registration(session, vendor_of(visitor), row.registration_id)
    return render(
        request,
        "white_box_show.html",
        headers={"HX-Refresh": "true"} if row.state not in UNFINISHED and "hx-request" in request.headers else None,
        row=row,
        is_unfinished=row.state in UNFINISHED,
        families=parse_statement(registration.statement).families,
        report=WhiteBoxReport.from_json(row.report) if row.report else None,
    )


@router.post("/{order_id:uuid}/cancel")
def cancel_check(visitor: MayEmbed, session: InTransaction, now: Now, order_id: UUID) -> Response:
    """Cancel an order that has not ended."""
    cancel_order(session, WhiteBoxCheckRow, vendor_of(visitor), order_id, now)
    return RedirectResponse(f"/white-box-checks/{order_id}", 303)


def heads_to_choose(session: InTransaction, vendor_id: UUID) -> list[tuple[str, str]]:
    """List the vendor's marked networks, which the log commits to: digest, and words that tell them apart."""
    return [
        (row.artifact_sha256.hex(), f"{row.order_json['recipe']['network']} of {moment(row.updated_at)}")
        for row in list_orders(session, EmbeddingRow, vendor_id, None, OFFERED, newest_first=True)
        if row.artifact_sha256 is not None
    ]
