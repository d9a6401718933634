"""What a request is given, of a program or of a person: its transaction, the time, the service's values, who asks.

Invariants: one request is one transaction, and FastAPI ends it (scope "function") before the answer is sent, so what is
signed leaves only after COMMIT; a browser's cookie counts for a change only if the request comes from our own pages.
Source: RFC 6265bis (`__Host-`), Fetch standard (`Origin`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request
from obstore.store import ObjectStore
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.db.engine import transaction
from app.errors import (
    Conflict,
    Forbidden,
    NotFound,
    ProofError,
    Refused,
    SuspectMisbehaved,
    SuspectUnreachable,
    TooLarge,
    TooMany,
    TooSlow,
    TrapstreetError,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)
from app.log.store import LogIdentity
from app.people.sessions import Visitor, find_visitor
from app.storage.secret_box import SecretBox
from app.suspects.addresses import NetworkRules

READING = ("GET", "HEAD")

# The nearest class in the order of a class's ancestors decides.
STATUS: Mapping[type[TrapstreetError], int] = {
    Refused: 422,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    TooSlow: 408,
    TooLarge: 413,
    UnsupportedMedia: 415,
    TooMany: 429,
    # Whatever a caller sends is checked as Refused: what does not hold here is the service's own data.
    ProofError: 500,
    Unavailable: 503,
    SuspectUnreachable: 502,
    SuspectMisbehaved: 502,
    TrapstreetError: 422,
}


@dataclass(frozen=True)
class Service:
    """The values that a request works with; made once, by create_app."""

    engine: Engine
    store: ObjectStore
    identity: LogIdentity
    beacon_source: str
    max_artifact_bytes: int
    schema_revision: str
    portal_origin: str = "http://localhost:8000"
    network_rules: NetworkRules = NetworkRules()  # noqa: RUF009  # frozen, and strictest by default
    secret_box: SecretBox | None = None
    sends_mail: bool = False
    arbiter_keys: Sequence[bytes] = ()
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))  # noqa: TID251  # the web is an entry point

    @property
    def is_secure(self) -> bool:
        """Tell whether browsers reach the service by https."""
        return self.portal_origin.startswith("https://")

    @property
    def cookie_name(self) -> str:
        """Give the session cookie's name; by https one that no other host can set."""
        return "__Host-trapstreet" if self.is_secure else "trapstreet"


def get_service(request: Request) -> Service:
    """Give the service's values."""
    service: Service = request.app.state.service
    return service


ServiceOf = Annotated[Service, Depends(get_service)]


def get_now(service: ServiceOf) -> datetime:
    """Give the time, one for the whole request."""
    return service.clock()


Now = Annotated[datetime, Depends(get_now)]


def get_session(service: ServiceOf) -> Iterator[Session]:
    """Give the request's transaction."""
    with transaction(service.engine) as session:
        yield session


InTransaction = Annotated[Session, Depends(get_session, scope="function")]


def find_signed_in(request: Request, service: Service, session: Session, now: datetime) -> Visitor | None:
    """Say who is signed in, in the browser that asks; None if nobody is.

    Raises: Forbidden if this would change something and comes from another site.
    """
    cookie = request.cookies.get(service.cookie_name, "")
    visitor = find_visitor(session, cookie, now) if cookie else None
    if visitor is not None:
        check_origin(request, service)
    return visitor


def check_origin(request: Request, service: Service) -> None:
    """Let a change pass only if it comes from one of our pages.

    Raises: Forbidden.
    """
    if request.method not in READING and request.headers.get("origin") != service.portal_origin:
        raise Forbidden(f"this must be sent from a page of {service.portal_origin}: open it there and try again")


def status_of(error: TrapstreetError) -> int:
    """Give the HTTP status of an error."""
    return next(STATUS[ancestor] for ancestor in type(error).__mro__ if ancestor in STATUS)
