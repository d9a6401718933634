"""A second run: the accused may ask once for another try with a fresh challenge, and the claimant may file again.

A family is asked once, so a second run is a filing like any other with another family: signed, counted, with its own
beacon. Whatever the claimant files next against the same endpoint, within the time, answers the request.

Invariants: nothing decides by silence: a claimant who does not file, or cannot, loses nothing by it, and pages say so;
whether it filed is told only once nothing is asked any more, for else the accused would know when it is asked. Until then
a request that was answered looks in everything, at every time, like one that was not.
Source: docs/protocol.md section 6.1.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.lifecycle_tables import SecondRunRow
from app.db.tables import DisputeRow
from app.disputes.course import load_statement, record_of
from app.disputes.lifecycle import SECOND_RUN_ASKED, decided_at, may_be_named, note_step
from app.errors import Conflict, NotFound
from app.log.store import LogIdentity, append, entry_time
from app.protocol.records import SecondRunEntry

# The accused has so long to ask, and then the claimant to file.
ASK_DAYS: Final = 30
FILE_DAYS: Final = 30
# So much later still a page says that nothing came of it: else the last day to file would tell when it is asked.
TELL_DAYS: Final = 30

# Verdicts that speak against an endpoint; of the others there is nothing to try again.
AGAINST: Final = ("CONFIRMED", "INDICATIVE", "NON_COOPERATIVE")


@dataclass(frozen=True)
class SecondRun:
    """A request as both sides see it; `filed` is the dispute that answers it, once it may be named.

    `is_over` says that the time to tell has passed and there is none that may be named, whether or not one was filed.
    """

    entry_index: int
    asked_at: datetime
    until: datetime
    families_left: int
    filed: UUID | None
    is_over: bool


def ask_until(session: Session, dispute: DisputeRow) -> datetime | None:
    """Say until when the accused may ask for a second run; None where there is nothing to ask for."""
    at = decided_at(session, dispute)
    return at + timedelta(days=ASK_DAYS) if at is not None and dispute.verdict in AGAINST else None


def find_second_run(session: Session, dispute: DisputeRow, now: datetime) -> SecondRun | None:
    """Read the request for a second run, if there is one, as everybody may know it."""
    row = session.get(SecondRunRow, dispute.id)
    if row is None:
        return None
    filed = None if row.filed_dispute_id is None else session.get_one(DisputeRow, row.filed_dispute_id)
    named = filed.id if filed is not None and may_be_named(filed) else None
    told_by = row.until + timedelta(days=TELL_DAYS)
    return SecondRun(
        entry_index=row.entry_index,
        asked_at=row.created_at,
        until=row.until,
        families_left=row.families_left,
        filed=named,
        is_over=named is None and now > told_by,
    )


def find_own_filing(session: Session, dispute: DisputeRow) -> UUID | None:
    """Say what the claimant filed upon a request, for the claimant alone."""
    row = session.get(SecondRunRow, dispute.id)
    return None if row is None else row.filed_dispute_id


def ask_second_run(session: Session, identity: LogIdentity, dispute: DisputeRow, now: datetime) -> None:
    """Log the accused's request for a second run of a locked dispute.

    Raises: Conflict if it was asked for, it is too late, or the verdict does not speak against the endpoint; NotFound if
    nobody may know of the dispute.
    """
    if not may_be_named(dispute):
        raise NotFound
    if session.get(SecondRunRow, dispute.id) is not None:
        raise Conflict("a second run was asked for already", state=dispute.state)
    until = ask_until(session, dispute)
    if until is None or dispute.verdict_index is None:
        raise Conflict("there is no verdict against the endpoint, so nothing to run again", state=dispute.state)
    if now > until:
        raise Conflict(f"a second run could be asked for until {until:%Y-%m-%d}", state=dispute.state)
    entry = SecondRunEntry(time=entry_time(session, now), filing=dispute.filing_index, verdict=dispute.verdict_index)
    index = append(session, identity, entry, now).index
    row = SecondRunRow(
        dispute_id=dispute.id,
        entry_index=index,
        families_left=_families_left(session, dispute),
        until=now + timedelta(days=FILE_DAYS),
        created_at=now,
    )
    session.add(row)
    details = {"until": f"{row.until:%Y-%m-%dT%H:%M:%SZ}", "families_left": row.families_left}
    note_step(session, dispute, SECOND_RUN_ASKED, details, now, entry_index=index)


def answer_request(session: Session, filed: DisputeRow, now: datetime) -> DisputeRow | None:
    """Join a new filing to the oldest open request for a second run at its endpoint, and give what was asked again."""
    endpoint = record_of(filed).endpoint
    query = (
        select(SecondRunRow, DisputeRow)
        .join(DisputeRow, DisputeRow.id == SecondRunRow.dispute_id)
        .where(
            DisputeRow.vendor_id == filed.vendor_id,
            SecondRunRow.filed_dispute_id.is_(None),
            SecondRunRow.until >= now,
        )
        .order_by(SecondRunRow.entry_index)
        .with_for_update(of=SecondRunRow)
    )
    for row, first in session.execute(query):
        if record_of(first).endpoint == endpoint:
            row.filed_dispute_id = filed.id
            session.flush()
            return first
    return None


def find_first_run(session: Session, dispute: DisputeRow) -> DisputeRow | None:
    """Read the dispute whose second run this one is."""
    query = select(DisputeRow).join(SecondRunRow, SecondRunRow.dispute_id == DisputeRow.id)
    return session.scalar(query.where(SecondRunRow.filed_dispute_id == dispute.id))


def _families_left(session: Session, dispute: DisputeRow) -> int:
    query = select(func.count()).where(DisputeRow.registration_id == dispute.registration_id)
    return len(load_statement(session, dispute).families) - session.scalars(query).one()
