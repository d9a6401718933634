"""Sessions of browsers: who is signed in, for which vendor, since when.

Invariants: a session's token is made when somebody signs in and never taken from outside (no fixation); it ends when it is
idle, too old, signed out, or when its person signs out everywhere; the role is read anew at each request, so that a
membership that ended ends at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.db.people_tables import MembershipRow, PersonRow, WebSessionRow
from app.db.tables import VendorRow
from app.errors import NotFound
from app.people.persons import ROLE_SCOPES, vendors_of
from app.people.tokens import token_hash, token_text

IDLE = timedelta(hours=12)
LIFETIME = timedelta(days=14)

# `last_seen_at` is written at most this often, so that reading stays reading.
SEEN = timedelta(minutes=1)

PURPOSE = "web-session"
MAX_BROWSER = 200


@dataclass(frozen=True)
class Visitor:
    """A person in a browser, and the vendor it acts for, if any."""

    person_id: UUID
    name: str
    session_sha256: bytes
    signed_in_at: datetime
    vendor_id: UUID | None = None
    vendor_name: str = ""
    role: str = ""

    @property
    def scopes(self) -> frozenset[str]:
        """Give what this person may do for its vendor, in the words of API keys."""
        return ROLE_SCOPES.get(self.role, frozenset())


def start_session(session: Session, person_id: UUID, browser: str, token: bytes, now: datetime) -> str:
    """Sign a person in; gives the cookie's value, made of 32 random bytes."""
    session.execute(delete(WebSessionRow).where(WebSessionRow.expires_at <= now))
    vendors = vendors_of(session, person_id)
    text = token_text(token)
    session.add(
        WebSessionRow(
            token_sha256=token_hash(text, PURPOSE),
            person_id=person_id,
            vendor_id=vendors[0][0].id if vendors else None,
            browser="".join(filter(str.isprintable, browser))[:MAX_BROWSER],
            created_at=now,
            last_seen_at=now,
            expires_at=now + LIFETIME,
        )
    )
    session.flush()
    return text


def find_visitor(session: Session, cookie: str, now: datetime) -> Visitor | None:
    """Say who is signed in with this cookie; None if nobody is."""
    row = session.get(WebSessionRow, token_hash(cookie, PURPOSE))
    if row is None or row.expires_at <= now or row.last_seen_at + IDLE <= now:
        return None
    if now - row.last_seen_at >= SEEN:
        row.last_seen_at = now
    person = session.get_one(PersonRow, row.person_id)
    membership = session.get(MembershipRow, (row.person_id, row.vendor_id)) if row.vendor_id else None
    if membership is None:
        return Visitor(person.id, person.name, row.token_sha256, row.created_at)
    vendor = session.get_one(VendorRow, membership.vendor_id)
    return Visitor(person.id, person.name, row.token_sha256, row.created_at, vendor.id, vendor.name, membership.role)


def act_for(session: Session, visitor: Visitor, vendor_id: UUID) -> None:
    """Change the vendor that a session acts for.

    Raises: NotFound if the person is no member there.
    """
    if session.get(MembershipRow, (visitor.person_id, vendor_id)) is None:
        raise NotFound
    session.get_one(WebSessionRow, visitor.session_sha256).vendor_id = vendor_id
    session.flush()


def list_sessions(session: Session, person_id: UUID, now: datetime) -> Sequence[WebSessionRow]:
    """Read where a person is signed in, the newest first."""
    lives = (WebSessionRow.expires_at > now) & (WebSessionRow.last_seen_at > now - IDLE)
    query = select(WebSessionRow).where(WebSessionRow.person_id == person_id, lives)
    return session.scalars(query.order_by(WebSessionRow.created_at.desc())).all()


def end_session(session: Session, visitor: Visitor) -> None:
    """Sign this browser out."""
    session.execute(delete(WebSessionRow).where(WebSessionRow.token_sha256 == visitor.session_sha256))


def end_other_session(session: Session, person_id: UUID, session_sha256: bytes) -> None:
    """Sign a person out in one browser.

    Raises: NotFound if it is not signed in there.
    """
    row = session.get(WebSessionRow, session_sha256)
    if row is None or row.person_id != person_id:
        raise NotFound
    session.delete(row)
    session.flush()


def end_everywhere(session: Session, person_id: UUID) -> None:
    """Sign a person out in every browser."""
    session.execute(delete(WebSessionRow).where(WebSessionRow.person_id == person_id))
