"""Challenges for browsers' authenticators: given out, answered once, forgotten.

Invariants: a challenge is good for one purpose, once, and for ten minutes; so many of one network, or of one person who is
signed in, wait at most, and who asks for more pushes nobody's out; strangers who sign up take no place of those who sign in.
Source: WebAuthn level 3 section 13.4.3 (cryptographic challenges).
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.canonical import lp, sha256, tag
from app.db.people_tables import CeremonyRow
from app.errors import Conflict, TooMany
from app.people.networks import wide_network_of

CHALLENGE_BYTES = 32
LIFETIME = timedelta(minutes=10)

# Anyone may ask for challenges; so many wait at most: of one asker, and for one purpose in all.
MAX_OF_ASKER = 200
MAX_WAITING = 50_000

SIGN_UP, SIGN_IN, ADD = "sign-up", "sign-in", "add"


def network_asker(address: str) -> bytes:
    """Name whoever asks from an address: what an owner of a line or a rack has of the network, /24 or /48."""
    return _asker("network", str(wide_network_of(address)))


def person_asker(person_id: UUID) -> bytes:
    """Name a person who is signed in."""
    return _asker("person", str(person_id))


def _asker(kind: str, name: str) -> bytes:
    return sha256(tag("ceremony-asker") + lp(kind.encode(), name.encode()))


def open_ceremony(
    session: Session, purpose: str, asker: bytes, details: Mapping[str, str], challenge: bytes, now: datetime
) -> None:
    """Give out a challenge of 32 random bytes.

    Raises: TooMany if too many wait.
    """
    session.execute(delete(CeremonyRow).where(CeremonyRow.expires_at <= now))
    waiting = select(func.count()).select_from(CeremonyRow).where(CeremonyRow.purpose == purpose)
    if session.scalars(waiting.where(CeremonyRow.asker == asker)).one() >= MAX_OF_ASKER:
        raise TooMany("too many passkeys are being asked for from your network: try again in some minutes")
    if session.scalars(waiting).one() >= MAX_WAITING:
        raise TooMany("too many passkeys are being asked for: try again in some minutes, or use a one-time link")
    row = CeremonyRow(
        challenge=challenge, purpose=purpose, asker=asker, details=dict(details), expires_at=now + LIFETIME
    )
    session.add(row)
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
