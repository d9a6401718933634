"""Survival reports: what attacks would leave of a mark, measured by a worker of the service before a thief does it.

Trust: as for embeddings (app.api.orders); the page is made here from the report in the row, and no text of a child or a
vendor reaches a browser but escaped, in a page that may load and run nothing.
"""

import secrets
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from app.api.dependencies import Reader
from app.api.fields import Hex32, Line, Page, PageOf
from app.api.orders import Embedder, NewOrderBody, PlacedOrder, in_every_order
from app.api.problems import WITH_KEY, problems
from app.db.tables import ID_RANDOM_BYTES, SurvivalReportRow
from app.embedding.orders import NewOrder, cancel_order, list_orders, load_order, place
from app.embedding.survival.order import SurvivalReport
from app.embedding.survival.page import render_page
from app.embedding.survival.report_order import ReportOrder
from app.errors import Conflict
from app.keys.statement import MAX_CLASSES, parse_statement
from app.registry.registrations import load_registration
from app.web import InTransaction, Now

router = APIRouter(prefix="/survival-reports", tags=["survival reports"], responses=WITH_KEY)

EXAMPLE_SETTINGS = {"attacks": ["ftal-1e-2", "prune-50", "ftal-1e-2+prune-50+int8"], "epochs": 20}
EXAMPLE_RESULT = {
    "attack": "ftal-1e-2",
    "task_correct": 9_130,
    "task_total": 10_000,
    "matches": [498],
    "owners_head": [498],
    "pirate": None,
    "milliseconds": 41_000,
}
EXAMPLE_PROGRESS = {
    "attack": "prune-50",
    "number": 2,
    "attacks": 3,
    "epoch": 0,
    "epochs": 0,
    "results": [EXAMPLE_RESULT],
}

PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
}
PAGE: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}


class NewSurvivalReport(NewOrderBody):
    """Which marked model is attacked, how, and with what data."""

    suite: Literal["full", "quick"] | None = Field(
        None,
        description="Which attacks, unless the settings name them: by default all; `quick` is one of each kind, "
        "with fewer epochs unless the settings give them.",
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="Attacks and the attacker's strength; all have defaults, which the answer shows.",
        examples=[EXAMPLE_SETTINGS],
    )
    model: Hex32 = Field(description="SHA-256 of an artifact: the marked weights, such as an embedding's.")
    plain_model: Hex32 | None = Field(
        None, description="The control: the same network without the mark, weights or a program (.pt2)."
    )
    program: Hex32 | None = Field(None, description="Weights of your own program (.pt2) need it again.")
    train_data: Hex32 = Field(description="The training data, of which the attacker has a share.")
    test_data: Hex32 | None = Field(None, description="The same for testing; null: a share of the data is held out.")
    attacker_data: Hex32 | None = Field(None, description="The attacker's own data, instead of a share of yours.")
    transfer_data: Hex32 | None = Field(None, description="Another task's data, for the attack `transfer`.")
    transfer_classes: Annotated[list[Line], Field(max_length=MAX_CLASSES)] = Field(
        default_factory=list, description="The classes of the transfer data, in order."
    )


class ListedReport(PlacedOrder):
    """An order for a report, and the line that sums it up."""

    settings: dict[str, Any] = Field(description="All settings, with the defaults.", examples=[EXAMPLE_SETTINGS])
    model: Hex32
    plain_model: Hex32 | None
    program: Hex32 | None
    train_data: Hex32
    test_data: Hex32 | None
    attacker_data: Hex32 | None
    transfer_data: Hex32 | None
    transfer_classes: list[str]
    summary: str | None = Field(
        description="The report in one line.", examples=["survives 17 of 18 attacks; ftal-1e-2 breaks it"]
    )


class ReportInFull(ListedReport):
    """An order for a report and what came of it."""

    progress: dict[str, Any] = Field(
        description="Empty until the first attack; `results` are the finished attacks, as counts.",
        examples=[EXAMPLE_PROGRESS],
    )
    report: dict[str, Any] | None = Field(
        description="Every attack with what it left and what a dispute over it would come to; `breaks` marks those that "
        "leave the model useful and the mark not confirmed. `owners_head` is no evidence.",
        examples=[None],
    )


def show_listed(row: SurvivalReportRow) -> ListedReport:
    """Write an order as it stands in a list."""
    return ListedReport(**_listed(row))


def show(row: SurvivalReportRow) -> ReportInFull:
    """Write an order for its vendor."""
    return ReportInFull(**_listed(row), progress=row.progress, report=row.report)


def _listed(row: SurvivalReportRow) -> dict[str, Any]:
    order = {name: value for name, value in row.order_json.items() if name in ListedReport.model_fields}
    return {**order, **in_every_order(row), "summary": None if row.report is None else row.report["summary"]}


@router.post("", status_code=202, operation_id="place_survival_report", responses=problems(404, 409, 413, 415))
def place_survival_report(
    body: NewSurvivalReport, caller: Embedder, session: InTransaction, now: Now, response: Response
) -> ReportInFull:
    """Place an order for a report; a worker takes it from the queue.

    409 with state `awaiting_beacon` before the registration's labels are drawn, `awaiting_worker` while no worker of the
    queue has announced a key.
    """
    registration = load_registration(session, caller.vendor_id, body.registration_id)
    values = body.model_dump(exclude={"registration_id", "sealed_key", "suite"})
    order = ReportOrder.from_request(values, body.suite, parse_statement(registration.statement).kind)
    new = NewOrder(caller.vendor_id, body.registration_id, order, body.sealed_key)
    row = place(session, SurvivalReportRow, new, now=now, randomness=secrets.token_bytes(ID_RANDOM_BYTES))
    response.headers["Location"] = f"/v1/survival-reports/{row.id}"
    return show(row)


@router.get("", operation_id="list_survival_reports")
def list_survival_reports(caller: Reader, session: InTransaction, paging: PageOf) -> Page[ListedReport]:
    """List the caller's orders for reports, the oldest first, each report as its one line."""
    rows = list_orders(session, SurvivalReportRow, caller.vendor_id, paging.after_id(), paging.limit + 1)
    return paging.page(rows, lambda row: row.id, show_listed)


@router.get("/{report_id}", operation_id="read_survival_report", responses=problems(404))
def read_survival_report(report_id: UUID, caller: Reader, session: InTransaction) -> ReportInFull:
    """Read an order: state, finished attacks, and in the end the report, or the reason of failure."""
    return show(load_order(session, SurvivalReportRow, caller.vendor_id, report_id))


@router.get(
    "/{report_id}/page",
    operation_id="read_survival_page",
    response_class=Response,
    responses=PAGE | problems(404, 409),
)
def read_survival_page(report_id: UUID, caller: Reader, session: InTransaction) -> Response:
    """Read a report as an HTML page with plots that loads and runs nothing; 409 with the state until it is done."""
    row = load_order(session, SurvivalReportRow, caller.vendor_id, report_id)
    if row.report is None:
        raise Conflict(f"there is no report: the order is {row.state}", state=row.state)
    page = render_page(SurvivalReport.from_json(row.report))
    return Response(page, media_type="text/html", headers=PAGE_HEADERS)


@router.post("/{report_id}/cancel", operation_id="cancel_survival_report", responses=problems(404, 409))
def cancel_survival_report(report_id: UUID, caller: Embedder, session: InTransaction, now: Now) -> ReportInFull:
    """Cancel an order that has not ended; attacks that run end within seconds. 409 with the state if it has ended."""
    return show(cancel_order(session, SurvivalReportRow, caller.vendor_id, report_id, now))
