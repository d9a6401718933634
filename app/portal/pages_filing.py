"""Filing a dispute in three steps: which watermark, which suspect, which policy; then the browser signs.

Every step is an address that holds all that was chosen so far, so that going back, a second tab, or signing in again in
between loses nothing; nothing is stored until the signed record is sent to the API.

Invariants: the vendor's key stays in the browser; a filing that the service would refuse is refused here, beside its field.
Source: docs/protocol.md sections 6 and 7.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from app.db.tables import RegistrationRow
from app.disputes.filing import MAX_ASKED, CheckedFiling, FilingRequest, check_filing, load_covers
from app.disputes.outlook import (
    FamilyOutlook,
    SuspectChoice,
    cover_choices,
    family_outlooks,
    next_ordinal,
    reckon,
    suspect_choices,
)
from app.errors import Conflict, Malformed, NotFound, TooLarge, TrapstreetError
from app.keys.statement import Statement
from app.portal.forms import Typed
from app.portal.rendering import render
from app.portal.visitors import MayDispute, vendor_of
from app.protocol.records import BITS, MAX_OPENING_SECONDS, FilingRecord, Policy
from app.registry.registrations import list_registrations, load_registration
from app.web import InTransaction, ServiceOf

router = APIRouter()

MAX_WATERMARKS = 100

# What an honest claimant wants, as the command `dispute` takes it.
DEFAULTS = {
    "bits": "64",
    "evidence": "label",
    "covers_per_trigger": "10",
    "block_size": "8",
    "attempts": "3",
    "lookahead": "1",
    "opening_seconds": "3600",
}
CHOSEN = ("family", "suspect", "covers")


@dataclass(frozen=True)
class Watermark:
    """A registration with what is left of it."""

    row: RegistrationRow
    statement: Statement
    ordinal: int
    families: list[FamilyOutlook]

    def is_open(self, family: FamilyOutlook) -> bool:
        """Tell whether a family can be asked, and could suffice."""
        return family.spent_by is None and (family.least is not None or self.statement.assurance_class == "B")


@dataclass(frozen=True)
class Chosen:
    """What the first step chose."""

    row: RegistrationRow
    statement: Statement
    family: str


def read_query(request: Request) -> Typed:
    """Read what was chosen so far from the address."""
    asked = request.query_params
    return Typed({name: asked.getlist(name) for name in asked})


Query = Annotated[Typed, Depends(read_query)]


@router.get("/disputes/new")
def choose_watermark(request: Request, visitor: MayDispute, session: InTransaction, typed: Query) -> Response:
    """Step 1: which watermark, and which family of its triggers."""
    vendor_id, marks = vendor_of(visitor), []
    for row in list_registrations(session, vendor_id, None, MAX_WATERMARKS, newest_first=True):
        if row.beacon_index is not None:
            statement = Statement.parse(row.statement)
            outlooks = family_outlooks(session, row, statement)
            marks.append(Watermark(row, statement, next_ordinal(session, row), outlooks))
    may_go_on = any(mark.is_open(family) for mark in marks for family in mark.families)
    return render(
        request,
        "filing_watermark.html",
        visitor=visitor,
        typed=typed,
        marks=marks,
        may_go_on=may_go_on,
        log2=math.log2,
    )


@router.get("/disputes/new/suspect")
def choose_suspect(request: Request, visitor: MayDispute, session: InTransaction, typed: Query) -> Response:
    """Step 2: which suspect, asked through which interface, among which covers."""
    vendor_id = vendor_of(visitor)
    chosen = _chosen(session, vendor_id, typed)
    return render(
        request,
        "filing_suspect.html",
        visitor=visitor,
        typed=typed,
        chosen=chosen,
        choices=suspect_choices(session, vendor_id, chosen.row, chosen.statement),
        covers=cover_choices(session, vendor_id),
    )


@router.get("/disputes/new/policy")
def choose_policy(request: Request, visitor: MayDispute, session: InTransaction, typed: Query) -> Response:
    """Step 3: how the dispute is run."""
    return _policy_page(request, visitor, session, typed)


@router.get("/disputes/new/signature")
def sign(request: Request, visitor: MayDispute, session: InTransaction, service: ServiceOf, typed: Query) -> Response:
    """Show the record to be signed and what it means; the third step again if it would be refused."""
    vendor_id = vendor_of(visitor)
    chosen = _chosen(session, vendor_id, typed)
    with typed.keeping(), _speaking_of_fields():
        choice = _choice(session, vendor_id, chosen, typed)
        filing = _check(session, service, vendor_id, typed, chosen, choice)
        reckoning = reckon(session, filing)
    if typed.errors:
        return _policy_page(request, visitor, session, typed, status=422)
    return render(
        request,
        "filing_signature.html",
        visitor=visitor,
        typed=typed,
        chosen=chosen,
        choice=choice,
        record=filing.record,
        signed=filing.record.encode().decode(),
        reckoning=reckoning,
        log2_bound=math.log2(reckoning.bound),
    )


def _policy_page(
    request: Request, visitor: MayDispute, session: InTransaction, typed: Typed, status: int = 200
) -> Response:
    chosen = _chosen(session, vendor_of(visitor), typed)
    size = chosen.statement.family(chosen.family).size
    defaults = DEFAULTS | {"max_triggers": str(min(size, MAX_ASKED))}
    if not typed.get("covers"):
        defaults["covers_per_trigger"] = "0"
    # What was typed stands over what is usual.
    filled = Typed({**{name: [value] for name, value in defaults.items()}, **typed.values}, typed.errors)
    return render(
        request,
        "filing_policy.html",
        visitor=visitor,
        status=status,
        typed=filled,
        chosen=chosen,
        size=size,
        kept=[(name, typed.get(name)) for name in CHOSEN],
    )


def _chosen(session: InTransaction, vendor_id: UUID, typed: Typed) -> Chosen:
    """Read the first step's choice, `registration family`.

    Raises: NotFound; Conflict while the labels are not drawn.
    """
    name, _, family = typed.get("family").partition(" ")
    try:
        row = load_registration(session, vendor_id, UUID(name))
    except ValueError as error:
        raise NotFound("choose a family of one of your watermarks first") from error
    if row.beacon_index is None:
        raise Conflict("the labels are not drawn yet: ask again in a moment", state="awaiting_beacon")
    statement = Statement.parse(row.statement)
    statement.family(family)
    return Chosen(row, statement, family)


def _choice(session: InTransaction, vendor_id: UUID, chosen: Chosen, typed: Typed) -> SuspectChoice:
    for choice in suspect_choices(session, vendor_id, chosen.row, chosen.statement):
        if choice.value == typed.get("suspect"):
            return choice
    raise Malformed("choose a suspect: go back to step 2", pointer="/form")


def _check(
    session: InTransaction,
    service: ServiceOf,
    vendor_id: UUID,
    typed: Typed,
    chosen: Chosen,
    choice: SuspectChoice,
) -> CheckedFiling:
    record = FilingRecord(
        registration=chosen.row.entry_index,
        family=chosen.family,
        endpoint=choice.endpoint,
        interface=choice.interface,
        interface_origin=choice.origin,
        evidence="ranking" if typed.get("evidence") == "ranking" else "label",
        policy=_policy(typed),
    )
    covers = _covers(typed) if record.policy.covers_per_trigger else None
    request = FilingRequest(choice.suspect_id, record, b"", covers)
    filing = check_filing(session, vendor_id, request, service.arbiter_keys, is_signed=False)
    try:
        load_covers(session, service.store, filing)
    except NotFound as error:
        raise Malformed("nothing that you uploaded has this SHA-256", pointer="/covers") from error
    return filing


def _policy(typed: Typed) -> Policy:
    bits = typed.number("bits", BITS[0], BITS[-1])
    if bits not in BITS:
        raise Malformed("64 or 80", pointer="/bits")
    return Policy(
        bits=bits,
        max_triggers=typed.number("max_triggers", 1, MAX_ASKED),
        covers_per_trigger=typed.number("covers_per_trigger", 0, 100),
        block_size=typed.number("block_size", 1, 256),
        attempts=typed.number("attempts", 1, 5),
        answer="first",
        opening_seconds=typed.number("opening_seconds", 1, MAX_OPENING_SECONDS),
        lookahead=typed.number("lookahead", 0, 1),
    )


def _covers(typed: Typed) -> bytes:
    try:
        digest = bytes.fromhex(typed.get("covers").strip())
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise Malformed(
            "choose covers in step 2, or ask without any: 0 covers per trigger", pointer="/covers_per_trigger"
        )
    return digest


@contextmanager
def _speaking_of_fields() -> Iterator[None]:
    """Turn what the service says of a record into what a form says of its fields."""
    try:
        yield
    except (Conflict, NotFound, TooLarge) as error:
        raise Malformed(error.message, pointer="/form") from error
    except TrapstreetError as error:
        name = error.pointer.rpartition("/")[2]
        raise Malformed(error.message, pointer=f"/{name}") from error
