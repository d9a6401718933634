"""Embeddings: have a mark trained into a network, and watch it.

Trust: the marking key is sealed to the queue's workers in the browser; nothing here sees it open.
"""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app.db.tables import EmbeddingRow
from app.embedding.orders import cancel_order, list_orders, load_order
from app.embedding.recipe import METHODS, MICRO, NETWORKS, Recipe
from app.keys.statement import Statement
from app.portal.rendering import render
from app.portal.training_plot import curve_plot, time_left
from app.portal.visitors import MayEmbed, MayRead, vendor_of
from app.registry.registrations import list_registrations
from app.registry.worker_keys import list_worker_keys
from app.web import InTransaction, Now

router = APIRouter(prefix="/embeddings")

LISTED = 50
UNFINISHED = ("queued", "running")


@router.get("")
def list_embeddings(request: Request, visitor: MayRead, session: InTransaction, after: UUID | None = None) -> Response:
    """List the vendor's orders."""
    rows = list_orders(session, EmbeddingRow, vendor_of(visitor), after, LISTED + 1, newest_first=True)
    more = rows[LISTED - 1].id if len(rows) > LISTED else None
    return render(request, "embeddings_list.html", rows=rows[:LISTED], more=more)


@router.get("/new")
def new_embedding(
    request: Request, visitor: MayEmbed, session: InTransaction, registration: UUID | None = None
) -> Response:
    """Ask for data, recipe and key."""
    return render(
        request,
        "embeddings_new.html",
        registrations=registrations_to_choose(session, vendor_of(visitor)),
        chosen=registration,
        queues=[row.queue for row in list_worker_keys(session)],
        usual=Recipe(network=NETWORKS[0]),
        micro=MICRO,
        networks=NETWORKS,
        methods=METHODS,
    )


@router.get("/{order_id:uuid}")
def show_embedding(request: Request, visitor: MayRead, session: InTransaction, order_id: UUID) -> Response:
    """Show an order: how far it is, what came of it."""
    row = load_order(session, EmbeddingRow, vendor_of(visitor), order_id)
    return render(
        request,
        "embeddings_show.html",
        headers={"HX-Refresh": "true"} if row.state not in UNFINISHED and "hx-request" in request.headers else None,
        row=row,
        is_unfinished=row.state in UNFINISHED,
        curve=curve_plot(row.progress.get("curve", [])),
        left=time_left(row.progress) if row.state == "running" else "",
        compared=compared(row.report or {}),
    )


@router.post("/{order_id:uuid}/cancel")
def cancel_embedding(visitor: MayEmbed, session: InTransaction, now: Now, order_id: UUID) -> Response:
    """Cancel an order that has not ended."""
    cancel_order(session, EmbeddingRow, vendor_of(visitor), order_id, now)
    return RedirectResponse(f"/embeddings/{order_id}", 303)


def registrations_to_choose(session: InTransaction, vendor_id: UUID) -> list[tuple[str, str]]:
    """List registrations for a form: id, and words that tell them apart."""
    found = []
    for row in list_registrations(session, vendor_id, None, LISTED, newest_first=True):
        statement = Statement.parse(row.statement)
        families = ", ".join(family.name for family in statement.families)
        found.append((str(row.id), f"{statement.count} triggers ({families}), log entry {row.entry_index}"))
    return found


def compared(report: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Name the networks that a report measured, in the order in which one reads them."""
    words = {"given": "As it was given", "plain": "Trained without the mark", "marked": "Marked"}
    return [(words[name], report[name]) for name in words if report.get(name)]
