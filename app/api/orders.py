"""What all orders to the service's workers have in common: how they are placed and what they show.

Trust: the marking key arrives sealed to the queue's public key (`GET /v1/queues`, proven by the log) and is erased when
the order ends; the API, the database and the object store never see it open.
"""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends
from pydantic import Field

from app.api.dependencies import require
from app.api.fields import Answer, Base64, Body, Moment
from app.db.tables import OrderRow
from app.registry.api_keys import EMBED, Caller

Embedder = Annotated[Caller, Depends(require(EMBED), scope="function")]


class NewOrderBody(Body):
    """What every order says: for which registration, to which queue, with which marking key."""

    registration_id: UUID
    queue: Literal["embed.cpu", "embed.gpu"]
    sealed_key: Base64 = Field(
        description="The key file, sealed with HPKE to the queue's public key and bound to the registration's root."
    )


class OrderError(Answer):
    """Why an order failed, or why its last attempt did."""

    code: str = Field(examples=["opening_invalid"])
    message: str = Field(examples=["this marking key does not open the registered root"])
    pointer: str = Field(examples=[""])


class PlacedOrder(Answer):
    """What every order shows."""

    id: UUID
    registration_id: UUID
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    queue: str = Field(examples=["embed.cpu"])
    error: OrderError | None
    created_at: Moment
    updated_at: Moment


def in_every_order(row: OrderRow) -> dict[str, Any]:
    """Give the values of what every order shows."""
    return {
        "id": row.id,
        "registration_id": row.registration_id,
        "state": row.state,
        "queue": row.queue,
        "error": None if row.error is None else OrderError(**row.error),
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }
