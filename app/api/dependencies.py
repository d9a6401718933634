"""What an endpoint is given: its transaction, its caller, the time, and the service's values.

Invariants: one request is one transaction, and FastAPI ends it (scope "function") before the answer is sent, so what is
signed leaves only after COMMIT; who calls is known before anything of the body is believed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from obstore.store import ObjectStore
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.db.engine import transaction
from app.errors import Forbidden, Unauthenticated
from app.log.store import LogIdentity
from app.registry.api_keys import READ, Caller, authenticate
from app.storage.secret_box import SecretBox
from app.suspects.addresses import NetworkRules

# FastAPI's own refusal is not a problem document; ours below is.
_bearer = HTTPBearer(auto_error=False, description="An API key, `ts_…`.")


@dataclass(frozen=True)
class Service:
    """The values that endpoints work with; made once, by create_app."""

    engine: Engine
    store: ObjectStore
    identity: LogIdentity
    beacon_source: str
    max_artifact_bytes: int
    schema_revision: str
    network_rules: NetworkRules = NetworkRules()  # noqa: RUF009  # frozen, and strictest by default
    secret_box: SecretBox | None = None
    arbiter_keys: Sequence[bytes] = ()
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))  # noqa: TID251  # the API is an entry point


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
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def require(*scopes: str) -> Callable[..., Caller]:
    """Make a dependency: the caller, in the request's transaction, whose key has one of these scopes."""

    def caller(session: InTransaction, credentials: Credentials, now: Now) -> Caller:
        return _check(session, credentials, now, scopes)

    return caller


def require_beforehand(*scopes: str) -> Callable[..., Caller]:
    """Make a dependency like `require` in a transaction of its own, for endpoints that take long."""

    def caller(service: ServiceOf, credentials: Credentials, now: Now) -> Caller:
        with transaction(service.engine) as session:
            return _check(session, credentials, now, scopes)

    return caller


Reader = Annotated[Caller, Depends(require(READ), scope="function")]


def _check(
    session: Session, credentials: HTTPAuthorizationCredentials | None, now: datetime, scopes: Sequence[str]
) -> Caller:
    if credentials is None:
        raise Unauthenticated("send an API key: `Authorization: Bearer ts_…`")
    caller = authenticate(session, credentials.credentials, now)
    if not caller.scopes & set(scopes):
        raise Forbidden(f"this API key lacks the scope {' or '.join(scopes)}")
    return caller
