"""The job `embed`: one attempt of a worker to train one order; attempts.py is what it shares with other orders.

  1. fetch data and weights
  2. train in a child process, which alone unseals the marking key; write progress as it comes
  3. put the marked weights into the object store, named by their digest
  4. in one transaction: order done, artifact the vendor's, `model` entry signed by the queue's key

The `model` entry means that this queue's worker says it trained these weights, no more.

What a crash leaves behind: before 4 perhaps an object that nobody refers to; after it nothing, the log has one entry.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import ArtifactRow, EmbeddingRow
from app.embedding.artifacts import MARKED_WEIGHTS
from app.embedding.attempts import Assignment, Bench, OrderAttempt, work_on
from app.embedding.child_order import ChildOrder, SealedKey, TrainingReport
from app.embedding.embedding_order import EmbeddingOrder
from app.embedding.progress import Pace, ProgressCurve
from app.embedding.training_process import run_child
from app.jobs.queue import Attempt
from app.log.store import append, entry_time
from app.protocol.records import ModelEntry
from app.storage.objects import put_stream

READ_BYTES = 1024 * 1024
WEIGHTS_MEDIA_TYPE = "application/octet-stream"


def embed(bench: Bench, attempt: Attempt, args: dict[str, Any]) -> None:
    """Train one order.

    Raises: Stopped; Unavailable if another attempt may succeed.
    """
    work_on(bench, EmbeddingRow, attempt, args, train)


def train(
    mine: OrderAttempt[EmbeddingRow], assignment: Assignment, folder: Path
) -> Callable[[Session, EmbeddingRow], None]:
    """Train the mark in and store the weights; give what the order becomes by it."""
    order = child_order(mine, assignment, folder)
    curve, pace = ProgressCurve(), Pace()

    def write_progress(row: EmbeddingRow) -> None:
        told = curve.to_json()
        row.progress = {**told, "seconds_left": pace.seconds_left} if told else {}

    def on_event(event: dict[str, Any]) -> None:
        curve.add(event)
        pace.note(curve.last, mine.bench.clock())
        mine.tell(write_progress)

    bench = mine.bench
    environment, limits = bench.child_environment, bench.limits
    report = run_child(order, assignment.secrets, on_event, mine.should_stop, environment=environment, limits=limits)
    weights = folder / "output" / MARKED_WEIGHTS
    digest, size_bytes = put_stream(bench.store, read_pieces(weights), bench.max_artifact_bytes)

    def finish(session: Session, row: EmbeddingRow) -> None:
        write_progress(row)
        record_result(mine, session, row, (digest, size_bytes), report)

    return finish


def child_order(mine: OrderAttempt[EmbeddingRow], assignment: Assignment, folder: Path) -> ChildOrder:
    """Fetch what the training reads, and say to the child what to do."""
    wanted = EmbeddingOrder.from_json(assignment.order_json)
    paths = mine.fetch(wanted.artifacts(), folder)
    output = folder / "output"
    order = ChildOrder(
        statement=assignment.statement,
        salt=assignment.salt,
        recipe=wanted.recipe,
        data_path=str(folder / "train_data"),
        test_path=paths["test_data"],
        weights_path=paths["model"],
        output_path=str(output),
        key_form=SealedKey.NAME,
    )
    order.check("")
    return order


def record_result(
    mine: OrderAttempt[EmbeddingRow],
    session: Session,
    row: EmbeddingRow,
    weights: tuple[bytes, int],
    report: TrainingReport,
) -> None:
    """Write what a training came to; `weights` is the digest of the marked ones and their size in bytes."""
    (digest, size_bytes), now = weights, mine.bench.clock()
    key = mine.bench.queue_keys[mine.attempt.queue]
    signature = key.sign(ModelEntry.signed_bytes(key.signing_public, digest))
    entry = ModelEntry(entry_time(session, now), key.signing_public, digest, signature)
    row.entry_index = append(session, mine.bench.identity, entry, now).index
    artifact = {
        "vendor_id": row.vendor_id,
        "sha256": digest,
        "size_bytes": size_bytes,
        "media_type": WEIGHTS_MEDIA_TYPE,
        "created_at": now,
    }
    # The same weights may be there already: an upload, or an order repeated on the same device.
    session.execute(insert(ArtifactRow).values(artifact).on_conflict_do_nothing())
    row.report, row.artifact_sha256 = report.to_json(), digest


def read_pieces(path: Path) -> Iterator[bytes]:
    """Give a file's bytes in pieces."""
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            yield piece
