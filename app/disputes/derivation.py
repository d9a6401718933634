"""Which derivations of interfaces there are: placed for a suspect, one a registration and host, and found again.

Who asks is `deriving`, on the lane of those who wait for suspects.

Invariants: a registration has one derivation at a host, and nobody gets a second one because he did not like the first; only
one of which not a single cover was answered may be placed again, for it shows nothing to choose by.
Source: docs/protocol.md section 7.1.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from obstore.store import ObjectStore
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.derivation_tables import DerivationRow
from app.db.tables import ArtifactRow, RegistrationRow, SuspectRow, new_id
from app.disputes.filing import MAX_COVER_SET_BYTES
from app.errors import Conflict, Malformed, NotFound
from app.jobs.names import PROBE
from app.jobs.queue import enqueue, is_alive
from app.keys.cover_set import LabelledCoverSet, parse_cover_set
from app.keys.statement import Statement
from app.protocol.derivation import (
    MAX_DERIVATIONS,
    Rule,
)
from app.protocol.interface import Interface
from app.storage.objects import get_bytes
from app.suspects.addresses import NetworkRules, parse_endpoint
from app.suspects.candidates import address_of, verify_adapter, verify_size

# It stands in the database: renaming it orphans waiting jobs.
DERIVE_TASK: Final = "derive_interface"

ASKING, DONE, FAILED = "asking", "done", "failed"


@dataclass(frozen=True)
class WantedDerivation:
    """Whose interface is to be derived, and from which covers; with the suspect's own adapter, or by what metadata says."""

    suspect: SuspectRow
    registration: RegistrationRow
    covers_sha256: bytes
    is_by_name: bool = False


def place_derivation(
    session: Session,
    store: ObjectStore,
    wanted: WantedDerivation,
    rules: NetworkRules,
    randomness: bytes,
    now: datetime,
) -> DerivationRow:
    """Have a suspect's interface derived, or give the derivation that there is at this endpoint.

    Raises: NotFound if the artifact is not the vendor's; OpeningInvalid if it is not the committed set; Malformed if that
    is too small, its inputs too large or the model no name; Conflict if the host has a derivation for this registration at
    another path, model or adapter, or the registration has 1,024.
    """
    suspect, registration, covers_sha256 = wanted.suspect, wanted.registration, wanted.covers_sha256
    statement = Statement.parse(registration.statement)
    covers = read_committed_covers(session, store, suspect.vendor_id, covers_sha256, statement)
    known = Interface.from_json(suspect.interface)
    endpoint, at = suspect.endpoint, address_of(known.options)
    adapter = known.adapter if wanted.is_by_name else None
    verify_adapter(adapter, at, statement)
    # A file that is larger is never read again, and a dispute over it would never end.
    verify_size(statement, covers.table)
    place = parse_endpoint(endpoint, rules)
    host = f"{place.host}:{place.port}"
    # Locked: of two that are placed at once the second finds the first.
    session.get_one(RegistrationRow, registration.id, with_for_update=True, populate_existing=True)
    row = find_at_host(session, registration.id, host)
    if row is None:
        _check_number(session, registration.id)
        row = DerivationRow(
            id=new_id(now, randomness),
            vendor_id=suspect.vendor_id,
            registration_id=registration.id,
            host=host,
            state=ASKING,
            created_at=now,
        )
        session.add(row)
    elif row.state != FAILED:
        return _as_it_stands(session, row, (endpoint, at, adapter))
    row.endpoint, row.address_options, row.adapter, row.covers_sha256 = endpoint, at, adapter, covers_sha256
    row.state, row.asked, row.asking_milliseconds, row.metadata_answers, row.updated_at = ASKING, 0, 0, None, now
    session.flush()
    _enqueue(session, row)
    return row


def _as_it_stands(
    session: Session, row: DerivationRow, wanted: tuple[str, dict[str, Any], str | None]
) -> DerivationRow:
    if (row.endpoint, row.address_options, row.adapter) != wanted:
        how = "as its metadata says" if row.adapter is None else f"as {row.adapter}"
        raise Conflict(f"a registration derives once a host, and did at {row.endpoint}, {how}", state=row.state)
    if row.state == ASKING and not is_alive(session, _job_name(row.id)):
        _enqueue(session, row)
    return row


def read_committed_covers(
    session: Session, store: ObjectStore, vendor_id: UUID, digest: bytes, statement: Statement
) -> LabelledCoverSet:
    """Read an uploaded cover set that is the committed one, large enough to derive from.

    Raises: NotFound; Malformed; OpeningInvalid.
    """
    if session.get(ArtifactRow, (vendor_id, digest)) is None:
        raise NotFound
    covers = parse_cover_set(get_bytes(store, digest, MAX_COVER_SET_BYTES))
    if not isinstance(covers, LabelledCoverSet):
        raise Malformed("these covers have no labels: make them with `trapstreet covers --labels`", pointer="/covers")
    covers.table.verify(statement)
    Rule(statement, covers.table, []).first_part  # noqa: B018  # refuses too few covers of every class
    return covers


def find_at_host(session: Session, registration_id: UUID, host: str) -> DerivationRow | None:
    """Find a registration's derivation at a host."""
    query = select(DerivationRow).where(DerivationRow.registration_id == registration_id, DerivationRow.host == host)
    return session.scalar(query)


def load_derivation(session: Session, suspect: SuspectRow, registration_id: UUID, rules: NetworkRules) -> DerivationRow:
    """Read the derivation that a suspect's endpoint has for a registration.

    Raises: NotFound.
    """
    place = parse_endpoint(suspect.endpoint, rules)
    row = find_at_host(session, registration_id, f"{place.host}:{place.port}")
    if row is None or row.vendor_id != suspect.vendor_id or row.endpoint != suspect.endpoint:
        raise NotFound
    return row


def _check_number(session: Session, registration_id: UUID) -> None:
    """Refuse one derivation too many when it is placed: when it is done, everybody has been asked."""
    placed = session.scalars(select(func.count()).where(DerivationRow.registration_id == registration_id)).one()
    if placed >= MAX_DERIVATIONS:
        raise Conflict(f"a registration has {MAX_DERIVATIONS} derivations at most", state=DONE)


def _enqueue(session: Session, row: DerivationRow) -> None:
    enqueue(session, DERIVE_TASK, PROBE, {"derivation": str(row.id)}, queueing_lock=_job_name(row.id))


def _job_name(derivation_id: UUID) -> str:
    return f"derive {derivation_id}"
