"""The job `embed`: one attempt of a worker to train one order.

  1. take the order, unless it ended or another worker holds it
  2. fetch the artifacts into a folder of this attempt; statement and salt come from the log
  3. train in a child process, which alone unseals the marking key; write progress as it comes
  4. put the marked weights into the object store, named by their digest
  5. in one transaction: order done, artifact the vendor's, `model` entry signed by the queue's key

The `model` entry means that this queue's worker says it trained these weights, no more.

Invariants: an attempt that lost its job writes nothing, so an order has one result and the log one entry of it; an
order that cannot succeed ends as failed, with a code; what may pass (store away, child killed) is tried again.
What a crash leaves behind: before 5 a folder of this attempt, which the next attempt on this machine removes, and
perhaps an object that nobody refers to.
Trust: the worker holds the queue's seed and hands it to the child through a pipe; it never sees the marking key open.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from obstore.store import ObjectStore
from sqlalchemy import Engine
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.canonical import sha256
from app.db.engine import transaction
from app.db.tables import ArtifactRow, EmbeddingRow, RegistrationRow
from app.embedding.artifacts import MARKED_WEIGHTS, remove_tree
from app.embedding.child_order import ChildOrder, SealedKey, TrainingReport
from app.embedding.limits import Limits
from app.embedding.orders import UNFINISHED, EmbeddingOrder, end_embedding
from app.embedding.progress import ProgressCurve
from app.embedding.training_process import STOPPED, run_child
from app.errors import Conflict, DatabaseAway, TrainingFailed, TrapstreetError, Unavailable
from app.jobs.queue import Attempt, verify_current
from app.keys.labels import salt_of
from app.keys.sealing import QueueKey
from app.keys.statement import Statement
from app.log.store import LogIdentity, append, entry_time, load_entry
from app.protocol.assessment import beacon_value
from app.protocol.records import BeaconEntry, ModelEntry, RegistrationEntry
from app.storage.objects import download, put_stream

logger = logging.getLogger(__name__)

# Progress is written at most this often; the database is not the place for every epoch of a tiny network.
PROGRESS_SECONDS = 0.5

# A finished training waits for the database rather than being thrown away, and looks again this often.
DATABASE_LOOK_SECONDS = 1.0

READ_BYTES = 1024 * 1024
WEIGHTS_MEDIA_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class Assignment:
    """What an attempt works on, as read when it took the order."""

    embedding_id: UUID
    vendor_id: UUID
    order: EmbeddingOrder
    statement: Statement
    salt: bytes
    sealed_key: bytes = field(repr=False)


@dataclass(frozen=True)
class Trained:
    """What a training came to; the weights lie in the attempt's folder."""

    report: TrainingReport
    curve: ProgressCurve


@dataclass(frozen=True)
class EmbeddingWorker:
    """What a worker needs for its jobs; `embed` is the handler of the task of that name."""

    engine: Engine
    store: ObjectStore
    identity: LogIdentity
    queue_keys: Mapping[str, QueueKey]
    work_dir: Path
    max_artifact_bytes: int
    clock: Callable[[], datetime]
    child_environment: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)

    def embed(self, attempt: Attempt, args: dict[str, Any]) -> None:
        """Train one order; see the module's list of steps.

        Raises: Stopped; Unavailable if another attempt may succeed.
        """
        embedding_id = UUID(args["embedding_id"])
        with transaction(self.engine) as session:
            assignment = take(session, attempt, embedding_id, self.clock())
        if assignment is None:
            return
        try:
            with attempt_folder(self.work_dir, attempt) as folder:
                trained = self._train(attempt, assignment, folder)
                self._deliver(attempt, assignment, trained, folder)
        except TrapstreetError as error:
            self._settle(attempt, embedding_id, error)

    def _train(self, attempt: Attempt, assignment: Assignment, folder: Path) -> Trained:
        secrets = SealedKey(self.queue_keys[attempt.queue].seed, assignment.sealed_key)
        order = self._fetch(attempt, assignment, folder)
        curve = ProgressCurve()
        is_lost = False
        written_at: datetime | None = None

        def on_event(event: dict[str, Any]) -> None:
            nonlocal is_lost, written_at
            now = self.clock()
            curve.add(event)
            if written_at is None or (now - written_at).total_seconds() >= PROGRESS_SECONDS:
                written_at = now
                is_lost = not self._write_progress(attempt, assignment.embedding_id, curve, now)

        def should_stop() -> bool:
            return is_lost or attempt.is_stopping()

        report = run_child(
            order, secrets, on_event, should_stop, environment=self.child_environment, limits=self.limits
        )
        return Trained(report, curve)

    def _fetch(self, attempt: Attempt, assignment: Assignment, folder: Path) -> ChildOrder:
        paths: dict[str, str | None] = {}
        for name in ("train_data", "test_data", "model"):
            digest = getattr(assignment.order, name)
            paths[name] = None if digest is None else str(folder / name)
            if digest is not None:
                attempt.raise_if_stopping()
                download(self.store, digest, folder / name)
        output = folder / "output"
        output.mkdir()
        order = ChildOrder(
            statement=assignment.statement,
            salt=assignment.salt,
            recipe=assignment.order.recipe,
            data_path=str(folder / "train_data"),
            test_path=paths["test_data"],
            weights_path=paths["model"],
            output_path=str(output),
            key_form=SealedKey.NAME,
        )
        order.check("")
        return order

    def _write_progress(self, attempt: Attempt, embedding_id: UUID, curve: ProgressCurve, now: datetime) -> bool:
        """Say whether the order is still this attempt's; a database that is away is not a reason to stop."""
        try:
            with transaction(self.engine) as session:
                row = hold(session, attempt, embedding_id)
                if row is None:
                    return False
                row.progress, row.updated_at = curve.to_json(), now
        except DatabaseAway:
            logger.warning("the progress of %s is not written: the database is away", embedding_id)
        return True

    def _deliver(self, attempt: Attempt, assignment: Assignment, trained: Trained, folder: Path) -> None:
        weights = folder / "output" / MARKED_WEIGHTS
        digest, size_bytes = put_stream(self.store, read_pieces(weights), self.max_artifact_bytes)
        artifact = ArtifactRow(
            vendor_id=assignment.vendor_id,
            sha256=digest,
            size_bytes=size_bytes,
            media_type=WEIGHTS_MEDIA_TYPE,
            created_at=self.clock(),
        )
        while not self._is_finished(attempt, assignment.embedding_id, artifact, trained):
            time.sleep(DATABASE_LOOK_SECONDS)

    def _is_finished(self, attempt: Attempt, embedding_id: UUID, artifact: ArtifactRow, trained: Trained) -> bool:
        try:
            with transaction(self.engine) as session:
                self._finish(session, attempt, embedding_id, artifact, trained)
        except DatabaseAway:
            if attempt.is_stopping():
                raise
            return False
        return True

    def _finish(
        self, session: Session, attempt: Attempt, embedding_id: UUID, artifact: ArtifactRow, trained: Trained
    ) -> None:
        # If a COMMIT's answer was lost and this is the second time, the order is no longer running and nothing happens.
        row = hold(session, attempt, embedding_id)
        if row is None:
            return
        now = self.clock()
        key = self.queue_keys[attempt.queue]
        signature = key.sign(ModelEntry.signed_bytes(key.signing_public, artifact.sha256))
        entry = ModelEntry(entry_time(session, now), key.signing_public, artifact.sha256, signature)
        row.entry_index = append(session, self.identity, entry, now).index
        columns = {column.name: getattr(artifact, column.name) for column in ArtifactRow.__table__.columns}
        # The same weights may be there already: an upload, or an order repeated on the same device.
        session.execute(insert(ArtifactRow).values(columns).on_conflict_do_nothing())
        row.report, row.progress = trained.report.to_json(), trained.curve.to_json()
        row.artifact_sha256, row.error = artifact.sha256, None
        end_embedding(row, "done", now)

    def _settle(self, attempt: Attempt, embedding_id: UUID, error: TrapstreetError) -> None:
        """Decide what becomes of an order whose attempt failed.

        Raises: Stopped; Unavailable if the job is to be tried again.
        """
        if isinstance(error, DatabaseAway):
            raise error
        if isinstance(error, TrainingFailed) and error.state == STOPPED:
            attempt.raise_if_stopping()
            return  # cancelled, or another worker's: either way the row says so already
        may_pass = isinstance(error, Unavailable) and not error.state and not attempt.is_last
        with transaction(self.engine) as session:
            row = hold(session, attempt, embedding_id)
            if row is not None:
                row.error = error_json(error)
                if may_pass:
                    row.state, row.updated_at = "queued", self.clock()
                else:
                    end_embedding(row, "failed", self.clock())
        if may_pass:
            raise error


def take(session: Session, attempt: Attempt, embedding_id: UUID, now: datetime) -> Assignment | None:
    """Make an order this attempt's, or give None if it ended or the job is another worker's by now."""
    row = session.get(EmbeddingRow, embedding_id, with_for_update=True)
    if row is None or row.state not in UNFINISHED or not is_current(session, attempt):
        return None
    registration = session.get_one(RegistrationRow, row.registration_id)
    entry_bytes = load_entry(session, registration.entry_index)
    statement = RegistrationEntry.parse(entry_bytes).statement
    salt = b""
    if statement.assurance_class == "A":
        if registration.beacon_index is None:
            raise AssertionError("an order of class A is placed after the beacon")
        beacon = BeaconEntry.parse(load_entry(session, registration.beacon_index))
        salt = salt_of(beacon_value(beacon), statement.root, sha256(entry_bytes))
    row.state, row.attempt, row.job_id = "running", attempt.number, attempt.job_id
    row.progress, row.updated_at = {}, now
    return Assignment(
        embedding_id=row.id,
        vendor_id=row.vendor_id,
        order=EmbeddingOrder.from_json(row.order_json),
        statement=statement,
        salt=salt,
        sealed_key=row.sealed_key,
    )


def hold(session: Session, attempt: Attempt, embedding_id: UUID) -> EmbeddingRow | None:
    """Lock an order that this attempt is training, or give None if it is so no longer."""
    row = session.get(EmbeddingRow, embedding_id, with_for_update=True)
    if row is None or (row.state, row.job_id, row.attempt) != ("running", attempt.job_id, attempt.number):
        return None
    return row if is_current(session, attempt) else None


def is_current(session: Session, attempt: Attempt) -> bool:
    """Say whether the job is still this attempt's, and hold it until the transaction ends if so."""
    try:
        verify_current(session, attempt)
    except Conflict:
        return False
    return True


@contextmanager
def attempt_folder(work_dir: Path, attempt: Attempt) -> Iterator[Path]:
    """Give a folder (0700) for one attempt; earlier attempts on this machine that died left theirs, which go now."""
    work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in work_dir.glob(f"embed-{attempt.job_id}-*"):
        remove_tree(old)
    folder = work_dir / f"embed-{attempt.job_id}-{attempt.number}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    except OSError as error:
        raise Unavailable(f"the worker's disk failed: {error.strerror}") from error
    finally:
        remove_tree(folder)


def read_pieces(path: Path) -> Iterator[bytes]:
    """Give a file's bytes in pieces."""
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            yield piece


def error_json(error: TrapstreetError) -> dict[str, Any]:
    """Write an error for the order's vendor; a child's error shows the code that the child gave."""
    code = error.state if isinstance(error, TrainingFailed) and error.state else error.code
    return {"code": code, "message": error.message, "pointer": error.pointer}
