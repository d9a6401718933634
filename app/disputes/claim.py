"""A dispute as whoever has its link sees it: who claims what against whom, what happened, what can be done until when.

Invariants: nothing here tells what a dispute hides until its verdict but the endpoint: no trigger, no role, no blind of a
filing that is not revealed; nothing of another dispute but one that answers a request, and that only once it may be named.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.tables import DisputeRow, LogEntryRow, RegistrationRow, VendorRow
from app.disputes.answers import Answer, answers_until, list_answers
from app.disputes.course import load_statement, record_of
from app.disputes.cross_tests import CrossTest, list_cross_tests
from app.disputes.lifecycle import list_steps, may_be_named
from app.disputes.links import find_link, load_notice, token_of
from app.disputes.second_runs import SecondRun, ask_until, find_first_run, find_second_run
from app.disputes.weights import Delivery, list_deliveries, may_deliver
from app.errors import NotFound
from app.protocol.records import MAX_ANSWERS


@dataclass(frozen=True)
class Step:
    """Something that happened; `entry_index` is the log's entry that says so."""

    kind: str
    at: datetime
    entry_index: int | None
    details: dict[str, Any]


@dataclass(frozen=True)
class Rights:
    """What the accused may do now, and until when; None where it is not possible (any more)."""

    may_answer: bool
    answer_until: datetime | None
    may_ask: bool
    ask_until: datetime | None
    may_deliver: bool


@dataclass(frozen=True)
class Claim:
    """What is claimed, and everything that came of it."""

    claimant: str
    claimant_key: str
    endpoint: str
    family: str
    ordinal: int
    assurance_class: str
    registered_at: datetime
    registration_index: int
    filed_at: datetime
    filing_index: int
    noticed_at: datetime
    notice_index: int
    state: str
    verdict: str | None
    reason: str | None
    asked: int
    matches: int
    verdict_index: int | None
    bundle_sha256: bytes | None
    steps: Sequence[Step]
    answers: Sequence[Answer]
    second_run: SecondRun | None
    second_run_token: str | None
    first_run_token: str | None
    beacon_index: int | None
    deliveries: Sequence[Delivery]
    cross_tests: Sequence[CrossTest]
    rights: Rights


def load_claim(session: Session, dispute: DisputeRow, now: datetime) -> Claim:
    """Read a dispute that a link leads to.

    Raises: NotFound if nobody may know of it.
    """
    if not may_be_named(dispute):
        raise NotFound
    registration = session.get_one(RegistrationRow, dispute.registration_id)
    statement, notice = load_statement(session, dispute), load_notice(session, dispute)
    second_run, first = find_second_run(session, dispute, now), find_first_run(session, dispute)
    answers = list_answers(session, dispute)
    return Claim(
        claimant=session.get_one(VendorRow, dispute.vendor_id).name,
        claimant_key=statement.vendor_key.hex(),
        endpoint=record_of(dispute).endpoint,
        family=dispute.family,
        ordinal=dispute.ordinal,
        assurance_class=statement.assurance_class,
        registered_at=_time_of(session, registration.entry_index),
        registration_index=registration.entry_index,
        filed_at=_time_of(session, dispute.filing_index),
        filing_index=dispute.filing_index,
        noticed_at=_time_of(session, notice.entry_index),
        notice_index=notice.entry_index,
        state=dispute.state,
        verdict=dispute.verdict,
        reason=dispute.reason,
        asked=dispute.asked,
        matches=dispute.matches,
        verdict_index=dispute.verdict_index,
        bundle_sha256=dispute.bundle_sha256,
        steps=[Step(row.kind, row.created_at, row.entry_index, row.details) for row in list_steps(session, dispute)],
        answers=answers,
        second_run=second_run,
        second_run_token=_token_of_filed(session, second_run),
        first_run_token=None if first is None else token_of(first),
        beacon_index=registration.beacon_index,
        deliveries=list_deliveries(session, dispute),
        cross_tests=list_cross_tests(session, dispute, now),
        rights=_rights(session, dispute, len(answers), second_run, now),
    )


def _rights(session: Session, dispute: DisputeRow, answers: int, second_run: SecondRun | None, now: datetime) -> Rights:
    answer, ask = answers_until(session, dispute), ask_until(session, dispute)
    return Rights(
        may_answer=answers < MAX_ANSWERS and (answer is None or now <= answer),
        answer_until=answer,
        may_ask=second_run is None and ask is not None and now <= ask,
        ask_until=ask,
        may_deliver=may_deliver(session, dispute, now),
    )


def _token_of_filed(session: Session, second_run: SecondRun | None) -> str | None:
    if second_run is None or second_run.filed is None:
        return None
    # A moment passes between the end of asking and the notice; the link leads somewhere only then.
    return find_link(session, session.get_one(DisputeRow, second_run.filed))


def _time_of(session: Session, index: int) -> datetime:
    return session.scalars(select(LogEntryRow.created_at).where(LogEntryRow.index == index)).one()
