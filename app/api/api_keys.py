"""API keys: make (shown once), list, revoke; two live at a time, so that programs can change over."""

import secrets
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import AwareDatetime, Field

from app.api.dependencies import require
from app.api.fields import Answer, Body, Line, Moment, Page
from app.api.problems import WITH_KEY, problems
from app.db.tables import ApiKeyRow
from app.errors import Forbidden
from app.registry.api_keys import (
    ADMIN,
    RANDOM_BYTES,
    Caller,
    list_api_keys,
    make_api_key,
    revoke_api_key,
)
from app.web import InTransaction, Now

router = APIRouter(prefix="/api-keys", tags=["api keys"], responses=WITH_KEY)

Admin = Annotated[Caller, Depends(require(ADMIN), scope="function")]
Scope = Literal["read", "register", "embed", "dispute", "admin"]


class NewApiKey(Body):
    """What a new key is for."""

    name: Line = Field(examples=["build server"])
    scopes: list[Scope] = Field(min_length=1, examples=[["read", "embed"]])
    expires_at: AwareDatetime | None = Field(None, examples=["2027-01-31T12:00:00Z"])


class ApiKey(Answer):
    """A key, without its secret."""

    id: str = Field(examples=["abcdefghijkl"])
    name: str
    scopes: list[str]
    created_at: Moment
    expires_at: Moment | None
    last_used_at: Moment | None = Field(description="To the minute.")
    revoked_at: Moment | None


class ShownApiKey(ApiKey):
    """A new key; `api_key` is shown this once."""

    api_key: str = Field(examples=["ts_abcdefghijkl_0123456789012345678901234567890123456789012"])


@router.post("", status_code=201, operation_id="make_api_key", responses=problems(409))
def post_api_key(body: NewApiKey, caller: Admin, session: InTransaction, now: Now) -> ShownApiKey:
    """Make an API key."""
    if caller.is_person:
        # A session may be stolen, and a key would outlast it: the portal's page asks who it is once more.
        raise Forbidden(
            "as a person make API keys at /vendor/api-keys, which asks for a fresh sign-in; here send an API key"
        )
    made = make_api_key(
        session,
        caller.vendor_id,
        body.name,
        set(body.scopes),
        expires_at=body.expires_at,
        randomness=secrets.token_bytes(RANDOM_BYTES),
        now=now,
    )
    return ShownApiKey(**_show(made.row).model_dump(), api_key=made.text)


@router.get("", operation_id="list_api_keys")
def get_api_keys(caller: Admin, session: InTransaction) -> Page[ApiKey]:
    """List the live keys and those that were revoked last."""
    return Page(items=[_show(row) for row in list_api_keys(session, caller.vendor_id)])


@router.delete("/{key_id}", status_code=204, operation_id="revoke_api_key", responses=problems(404))
def delete_api_key(
    key_id: Annotated[str, Path(max_length=40)], caller: Admin, session: InTransaction, now: Now
) -> None:
    """Revoke an API key, at once and for good; a key may revoke itself."""
    revoke_api_key(session, caller.vendor_id, key_id, now)


def _show(row: ApiKeyRow) -> ApiKey:
    return ApiKey.model_validate(row)
