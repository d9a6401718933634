"""Naming a suspect: what it speaks, how it is to be asked, what that costs.

Invariants: nothing is sent to the endpoint but by the button that says so, and then with no transaction open; what a guess
proposes is only filled into the form, and a person sends it.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import RedirectResponse, Response

from app.canonical import encode_json
from app.db.engine import transaction
from app.db.tables import ID_RANDOM_BYTES, RegistrationRow
from app.disputes.credentials import put_credentials
from app.disputes.suspects import NewSuspect, add_suspect
from app.disputes.trials import Detected, Wanted, detect_interface, shown_start
from app.errors import Malformed, NotFound, Refused, TooMany, Unavailable
from app.keys.statement import Statement
from app.people.persons import checked_line
from app.people.sessions import Visitor
from app.portal.forms import Form, Typed
from app.portal.rendering import render
from app.portal.suspect_form import (
    MAPS,
    Price,
    advice_for,
    beside_fields,
    class_fields,
    credentials_of,
    interface_of,
    price_of,
)
from app.portal.visitors import MayDispute, may_beforehand, vendor_of
from app.registry.api_keys import DISPUTE
from app.registry.models import find_commitment
from app.registry.registrations import list_registrations, load_registration
from app.suspects.adapters import ADAPTERS
from app.suspects.addresses import parse_endpoint
from app.suspects.credentials import WHO_ASKS, Credentials
from app.web import InTransaction, Now, ServiceOf, status_of

router = APIRouter(prefix="/suspects")

MAX_REGISTRATIONS = 100

DisputerBeforehand = Annotated[Visitor, Depends(may_beforehand(DISPUTE))]
IsPart = Annotated[str, Header(alias="HX-Request")]


@dataclass(frozen=True)
class Draft:
    """A form as it stands: the watermarks to choose from, the chosen one, and what the interface costs."""

    typed: Typed
    registrations: Sequence[RegistrationRow]
    statement: Statement | None
    price: Price | None
    price_problem: str = ""

    @property
    def values(self) -> Mapping[str, Any]:
        """Give what the template shows."""
        fields = [] if self.statement is None else class_fields(self.typed, self.statement)
        return {
            "typed": self.typed,
            "watermarks": watermark_choices(self.registrations),
            "statement": self.statement,
            "price": self.price,
            "price_problem": self.price_problem,
            "class_fields": fields,
            "adapters": [(name, name) for name in sorted(ADAPTERS)],
            "maps": MAPS,
            "header_names": [(name, name) for name in sorted(WHO_ASKS)],
        }


@router.get("/new")
def new(request: Request, visitor: MayDispute, session: InTransaction) -> Response:
    """Ask for an endpoint."""
    values = {"adapter": ["kserve_v1"], "map": ["index"], "header_name": ["authorization"], "service": ["sagemaker"]}
    return render(request, "suspects_new.html", **_draft(session, visitor, Typed(values)).values, detected=None)


@router.post("/new/price")
def price(request: Request, visitor: MayDispute, session: InTransaction, typed: Form, is_part: IsPart = "") -> Response:
    """Say what the interface in the form costs: a part for htmx, else the page with the form as it was."""
    template = "suspects_price.html" if is_part else "suspects_new.html"
    return render(request, template, **_draft(session, visitor, typed).values, detected=None)


@router.post("/new/look")
def look(request: Request, visitor: DisputerBeforehand, typed: Form, service: ServiceOf) -> Response:
    """Look at the endpoint, and fill in what it seems to speak."""
    status, detected, credentials = 200, None, None
    try:
        with typed.keeping():
            with transaction(service.engine) as session:
                statement = _statement(session, visitor, typed)
            credentials = credentials_of(typed)
            wanted = Wanted(
                vendor_of(visitor),
                typed.get("endpoint").strip(),
                statement,
                typed.get("model").strip() or None,
                credentials,
                allow_http=bool(typed.get("allow_http")),
            )
            detected = detect_interface(service.engine, wanted, service.network_rules, service.clock)
    except (TooMany, Unavailable) as error:
        typed.errors["form"], status = error.message, status_of(error)
    if typed.errors and status == 200:
        status = 422
    if detected is not None and detected.proposed is not None:
        typed = _with(typed, _fields_of(detected))
    with transaction(service.engine) as session:
        draft = _draft(session, visitor, typed)
        shown = None if detected is None else _shown(detected, credentials)
        return render(request, "suspects_new.html", status=status, **draft.values, detected=shown)


@router.post("")
def add(
    request: Request, visitor: MayDispute, session: InTransaction, typed: Form, service: ServiceOf, now: Now
) -> Response:
    """Store the suspect."""
    with typed.keeping(), session.begin_nested():
        statement = _statement(session, visitor, typed)
        with beside_fields():
            interface = interface_of(typed, statement)
        endpoint = typed.get("endpoint").strip()
        name = checked_line(typed.get("name") or endpoint, "/name")
        parse_endpoint(endpoint, service.network_rules)
        with beside_fields():
            price_of(interface, statement, endpoint, None, 0)
        if not typed.get("confirmed"):
            raise Malformed(
                "compare the labels with what the endpoint says of itself, then tick this", pointer="/confirmed"
            )
        credentials = credentials_of(typed)
        draw = secrets.token_bytes(ID_RANDOM_BYTES)
        wanted = NewSuspect(name, endpoint, interface)
        row = add_suspect(session, vendor_of(visitor), wanted, service.network_rules, draw, now)
        if credentials is not None:
            put_credentials(session, service.secret_box, row, credentials, now)
        return RedirectResponse(f"/suspects/{row.id}", 303)
    return render(request, "suspects_new.html", status=422, **_draft(session, visitor, typed).values, detected=None)


def watermark_choices(rows: Sequence[RegistrationRow]) -> list[tuple[str, str]]:
    """Name watermarks in their order."""
    return [(str(row.id), f"entry {row.entry_index}, registered {row.created_at:%Y-%m-%d}") for row in rows]


def chosen_registration(session: InTransaction, visitor: Visitor, text: str) -> RegistrationRow:
    """Read the watermark that a form names.

    Raises: NotFound, also for another vendor's.
    """
    try:
        wanted = UUID(text)
    except ValueError as error:
        raise NotFound from error
    return load_registration(session, vendor_of(visitor), wanted)


def _statement(session: InTransaction, visitor: Visitor, typed: Typed) -> Statement:
    return Statement.parse(chosen_registration(session, visitor, typed.get("registration")).statement)


def _draft(session: InTransaction, visitor: Visitor, typed: Typed) -> Draft:
    rows = list_registrations(session, vendor_of(visitor), None, MAX_REGISTRATIONS, newest_first=True)
    if not rows:
        return Draft(typed, rows, None, None)
    if not typed.get("registration"):
        typed = _with(typed, {"registration": str(rows[0].id)})
    row = chosen_registration(session, visitor, typed.get("registration"))
    statement = Statement.parse(row.statement)
    try:
        with beside_fields():
            interface = interface_of(typed, statement)
            logged = find_commitment(session, row.vendor_id, interface.digest())
            found = price_of(interface, statement, typed.get("endpoint").strip(), logged, row.beacon_index or 0)
    except Refused as error:
        return Draft(typed, rows, statement, None, f"{error.pointer.strip('/').replace('_', ' ')}: {error.message}")
    return Draft(typed, rows, statement, found)


def _with(typed: Typed, fields: Mapping[str, str]) -> Typed:
    return Typed(dict(typed.values) | {name: [value] for name, value in fields.items()}, typed.errors)


def _fields_of(detected: Detected) -> dict[str, str]:
    found = detected.proposed
    if found is None:
        return {}
    return {
        "adapter": found.adapter,
        "options": encode_json(found.options).decode(),
        "preprocessing": encode_json(found.preprocessing).decode(),
        "map": found.label_map["by"],
    }


def _shown(detected: Detected, credentials: Credentials | None) -> dict[str, Any]:
    """Say what was asked and how each answer begins; templates escape it once more, for HTML."""
    looks = [
        {
            "request": f"{seen.look.method} {seen.look.path}",
            "status": seen.status,
            "answer": seen.error or shown_start(seen.body, credentials),
        }
        for seen in detected.seen
    ]
    tried = [
        {
            "adapter": one.interface.adapter,
            "options": encode_json(one.interface.options).decode(),
            "preprocessing": encode_json(one.interface.preprocessing).decode(),
            "request": one.path,
            "sent": shown_start(one.asked.request, credentials),
            "status": one.asked.status,
            "answer": shown_start(one.asked.response, credentials),
            "labels": [shown_start(label.encode(), credentials) for label in one.asked.labels[:10]],
            "error": one.asked.error,
            "advice": advice_for(one.asked.error),
        }
        for one in detected.tried
    ]
    unreachable = detected.unreachable
    return {
        "looks": looks,
        "tried": tried,
        "proposed": detected.proposed,
        "unreachable": unreachable,
        "advice": advice_for(unreachable),
    }
