"""What the tables are made of: types of columns, names of constraints, the constraints that recur.

Invariants: every constraint has a name, so that a migration can drop it.
"""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import ARRAY, TIMESTAMP, CheckConstraint, LargeBinary, MetaData, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase


def has_bytes(column: str, size: int) -> CheckConstraint:
    """Make a constraint: the column is so many bytes long (null passes)."""
    return CheckConstraint(f"octet_length({column}) = {size}", name=f"{column}_size")


def is_one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    """Make a constraint: the column holds one of these words (null passes)."""
    words = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({words})", name=f"{column}_known")


class Base(DeclarativeBase):
    """Names every constraint, so that a migration can drop it by name."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        bytes: LargeBinary(),
        datetime: TIMESTAMP(timezone=True),
        UUID: Uuid(),
        dict[str, Any]: JSONB(none_as_null=True),
        list[int]: JSONB(none_as_null=True),
        list[str]: ARRAY(Text()),
        list[bytes]: ARRAY(LargeBinary()),
    }
