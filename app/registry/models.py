"""Model commitments: a vendor's dated claim to hold something with this digest (weights, or an interface).

Invariants: one vendor commits to one digest once; the log dates it.
Source: docs/protocol.md sections 2 (model entries), 7, 8.2 and 10.
Trust: only the digest comes here; it says nothing of what is behind it until that is shown.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.tables import ModelCommitmentRow, VendorRow, new_id
from app.errors import Conflict
from app.log.store import LogIdentity, append, entry_time
from app.protocol.records import ModelEntry
from app.signature import verify_signature


def commit_model(
    session: Session,
    identity: LogIdentity,
    vendor: VendorRow,
    digest: bytes,
    *,
    signature: bytes,
    randomness: bytes,
    now: datetime,
) -> ModelCommitmentRow:
    """Append a commitment to a digest, signed with the vendor's key.

    Raises: SignatureInvalid; Conflict if the vendor committed to it before.
    """
    time = entry_time(session, now)  # takes the log's lock, under which a vendor's present key stays what it is
    session.refresh(vendor)
    verify_signature(vendor.public_key, signature, ModelEntry.signed_bytes(vendor.public_key, digest))
    query = select(ModelCommitmentRow).where(
        ModelCommitmentRow.sha256 == digest, ModelCommitmentRow.vendor_id == vendor.id
    )
    if (first := session.scalar(query)) is not None:
        raise Conflict(f"you committed to this digest before: it is entry {first.entry_index}", state="committed")
    entry = ModelEntry(time=time, owner_key=vendor.public_key, sha256=digest, signature=signature)
    row = ModelCommitmentRow(
        id=new_id(now, randomness),
        vendor_id=vendor.id,
        entry_index=append(session, identity, entry, now).index,
        sha256=digest,
        created_at=now,
    )
    session.add(row)
    session.flush()
    return row


def find_commitment(session: Session, vendor_id: UUID, digest: bytes) -> int | None:
    """Find the log entry in which a vendor committed to a digest."""
    query = select(ModelCommitmentRow.entry_index)
    return session.scalar(query.where(ModelCommitmentRow.sha256 == digest, ModelCommitmentRow.vendor_id == vendor_id))


def list_models(session: Session, vendor_id: UUID, after: UUID | None, limit: int) -> Sequence[ModelCommitmentRow]:
    """Read a vendor's commitments in order of creation, from behind `after`."""
    query = select(ModelCommitmentRow).where(ModelCommitmentRow.vendor_id == vendor_id)
    if after is not None:
        query = query.where(ModelCommitmentRow.id > after)
    return session.scalars(query.order_by(ModelCommitmentRow.id).limit(limit)).all()
