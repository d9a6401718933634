"""Queues: the public keys to which marking keys are sealed."""

from fastapi import APIRouter
from pydantic import Field

from app.api.fields import Page, Proven
from app.log.store import load_entry, receipt_for
from app.registry.worker_keys import list_worker_keys
from app.web import InTransaction

router = APIRouter(prefix="/queues", tags=["queues"])


class Queue(Proven):
    """A queue and its present key: verify the receipt before sealing anything to it."""

    queue: str = Field(examples=["embed.cpu"])
    public_key: str = Field(description="64 bytes of hex: Ed25519, then X25519.")


@router.get("", operation_id="list_queues")
def get_queues(session: InTransaction) -> Page[Queue]:
    """List the queues whose workers have announced a key; there are few, so the first page is the last."""
    return Page(
        items=[
            Queue(
                queue=row.queue,
                public_key=row.public_key.hex(),
                entry_index=row.entry_index,
                entry=load_entry(session, row.entry_index).decode(),
                receipt=receipt_for(session, row.entry_index),
            )
            for row in list_worker_keys(session)
        ]
    )
