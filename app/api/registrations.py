"""Registrations: register a statement, read it back with its receipt and its beacon."""

import secrets
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from app.api.dependencies import Reader, require
from app.api.fields import Answer, Body, Hex32, Hex64, Moment, Page, PageOf, Proven, under
from app.api.problems import WITH_KEY, problems
from app.db.tables import ID_RANDOM_BYTES, RegistrationRow, VendorRow
from app.keys.statement import parse_statement
from app.log.beacon import NONCE_BYTES
from app.log.store import load_entry, receipt_for
from app.registry.api_keys import REGISTER, Caller
from app.registry.registrations import (
    StatementSent,
    beacon_index_of,
    check_beacon_source,
    list_registrations,
    load_registration,
    register,
)
from app.web import InTransaction, Now, ServiceOf

router = APIRouter(prefix="/registrations", tags=["registrations"], responses=WITH_KEY)

TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


class NewRegistration(Body):
    """A statement as its canonical JSON text, and the vendor key's signature over exactly these bytes."""

    statement: str = Field(min_length=2, description="See docs/protocol.md section 2.")
    signature: Hex64


class RegistrationSummary(Answer):
    """A registration; `beacon_index` is null until its labels are drawn."""

    id: UUID
    entry_index: int
    beacon_index: int | None
    statement_sha256: Hex32
    created_at: Moment


class NewlyRegistered(RegistrationSummary, Proven):
    """A registration with its log entry and receipt."""


class Registration(RegistrationSummary):
    """A registration with its statement."""

    statement: str
    signature: Hex64
    assurance_class: str = Field(description="A: labels drawn by the beacon. B: chosen by the vendor, indicative only.")


@router.post("", status_code=201, operation_id="register", responses=problems(409))
def post_registration(
    body: NewRegistration,
    caller: Annotated[Caller, Depends(require(REGISTER), scope="function")],
    session: InTransaction,
    service: ServiceOf,
    now: Now,
) -> NewlyRegistered:
    """Register a trigger set's root; the same statement again is refused with the first receipt."""
    data = body.statement.encode()
    with under("/statement"):
        check_beacon_source(parse_statement(data), service.beacon_source)
        registered = register(
            session,
            service.identity,
            session.get_one(VendorRow, caller.vendor_id),
            StatementSent(data, body.signature),
            nonce=secrets.token_bytes(NONCE_BYTES),
            randomness=secrets.token_bytes(ID_RANDOM_BYTES),
            now=now,
        )
    return NewlyRegistered(
        **_summarize(registered.row).model_dump(), entry=registered.entry.decode(), receipt=registered.receipt
    )


@router.get("", operation_id="list_registrations")
def get_registrations(caller: Reader, session: InTransaction, paging: PageOf) -> Page[RegistrationSummary]:
    """List the vendor's registrations in order of creation."""
    rows = list_registrations(session, caller.vendor_id, paging.after_id(), paging.limit + 1)
    return paging.page(rows, lambda row: row.id, _summarize)


@router.get("/{registration_id}", operation_id="read_registration", responses=problems(404))
def get_registration(registration_id: UUID, caller: Reader, session: InTransaction) -> Registration:
    """Read a registration."""
    row = load_registration(session, caller.vendor_id, registration_id)
    return Registration(
        **_summarize(row).model_dump(),
        statement=row.statement.decode(),
        signature=row.signature,
        assurance_class=parse_statement(row.statement).assurance_class,
    )


@router.get(
    "/{registration_id}/receipt",
    operation_id="read_registration_receipt",
    response_class=Response,
    responses=TEXT | problems(404),
)
def get_receipt(registration_id: UUID, caller: Reader, session: InTransaction) -> Response:
    """Read a registration's receipt against the newest checkpoint."""
    row = load_registration(session, caller.vendor_id, registration_id)
    return Response(receipt_for(session, row.entry_index), media_type="text/plain")


@router.get("/{registration_id}/beacon", operation_id="read_registration_beacon", responses=problems(404, 409))
def get_beacon(registration_id: UUID, caller: Reader, session: InTransaction) -> Proven:
    """Read the entry that drew the labels; 409 with state `awaiting_beacon` until then."""
    index = beacon_index_of(load_registration(session, caller.vendor_id, registration_id))
    return Proven(entry_index=index, entry=load_entry(session, index).decode(), receipt=receipt_for(session, index))


def _summarize(row: RegistrationRow) -> RegistrationSummary:
    return RegistrationSummary.model_validate(row)
