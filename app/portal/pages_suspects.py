"""A vendor's suspects: their list, and each one's page: a connection test, its derived interface, its key, its disputes.

Invariants: an endpoint's answer is shown as its first bytes, escaped; of credentials only names are shown; a test waits for
the endpoint with no transaction open.
"""

import secrets
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response

from app.canonical import encode_json
from app.db.derivation_tables import DerivationRow
from app.db.engine import transaction
from app.db.tables import ID_RANDOM_BYTES, SuspectRow
from app.disputes.budgets import TESTS_A_DAY
from app.disputes.credentials import drop_credentials, find_secrets, open_credentials, put_credentials
from app.disputes.derivation import ASKING, WantedDerivation, place_derivation
from app.disputes.derivation_report import why_it_costs
from app.disputes.suspects import (
    list_derivations_at,
    list_disputes_with,
    list_suspects,
    load_suspect,
    remove_suspect,
)
from app.disputes.trials import count_test, ordinary_input, shown_start, tests_today, try_suspect
from app.errors import Conflict, Malformed, NotFound, OpeningInvalid, Refused, TooMany, Unavailable
from app.keys.statement import Statement
from app.people.sessions import Visitor
from app.portal.forms import Form, Typed
from app.portal.pages_new_suspect import (
    MAX_REGISTRATIONS,
    DisputerBeforehand,
    chosen_registration,
    watermark_choices,
)
from app.portal.rendering import render
from app.portal.suspect_form import advice_for, credentials_of
from app.portal.verdict_words import STATE_WORDS, VERDICT_WORDS
from app.portal.visitors import MayDispute, MayRead, vendor_of
from app.protocol.derivation import DerivationHead
from app.protocol.interface import Interface, LabelMap
from app.registry.api_keys import DISPUTE
from app.registry.registrations import list_registrations
from app.suspects.credentials import WHO_ASKS, Credentials
from app.suspects.probe import Asked
from app.web import InTransaction, Now, Service, ServiceOf, status_of

router = APIRouter(prefix="/suspects")

PAGE = 50
MAX_DISPUTES = 50
DIGEST_CHARACTERS = 64

# The form's word for: the suspect's own adapter and no other.
BY_NAME = "name"


def wanted_id(suspect_id: str) -> UUID:
    """Read an id from the address, behind the visitor, so that the page of what is not there is always the same.

    Raises: NotFound.
    """
    try:
        return UUID(suspect_id)
    except ValueError as error:
        raise NotFound from error


SuspectId = Annotated[UUID, Depends(wanted_id)]


@router.get("")
def list_all(
    request: Request, visitor: MayRead, session: InTransaction, after: Annotated[UUID | None, Query()] = None
) -> Response:
    """List the vendor's suspects."""
    rows = list_suspects(session, vendor_of(visitor), after, PAGE + 1, newest_first=True)
    more = rows[PAGE - 1].id if len(rows) > PAGE else None
    rows = rows[:PAGE]
    return render(request, "suspects_list.html", suspects=rows, secrets=find_secrets(session, rows), more=more)


@router.get("/{suspect_id}")
def one(
    request: Request, visitor: MayRead, suspect_id: SuspectId, session: InTransaction, service: ServiceOf
) -> Response:
    """Show a suspect."""
    row = load_suspect(session, vendor_of(visitor), suspect_id)
    return _page(request, session, service, row, Typed())


@router.get("/{suspect_id}/derivations")
def derivations(request: Request, visitor: MayRead, suspect_id: SuspectId, session: InTransaction) -> Response:
    """Show how the derivations stand: a part of the page, which asks for it again while one is asking."""
    row = load_suspect(session, vendor_of(visitor), suspect_id)
    return render(request, "suspects_derivations.html", suspect=row, derivations=_derivations(session, row))


@router.post("/{suspect_id}/test")
def test(
    request: Request, visitor: DisputerBeforehand, suspect_id: SuspectId, typed: Form, service: ServiceOf
) -> Response:
    """Ask the suspect once about an ordinary input, and show what was sent and seen."""
    status, shown = 200, None
    with transaction(service.engine) as session:
        row = load_suspect(session, vendor_of(visitor), suspect_id)
        statement = Statement.parse(chosen_registration(session, visitor, typed.get("registration")).statement)
        credentials = open_credentials(session, service.secret_box, row.id, row.endpoint)
    try:
        with typed.keeping():
            with transaction(service.engine) as session:
                count_test(session, row, service.network_rules, service.clock())
            question = ordinary_input(statement).encode()
            allow_http = bool(typed.get("allow_http"))
            asked = try_suspect(
                row, credentials, statement, question, service.network_rules, service.clock, allow_http=allow_http
            )
            shown = _shown(asked, Interface.from_json(row.interface), statement, credentials)
    except (TooMany, Unavailable) as error:
        typed.errors["form"], status = error.message, status_of(error)
    if typed.errors and status == 200:
        status = 422
    with transaction(service.engine) as session:
        row = load_suspect(session, vendor_of(visitor), suspect_id)
        return _page(request, session, service, row, typed, status=status, test=shown)


@router.post("/{suspect_id}/derivation")
def derive(
    request: Request,
    visitor: MayDispute,
    suspect_id: SuspectId,
    session: InTransaction,
    typed: Form,
    service: ServiceOf,
    now: Now,
) -> Response:
    """Have the interface derived from the committed covers."""
    row = load_suspect(session, vendor_of(visitor), suspect_id)
    registration = chosen_registration(session, visitor, typed.get("registration"))
    status = 422
    try:
        with session.begin_nested():
            by_name = typed.get("how") == BY_NAME
            wanted = WantedDerivation(row, registration, _digest(typed.get("covers")), by_name)
            draw = secrets.token_bytes(ID_RANDOM_BYTES)
            place_derivation(session, service.store, wanted, service.network_rules, draw, now)
        return RedirectResponse(f"/suspects/{row.id}#derivation", 303)
    except NotFound:
        typed.errors["covers"] = "no file with this digest was uploaded here: choose the file itself"
    except Conflict as error:
        typed.errors["form"], status = error.message, status_of(error)
    except (Refused, OpeningInvalid) as error:
        is_about_adapter = isinstance(error, Malformed) and error.pointer.startswith("/interface")
        typed.errors["form" if is_about_adapter else "covers"] = error.message
    row = load_suspect(session, vendor_of(visitor), suspect_id)
    return _page(request, session, service, row, typed, status=status)


@router.post("/{suspect_id}/credentials")
def give_credentials(
    request: Request,
    visitor: MayDispute,
    suspect_id: SuspectId,
    session: InTransaction,
    typed: Form,
    service: ServiceOf,
    now: Now,
) -> Response:
    """Keep other credentials for the endpoint."""
    row = load_suspect(session, vendor_of(visitor), suspect_id)
    with typed.keeping(), session.begin_nested():
        credentials = credentials_of(typed)
        if credentials is None:
            raise Malformed("write the value, or an AWS key", pointer="/header_value")
        put_credentials(session, service.secret_box, row, credentials, now)
        return RedirectResponse(f"/suspects/{row.id}#credentials", 303)
    return _page(request, session, service, row, typed, status=422)


@router.post("/{suspect_id}/credentials/forget")
def forget_credentials(visitor: MayDispute, suspect_id: SuspectId, session: InTransaction) -> Response:
    """Forget the endpoint's credentials."""
    row = load_suspect(session, vendor_of(visitor), suspect_id)
    drop_credentials(session, row)
    return RedirectResponse(f"/suspects/{row.id}#credentials", 303)


@router.post("/{suspect_id}/remove")
def remove(visitor: MayDispute, suspect_id: SuspectId, session: InTransaction) -> Response:
    """Forget a suspect that was never accused."""
    remove_suspect(session, vendor_of(visitor), suspect_id)
    return RedirectResponse("/suspects", 303)


def _page(
    request: Request,
    session: InTransaction,
    service: Service,
    row: SuspectRow,
    typed: Typed,
    *,
    status: int = 200,
    test: dict[str, Any] | None = None,
) -> Response:
    registrations = list_registrations(session, row.vendor_id, None, MAX_REGISTRATIONS, newest_first=True)
    visitor: Visitor = request.state.visitor
    interface = Interface.from_json(row.interface)
    return render(
        request,
        "suspects_one.html",
        status=status,
        typed=typed,
        suspect=row,
        interface=interface,
        options=encode_json(interface.options).decode(),
        preprocessing=encode_json(interface.preprocessing).decode(),
        label_map=_map_words(interface),
        secret=find_secrets(session, [row]).get(row.id),
        watermarks=watermark_choices(registrations),
        derivations=_derivations(session, row),
        disputes=list_disputes_with(session, row, MAX_DISPUTES),
        tests=tests_today(session, row, service.network_rules, service.clock()),
        most_tests=TESTS_A_DAY,
        header_names=[(name, name) for name in sorted(WHO_ASKS)],
        verdict_words=VERDICT_WORDS,
        state_words=STATE_WORDS,
        may_dispute=DISPUTE in visitor.scopes,
        test=test,
    )


def _digest(text: str) -> bytes:
    text = text.strip().lower()
    if len(text) != DIGEST_CHARACTERS or set(text) - set("0123456789abcdef"):
        raise Malformed("choose the cover file, or write its SHA-256: 64 hex digits", pointer="/covers")
    return bytes.fromhex(text)


def _map_words(interface: Interface) -> list[tuple[str, str]]:
    entries = interface.label_map.get("map", {})
    return [(label, ", ".join(names)) for label, names in sorted(entries.items())]


def _derivations(session: InTransaction, row: SuspectRow) -> Sequence[dict[str, Any]]:
    return [_derivation(found) for found in list_derivations_at(session, row)]


def _derivation(row: DerivationRow) -> dict[str, Any]:
    head = None if row.head is None else DerivationHead.parse(row.head)
    report = row.report or {"candidates": [], "classes": []}
    return {
        "state": row.state,
        "is_asking": row.state == ASKING,
        "asked": row.asked,
        "answered": row.answered,
        "entry_index": row.entry_index,
        "interface": None if head is None else head.interface,
        "bits": None if head is None else head.bits,
        "why": why_it_costs(row),
        "candidates": report["candidates"],
        "classes": report["classes"],
        "updated_at": row.updated_at,
    }


def _shown(asked: Asked, interface: Interface, statement: Statement, credentials: Credentials | None) -> dict[str, Any]:
    """Say what was sent and seen; templates escape it once more, for HTML."""
    classes = LabelMap(interface, statement).classes_of(asked.labels)
    return {
        "sent": shown_start(asked.request, credentials),
        "request_bytes": len(asked.request),
        "status": asked.status,
        "answer": shown_start(asked.response, credentials),
        "response_bytes": len(asked.response),
        "response_sha256": asked.response_sha256.hex(),
        "labels": [shown_start(label.encode(), credentials) for label in asked.labels[:10]],
        "classes": [statement.classes[index] for index in sorted(classes)[:10]],
        "error": asked.error,
        "advice": advice_for(asked.error),
        "address": asked.address,
    }
