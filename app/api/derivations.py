"""Derivations: a suspect's interface by the fixed rule, from its metadata and the committed covers.

Trust: what the suspect answered is shown as counts and labels; the bytes are in the evidence bundle.
"""

import secrets
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from app.api.dependencies import Reader, require
from app.api.fields import Answer, Body, Hex32, LogNumber, Moment
from app.api.problems import WITH_KEY, problems
from app.db.derivation_tables import DerivationRow
from app.db.tables import ID_RANDOM_BYTES
from app.disputes.derivation import WantedDerivation, load_derivation, place_derivation
from app.disputes.derivation_report import why_it_costs
from app.disputes.suspects import load_suspect
from app.protocol.derivation import DerivationHead
from app.registry.api_keys import DISPUTE, Caller
from app.registry.registrations import load_registration
from app.web import InTransaction, Now, ServiceOf

router = APIRouter(prefix="/suspects", tags=["suspects"], responses=WITH_KEY)

Disputer = Annotated[Caller, Depends(require(DISPUTE), scope="function")]


class DerivationBody(Body):
    """Which registration's covers are put to the suspect."""

    registration_id: UUID
    covers: Hex32 = Field(description="SHA-256 of the uploaded labelled cover set that the statement commits to.")
    by_name: bool = Field(
        default=False,
        description="Ask as the suspect's own adapter does and as no other, for 12 bits: for endpoints that say nothing of "
        "themselves. Else adapters follow from the endpoint's metadata.",
    )


class CandidateView(Answer):
    """How one way of asking fared on the first covers."""

    adapter: str = Field(examples=["kserve_v1"])
    options: dict[str, Any]
    preprocessing: dict[str, Any]
    purity_millis: int = Field(
        description="Covers that agree with their class, in thousandths; a label that classes share counts less.",
        examples=[960],
    )
    chosen: bool


class ClassView(Answer):
    """What the covers of one class got."""

    name: str = Field(examples=["cat"])
    asked: int = Field(examples=[40])
    answered: int = Field(examples=[40])
    label: str = Field(description="The most frequent answer.", examples=["3"])
    agreeing: int = Field(examples=[37])
    mapped: bool = Field(description="20 answers or more, and more than half of the covers asked got this label.")


class DerivationView(Answer):
    """A derivation: where it stands, what came of it, what it costs."""

    id: UUID
    state: str = Field(description="asking, done, or failed: nothing was answered, so it may be placed again.")
    endpoint: str
    asked: int = Field(examples=[450])
    answered: int = Field(examples=[450])
    ordinal: int | None = Field(description="Which of its registration's derivations this is.", examples=[1])
    interface: dict[str, Any] | None = Field(description="The interface to file with; null if no class is mapped.")
    interface_bits: int | None = Field(description="Its price in a filing, without that of the address's query.")
    why: str = Field(description="Why it costs this.")
    entry_index: LogNumber | None = Field(description="The log entry for `interface_origin` of kind `derived`.")
    file_sha256: Hex32 | None = Field(description="Digest of everything asked and answered, which the log holds.")
    candidates: list[CandidateView]
    classes: list[ClassView]
    created_at: Moment
    updated_at: Moment


@router.post(
    "/{suspect_id}/derivation",
    status_code=202,
    operation_id="derive_interface",
    responses=problems(404, 409, 413),
)
def derive(
    suspect_id: UUID, body: DerivationBody, caller: Disputer, session: InTransaction, service: ServiceOf, now: Now
) -> DerivationView:
    """Have the suspect's interface derived by the fixed rule. There is one derivation a registration and host, ever."""
    suspect = load_suspect(session, caller.vendor_id, suspect_id)
    registration = load_registration(session, caller.vendor_id, body.registration_id)
    wanted = WantedDerivation(suspect, registration, body.covers, body.by_name)
    draw = secrets.token_bytes(ID_RANDOM_BYTES)
    row = place_derivation(session, service.store, wanted, service.network_rules, draw, now)
    return _view(row)


@router.get("/{suspect_id}/derivation", operation_id="read_derivation", responses=problems(404))
def read(
    suspect_id: UUID,
    registration_id: Annotated[UUID, Query()],
    caller: Reader,
    session: InTransaction,
    service: ServiceOf,
) -> DerivationView:
    """Read the derivation of a suspect's endpoint for a registration."""
    suspect = load_suspect(session, caller.vendor_id, suspect_id)
    registration = load_registration(session, caller.vendor_id, registration_id)
    return _view(load_derivation(session, suspect, registration.id, service.network_rules))


def _view(row: DerivationRow) -> DerivationView:
    head = None if row.head is None else DerivationHead.parse(row.head)
    report = row.report or {"candidates": [], "classes": []}
    bits = None if head is None else head.bits
    return DerivationView(
        id=row.id,
        state=row.state,
        endpoint=row.endpoint,
        asked=row.asked,
        answered=row.answered,
        ordinal=row.ordinal,
        interface=None if head is None or head.interface is None else head.interface.to_json(),
        interface_bits=bits,
        why=why_it_costs(row),
        entry_index=row.entry_index,
        file_sha256=row.file_sha256,
        candidates=report["candidates"],
        classes=report["classes"],
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
