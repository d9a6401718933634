"""Cross-tests: two registrants, one model; each delivers a model it committed to, and is told what came of it.

Trust: of the other party stands here what the log and its vendor's name say; counts only when the test has ended.
"""

import secrets
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import Field

from app.api.dependencies import Reader, require
from app.api.fields import Answer, Body, Hex32, LogNumber, Moment
from app.api.problems import WITH_KEY, problems
from app.db.tables import ID_RANDOM_BYTES
from app.disputes.course import load_dispute
from app.disputes.cross_tests import CrossTest, deliver_model, list_cross_tests
from app.disputes.weights import Delivered
from app.errors import NotFound
from app.protocol.cross_test import Party
from app.registry.api_keys import DISPUTE, Caller
from app.registry.artifacts import load_artifact
from app.web import InTransaction, Now

router = APIRouter(prefix="/disputes", tags=["disputes"], responses=WITH_KEY)

Disputer = Annotated[Caller, Depends(require(DISPUTE), scope="function")]


class ModelBody(Body):
    """A model that you committed to before the other registrant filed its dispute."""

    sha256: Hex32 = Field(description="SHA-256 of an uploaded artifact: weights (safetensors) or a program (.pt2).")
    program: Hex32 | None = Field(None, description="Weights of an exported program (.pt2) need it again.")


class ModelView(Answer):
    """A model that you delivered."""

    number: int = Field(examples=[1])
    sha256: Hex32
    model_index: LogNumber = Field(description="Your `model` entry of it.", examples=[4])
    state: str = Field(description="queued, running, done, or failed: then you may deliver another.", examples=["done"])
    error: str
    created_at: Moment


class CoversView(Answer):
    """How many of the endpoint's answers to covers a model repeated."""

    repeated: int = Field(examples=[59])
    answered: int = Field(examples=[60])


class MarkView(Answer):
    """What the walk over one dispute's triggers came to with a model's answers."""

    asked: int = Field(examples=[24])
    matches: int = Field(examples=[24])
    is_carried: bool = Field(description="Whether the evidence reached the threshold of that dispute.")


class PartyView(Answer):
    """What a party's model answered: first on your dispute's questions, then on the other's. No model: no counts."""

    model_index: LogNumber | None = Field(examples=[4])
    sha256: Hex32 | None
    covers: list[CoversView]
    marks: list[MarkView]


class CrossTestView(Answer):
    """A test of your model and another registrant's with each other's triggers."""

    id: UUID
    state: str = Field(description="open, first or not_decided.", examples=["open"])
    reason: str = Field(description="Why it ended so (docs/protocol.md section 10.1).", examples=["one_carries_both"])
    is_first: bool = Field(description="Whether your model is the one with its own mark alone.")
    until: Moment = Field(description="Both parties deliver until then.")
    may_deliver: bool
    verdict_index: LogNumber = Field(description="The verdict of yours that is concerned.")
    other_vendor: str
    other_registration: LogNumber
    other_verdict: LogNumber
    other_filing: LogNumber = Field(description="Your model's entry has to be older than this one.", examples=[12])
    models: list[ModelView]
    own: PartyView | None = Field(description="Null until the test has ended.")
    other: PartyView | None
    entry_index: LogNumber | None = Field(description="The log's `cross-test` entry.")
    opened_at: Moment


class CrossTests(Answer):
    """The cross-tests of a dispute, the first one first."""

    items: list[CrossTestView]


@router.get("/{dispute_id}/cross-tests", operation_id="list_cross_tests", responses=problems(404))
def read_all(dispute_id: UUID, caller: Reader, session: InTransaction, now: Now) -> CrossTests:
    """Read the cross-tests of a dispute: one with each other vendor whose dispute about the address was confirmed."""
    row = load_dispute(session, caller.vendor_id, dispute_id)
    return CrossTests(items=[_view(found) for found in list_cross_tests(session, row, now)])


@router.post(
    "/{dispute_id}/cross-tests/{cross_test_id}/model",
    status_code=202,
    operation_id="deliver_model",
    responses=problems(404, 409),
)
def deliver(
    dispute_id: UUID, cross_test_id: UUID, body: ModelBody, caller: Disputer, session: InTransaction, now: Now
) -> CrossTestView:
    """Deliver a committed model, once: only a file that no worker could ask may be followed by another."""
    row = load_dispute(session, caller.vendor_id, dispute_id)
    digests = {"sha256": body.sha256} | ({} if body.program is None else {"program": body.program})
    sizes = {}
    for name, digest in digests.items():
        try:
            sizes[name] = load_artifact(session, caller.vendor_id, digest).size_bytes
        except NotFound as error:
            raise NotFound("you have uploaded no such artifact", pointer=f"/{name}") from error
    delivered = Delivered(body.sha256, sizes["sha256"], body.program)
    deliver_model(session, row.id, cross_test_id, delivered, now, secrets.token_bytes(ID_RANDOM_BYTES))
    return next(_view(found) for found in list_cross_tests(session, row, now) if found.id == cross_test_id)


def _view(found: CrossTest) -> CrossTestView:
    return CrossTestView(
        id=found.id,
        state=found.result or "open",
        reason=found.reason,
        is_first=found.is_first,
        until=found.until,
        may_deliver=found.may_deliver,
        verdict_index=found.own_verdict_index,
        other_vendor=found.vendor,
        other_registration=found.registration_index,
        other_verdict=found.verdict_index,
        other_filing=found.filing_index,
        models=[ModelView.model_validate(sent) for sent in found.deliveries],
        own=_party(found.own, found.places),
        other=_party(found.other, found.places),
        entry_index=found.entry_index,
        opened_at=found.opened_at,
    )


def _party(party: Party | None, places: tuple[int, int]) -> PartyView | None:
    if party is None:
        return None
    has_model = party.model is not None
    return PartyView(
        model_index=party.model,
        sha256=party.sha256 if has_model else None,
        covers=[CoversView.model_validate(party.covers[place]) for place in places if has_model],
        marks=[MarkView.model_validate(party.marks[place]) for place in places if has_model],
    )
