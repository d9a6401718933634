"""Challenges for browsers' authenticators: given out, answered once, forgotten.

Invariants: a challenge is good for one purpose, once, and for ten minutes; so many wait at most, and who asks for more
pushes nobody's out.
Source: WebAuthn level 3 section 13.4.3 (cryptographic challenges).
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.db.people_tables import CeremonyRow
from app.errors import Conflict, TooMany

CHALLENGE_BYTES = 32
LIFETIME = timedelta(minutes=10)

# Anyone may ask for challenges; so many wait at most.
MAX_WAITING = 10_000

SIGN_UP, SIGN_IN, ADD = "sign-up", "sign-in", "add"


def open_ceremony(session: Session, purpose: str, details: Mapping[str, str], challenge: bytes, now: datetime) -> None:
    """Give out a challenge of 32 random bytes.

    Raises: TooMany if too many wait.
    """
    session.execute(delete(CeremonyRow).where(CeremonyRow.expires_at <= now))
    if session.scalars(select(func.count()).select_from(CeremonyRow)).one() >= MAX_WAITING:
        raise TooMany("too many passkeys are being asked for: try again in some minutes")
    session.add(CeremonyRow(challenge=challenge, purpose=purpose, details=dict(details), expires_at=now + LIFETIME))
    session.flush()


def close_ceremony(session: Session, purpose: str, challenge: bytes, now: datetime) -> Mapping[str, Any]:
    """Use a challenge up and give what was asked for with it; who then refuses the answer must still commit.

    Raises: Conflict if it was never given out for this, was used, or has expired.
    """
    row = session.get(CeremonyRow, challenge, with_for_update=True)
    if row is None or row.purpose != purpose or row.expires_at <= now:
        raise Conflict("this took too long, or was sent before: try again", state="no_challenge")
    session.delete(row)
    session.flush()
    return row.details
