"""White-box checks: ask a suspect's weights that are at hand, instead of an endpoint.

What a vendor's own head makes of them is no evidence and says so; it is refused unless the head was committed to before.
Trust: as for embeddings (app.api.orders).
"""

import secrets
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from app.api.dependencies import Reader
from app.api.fields import Answer, Body, Hex32, Line, LogNumber, Page, PageOf
from app.api.orders import Embedder, NewOrderBody, PlacedOrder, in_every_order
from app.api.problems import WITH_KEY, problems
from app.db.tables import ID_RANDOM_BYTES, WhiteBoxCheckRow
from app.embedding.orders import NewOrder, cancel_order, list_orders, load_order, place
from app.embedding.white_box.check import MAX_CONTROLS
from app.embedding.white_box.check_order import CheckOrder, ask_admission
from app.errors import Malformed
from app.web import InTransaction, Now

router = APIRouter(prefix="/white-box-checks", tags=["white-box checks"], responses=WITH_KEY)


class NetworkControl(Body):
    """A network that never saw the mark: the unmarked model, or a public backbone that either party names."""

    name: Line
    sha256: Hex32


class NewWhiteBoxCheck(NewOrderBody):
    """Which weights are asked, and with which head beside their own."""

    suspect: Hex32 = Field(
        description="SHA-256 of an uploaded artifact: the suspect's weights (safetensors) or program (.pt2)."
    )
    program: Hex32 | None = Field(None, description="Weights of an exported program (.pt2) need it again.")
    head: Hex32 | None = Field(
        None,
        description="Your own head, or marked weights that end in it, committed to in the log. Its count is no evidence.",
    )
    suspect_since: str | None = Field(
        None,
        description="With a head: since when the suspect's weights are known, unless the log dates them.",
        examples=["2026-01-31T12:00:00Z"],
    )
    controls: Annotated[list[NetworkControl], Field(max_length=MAX_CONTROLS)] = Field(
        default_factory=list, description="With a head: at least one network without the mark."
    )
    bits: Literal[64, 80] = Field(64, description="Strength that the suspect's own answers are weighed at.")
    device: Literal["auto", "cpu", "cuda"] = "auto"


class HeadAdmission(Answer):
    """Why a head may be tried: the log's `model` entry of it is older than what is known of the suspect."""

    head_sha256: Hex32
    head_entry: LogNumber = Field(examples=[12])
    head_time: str = Field(examples=["2026-01-30T12:00:00Z"])
    suspect_since: str = Field(examples=["2026-01-31T12:00:00Z"])
    suspect_source: Literal["log", "given"]


class WhiteBoxCheck(PlacedOrder):
    """An order for a check and what came of it."""

    suspect: Hex32
    program: Hex32 | None
    head: Hex32 | None
    admission: HeadAdmission | None
    controls: list[NetworkControl]
    bits: int = Field(examples=[64])
    device: str = Field(examples=["auto"])
    report: dict[str, Any] | None = Field(
        description="`own_head`: matches and evidence of the suspect's own answers. `not_evidence`: matches with your head, "
        "beside the controls'; no evidence, tail or verdict follows from them.",
        examples=[None],
    )


def show(row: WhiteBoxCheckRow) -> WhiteBoxCheck:
    """Write an order for its vendor."""
    order = {name: value for name, value in row.order_json.items() if name in WhiteBoxCheck.model_fields}
    return WhiteBoxCheck(**{**order, **in_every_order(row)}, report=row.report)


@router.post("", status_code=202, operation_id="place_white_box_check", responses=problems(404, 409, 413, 415))
def place_white_box_check(
    body: NewWhiteBoxCheck, caller: Embedder, session: InTransaction, now: Now, response: Response
) -> WhiteBoxCheck:
    """Place an order for a check; a worker takes it from the queue.

    422 `policy_refused` if a head is named whose digest is in no `model` entry of the log, or in none before the suspect's
    weights existed as far as the log and the given date show. 409 with state `awaiting_beacon` or `awaiting_worker`.
    """
    values = body.model_dump(exclude={"registration_id", "sealed_key", "suspect_since"})
    admission = None
    if body.head is None and body.suspect_since is not None:
        raise Malformed("the suspect's date goes with a head", pointer="/suspect_since")
    if body.head is not None:
        admission = ask_admission(session, body.head, body.suspect, body.suspect_since, now).to_json()
    order = CheckOrder.from_json({**values, "admission": admission})
    new = NewOrder(caller.vendor_id, body.registration_id, order, body.sealed_key)
    row = place(session, WhiteBoxCheckRow, new, now=now, randomness=secrets.token_bytes(ID_RANDOM_BYTES))
    response.headers["Location"] = f"/v1/white-box-checks/{row.id}"
    return show(row)


@router.get("", operation_id="list_white_box_checks")
def list_white_box_checks(caller: Reader, session: InTransaction, paging: PageOf) -> Page[WhiteBoxCheck]:
    """List the caller's orders for checks, the oldest first."""
    rows = list_orders(session, WhiteBoxCheckRow, caller.vendor_id, paging.after_id(), paging.limit + 1)
    return paging.page(rows, lambda row: row.id, show)


@router.get("/{check_id}", operation_id="read_white_box_check", responses=problems(404))
def read_white_box_check(check_id: UUID, caller: Reader, session: InTransaction) -> WhiteBoxCheck:
    """Read an order: state, and in the end the counts, or the reason of failure."""
    return show(load_order(session, WhiteBoxCheckRow, caller.vendor_id, check_id))


@router.post("/{check_id}/cancel", operation_id="cancel_white_box_check", responses=problems(404, 409))
def cancel_white_box_check(check_id: UUID, caller: Embedder, session: InTransaction, now: Now) -> WhiteBoxCheck:
    """Cancel an order that has not ended. 409 with the state if it has."""
    return show(cancel_order(session, WhiteBoxCheckRow, caller.vendor_id, check_id, now))
