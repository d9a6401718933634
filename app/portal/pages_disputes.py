"""A claimant's disputes: the list, a dispute while it runs, its verdict and the files to keep.

Invariants: a running dispute shows what was opened and counts, never which question was which; opening is done by the page's
script or by `trapstreet agent`, for the key stays with the vendor.
Source: docs/protocol.md sections 6, 8 and 10.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from markupsafe import Markup

from app.db.engine import transaction
from app.db.tables import DisputeRow
from app.disputes.claim import load_claim
from app.disputes.course import list_disputes, load_dispute, load_statement, progress_of, record_of
from app.disputes.links import token_of
from app.disputes.live import LiveShelf
from app.disputes.openings import withdraw
from app.disputes.second_runs import find_own_filing
from app.disputes.states import ASKING, DECIDED, FILED, WITHHELD_LIMIT, Needs
from app.disputes.suspects import load_suspect
from app.errors import Conflict, NotFound, TooLarge
from app.people.sessions import Visitor
from app.portal.forms import Form, Typed
from app.portal.rendering import render
from app.portal.verdict_files import verdict_html, verdict_pdf
from app.portal.verdict_plots import evidence_plot
from app.portal.verdict_told import MAX_READ_BUNDLE_BYTES, ToldVerdict, VerdictShelf, log2_path
from app.portal.verdict_words import CROSS_REASONS, REASONS, STATE_WORDS, VERDICT_WORDS
from app.portal.visitors import Anyone, MayDispute, MayRead, MayReadBeforehand, may, vendor_of
from app.registry.api_keys import DISPUTE, READ
from app.registry.registrations import load_registration
from app.web import InTransaction, Now, Service, ServiceOf

router = APIRouter()

ON_A_PAGE = 50

_live, _verdicts = LiveShelf(), VerdictShelf()


@dataclass(frozen=True)
class Listed:
    """A dispute in the list: what it is about, where it stands, and what waits for its claimant."""

    row: DisputeRow
    endpoint: str
    state: str
    waits: str


@dataclass(frozen=True)
class Running:
    """A running dispute in numbers: `log2_e` is None in class B; `version` changes whenever any of it does."""

    state: str
    version: str
    needs: Needs
    blocks: int = 0
    opened: int = 0
    no_answer: int = 0
    matches: int = 0
    covers_asked: int = 0
    covers_answered: int = 0
    is_silence_odd: bool = False
    log2_e: float | None = None
    threshold: float = 0.0
    plot: Markup | None = None


@router.get("/disputes")
def list_page(
    request: Request, visitor: MayRead, session: InTransaction, after: Annotated[str, Query(max_length=64)] = ""
) -> Response:
    """List the vendor's disputes."""
    rows = list_disputes(
        session, vendor_of(visitor), _id_of(after) if after else None, ON_A_PAGE + 1, newest_first=True
    )
    shown = rows[:ON_A_PAGE]
    listed = [Listed(row, record_of(row).endpoint, _state_of(row), _waits_of(row)) for row in shown]
    following = shown[-1].id if len(rows) > ON_A_PAGE else None
    return render(
        request, "disputes_list.html", visitor=visitor, disputes=listed, following=following, may_file=_may(visitor)
    )


@router.get("/disputes/{dispute_id:uuid}")
def page(request: Request, dispute_id: UUID, visitor: MayReadBeforehand, service: ServiceOf, now: Now) -> Response:
    """Show a dispute: its course while it runs, then its verdict."""
    return show_dispute(request, visitor, service, dispute_id, now)


@router.get("/disputes/{dispute_id:uuid}/live")
def live_part(
    request: Request,
    dispute_id: UUID,
    visitor: Anyone,
    session: InTransaction,
    seen: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Give the changing part of a running dispute's page; nothing if what was seen still holds."""
    if visitor is None:
        # Not the way to the sign-in page: the tab may be answering openings, and goes on once its person is back.
        return render(request, "disputes_signed_out.html", status=200, name=str(dispute_id))
    may(READ)(visitor)
    row = load_dispute(session, vendor_of(visitor), dispute_id)
    if row.bundle_sha256 is not None:
        return Response(status_code=204, headers={"HX-Refresh": "true"})
    if seen == version_of(row):
        return Response(status_code=204)
    return render(
        request,
        "disputes_live.html",
        visitor=visitor,
        row=row,
        record=record_of(row),
        live=_running(session, row),
        limit=WITHHELD_LIMIT,
    )


@router.post("/disputes/{dispute_id:uuid}/withdrawal")
def withdraw_page(
    request: Request, dispute_id: UUID, visitor: MayDispute, session: InTransaction, form: Form, now: Now
) -> Response:
    """Withdraw a dispute, once the claimant has said that it knows what that means."""
    row = load_dispute(session, vendor_of(visitor), dispute_id, for_update=True)
    if form.get("understood") != "yes":
        message = "tick the box to say that you know what withdrawing means, then withdraw"
        return render(request, "error.html", visitor=visitor, status=422, message=message)
    if row.state in (ASKING, FILED):
        withdraw(session, row, now)
    # A second tab, or a verdict that came first: the page says where the dispute stands.
    return RedirectResponse(f"/disputes/{row.id}", 303)


@router.get("/disputes/{dispute_id:uuid}/verdict.html")
def html_file(dispute_id: UUID, visitor: MayReadBeforehand, service: ServiceOf) -> Response:
    """Give the verdict as an HTML file."""
    told = _told(service, visitor, dispute_id)
    return _file(verdict_html(told), "text/html; charset=utf-8", f"verdict-{dispute_id}.html")


@router.get("/disputes/{dispute_id:uuid}/verdict.pdf")
def pdf_file(dispute_id: UUID, visitor: MayReadBeforehand, service: ServiceOf) -> Response:
    """Give the verdict as a PDF."""
    told = _told(service, visitor, dispute_id)
    return _file(verdict_pdf(told), "application/pdf", f"verdict-{dispute_id}.pdf")


def show_dispute(
    request: Request,
    visitor: Visitor,
    service: Service,
    dispute_id: UUID,
    now: datetime,
    refused: tuple[UUID, Typed] | None = None,
) -> Response:
    """Show a dispute's page, in a transaction of its own; `refused` is a form for a cross-test's model that was not taken."""
    with transaction(service.engine) as session:
        row = load_dispute(session, vendor_of(visitor), dispute_id)
        about: dict[str, Any] = {
            "row": row,
            "record": record_of(row),
            "suspect": load_suspect(session, row.vendor_id, row.suspect_id),
            "registration": load_registration(session, row.vendor_id, row.registration_id),
            "may_file": _may(visitor),
        }
        if row.bundle_sha256 is None:
            statement = load_statement(session, row)
            about |= {"root": statement.root.hex(), "limit": WITHHELD_LIMIT, "live": _running(session, row)}
            return render(request, "disputes_running.html", visitor=visitor, **about)
        about |= _accused(session, row, now)
    try:
        told: ToldVerdict | None = _verdicts.read(service.store, row.bundle_sha256)
    except TooLarge:
        # The row says the verdict; everything else is in the bundle, which is downloaded in pieces.
        told = None
    words = (VERDICT_WORDS[row.verdict or ""], REASONS.get(row.reason or "", row.reason))
    about |= {"cross_tests": about["claim"].cross_tests, "cross_reasons": CROSS_REASONS}
    about["files_bytes"] = service.max_artifact_bytes
    about["refused"], about["typed"] = refused or (None, Typed())
    status = 200 if refused is None else 422
    return render(request, "disputes_verdict.html", status=status, visitor=visitor, told=told, words=words, **about)


def _told(service: Service, visitor: Visitor, dispute_id: UUID) -> ToldVerdict:
    """Read a verdict, with no transaction open while the store is waited for."""
    with transaction(service.engine) as session:
        row = load_dispute(session, vendor_of(visitor), dispute_id)
    if row.bundle_sha256 is None:
        raise Conflict("there is no verdict yet", state=row.state)
    try:
        return _verdicts.read(service.store, row.bundle_sha256)
    except TooLarge as error:
        raise TooLarge(
            f"the evidence of this dispute is larger than {MAX_READ_BUNDLE_BYTES} bytes, more than a page is made of: "
            "download the evidence bundle from the dispute's page and run `trapstreet check` on it"
        ) from error


def _accused(session: InTransaction, row: DisputeRow, now: datetime) -> dict[str, Any]:
    """Give the accused's side; every decided dispute has its link."""
    return {"claim": load_claim(session, row, now), "token": token_of(row), "own_filing": find_own_filing(session, row)}


def _file(data: bytes, media_type: str, name: str) -> Response:
    return Response(data, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def version_of(row: DisputeRow) -> str:
    """Name what there is to see of a running dispute: the same name, the same page."""
    opened = "" if row.last_opened_at is None else row.last_opened_at.isoformat()
    return f"{row.state} {row.blocks_opened} {row.blocks_probed} {row.blocks_labelled} {opened}"


def _running(session: InTransaction, row: DisputeRow) -> Running:
    looked, progress = _live.look(session, row), progress_of(row)
    state, version = STATE_WORDS[row.state], version_of(row)
    if looked is None:
        return Running(state, version, progress.needs)
    case, covers = looked.case, looked.rates["cover"]
    is_proof = case.assurance_class == "A"
    walk = log2_path(case) if is_proof else []
    threshold = math.log2(case.bound) if is_proof else 0.0
    return Running(
        state=state,
        version=version,
        needs=progress.needs,
        blocks=progress.total,
        opened=len(case.trials),
        no_answer=looked.rates["trigger"].unanswered,
        matches=sum(trial.step.is_match for trial in case.trials),
        covers_asked=covers.asked,
        covers_answered=covers.answered,
        is_silence_odd=looked.is_silence_odd,
        log2_e=walk[-1] if walk else 0.0 if is_proof else None,
        threshold=threshold,
        plot=evidence_plot(walk, threshold) if is_proof else None,
    )


def _state_of(row: DisputeRow) -> str:
    return VERDICT_WORDS[row.verdict or ""] if row.state == DECIDED else STATE_WORDS[row.state]


def _waits_of(row: DisputeRow) -> str:
    needs = progress_of(row).needs
    if needs.labels is not None:
        return f"labels of block {needs.labels + 1}"
    return "" if needs.inputs is None else f"inputs of block {needs.inputs + 1}"


def _may(visitor: Visitor) -> bool:
    return DISPUTE in visitor.scopes


def _id_of(name: str) -> UUID:
    try:
        return UUID(name)
    except ValueError as error:
        raise NotFound from error
