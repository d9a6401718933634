"""A vendor's suspects: endpoints it may hold a family against. Asking them outside disputes: app.disputes.trials.

Invariants: an endpoint that the network rules refuse is never stored; a suspect that was accused stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.derivation_tables import DerivationRow
from app.db.paging import page_of
from app.db.tables import DisputeRow, SuspectRow, new_id
from app.disputes.credentials import drop_credentials
from app.errors import Conflict, Malformed, NotFound
from app.keys.statement import Statement
from app.protocol.interface import BY_CLAIMANT, Interface, LabelMap, interface_bits
from app.suspects.adapters import ADAPTERS, check_interface
from app.suspects.addresses import NetworkRules, parse_endpoint


@dataclass(frozen=True)
class NewSuspect:
    """What a vendor says of an endpoint."""

    name: str
    endpoint: str
    interface: Interface


def add_suspect(
    session: Session, vendor_id: UUID, wanted: NewSuspect, rules: NetworkRules, id_bytes: bytes, now: datetime
) -> SuspectRow:
    """Store a suspect.

    Raises: PolicyRefused if its address is not allowed; Malformed if there is no such adapter.
    """
    parse_endpoint(wanted.endpoint, rules)
    if wanted.interface.adapter not in ADAPTERS:
        raise Malformed("must be one of " + ", ".join(sorted(ADAPTERS)), pointer="/interface/adapter")
    row = SuspectRow(
        id=new_id(now, id_bytes),
        vendor_id=vendor_id,
        name=wanted.name,
        endpoint=wanted.endpoint,
        interface=wanted.interface.to_json(),
        created_at=now,
    )
    session.add(row)
    session.flush()
    return row


def load_suspect(session: Session, vendor_id: UUID, suspect_id: UUID) -> SuspectRow:
    """Read a vendor's suspect.

    Raises: NotFound, also for another vendor's.
    """
    row = session.get(SuspectRow, suspect_id)
    if row is None or row.vendor_id != vendor_id:
        raise NotFound
    return row


def list_suspects(
    session: Session, vendor_id: UUID, after: UUID | None, limit: int, *, newest_first: bool = False
) -> Sequence[SuspectRow]:
    """Read a vendor's suspects in the order in which they were named, behind `after`."""
    query = select(SuspectRow).where(SuspectRow.vendor_id == vendor_id)
    return session.scalars(page_of(query, SuspectRow.id, after, limit, newest_first=newest_first)).all()


def remove_suspect(session: Session, vendor_id: UUID, suspect_id: UUID) -> None:
    """Forget a suspect that was never accused.

    Raises: NotFound; Conflict if there is a dispute.
    """
    row = load_suspect(session, vendor_id, suspect_id)
    if session.scalars(select(func.count()).where(DisputeRow.suspect_id == suspect_id)).one():
        raise Conflict("there is a dispute with this suspect", state="accused")
    drop_credentials(session, row)
    session.delete(row)


def price_in_bits(interface: Interface, statement: Statement, endpoint: str) -> int:
    """Check an interface against a registration, and give what it costs if the claimant fixed it alone.

    Raises: Malformed with a pointer.
    """
    try:
        check_interface(interface, statement.kind, statement.shape)
    except Malformed as error:
        raise Malformed(error.message, pointer=f"/interface{error.pointer}") from error
    LabelMap(interface, statement)
    return interface_bits(interface, BY_CLAIMANT, statement, endpoint=endpoint, beacon_index=0)


def list_derivations_at(session: Session, row: SuspectRow) -> Sequence[DerivationRow]:
    """Read the derivations at a suspect's endpoint, one a registration, the latest first."""
    query = select(DerivationRow).where(
        DerivationRow.vendor_id == row.vendor_id, DerivationRow.endpoint == row.endpoint
    )
    return session.scalars(query.order_by(DerivationRow.id.desc())).all()


def list_disputes_with(session: Session, row: SuspectRow, limit: int) -> Sequence[DisputeRow]:
    """Read the disputes with a suspect, the latest first."""
    query = select(DisputeRow).where(DisputeRow.suspect_id == row.id, DisputeRow.vendor_id == row.vendor_id)
    return session.scalars(query.order_by(DisputeRow.id.desc()).limit(limit)).all()
