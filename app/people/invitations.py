"""Invitations: a link by which whoever has it may act for a vendor, once.

Invariants: a link is shown once, to the owner who made it; it ends when it is accepted, revoked, or a week old, and when
its maker owns the vendor no more, so that nobody leaves a door open behind them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.db.people_tables import InvitationRow, MembershipRow, PersonRow
from app.db.tables import VendorRow
from app.errors import Malformed, NotFound, TooMany
from app.people.persons import MAX_NAME, OWNER, add_member, checked_role
from app.people.tokens import token_hash, token_text

LIFETIME = timedelta(days=7)
PURPOSE = "invitation"

MAX_OPEN = 100


@dataclass(frozen=True)
class Invitation:
    """What an invitation says to whoever opens it."""

    vendor_id: UUID
    vendor_name: str
    role: str
    invited_by: str
    expires_at: datetime


def invite(
    session: Session, vendor_id: UUID, invited_by: UUID, role: str, note: str, *, token: bytes, now: datetime
) -> str:
    """Make an invitation; gives its link's secret part, of 32 random bytes.

    Raises: Malformed; TooMany.
    """
    checked_role(role)
    note = note.strip()
    if len(note) > MAX_NAME or not note.isprintable():
        raise Malformed(f"at most {MAX_NAME} characters, on one line", pointer="/note")
    session.execute(delete(InvitationRow).where(InvitationRow.expires_at <= now))
    query = select(func.count()).select_from(InvitationRow).where(InvitationRow.vendor_id == vendor_id)
    if session.scalars(query.where(InvitationRow.used_at.is_(None))).one() >= MAX_OPEN:
        raise TooMany(f"{MAX_OPEN} invitations are open: revoke some first")
    text = token_text(token)
    session.add(
        InvitationRow(
            token_sha256=token_hash(text, PURPOSE),
            vendor_id=vendor_id,
            role=role,
            note=note,
            invited_by=invited_by,
            created_at=now,
            expires_at=now + LIFETIME,
        )
    )
    session.flush()
    return text


def list_invitations(session: Session, vendor_id: UUID, now: datetime) -> Sequence[tuple[InvitationRow, str]]:
    """Read a vendor's open invitations with who made them, the newest first."""
    query = select(InvitationRow, PersonRow.name).join(PersonRow, PersonRow.id == InvitationRow.invited_by)
    is_open = (
        (InvitationRow.vendor_id == vendor_id) & InvitationRow.used_at.is_(None) & (InvitationRow.expires_at > now)
    )
    found = session.execute(query.where(is_open).order_by(InvitationRow.created_at.desc()))
    return [(row, name) for row, name in found]


def revoke_invitation(session: Session, vendor_id: UUID, token_sha256: bytes) -> None:
    """End an invitation.

    Raises: NotFound if it is none of the vendor's, or was accepted.
    """
    row = session.get(InvitationRow, token_sha256, with_for_update=True)
    if row is None or row.vendor_id != vendor_id or row.used_at is not None:
        raise NotFound
    session.delete(row)
    session.flush()


def load_invitation(session: Session, text: str, now: datetime) -> Invitation:
    """Read what an invitation says.

    Raises: NotFound if it is over.
    """
    row = _open(session, text, now)
    vendor, person = session.get_one(VendorRow, row.vendor_id), session.get_one(PersonRow, row.invited_by)
    return Invitation(vendor.id, vendor.name, row.role, person.name, row.expires_at)


def accept_invitation(session: Session, text: str, person_id: UUID, now: datetime) -> UUID:
    """Let a person act for the vendor that invited it; gives the vendor.

    Raises: NotFound if the invitation is over; Conflict if the person acts for this vendor already.
    """
    row = _open(session, text, now)
    add_member(session, person_id, row.vendor_id, row.role, now)
    row.used_at = now
    session.flush()
    return row.vendor_id


def _open(session: Session, text: str, now: datetime) -> InvitationRow:
    row = session.get(InvitationRow, token_hash(text, PURPOSE), with_for_update=True)
    maker = session.get(MembershipRow, (row.invited_by, row.vendor_id)) if row else None
    if row is None or row.used_at is not None or row.expires_at <= now or maker is None or maker.role != OWNER:
        raise NotFound("this invitation was accepted, revoked, or has expired: ask for a new one")
    return row
