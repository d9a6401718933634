"""A page of a list: from behind an id, in the order in which rows were made or against it.

Invariants: ids are made in the order of time (UUID version 7), so a page that is read on from an id misses nothing and
shows nothing twice, whatever is made meanwhile.
"""

from typing import TypeVar
from uuid import UUID

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute

T = TypeVar("T")


def page_of(
    query: Select[T], row_id: InstrumentedAttribute[UUID], after: UUID | None, limit: int, *, newest_first: bool
) -> Select[T]:
    """Cut a query down to the rows behind `after`: the earlier ones if the newest come first, else the later ones."""
    if after is not None:
        query = query.where(row_id < after if newest_first else row_id > after)
    return query.order_by(row_id.desc() if newest_first else row_id).limit(limit)
