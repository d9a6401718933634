"""Survival reports: what of a mark is left after a thief has worked on the network.

Trust: as in pages_embeddings.
"""

from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app.db.tables import EmbeddingRow, SurvivalReportRow
from app.embedding.embedding_order import EmbeddingOrder
from app.embedding.orders import cancel_order, list_orders, load_order
from app.embedding.recipe import EXPORTED
from app.embedding.survival.order import SurvivalReport
from app.portal.pages_embeddings import LISTED, UNFINISHED, registrations_to_choose
from app.portal.rendering import render
from app.portal.visitors import MayEmbed, MayRead, vendor_of
from app.registry.worker_keys import list_worker_keys
from app.web import InTransaction, Now

router = APIRouter(prefix="/survival-reports")


@router.get("")
def list_reports(request: Request, visitor: MayRead, session: InTransaction, after: UUID | None = None) -> Response:
    """List the vendor's reports."""
    rows = list_orders(session, SurvivalReportRow, vendor_of(visitor), after, LISTED + 1, newest_first=True)
    more = rows[LISTED - 1].id if len(rows) > LISTED else None
    return render(request, "survival_list.html", rows=rows[:LISTED], more=more)


@router.get("/new")
def new_report(request: Request, visitor: MayEmbed, session: InTransaction, embedding: UUID | None = None) -> Response:
    """Ask which network is attacked, and for the key."""
    row = load_order(session, EmbeddingRow, vendor_of(visitor), embedding) if embedding else None
    return render(
        request,
        "survival_new.html",
        registrations=registrations_to_choose(session, vendor_of(visitor)),
        embedding=row,
        program=program_of(row) if row else "",
        queues=[each.queue for each in list_worker_keys(session)],
    )


@router.get("/{order_id:uuid}")
def show_report(request: Request, visitor: MayRead, session: InTransaction, order_id: UUID) -> Response:
    """Show an order for a report: how far it is, what every attack left."""
    row = load_order(session, SurvivalReportRow, vendor_of(visitor), order_id)
    return render(
        request,
        "survival_show.html",
        headers={"HX-Refresh": "true"} if row.state not in UNFINISHED and "hx-request" in request.headers else None,
        row=row,
        is_unfinished=row.state in UNFINISHED,
        report=SurvivalReport.from_json(row.report) if row.report else None,
    )


def program_of(row: EmbeddingRow) -> str:
    """Name the program, as hex, that an embedding's marked weights need again; nothing for other networks."""
    order = EmbeddingOrder.from_json(row.order_json)
    return order.model.hex() if order.recipe.network == EXPORTED and order.model else ""


@router.post("/{order_id:uuid}/cancel")
def cancel_report(visitor: MayEmbed, session: InTransaction, now: Now, order_id: UUID) -> Response:
    """Cancel an order that has not ended."""
    cancel_order(session, SurvivalReportRow, vendor_of(visitor), order_id, now)
    return RedirectResponse(f"/survival-reports/{order_id}", 303)
