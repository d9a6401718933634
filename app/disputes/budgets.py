"""How often a host may be asked on one day, by whomever: so that this service is no tool to overload or copy a model.

Queries of disputes are counted over all vendors, tests of a suspect for each vendor alone. Nobody is shown the first
count: a suspect who is a vendor, too, would read from it that it is being asked.

Invariants: queries are counted before they leave, for as many attempts as they may take; what was not sent is given back;
a worker that dies in between leaves the count too high, never too low.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import EndpointBudgetRow

DISPUTES = "disputes"

# Tests of one host by one vendor on one day: somebody tries an interface, and not a model.
TESTS_A_DAY = 1000


def scope_of_tests(vendor_id: UUID) -> str:
    """Give the scope of a vendor's tests."""
    return f"tests of {vendor_id}"


def may_spend(session: Session, host: str, scope: str, queries: int, limit: int, now: datetime) -> bool:
    """Count so many queries to a host today if they stay within the limit; say whether they do."""
    row = EndpointBudgetRow
    today = _day(now)
    session.execute(delete(row).where(row.host == host, row.scope == scope, row.day < today))
    if queries > limit:
        return False
    wanted = insert(row).values(host=host, scope=scope, day=today, sent=queries)
    counted = wanted.on_conflict_do_update(
        index_elements=[row.host, row.scope, row.day],
        set_={"sent": row.sent + queries},
        where=row.sent + queries <= limit,
    ).returning(row.sent)
    return session.scalar(counted) is not None


def count_spent(session: Session, host: str, scope: str, now: datetime) -> int:
    """Say how many queries to a host were counted today."""
    row = session.get(EndpointBudgetRow, (host, scope, _day(now)))
    return 0 if row is None else row.sent


def give_back(session: Session, host: str, scope: str, queries: int, day_of: datetime) -> None:
    """Take back queries that were counted on the day of that moment and not sent."""
    row = EndpointBudgetRow
    of_day = (row.host == host) & (row.scope == scope) & (row.day == _day(day_of))
    session.execute(update(row).where(of_day).values(sent=row.sent - queries))


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
