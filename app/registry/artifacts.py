"""Artifacts: which vendor may read which blob of the object store.

Invariants: the same bytes of two vendors are one blob and two rows, and neither learns of the other; a row exists only
for a blob that is whole.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import ArtifactRow
from app.errors import NotFound


def record_artifact(
    session: Session, vendor_id: UUID, digest: bytes, size_bytes: int, media_type: str, now: datetime
) -> None:
    """Write down that a vendor uploaded a blob; uploading it again changes nothing."""
    row = insert(ArtifactRow).values(
        vendor_id=vendor_id, sha256=digest, size_bytes=size_bytes, media_type=media_type, created_at=now
    )
    session.execute(row.on_conflict_do_nothing())


def load_artifact(session: Session, vendor_id: UUID, digest: bytes) -> ArtifactRow:
    """Read what a vendor uploaded.

    Raises: NotFound if it is none of the vendor's.
    """
    row = session.get(ArtifactRow, (vendor_id, digest))
    if row is None:
        raise NotFound
    return row
