"""Model commitments: a digest, dated by the log."""

import secrets
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import Field

from app.api.dependencies import Reader, require
from app.api.fields import Answer, Body, Hex32, Hex64, Moment, Page, PageOf, Proven
from app.api.problems import WITH_KEY, problems
from app.db.tables import ID_RANDOM_BYTES, ModelCommitmentRow, VendorRow
from app.log.store import load_entry, receipt_for
from app.registry.api_keys import REGISTER, Caller
from app.registry.models import commit_model, list_models
from app.web import InTransaction, Now, ServiceOf

router = APIRouter(prefix="/models", tags=["models"], responses=WITH_KEY)


class NewModel(Body):
    """A digest of weights or of an interface.

    The vendor's key signs the canonical JSON {type `trapstreet/v1/model-commitment`, owner_key, sha256}.
    """

    sha256: Hex32
    signature: Hex64


class Model(Answer):
    """A commitment."""

    id: UUID
    sha256: Hex32
    entry_index: int = Field(examples=[12])
    created_at: Moment


class CommittedModel(Model, Proven):
    """A commitment with its log entry and receipt."""


@router.post("", status_code=201, operation_id="commit_model", responses=problems(409))
def post_model(
    body: NewModel,
    caller: Annotated[Caller, Depends(require(REGISTER), scope="function")],
    session: InTransaction,
    service: ServiceOf,
    now: Now,
) -> CommittedModel:
    """Commit to a digest."""
    row = commit_model(
        session,
        service.identity,
        session.get_one(VendorRow, caller.vendor_id),
        body.sha256,
        signature=body.signature,
        randomness=secrets.token_bytes(ID_RANDOM_BYTES),
        now=now,
    )
    entry = load_entry(session, row.entry_index).decode()
    return CommittedModel(**_show(row).model_dump(), entry=entry, receipt=receipt_for(session, row.entry_index))


@router.get("", operation_id="list_models")
def get_models(caller: Reader, session: InTransaction, paging: PageOf) -> Page[Model]:
    """List the vendor's commitments in order of creation."""
    rows = list_models(session, caller.vendor_id, paging.after_id(), paging.limit + 1)
    return paging.page(rows, lambda row: row.id, _show)


def _show(row: ModelCommitmentRow) -> Model:
    return Model.model_validate(row)
