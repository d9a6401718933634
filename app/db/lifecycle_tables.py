"""The tables of a dispute's course as people follow it: more of the page `tables`, which is full.

Invariants: those of `tables`. Steps are numbered from 0 in a dispute, without gaps, and never changed.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.db.columns import Base, is_one_of
from app.db.tables import DisputeId

STEP_KINDS = ("filed", "challenge_drawn", "block_probed", "probing_ended", "withdrawn", "verdict")


class DisputeStepRow(Base):
    """One step of a dispute: what happened, when, and the log entry that says so, if one does."""

    __tablename__ = "dispute_steps"
    dispute_id: Mapped[DisputeId] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    entry_index: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("log_entries.index"))
    details: Mapped[dict[str, Any]]
    # Whether whoever tells of this step may name the endpoint.
    is_public: Mapped[bool]
    created_at: Mapped[datetime]
    __table_args__ = (CheckConstraint("number >= 0", name="number_counts"), is_one_of("kind", STEP_KINDS))
