"""Links that sign a person in once: for browsers without passkeys or JavaScript, and for the demonstration.

Invariants: a link is good once and for a short time; opening it does nothing until the person confirms, because mail
scanners open links, too.
"""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.db.people_tables import SignInLinkRow
from app.errors import NotFound
from app.people.tokens import token_hash, token_text

LIFETIME = timedelta(minutes=30)
PURPOSE = "sign-in-link"


def make_link(session: Session, person_id: UUID, token: bytes, now: datetime, lifetime: timedelta = LIFETIME) -> str:
    """Make a link's secret part from 32 random bytes."""
    session.execute(delete(SignInLinkRow).where(SignInLinkRow.expires_at <= now))
    text = token_text(token)
    session.add(
        SignInLinkRow(
            token_sha256=token_hash(text, PURPOSE), person_id=person_id, created_at=now, expires_at=now + lifetime
        )
    )
    session.flush()
    return text


def look_at_link(session: Session, text: str, now: datetime) -> UUID:
    """Give a link's person, and use nothing up.

    Raises: NotFound if it was never made, was used, or has expired.
    """
    return _load(session, text, now).person_id


def use_link(session: Session, text: str, now: datetime) -> UUID:
    """Use a link up and give its person.

    Raises: NotFound if it was never made, was used, or has expired.
    """
    row = _load(session, text, now)
    row.used_at = now
    session.flush()
    return row.person_id


def _load(session: Session, text: str, now: datetime) -> SignInLinkRow:
    row = session.get(SignInLinkRow, token_hash(text, PURPOSE), with_for_update=True)
    if row is None or row.used_at is not None or row.expires_at <= now:
        raise NotFound("this link was used or has expired: ask for a new one")
    return row
