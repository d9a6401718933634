"""One attempt of a worker at one order, of whichever kind: take it, hold it, tell how far it is, end it.

  1. take the order, unless it ended or another worker holds it; statement and salt come from the log
  2. fetch its artifacts into a folder of this attempt
  3. work (each kind's own part); write progress as it comes
  4. in one transaction: write the result, the order is done

Invariants: an attempt that lost its job writes nothing, so an order has one result; an order that cannot succeed ends as
failed, with a code; what may pass (store away, child killed) is tried again.
What a crash leaves behind: a folder of this attempt, which the next attempt on this machine removes; a training that was
unfinished in it goes on there.
Trust: the worker holds the queue's seed and hands it to a child through a pipe; it never sees the marking key open.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Generic
from uuid import UUID

from obstore.store import ObjectStore
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.canonical import sha256
from app.db.engine import transaction
from app.db.tables import RegistrationRow
from app.embedding.artifacts import UNFINISHED_RUN, remove_tree
from app.embedding.child_order import SealedKey
from app.embedding.confinement.limits import Limits
from app.embedding.orders import UNFINISHED, R, end_order, lock_order
from app.embedding.training_process import STOPPED
from app.errors import Conflict, DatabaseAway, TrainingFailed, TrapstreetError, Unavailable
from app.jobs.queue import Attempt, verify_current
from app.keys.labels import salt_of
from app.keys.sealing import QueueKey
from app.keys.statement import Statement
from app.log.store import LogIdentity, load_entry
from app.protocol.assessment import beacon_value
from app.protocol.records import BeaconEntry, RegistrationEntry
from app.storage.objects import download

logger = logging.getLogger(__name__)

# Progress is written at most this often; the database is not the place for every epoch of a tiny network.
PROGRESS_SECONDS = 0.5

# Finished work waits for the database rather than being thrown away, and looks again this often.
DATABASE_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Bench:
    """What a worker needs for its orders."""

    engine: Engine
    store: ObjectStore
    identity: LogIdentity
    queue_keys: Mapping[str, QueueKey]
    work_dir: Path
    max_artifact_bytes: int
    clock: Callable[[], datetime]
    child_environment: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Assignment:
    """What an attempt works on, as read when it took the order."""

    vendor_id: UUID
    order_json: dict[str, Any]
    statement: Statement
    salt: bytes
    secrets: SealedKey = field(repr=False)


@dataclass
class OrderAttempt(Generic[R]):
    """One attempt at one order; once `is_lost`, the order is somebody else's or ended."""

    bench: Bench
    row_type: type[R]
    attempt: Attempt
    order_id: UUID
    is_lost: bool = False
    written_at: datetime | None = None

    def take(self) -> Assignment | None:
        """Make the order this attempt's, or give None if it ended or the job is another worker's by now."""
        with transaction(self.bench.engine) as session:
            row = lock_order(session, self.row_type, self.order_id)
            if row is None or row.state not in UNFINISHED or not self._is_current(session):
                return None
            statement, salt = read_terms(session, row.registration_id)
            row.state, row.attempt, row.job_id = "running", self.attempt.number, self.attempt.job_id
            row.progress, row.updated_at = {}, self.bench.clock()
            seed = self.bench.queue_keys[self.attempt.queue].seed
            return Assignment(row.vendor_id, row.order_json, statement, salt, SealedKey(seed, row.sealed_key))

    def hold(self, session: Session) -> R | None:
        """Lock the order if this attempt is working on it, or give None if it is so no longer."""
        row = lock_order(session, self.row_type, self.order_id)
        if row is None or (row.state, row.job_id, row.attempt) != (
            "running",
            self.attempt.job_id,
            self.attempt.number,
        ):
            return None
        return row if self._is_current(session) else None

    def fetch(self, artifacts: Mapping[str, bytes | None], folder: Path) -> dict[str, str | None]:
        """Bring artifacts into a folder and give their paths.

        Raises: Stopped; NotFound or Unavailable as the store says.
        """
        paths = dict[str, str | None](dict.fromkeys(artifacts))
        for name, digest in artifacts.items():
            if digest is not None:
                self.attempt.raise_if_stopping()
                path = folder / name.replace("/", ".")
                download(self.bench.store, digest, path)
                paths[name] = str(path)
        return paths

    def should_stop(self) -> bool:
        """Say whether to end the child."""
        return self.is_lost or self.attempt.is_stopping()

    def tell(self, write: Callable[[R], None], *, at_once: bool = False) -> None:
        """Write progress, now or not at all; a database that is away is not a reason to stop."""
        now = self.bench.clock()
        is_due = self.written_at is None or (now - self.written_at).total_seconds() >= PROGRESS_SECONDS
        if not is_due and not at_once:
            return
        self.written_at = now
        try:
            with transaction(self.bench.engine) as session:
                row = self.hold(session)
                if row is None:
                    self.is_lost = True
                    return
                write(row)
                row.updated_at = now
        except DatabaseAway:
            logger.warning("the progress of %s is not written: the database is away", self.order_id)

    def deliver(self, finish: Callable[[Session, R], None]) -> None:
        """End the order as done, with what `finish` writes in the same transaction; wait for a database that is away."""
        while not self._is_delivered(finish):
            time.sleep(DATABASE_LOOK_SECONDS)

    def _is_delivered(self, finish: Callable[[Session, R], None]) -> bool:
        try:
            with transaction(self.bench.engine) as session:
                # If a COMMIT's answer was lost and this is the second time, the order is no longer running.
                row = self.hold(session)
                if row is not None:
                    finish(session, row)
                    row.error = None
                    end_order(session, row, "done", self.bench.clock())
        except DatabaseAway:
            if self.attempt.is_stopping():
                raise
            return False
        return True

    def settle(self, error: TrapstreetError) -> None:
        """Decide what becomes of an order whose attempt failed.

        Raises: Stopped; Unavailable if the job is to be tried again.
        """
        if isinstance(error, DatabaseAway):
            raise error
        if isinstance(error, TrainingFailed) and error.state == STOPPED:
            self.attempt.raise_if_stopping()
            return  # cancelled, or another worker's: either way the row says so already
        may_pass = isinstance(error, Unavailable) and not error.state and not self.attempt.is_last
        with transaction(self.bench.engine) as session:
            row = self.hold(session)
            if row is not None:
                row.error = error_json(error)
                if may_pass:
                    row.state, row.updated_at = "queued", self.bench.clock()
                else:
                    end_order(session, row, "failed", self.bench.clock())
        if may_pass:
            raise error

    def _is_current(self, session: Session) -> bool:
        try:
            verify_current(session, self.attempt)
        except Conflict:
            return False
        return True


# A kind's own part: from the assignment and the attempt's folder to what is written when the order is done.
Work = Callable[[OrderAttempt[R], Assignment, Path], Callable[[Session, R], None]]


def work_on(bench: Bench, row_type: type[R], attempt: Attempt, args: Mapping[str, Any], work: Work[R]) -> None:
    """Make one attempt at one order; see the module's list of steps.

    Raises: Stopped; Unavailable if another attempt may succeed.
    """
    mine = OrderAttempt(bench, row_type, attempt, UUID(args["order_id"]))
    assignment = mine.take()
    try:
        if assignment is not None:
            with attempt_folder(bench.work_dir, attempt) as folder:
                mine.deliver(work(mine, assignment, folder))
    except TrapstreetError as error:
        mine.settle(error)
    # Ended, here or elsewhere: no attempt goes on from what was left unfinished.
    remove_tree(kept_folder(bench.work_dir, attempt))


def read_terms(session: Session, registration_id: UUID) -> tuple[Statement, bytes]:
    """Read from the log what was registered and the salt that its labels were drawn with (class B: none)."""
    registration = session.get_one(RegistrationRow, registration_id)
    entry_bytes = load_entry(session, registration.entry_index)
    statement = RegistrationEntry.parse(entry_bytes).statement
    if statement.assurance_class != "A":
        return statement, b""
    if registration.beacon_index is None:
        raise AssertionError("an order of class A is placed after the beacon")
    beacon = BeaconEntry.parse(load_entry(session, registration.beacon_index))
    return statement, salt_of(beacon_value(beacon), statement.root, sha256(entry_bytes))


@contextmanager
def attempt_folder(work_dir: Path, attempt: Attempt) -> Iterator[Path]:
    """Give a folder (0700) for one attempt, with `output` in it.

    Earlier attempts on this machine that died left theirs, which go now; runs that they left unfinished lie in `output`.
    """
    work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = kept_folder(work_dir, attempt)
    for old in sorted(work_dir.glob(f"job-{attempt.job_id}-[0-9]*")):
        end_attempt(old, kept)
    folder = work_dir / f"job-{attempt.job_id}-{attempt.number}"
    folder.mkdir(mode=0o700)
    output = folder / "output"
    if kept.exists():
        kept.rename(output)
    output.mkdir(mode=0o700, exist_ok=True)
    try:
        yield folder
    except OSError as error:
        raise Unavailable(f"the worker's disk failed: {error.strerror}") from error
    finally:
        end_attempt(folder, kept)


def kept_folder(work_dir: Path, attempt: Attempt) -> Path:
    """Name the folder in which a job's unfinished runs lie between its attempts on this machine."""
    return work_dir / f"job-{attempt.job_id}-kept"


def end_attempt(folder: Path, kept: Path) -> None:
    """Remove an attempt's folder, but for the runs that it left unfinished."""
    for path in (folder / "output").glob(f"{UNFINISHED_RUN}*"):
        if path.is_file() and not path.is_symlink():  # what a stranger's program put there instead is not ours
            kept.mkdir(mode=0o700, exist_ok=True)
            path.replace(kept / path.name)
    remove_tree(folder)


def error_json(error: TrapstreetError) -> dict[str, Any]:
    """Write an error for the order's vendor; a child's error shows the code that the child gave."""
    code = error.state if isinstance(error, TrainingFailed) and error.state else error.code
    return {"code": code, "message": error.message, "pointer": error.pointer}
