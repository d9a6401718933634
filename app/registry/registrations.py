"""Registrations: a trigger set's root, in the log before its labels exist.

Invariants: a statement is registered once, and whoever sends it again is given the first receipt; it is for this log and
signed by the vendor's present key; the nonce that draws its labels is committed with it.
Source: docs/protocol.md section 5.
Trust: root, statement and signature are all that comes here; master key and inputs stay with the vendor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, defer

from app.canonical import sha256
from app.db.paging import page_of
from app.db.tables import RegistrationRow, VendorRow, new_id
from app.errors import AlreadyRegistered, Conflict, NotFound, PolicyRefused
from app.keys.statement import Statement, parse_statement
from app.log.beacon import append_with_nonce
from app.log.store import LogIdentity, entry_time, receipt_for
from app.notices.events import announce
from app.protocol.records import RegistrationEntry
from app.signature import verify_signature

# What webhooks and feeds are told.
BEACON_DRAWN = "registration.beacon_drawn"


@dataclass(frozen=True)
class StatementSent:
    """What a vendor sends: the statement's bytes and its signature over them."""

    data: bytes
    signature: bytes


@dataclass(frozen=True)
class Registered:
    """A registration, its log entry, and the receipt that must not leave before the transaction is committed."""

    row: RegistrationRow
    entry: bytes
    receipt: str


def register(
    session: Session,
    identity: LogIdentity,
    vendor: VendorRow,
    sent: StatementSent,
    *,
    nonce: bytes,
    randomness: bytes,
    now: datetime,
) -> Registered:
    """Check a statement and append it to the log.

    Raises: Malformed, StatementNotCanonical; PolicyRefused; SignatureInvalid; AlreadyRegistered with the first receipt.
    """
    statement = parse_statement(sent.data)
    if statement.log != identity.origin:
        raise PolicyRefused(f"a statement for another log; this one is {identity.origin}", pointer="/log")
    _check_present_key(vendor, statement)
    verify_signature(statement.vendor_key, sent.signature, sent.data)
    entry_time(session, now)  # takes the log's lock: of two with one statement the second sees the first
    session.refresh(vendor)
    _check_present_key(vendor, statement)  # again: a rotation may have come between
    _refuse_second(session, sent.data)

    def entry(nonce_hash: bytes, time: str) -> RegistrationEntry:
        return RegistrationEntry(time=time, statement=statement, signature=sent.signature, nonce_hash=nonce_hash)

    appended = append_with_nonce(session, identity, entry, nonce, now)
    row = RegistrationRow(
        id=new_id(now, randomness),
        vendor_id=vendor.id,
        entry_index=appended.index,
        statement=sent.data,
        statement_sha256=sha256(sent.data),
        signature=sent.signature,
        created_at=now,
    )
    session.add(row)
    session.flush()
    return Registered(row, appended.entry, receipt_for(session, appended.index, appended.size))


def check_beacon_source(statement: Statement, source: str) -> None:
    """Refuse a statement whose labels this service cannot draw.

    Raises: PolicyRefused.
    """
    if statement.beacon != source:
        raise PolicyRefused(f"this service draws labels from the beacon {source!r}", pointer="/beacon")


def load_registration(session: Session, vendor_id: UUID, registration_id: UUID) -> RegistrationRow:
    """Read a vendor's registration.

    Raises: NotFound if there is none or it is another vendor's.
    """
    row = session.get(RegistrationRow, registration_id)
    if row is None or row.vendor_id != vendor_id:
        raise NotFound
    return row


def list_registrations(
    session: Session, vendor_id: UUID, after: UUID | None, limit: int, *, newest_first: bool = False
) -> Sequence[RegistrationRow]:
    """Read a vendor's registrations in order of creation, from behind `after`, without the statements."""
    query = select(RegistrationRow).options(defer(RegistrationRow.statement))
    query = query.where(RegistrationRow.vendor_id == vendor_id)
    return session.scalars(page_of(query, RegistrationRow.id, after, limit, newest_first=newest_first)).all()


def note_beacon(session: Session, entry_index: int, beacon_index: int, now: datetime) -> bool:
    """Write down which entry drew a registration's labels; say whether `entry_index` is a registration."""
    query = select(RegistrationRow).options(defer(RegistrationRow.statement))
    row = session.scalar(query.where(RegistrationRow.entry_index == entry_index).with_for_update(key_share=True))
    if row is None:
        return False
    if row.beacon_index is None:
        row.beacon_index = beacon_index
        data = {"id": str(row.id), "entry_index": row.entry_index, "beacon_index": beacon_index}
        announce(session, row.vendor_id, BEACON_DRAWN, data, now)
    session.flush()
    return True


def beacon_index_of(row: RegistrationRow) -> int:
    """Give the entry that drew a registration's labels.

    Raises: Conflict while it is awaited.
    """
    if row.beacon_index is None:
        raise Conflict("the labels are not drawn yet: ask again in a moment", state="awaiting_beacon")
    return row.beacon_index


def _check_present_key(vendor: VendorRow, statement: Statement) -> None:
    if statement.vendor_key != vendor.public_key:
        raise PolicyRefused("not the vendor's present key", pointer="/vendor_key")


def _refuse_second(session: Session, statement: bytes) -> None:
    first = session.scalar(select(RegistrationRow).where(RegistrationRow.statement_sha256 == sha256(statement)))
    if first is not None:
        # Only who holds the statement's key comes this far, so the receipt goes to whom it was given first.
        receipt = receipt_for(session, first.entry_index, first.entry_index + 1)
        raise AlreadyRegistered("this statement is registered", registration_id=str(first.id), receipt=receipt)
