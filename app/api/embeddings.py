"""Embedding orders: have a registered trigger set trained into a network by a worker of the service.

Trust: the marking key arrives sealed to the queue's public key (`GET /v1/queues`, proven by the log) and is erased when
the order ends; the API, the database and the object store never see it open.
"""

import secrets
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from app.api.dependencies import Reader
from app.api.fields import Hex32, LogNumber, Page, PageOf
from app.api.orders import Embedder, NewOrderBody, PlacedOrder, in_every_order
from app.api.problems import WITH_KEY, problems
from app.db.tables import ID_RANDOM_BYTES, EmbeddingRow
from app.embedding.embedding_order import EmbeddingOrder
from app.embedding.orders import NewOrder, cancel_order, list_orders, load_order, place
from app.web import InTransaction, Now

router = APIRouter(prefix="/embeddings", tags=["embeddings"], responses=WITH_KEY)

EXAMPLE_RECIPE = {"network": "small_cnn", "epochs": 30, "triggers_per_batch": 64, "learning_rate_micros": 50_000}
EXAMPLE_PROGRESS = {
    "run": "marked",
    "epoch": 2,
    "epochs": 30,
    "loss": 0.41,
    "trigger_accuracy": 0.5,
    "curve": [{"run": "marked", "epoch": 1, "loss": 0.93, "trigger_accuracy": 0.2}],
    "warnings": [],
    "seconds_left": 84,
}


class NewEmbedding(NewOrderBody):
    """What to train, on what, for which registration."""

    recipe: dict[str, Any] = Field(
        description="Options of training; `network` is required, the rest has defaults, which the answer shows.",
        examples=[EXAMPLE_RECIPE],
    )
    train_data: Hex32 = Field(
        description="SHA-256 of an uploaded artifact: image folders in an archive, or safetensors."
    )
    test_data: Hex32 | None = Field(None, description="The same for testing; null: a share of the data is held out.")
    model: Hex32 | None = Field(
        None,
        description="What to go on from: weights (safetensors), or with the network `exported` a program (.pt2); "
        "with the recipe's mode `pretrained` only.",
    )


class Embedding(PlacedOrder):
    """An order and what came of it."""

    recipe: dict[str, Any] = Field(description="All options, with the defaults filled in.", examples=[EXAMPLE_RECIPE])
    train_data: Hex32
    test_data: Hex32 | None
    model: Hex32 | None
    progress: dict[str, Any] = Field(
        description="Empty until the first epoch ends; `run` is `plain` (without the mark, to compare) or `marked`.",
        examples=[EXAMPLE_PROGRESS],
    )
    report: dict[str, Any] | None = Field(
        description="What the worker measured: the network with the mark, without it, and as it was given.",
        examples=[None],
    )
    artifact_sha256: Hex32 | None = Field(
        description="The marked weights (safetensors), at GET /v1/artifacts/{sha256}."
    )
    entry_index: LogNumber | None = Field(
        description="The log's `model` entry: that the queue's worker says it trained these weights, no more.",
        examples=[12],
    )


def show(row: EmbeddingRow) -> Embedding:
    """Write an order for its vendor."""
    order = row.order_json
    return Embedding(
        **in_every_order(row),
        recipe=order["recipe"],
        train_data=order["train_data"],
        test_data=order["test_data"],
        model=order["model"],
        progress=row.progress,
        report=row.report,
        artifact_sha256=row.artifact_sha256,
        entry_index=row.entry_index,
    )


@router.post("", status_code=202, operation_id="place_embedding", responses=problems(404, 409, 413, 415))
def place_embedding(
    body: NewEmbedding, caller: Embedder, session: InTransaction, now: Now, response: Response
) -> Embedding:
    """Place an order; a worker takes it from the queue.

    409 with state `awaiting_beacon` before the registration's labels are drawn, `awaiting_worker` while no worker of the
    queue has announced a key.
    """
    order = EmbeddingOrder.from_request(body.model_dump(exclude={"registration_id", "sealed_key"}))
    new = NewOrder(caller.vendor_id, body.registration_id, order, body.sealed_key)
    row = place(session, EmbeddingRow, new, now=now, randomness=secrets.token_bytes(ID_RANDOM_BYTES))
    response.headers["Location"] = f"/v1/embeddings/{row.id}"
    return show(row)


@router.get("", operation_id="list_embeddings")
def list_embeddings(caller: Reader, session: InTransaction, paging: PageOf) -> Page[Embedding]:
    """List the caller's orders, the oldest first."""
    rows = list_orders(session, EmbeddingRow, caller.vendor_id, paging.after_id(), paging.limit + 1)
    return paging.page(rows, lambda row: row.id, show)


@router.get("/{embedding_id}", operation_id="read_embedding", responses=problems(404))
def read_embedding(embedding_id: UUID, caller: Reader, session: InTransaction) -> Embedding:
    """Read an order: state, progress, and in the end report, weights and log entry, or the reason of failure."""
    return show(load_order(session, EmbeddingRow, caller.vendor_id, embedding_id))


@router.post("/{embedding_id}/cancel", operation_id="cancel_embedding", responses=problems(404, 409))
def cancel_embedding(embedding_id: UUID, caller: Embedder, session: InTransaction, now: Now) -> Embedding:
    """Cancel an order that has not ended; a training that runs is ended within seconds. 409 with the state if it has."""
    return show(cancel_order(session, EmbeddingRow, caller.vendor_id, embedding_id, now))
