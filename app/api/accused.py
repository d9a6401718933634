"""What the accused of a dispute is told, answers and asks for, as the claimant sees it.

Trust: words and file names come from whoever has the link.
"""

from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import Field

from app.api.dependencies import Reader, require
from app.api.fields import Answer, Body, Hex32, LogNumber, Moment
from app.api.problems import WITH_KEY, problems
from app.disputes import answers, lifecycle, second_runs, weights
from app.disputes.contacts import Contact, find_contact, give_contact
from app.disputes.course import load_dispute, lock_dispute
from app.disputes.links import find_link, link_at
from app.errors import Unavailable
from app.registry.api_keys import DISPUTE, Caller
from app.web import InTransaction, Now, ServiceOf

router = APIRouter(prefix="/disputes", tags=["disputes"], responses=WITH_KEY)


Disputer = Annotated[Caller, Depends(require(DISPUTE), scope="function")]


class AnswerFileView(Answer):
    """A file that came with an answer; nobody has looked into it."""

    name: str
    sha256: Hex32
    size: int
    url: str = Field(description="Where it is downloaded, by whoever has the link.")


class AnswerView(Answer):
    """An answer of the accused, in its own words."""

    number: int = Field(examples=[1])
    words: str
    prior_art: str
    file: AnswerFileView | None
    entry_index: int = Field(description="The log's entry that hides the answer.", examples=[17])
    created_at: Moment


class SecondRunView(Answer):
    """The accused's wish for a second run: your next filing against the same endpoint until then answers it."""

    entry_index: int
    asked_at: Moment
    until: Moment
    families_left: int = Field(description="Families of the registration that nobody had filed when it was asked for.")
    filed_dispute_id: UUID | None = Field(description="What you filed upon it. The accused learns of it later.")


class DeliveryView(Answer):
    """Weights that the accused delivered, older than the labels, and how many of the endpoint's answers they repeated."""

    number: int = Field(examples=[1])
    sha256: Hex32
    entry_index: int = Field(description="The `model` entry that is older than the labels.")
    state: str = Field(examples=["done"])
    repeated: int | None
    answered: int | None
    triggers_repeated: int | None
    triggers_answered: int | None
    has_voided: bool = Field(
        description="Whether the claim is void by them: then the verdict is VOID, with a new bundle."
    )
    created_at: Moment


class ContactBody(Body):
    """Whom the service is to write to."""

    address: str = Field(
        max_length=300,
        description="A mail address of whoever runs the endpoint. It gets one mail, with the link, once nothing is asked "
        "any more.",
        examples=["legal@example.org"],
    )


class ContactView(Answer):
    """How the mail to the accused stands."""

    address: str | None = Field(description="Known until the mail is written.")
    state: str = Field(description="waiting, mailed, or refused: the address got too many mails today.")
    told_at: Moment | None


class StepView(Answer):
    """One step of the dispute."""

    kind: str = Field(examples=["block_probed"])
    at: Moment
    entry_index: LogNumber | None
    details: dict[str, Any]


class AccusedView(Answer):
    """The accused's side of a dispute."""

    link: str | None = Field(
        description="What to hand to the accused: it reads the claim there and answers without an account. Null until "
        "nothing is asked any more."
    )
    contact: ContactView | None = Field(description="Where the link is mailed, if you named an address.")
    answers: list[AnswerView]
    second_run: SecondRunView | None
    deliveries: list[DeliveryView]
    steps: list[StepView]


@router.get("/{dispute_id}/accused", operation_id="read_accused", responses=problems(404))
def read_accused(dispute_id: UUID, caller: Reader, session: InTransaction, service: ServiceOf, now: Now) -> AccusedView:
    """Read the link for the accused, what it answered and asked for, and every step of the dispute."""
    row = load_dispute(session, caller.vendor_id, dispute_id)
    token, run = find_link(session, row), second_runs.find_second_run(session, row, now)
    link = None if token is None else link_at(service.portal_origin, token)
    return AccusedView(
        link=link,
        contact=_contact(find_contact(session, row)),
        answers=[_answer(found, link or "") for found in answers.list_answers(session, row)],
        second_run=None
        if run is None
        else SecondRunView(
            entry_index=run.entry_index,
            asked_at=run.asked_at,
            until=run.until,
            families_left=run.families_left,
            filed_dispute_id=second_runs.find_own_filing(session, row),
        ),
        deliveries=[_delivery(found) for found in weights.list_deliveries(session, row)],
        steps=[
            StepView(kind=step.kind, at=step.created_at, entry_index=step.entry_index, details=step.details)
            for step in lifecycle.list_steps(session, row)
        ],
    )


@router.put("/{dispute_id}/accused/contact", operation_id="name_contact", responses=problems(404, 409, 503))
def name_contact(
    dispute_id: UUID, body: ContactBody, caller: Disputer, session: InTransaction, service: ServiceOf, now: Now
) -> ContactView:
    """Name a mail address of the accused: it is sent the link once, and never before nothing is asked any more."""
    if not service.sends_mail:
        raise Unavailable("this service sends no mail: hand the link over yourself when there is one")
    row = lock_dispute(session, load_dispute(session, caller.vendor_id, dispute_id).id)
    token = find_link(session, row)
    link = None if token is None else link_at(service.portal_origin, token)
    return ContactView(**asdict(give_contact(session, row, body.address, link, now)))


def _contact(found: Contact | None) -> ContactView | None:
    return None if found is None else ContactView(**asdict(found))


def _delivery(found: weights.Delivery) -> DeliveryView:
    return DeliveryView(**{name: getattr(found, name) for name in DeliveryView.model_fields})


def _answer(answer: answers.Answer, link: str) -> AnswerView:
    record, file = answer.record, answer.record.file
    url = f"{link}/answers/{record.number}/file"
    return AnswerView(
        number=record.number,
        words=record.words,
        prior_art=record.prior_art,
        file=None if file is None else AnswerFileView(name=file.name, sha256=file.sha256, size=file.size, url=url),
        entry_index=answer.entry_index,
        created_at=answer.created_at,
    )
