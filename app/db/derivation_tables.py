"""The tables of derivations: more of the page `tables`, which is full.

Invariants: those of `tables`.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.columns import Base, has_bytes, is_one_of
from app.db.tables import EntryIndex, Id, RegistrationId, VendorId


class DerivationRow(Base):
    """One derivation of an interface, a registration's only one at a host; `file_sha256` names all that was asked."""

    __tablename__ = "derivations"
    id: Mapped[Id]
    vendor_id: Mapped[VendorId]
    registration_id: Mapped[RegistrationId]
    host: Mapped[str]
    endpoint: Mapped[str]
    address_options: Mapped[dict[str, Any]]
    # The one that the claimant named; null where the endpoint's metadata is to name them.
    adapter: Mapped[str | None]
    covers_sha256: Mapped[bytes]
    state: Mapped[str]
    asked: Mapped[int] = mapped_column(default=0)
    answered: Mapped[int] = mapped_column(default=0)
    asking_milliseconds: Mapped[int] = mapped_column(default=0)
    metadata_answers: Mapped[bytes | None]
    ordinal: Mapped[int | None]
    head: Mapped[bytes | None]
    report: Mapped[dict[str, Any] | None]
    file_sha256: Mapped[bytes | None]
    entry_index: Mapped[EntryIndex | None] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    __table_args__ = (
        UniqueConstraint("registration_id", "host"),
        UniqueConstraint("registration_id", "ordinal"),
        is_one_of("state", ("asking", "done", "failed")),
        has_bytes("covers_sha256", 32),
        has_bytes("file_sha256", 32),
    )


class DerivationQueryRow(Base):
    """One cover put to one candidate of a derivation that is not done: its record's bytes."""

    __tablename__ = "derivation_queries"
    derivation_id: Mapped[UUID] = mapped_column(ForeignKey("derivations.id"), primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    record: Mapped[bytes]
