"""Disputes: file, open triggers block by block, read the verdict and its evidence.

Trust: only the claimant sees a dispute before its verdict; the log holds a hash.
"""

import json
import secrets
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from app.api.dependencies import Reader, require
from app.api.fields import Answer, Body, Hex32, Hex64, LogNumber, Moment, Page, PageOf, under
from app.api.problems import WITH_KEY, problems
from app.db.tables import ID_RANDOM_BYTES, DisputeRow
from app.disputes.course import list_disputes, load_dispute
from app.disputes.description import describe
from app.disputes.filing import Draws, FilingRequest, check_filing, file_dispute, load_covers
from app.disputes.openings import deliver_inputs, deliver_labels, note_opener, withdraw
from app.errors import Conflict, Malformed
from app.keys.commitment import InputOpening, LabelOpening
from app.protocol.records import FilingRecord
from app.registry.api_keys import DISPUTE, Caller
from app.storage.archive import unpack
from app.storage.objects import get_bytes, iterate
from app.web import InTransaction, Now, ServiceOf

router = APIRouter(prefix="/disputes", tags=["disputes"], responses=WITH_KEY)

Disputer = Annotated[Caller, Depends(require(DISPUTE), scope="function")]

# A report is read out of its bundle in memory; whoever has a larger one downloads the bundle.
MAX_READ_BUNDLE_BYTES = 64 * 1024 * 1024

MAX_BLOCK = 65_536

Opening = TypeVar("Opening", InputOpening, LabelOpening)


class DisputeBody(Body):
    """A filing."""

    suspect_id: UUID
    record: str = Field(
        description="The filing record's canonical bytes as text (protocol section 2).",
        examples=['{"endpoint":"https://models.example.org","evidence":"label","family":"noise", …}'],
    )
    signature: Hex64 = Field(description="The registration's vendor key over the record's bytes.")
    covers: Hex32 | None = Field(None, description="SHA-256 of an uploaded cover set, if the policy asks for covers.")


class OpeningsBody(Body):
    """The openings of one whole block, in any order."""

    block: Annotated[int, Field(strict=True, ge=0, le=MAX_BLOCK, examples=[0])]
    openings: list[dict[str, Any]] = Field(
        max_length=256, description="One opening record for each trigger of the block (protocol section 3)."
    )


class NeededInputs(Answer):
    """A block whose inputs are asked for."""

    block: int = Field(examples=[1])
    indices: list[int] = Field(examples=[[17, 4, 52]])


class NeededLabels(NeededInputs):
    """A block whose label keys are asked for, and the proof that its head is in the log."""

    entry_index: int = Field(description="The block's entry in the log.", examples=[9])
    receipt: str


class Needs(Answer):
    """What the claimant is asked for now, and until when; what is not delivered by then counts as withheld."""

    inputs: NeededInputs | None
    labels: NeededLabels | None
    deadline_at: Moment | None


class DisputeSummary(Answer):
    """A dispute in a list."""

    id: UUID
    state: str = Field(description="filed, asking, deciding, withdrawn or decided.", examples=["asking"])
    registration_id: UUID
    suspect_id: UUID
    family: str
    ordinal: int = Field(description="Which filing of its registration this is.", examples=[1])
    deadline_at: Moment | None
    asked: int = Field(description="Triggers walked so far, in the end up to where the walk ended.", examples=[48])
    matches: int = Field(examples=[44])
    verdict: str | None = Field(examples=["CONFIRMED"])
    reason: str | None = Field(examples=["evidence"])
    created_at: Moment
    updated_at: Moment


class DisputeView(DisputeSummary):
    """A dispute with everything its claimant needs to go on."""

    record: str = Field(description="The filing record's canonical bytes as text.")
    filing_index: LogNumber = Field(examples=[4])
    beacon_index: LogNumber | None = Field(examples=[5])
    signature: Hex64 = Field(description="The vendor key's signature over the record.")
    blind: Hex32 = Field(
        description="What hides the record in the log's filing entry until the verdict; yours to check."
    )
    blocks_total: int = Field(description="0 until the filing's beacon is drawn.", examples=[12])
    blocks_opened: int
    blocks_probed: int
    blocks_labelled: int
    needs: Needs
    log2_e: str | None = Field(description="log2 of the evidence, once decided; null for class B.", examples=["71.3"])
    paper_rule: bool | None = Field(description="Whether at most one answer in ten differs, once decided.")
    verdict_index: LogNumber | None = Field(description="The verdict's entry in the log.")
    bundle_sha256: Hex32 | None = Field(description="Digest of the evidence bundle.")


@router.post("", status_code=202, operation_id="file_dispute", responses=problems(404, 409, 413))
def file(
    body: DisputeBody, caller: Disputer, session: InTransaction, service: ServiceOf, now: Now, response: Response
) -> DisputeView:
    """File a dispute. The log learns that there is one, not against whom; the challenge follows within seconds."""
    request = FilingRequest(body.suspect_id, _record_of(body.record), body.signature, body.covers)
    filing = check_filing(session, caller.vendor_id, request, service.arbiter_keys)
    load_covers(session, service.store, filing)
    draws = Draws(
        identity=secrets.token_bytes(ID_RANDOM_BYTES),
        nonce=secrets.token_bytes(32),
        blind=secrets.token_bytes(32),
        role_blind_seed=secrets.token_bytes(32),
    )
    row = file_dispute(session, service.identity, filing, draws, now)
    response.headers["Location"] = f"/v1/disputes/{row.id}"
    return _view(session, row)


@router.get("", operation_id="list_disputes")
def list_all(
    caller: Reader,
    session: InTransaction,
    paging: PageOf,
    *,
    needs_opening: Annotated[bool, Query(description="Only disputes that wait for the claimant now.")] = False,
) -> Page[DisputeSummary]:
    """List the vendor's disputes."""
    rows = list_disputes(session, caller.vendor_id, paging.after_id(), paging.limit + 1, needs_opening=needs_opening)
    return paging.page(rows, lambda row: row.id, DisputeSummary.model_validate)


@router.get("/{dispute_id}", operation_id="read_dispute", responses=problems(404))
def read(dispute_id: UUID, caller: Reader, session: InTransaction) -> DisputeView:
    """Read a dispute: where it stands, what it needs, in the end its verdict."""
    return _view(session, load_dispute(session, caller.vendor_id, dispute_id))


@router.post("/{dispute_id}/input-openings", operation_id="open_inputs", responses=problems(404, 409, 413))
def open_inputs(
    dispute_id: UUID, body: OpeningsBody, caller: Disputer, session: InTransaction, now: Now
) -> DisputeView:
    """Open the inputs of a block. 422 `opening_invalid` stores nothing: the block stays unopened."""
    row = load_dispute(session, caller.vendor_id, dispute_id, for_update=True)
    deliver_inputs(session, row, body.block, _read_openings(InputOpening, body.openings), now)
    note_opener(row, now, is_person=caller.is_person)
    return _view(session, row)


@router.post("/{dispute_id}/label-openings", operation_id="open_labels", responses=problems(404, 409, 413))
def open_labels(
    dispute_id: UUID, body: OpeningsBody, caller: Disputer, session: InTransaction, now: Now
) -> DisputeView:
    """Open the label keys of a block whose head is in the log: verify the receipt in `needs` first."""
    row = load_dispute(session, caller.vendor_id, dispute_id, for_update=True)
    deliver_labels(session, row, body.block, _read_openings(LabelOpening, body.openings), now)
    note_opener(row, now, is_person=caller.is_person)
    return _view(session, row)


@router.post("/{dispute_id}/withdrawal", status_code=202, operation_id="withdraw_dispute", responses=problems(404, 409))
def withdraw_dispute(dispute_id: UUID, caller: Disputer, session: InTransaction, now: Now) -> DisputeView:
    """Withdraw a dispute that is being asked. It still counts among the registration's filings."""
    row = load_dispute(session, caller.vendor_id, dispute_id, for_update=True)
    withdraw(session, row, now)
    return _view(session, row)


@router.get(
    "/{dispute_id}/evidence",
    operation_id="read_evidence",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {}}}, **problems(404, 409)},
)
def read_evidence(dispute_id: UUID, caller: Reader, session: InTransaction, service: ServiceOf) -> StreamingResponse:
    """Download the evidence bundle, which `trapstreet check` verifies without this service."""
    digest = _bundle_of(load_dispute(session, caller.vendor_id, dispute_id))
    name = f"trapstreet-{dispute_id}.zip"
    return StreamingResponse(
        iterate(service.store, digest),
        media_type="application/zip",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.get("/{dispute_id}/report", operation_id="read_report", responses=problems(404, 409, 413))
def read_report(dispute_id: UUID, caller: Reader, session: InTransaction, service: ServiceOf) -> dict[str, Any]:
    """Read every reported figure, as in the bundle's report.json (413: read it there)."""
    digest = _bundle_of(load_dispute(session, caller.vendor_id, dispute_id))
    report: dict[str, Any] = json.loads(unpack(get_bytes(service.store, digest, MAX_READ_BUNDLE_BYTES))["report.json"])
    return report


def _record_of(text: str) -> FilingRecord:
    with under("/record"):
        try:
            return FilingRecord.parse(text.encode())
        except UnicodeEncodeError as error:
            raise Malformed("the record holds a lone surrogate") from error


def _read_openings(kind: type[Opening], openings: Sequence[dict[str, Any]]) -> list[Opening]:
    return [kind.from_json(value, f"/openings/{number}") for number, value in enumerate(openings)]


def _bundle_of(row: DisputeRow) -> bytes:
    if row.bundle_sha256 is None:
        raise Conflict("there is no verdict yet", state=row.state)
    return row.bundle_sha256


def _view(session: InTransaction, row: DisputeRow) -> DisputeView:
    described = describe(session, row)
    return DisputeView(
        **DisputeSummary.model_validate(row).model_dump(),
        record=described.record,
        filing_index=row.filing_index,
        beacon_index=row.beacon_index,
        signature=row.signature,
        blind=row.blind,
        blocks_total=described.blocks_total,
        blocks_opened=row.blocks_opened,
        blocks_probed=row.blocks_probed,
        blocks_labelled=row.blocks_labelled,
        needs=Needs.model_validate(described.needs),
        log2_e=row.log2_e,
        paper_rule=described.paper_rule,
        verdict_index=row.verdict_index,
        bundle_sha256=row.bundle_sha256,
    )
