"""Feeds: a vendor's own, under a secret address, and everybody's, of what may be known to all.

Invariants: a vendor has one address at most, and a new one ends the old; a feed is short; the public one has public events
only, so it never names an endpoint before probing has ended.
Trust: whoever has a vendor's address reads its events; only a hash of the token is kept.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.canonical import sha256, tag
from app.db.notice_tables import EventRow, VendorFeedRow
from app.errors import NotFound
from app.notices.events import PING

MAX_ENTRIES = 100
TOKEN_BYTES = 32


def make_feed(session: Session, vendor_id: UUID, token: bytes, now: datetime) -> str:
    """Make the address of a vendor's feed from 32 random bytes, in place of any that there was; gives its secret part."""
    drop_feed(session, vendor_id)
    session.add(VendorFeedRow(vendor_id=vendor_id, token_sha256=_hash(token.hex()), created_at=now))
    session.flush()
    return token.hex()


def drop_feed(session: Session, vendor_id: UUID) -> None:
    """End the address of a vendor's feed, if it has one."""
    session.execute(delete(VendorFeedRow).where(VendorFeedRow.vendor_id == vendor_id))


def find_feed(session: Session, vendor_id: UUID) -> VendorFeedRow | None:
    """Say since when a vendor's feed has its address; None if it has none."""
    return session.get(VendorFeedRow, vendor_id)


def vendor_of_feed(session: Session, text: str) -> UUID:
    """Say whose feed an address is.

    Raises: NotFound if it is nobody's, or was revoked.
    """
    vendor_id = session.scalar(select(VendorFeedRow.vendor_id).where(VendorFeedRow.token_sha256 == _hash(text)))
    if vendor_id is None:
        raise NotFound
    return vendor_id


def vendor_events(session: Session, vendor_id: UUID) -> Sequence[EventRow]:
    """Read what happened to a vendor's things, the newest first."""
    query = select(EventRow).where(EventRow.vendor_id == vendor_id, EventRow.kind != PING)
    return session.scalars(query.order_by(EventRow.id.desc()).limit(MAX_ENTRIES)).all()


def public_events(session: Session) -> Sequence[EventRow]:
    """Read what everybody may know, the newest first."""
    return session.scalars(
        select(EventRow).where(EventRow.is_public).order_by(EventRow.id.desc()).limit(MAX_ENTRIES)
    ).all()


def _hash(text: str) -> bytes:
    return sha256(tag("vendor-feed") + text.encode())
