"""Suspects: endpoints that a vendor may accuse, and how to speak with them.

Trust: an answer of a suspect is never passed on raw; a vendor sees labels, size, digest and escaped first bytes of it.
"""

import base64
import binascii
import secrets
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import Field

from app.api.dependencies import Reader, require, require_beforehand
from app.api.fields import Answer, Body, Line, Moment, Page, PageOf
from app.api.problems import WITH_KEY, problems
from app.db.engine import transaction
from app.db.tables import ID_RANDOM_BYTES, SuspectRow, SuspectSecretRow
from app.disputes.credentials import drop_credentials, find_secrets, open_credentials, put_credentials
from app.disputes.suspects import (
    NewSuspect,
    add_suspect,
    list_suspects,
    load_suspect,
    price_in_bits,
    remove_suspect,
)
from app.disputes.trials import count_test, shown_start, try_suspect
from app.errors import Malformed
from app.keys.statement import Statement
from app.keys.trigger_set import MAX_INPUT_BYTES
from app.protocol.interface import Interface, LabelMap
from app.registry.api_keys import DISPUTE, Caller
from app.registry.registrations import load_registration
from app.suspects.credentials import parse_credentials
from app.web import InTransaction, Now, ServiceOf

router = APIRouter(prefix="/suspects", tags=["suspects"], responses=WITH_KEY)

Disputer = Annotated[Caller, Depends(require(DISPUTE), scope="function")]
DisputerBeforehand = Annotated[Caller, Depends(require_beforehand(DISPUTE))]

EXAMPLE_ENDPOINT = "https://models.example.org"
EXAMPLE_INTERFACE = {
    "adapter": "kserve_v1",
    "options": {"model": "digits"},
    "preprocessing": {},
    "label_map": {"by": "index"},
}

CREDENTIALS = (
    "What goes out with each request and never comes back: headers that say who asks, or an AWS key "
    '({"kind": "sigv4", "access_key_id", "secret_access_key", "session_token", "region", "service"}).'
)
EXAMPLE_CREDENTIALS = {"kind": "headers", "headers": {"Authorization": "Bearer …"}}


class SuspectBody(Body):
    """An endpoint and how to speak with it."""

    name: Line = Field(examples=["rival's API"])
    endpoint: str = Field(max_length=2000, description="Base URL of the service.", examples=[EXAMPLE_ENDPOINT])
    interface: dict[str, Any] = Field(
        description="Adapter, its options, preprocessing and label map, as in the filing record.",
        examples=[EXAMPLE_INTERFACE],
    )
    registration_id: UUID | None = Field(
        None, description="Check the interface against this registration and say what it costs."
    )
    credentials: dict[str, Any] | None = Field(
        None, repr=False, description=CREDENTIALS, examples=[EXAMPLE_CREDENTIALS]
    )


class CredentialsBody(Body):
    """Credentials for a suspect's endpoint."""

    credentials: dict[str, Any] = Field(repr=False, description=CREDENTIALS, examples=[EXAMPLE_CREDENTIALS])


class CredentialsView(Answer):
    """What may be shown of credentials."""

    kind: str = Field(examples=["headers"])
    header_names: list[str] = Field(description="Headers that they add to a request.", examples=[["authorization"]])
    created_at: Moment


class SuspectView(Answer):
    """A suspect."""

    id: UUID
    name: str
    endpoint: str = Field(examples=[EXAMPLE_ENDPOINT])
    interface: dict[str, Any] = Field(examples=[EXAMPLE_INTERFACE])
    credentials: CredentialsView | None = Field(None, description="Null if requests go out without.")
    created_at: Moment


class NewSuspectView(SuspectView):
    """A suspect and the price of its interface."""

    interface_bits: int | None = Field(
        description="Evidence that this interface costs if the claimant fixes it alone; null without a registration.",
        examples=[8],
    )


class TestBody(Body):
    """One ordinary input, to see whether the suspect answers."""

    registration_id: UUID = Field(description="Whose classes and input shape to use.")
    input: str = Field(
        max_length=MAX_INPUT_BYTES * 4 // 3 + 4,
        description="Canonical bytes of an ordinary input, in base64. Never a trigger: it would be known and spent.",
    )
    allow_http: bool = Field(
        default=False, description="Send credentials by http to another machine, where everybody on the way reads them."
    )


class TestView(Answer):
    """What was sent and seen."""

    request_bytes: int = Field(examples=[412])
    request_sha256: str
    status: int | None = Field(description="HTTP status; null if none arrived.", examples=[200])
    response_bytes: int = Field(examples=[96])
    response_sha256: str = Field(description="Empty if no response arrived whole.")
    response_start: str = Field(
        description="Its first bytes, escaped; credentials that it repeats as they were sent are struck out.",
        examples=['{"predictions": [[0.02, 0.91, 0.07]]}'],
    )
    labels: list[str] = Field(description="The endpoint's labels, highest first.", examples=[["7"]])
    classes: list[str] = Field(description="The registered classes that the label map makes of them.")
    error: str = Field(description="Why there are no labels, as a stable word.", examples=[""])
    address: str = Field(description="Where the connection went.", examples=["203.0.113.7"])


def show(row: SuspectRow, secret: SuspectSecretRow | None) -> SuspectView:
    """Write a suspect as its vendor sees it."""
    credentials = None if secret is None else CredentialsView.model_validate(secret)
    return SuspectView.model_validate(row).model_copy(update={"credentials": credentials})


@router.post("", status_code=201, operation_id="add_suspect", responses=problems(404))
def add(body: SuspectBody, caller: Disputer, session: InTransaction, service: ServiceOf, now: Now) -> NewSuspectView:
    """Name an endpoint to be accused later; nothing is sent to it."""
    interface = Interface.from_json(body.interface, "/interface")
    bits = None
    if body.registration_id is not None:
        registration = load_registration(session, caller.vendor_id, body.registration_id)
        bits = price_in_bits(interface, Statement.parse(registration.statement), body.endpoint)
    row = add_suspect(
        session,
        caller.vendor_id,
        NewSuspect(body.name, body.endpoint, interface),
        service.network_rules,
        secrets.token_bytes(ID_RANDOM_BYTES),
        now,
    )
    secret = None
    if body.credentials is not None:
        credentials = parse_credentials(body.credentials, "/credentials")
        secret = put_credentials(session, service.secret_box, row, credentials, now)
    return NewSuspectView(**show(row, secret).model_dump(), interface_bits=bits)


@router.get("", operation_id="list_suspects")
def list_all(caller: Reader, session: InTransaction, paging: PageOf) -> Page[SuspectView]:
    """List the vendor's suspects."""
    rows = list_suspects(session, caller.vendor_id, paging.after_id(), paging.limit + 1)
    secrets_of = find_secrets(session, rows)
    return paging.page(rows, lambda row: row.id, lambda row: show(row, secrets_of.get(row.id)))


@router.get("/{suspect_id}", operation_id="read_suspect", responses=problems(404))
def read(suspect_id: UUID, caller: Reader, session: InTransaction) -> SuspectView:
    """Read a suspect."""
    row = load_suspect(session, caller.vendor_id, suspect_id)
    return show(row, find_secrets(session, [row]).get(row.id))


@router.delete("/{suspect_id}", status_code=204, operation_id="remove_suspect", responses=problems(404, 409))
def remove(suspect_id: UUID, caller: Disputer, session: InTransaction) -> None:
    """Forget a suspect that was never accused."""
    remove_suspect(session, caller.vendor_id, suspect_id)


@router.put("/{suspect_id}/credentials", operation_id="put_credentials", responses=problems(404))
def put(
    suspect_id: UUID, body: CredentialsBody, caller: Disputer, session: InTransaction, service: ServiceOf, now: Now
) -> CredentialsView:
    """Give a suspect's endpoint other credentials; a dispute that is being asked uses them from its next questions on."""
    row = load_suspect(session, caller.vendor_id, suspect_id)
    credentials = parse_credentials(body.credentials, "/credentials")
    return CredentialsView.model_validate(put_credentials(session, service.secret_box, row, credentials, now))


@router.delete("/{suspect_id}/credentials", status_code=204, operation_id="drop_credentials", responses=problems(404))
def drop(suspect_id: UUID, caller: Disputer, session: InTransaction) -> None:
    """Forget a suspect's credentials; without any it stays as it is."""
    drop_credentials(session, load_suspect(session, caller.vendor_id, suspect_id))


@router.post("/{suspect_id}/test", operation_id="test_suspect", responses=problems(404, 429))
def test(suspect_id: UUID, body: TestBody, caller: DisputerBeforehand, service: ServiceOf) -> TestView:
    """Ask the suspect once, outside any dispute. What it does wrong is a word in the answer, not an error."""
    with transaction(service.engine) as session:
        row = load_suspect(session, caller.vendor_id, suspect_id)
        registration = load_registration(session, caller.vendor_id, body.registration_id)
        credentials = open_credentials(session, service.secret_box, row.id, row.endpoint)
        count_test(session, row, service.network_rules, service.clock())
    statement = Statement.parse(registration.statement)
    try:
        question = base64.b64decode(body.input, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("must be base64", pointer="/input") from error
    asked = try_suspect(
        row, credentials, statement, question, service.network_rules, service.clock, allow_http=body.allow_http
    )
    found = LabelMap(Interface.from_json(row.interface), statement).classes_of(asked.labels)
    return TestView(
        request_bytes=len(asked.request),
        request_sha256=asked.request_sha256.hex(),
        status=asked.status,
        response_bytes=len(asked.response),
        response_sha256=asked.response_sha256.hex(),
        response_start=shown_start(asked.response, credentials),
        labels=list(asked.labels),
        classes=[statement.classes[index] for index in sorted(found)],
        error=asked.error,
        address=asked.address,
    )
