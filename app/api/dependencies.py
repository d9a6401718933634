"""Who calls an endpoint: the holder of an API key, or a person who is signed in to the portal, in one of its pages.

Invariants: who calls is known before anything of the body is believed; a request with a key is never taken for a person's.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.orm import Session

from app.db.engine import transaction
from app.errors import Forbidden, Unauthenticated
from app.registry.api_keys import READ, Caller, authenticate
from app.web import InTransaction, Now, Service, ServiceOf, find_signed_in

# FastAPI's own refusal is not a problem document; ours below is.
_bearer = HTTPBearer(auto_error=False, description="An API key, `ts_…`.")

Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def require(*scopes: str) -> Callable[..., Caller]:
    """Make a dependency: the caller, in the request's transaction, who has one of these scopes."""

    def caller(
        request: Request, service: ServiceOf, session: InTransaction, credentials: Credentials, now: Now
    ) -> Caller:
        return _check(_identify(request, service, session, credentials, now), scopes)

    return caller


def require_beforehand(*scopes: str) -> Callable[..., Caller]:
    """Make a dependency like `require` in a transaction of its own, for endpoints that take long."""

    def caller(request: Request, service: ServiceOf, credentials: Credentials, now: Now) -> Caller:
        with transaction(service.engine) as session:
            return _check(_identify(request, service, session, credentials, now), scopes)

    return caller


Reader = Annotated[Caller, Depends(require(READ), scope="function")]


def _identify(
    request: Request,
    service: Service,
    session: Session,
    credentials: HTTPAuthorizationCredentials | None,
    now: datetime,
) -> Caller:
    if credentials is not None:
        return authenticate(session, credentials.credentials, now)
    visitor = find_signed_in(request, service, session, now)
    if visitor is None:
        raise Unauthenticated("send an API key: `Authorization: Bearer ts_…`")
    if visitor.vendor_id is None:
        raise Forbidden("you act for no vendor yet: make one, or accept an invitation")
    return Caller(visitor.vendor_id, visitor.scopes, is_person=True)


def _check(caller: Caller, scopes: Sequence[str]) -> Caller:
    if not caller.scopes & set(scopes):
        raise Forbidden(f"this needs the scope {' or '.join(scopes)}, which this API key or role lacks")
    return caller
