"""People and the roles they have with vendors.

Invariants: a vendor that has people has an owner; a role is a set of the scopes that API keys have.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.people_tables import MembershipRow, PersonRow
from app.db.tables import ID_RANDOM_BYTES, VendorRow, new_id
from app.errors import Conflict, Malformed, NotFound
from app.registry.api_keys import ADMIN, DISPUTE, EMBED, READ, REGISTER

OWNER, ENGINEER, AUDITOR = "owner", "engineer", "auditor"

# What a role may do, in the words of API keys.
ROLE_SCOPES = {
    OWNER: frozenset({READ, REGISTER, EMBED, DISPUTE, ADMIN}),
    ENGINEER: frozenset({READ, REGISTER, EMBED, DISPUTE}),
    AUDITOR: frozenset({READ}),
}

HANDLE_BYTES = 32
PERSON_RANDOM_BYTES = ID_RANDOM_BYTES + HANDLE_BYTES

MAX_NAME = 200


def make_person(session: Session, name: str, randomness: bytes, now: datetime) -> PersonRow:
    """Make a person from 42 random bytes.

    Raises: Malformed if the name is none.
    """
    row = PersonRow(
        id=new_id(now, randomness[:ID_RANDOM_BYTES]),
        name=checked_line(name, "/name"),
        handle=randomness[ID_RANDOM_BYTES:PERSON_RANDOM_BYTES],
        created_at=now,
    )
    session.add(row)
    session.flush()
    return row


def load_person(session: Session, person_id: UUID) -> PersonRow:
    """Read a person.

    Raises: NotFound.
    """
    row = session.get(PersonRow, person_id)
    if row is None:
        raise NotFound("there is no such person")
    return row


def checked_line(text: str, pointer: str) -> str:
    """Give a line of text without the spaces around it.

    Raises: Malformed if it is empty, too long, or holds control characters.
    """
    line = text.strip()
    if not line:
        raise Malformed("write something here", pointer=pointer)
    if len(line) > MAX_NAME or not line.isprintable():
        raise Malformed(f"at most {MAX_NAME} characters, on one line", pointer=pointer)
    return line


def add_member(session: Session, person_id: UUID, vendor_id: UUID, role: str, now: datetime) -> MembershipRow:
    """Let a person act for a vendor.

    Raises: Malformed if there is no such role; NotFound if there is no such vendor; Conflict if it acts for it already.
    """
    role = checked_role(role)
    if session.get(VendorRow, vendor_id) is None:
        raise NotFound("there is no such vendor")
    if session.get(MembershipRow, (person_id, vendor_id)) is not None:
        raise Conflict("this person acts for this vendor already", state="member")
    row = MembershipRow(person_id=person_id, vendor_id=vendor_id, role=role, created_at=now)
    session.add(row)
    session.flush()
    return row


def checked_role(role: str) -> str:
    """Give a role.

    Raises: Malformed if it is none.
    """
    if role not in ROLE_SCOPES:
        raise Malformed(f"roles are {', '.join(ROLE_SCOPES)}", pointer="/role")
    return role


def list_members(session: Session, vendor_id: UUID) -> Sequence[tuple[PersonRow, MembershipRow]]:
    """Read the people of a vendor, the oldest first."""
    query = select(PersonRow, MembershipRow).join(MembershipRow, MembershipRow.person_id == PersonRow.id)
    found = session.execute(query.where(MembershipRow.vendor_id == vendor_id).order_by(MembershipRow.created_at))
    return [(person, membership) for person, membership in found]


def vendors_of(session: Session, person_id: UUID) -> Sequence[tuple[VendorRow, MembershipRow]]:
    """Read the vendors that a person acts for, the oldest membership first."""
    query = select(VendorRow, MembershipRow).join(MembershipRow, MembershipRow.vendor_id == VendorRow.id)
    found = session.execute(query.where(MembershipRow.person_id == person_id).order_by(MembershipRow.created_at))
    return [(vendor, membership) for vendor, membership in found]


def change_role(session: Session, person_id: UUID, vendor_id: UUID, role: str) -> None:
    """Change what a member may do, at once.

    Raises: Malformed; NotFound if it is no member; Conflict if nobody would own the vendor any more.
    """
    row = _changing(session, person_id, vendor_id, keeps_owning=checked_role(role) == OWNER)
    row.role = role
    session.flush()


def remove_member(session: Session, person_id: UUID, vendor_id: UUID) -> None:
    """End a membership, at once.

    Raises: NotFound if there is none; Conflict if nobody would own the vendor any more.
    """
    session.delete(_changing(session, person_id, vendor_id, keeps_owning=False))
    session.flush()


def _changing(session: Session, person_id: UUID, vendor_id: UUID, *, keeps_owning: bool) -> MembershipRow:
    # The vendor's row is the lock: of two owners who remove each other one stays.
    session.execute(select(VendorRow.id).where(VendorRow.id == vendor_id).with_for_update(key_share=True))
    row = session.get(MembershipRow, (person_id, vendor_id), populate_existing=True)
    if row is None:
        raise NotFound
    if row.role == OWNER and not keeps_owning and _owners(session, vendor_id) == 1:
        raise Conflict("this is the only owner: make another first", state="only_owner")
    return row


def _owners(session: Session, vendor_id: UUID) -> int:
    query = select(func.count()).select_from(MembershipRow)
    return session.scalars(query.where(MembershipRow.vendor_id == vendor_id, MembershipRow.role == OWNER)).one()
