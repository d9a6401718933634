"""The worker's side of an order: who holds it, what is tried again, what is written once."""

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, select, text

from app.canonical import sha256
from app.db.engine import transaction
from app.db.tables import (
    ArtifactRow,
    EmbeddingRow,
    LogEntryRow,
    RegistrationRow,
    VendorRow,
    WorkerKeyRow,
    new_id,
)
from app.embedding.attempts import Assignment, Bench, OrderAttempt
from app.embedding.child_order import NetworkFigures, TrainingReport
from app.embedding.embedding_order import EmbeddingOrder
from app.embedding.job import embed, record_result
from app.embedding.orders import NewOrder, cancel_order, place
from app.embedding.recipe import Recipe
from app.errors import DatabaseAway, Malformed, NotFound, TrainingFailed, Unavailable
from app.jobs.queue import Stopped
from app.keys.commitment import MarkingKey
from app.keys.labels import salt_of
from app.keys.sealing import QueueKey
from app.keys.statement import Statement
from app.keys.trigger_set import Family, ImageInput
from app.log.beacon import append_with_nonce, open_beacon
from app.log.store import LogIdentity, append, check_log, entry_time
from app.protocol.assessment import beacon_value
from app.protocol.records import BeaconEntry, RegistrationEntry, WorkerKeyEntry
from app.signature import public_key_of, sign
from app.storage.objects import open_store
from tests.conftest import Database

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
QUEUE = "embed.cpu"
KEY = MarkingKey(bytes(32), tuple(ImageInput(2, 2, 1, bytes([n] * 4)).encode() for n in range(4)))
VENDOR_SEED = bytes(range(32))


@dataclass
class OneAttempt:
    """An attempt as the queue's loop hands it out."""

    job_id: int
    number: int = 0
    queue: str = QUEUE
    is_last: bool = False
    stopping: bool = False

    def is_cancelled(self) -> bool:
        return False

    def is_stopping(self) -> bool:
        return self.stopping

    def raise_if_stopping(self) -> None:
        if self.stopping:
            raise Stopped


@dataclass
class Desk:
    """A worker and one placed order whose job is being worked on."""

    database: Database
    bench: Bench
    vendor_id: UUID
    registration: RegistrationEntry
    registration_data: bytes
    embedding_id: UUID
    job_id: int
    beacon: BeaconEntry
    attempts: list[OneAttempt] = field(default_factory=list)

    def attempt(self, **values: object) -> OneAttempt:
        return OneAttempt(self.job_id, **values)  # type: ignore[arg-type]

    def mine(self, attempt: OneAttempt) -> OrderAttempt[EmbeddingRow]:
        return OrderAttempt(self.bench, EmbeddingRow, attempt, self.embedding_id)

    def take(self, attempt: OneAttempt) -> Assignment | None:
        return self.mine(attempt).take()

    def hand_to_another(self) -> None:
        with transaction(self.database.service) as session:
            session.execute(text("UPDATE procrastinate_jobs SET attempts = attempts + 1"))

    def row(self) -> EmbeddingRow:
        with transaction(self.database.service) as session:
            return session.get_one(EmbeddingRow, self.embedding_id)

    def models_in_log(self) -> int:
        with transaction(self.database.service) as session:
            check_log(session, self.bench.identity.public_key, self.bench.identity.origin)
            wanted = select(func.count()).select_from(LogEntryRow).where(LogEntryRow.kind == "model")
            return session.scalars(wanted).one()


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk:
    identity = LogIdentity("log.example/job", os.urandom(32))
    queue_key = QueueKey(os.urandom(32))
    statement = Statement(
        log=identity.origin,
        vendor_key=public_key_of(VENDOR_SEED),
        root=KEY.root(),
        count=KEY.count,
        kind=KEY.kind,
        shape=KEY.shape,
        classes=("zero", "one"),
        families=(Family("all", 0, KEY.count),),
        label_source="beacon",
        beacon="local",
        covers=None,
        unmarked_model=None,
    )
    signature = sign(VENDOR_SEED, statement.encode())
    vendor_id, registration_id = (new_id(NOW, os.urandom(10)) for _ in range(2))
    with transaction(database.service) as session:
        session.add(
            VendorRow(id=vendor_id, name="v", contact="c", public_key=public_key_of(VENDOR_SEED), created_at=NOW)
        )
        session.flush()
        entry = append_with_nonce(
            session, identity, lambda h, t: RegistrationEntry(t, statement, signature, h), os.urandom(32), NOW
        )
        opened = open_beacon(session, identity, entry.index, NOW)
        session.add(
            RegistrationRow(
                id=registration_id,
                vendor_id=vendor_id,
                entry_index=entry.index,
                statement=statement.encode(),
                statement_sha256=sha256(statement.encode()),
                signature=signature,
                beacon_index=opened.index,
                created_at=NOW,
            )
        )
        announced = WorkerKeyEntry(entry_time(session, NOW), queue_key.public, QUEUE, b"")
        index = append(session, identity, announced, NOW).index
        key_id = new_id(NOW, os.urandom(10))
        session.add(
            WorkerKeyRow(id=key_id, queue=QUEUE, public_key=queue_key.public, entry_index=index, created_at=NOW)
        )
        # A row without its object: whoever fetches it fails.
        session.add(
            ArtifactRow(
                vendor_id=vendor_id, sha256=bytes(32), size_bytes=0, media_type="application/zip", created_at=NOW
            )
        )
        session.flush()
        order = EmbeddingOrder(QUEUE, Recipe(network="mlp"), bytes(32), None, None)
        new = NewOrder(vendor_id, registration_id, order, b"sealed")
        row = place(session, EmbeddingRow, new, now=NOW, randomness=os.urandom(10))
        session.execute(text("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = :id"), {"id": row.job_id})
    store = open_store((tmp_path / "objects").as_uri())
    bench = Bench(database.service, store, identity, {QUEUE: queue_key}, tmp_path / "work", 2**20, lambda: NOW)
    assert row.job_id is not None
    registration = RegistrationEntry.parse(entry.entry)
    return Desk(database, bench, vendor_id, registration, entry.entry, row.id, row.job_id, opened.entry)


def finish(desk: Desk, attempt: OneAttempt) -> None:
    figures = NetworkFigures(9, 10, 4, 4, 3, 100, bytes(32))
    report = TrainingReport(figures, None, None, KEY.root(), Recipe(network="mlp"), "cpu", "2")
    mine = desk.mine(attempt)
    mine.deliver(lambda session, row: record_result(mine, session, row, (b"\x07" * 32, 1), report))


def test_an_attempt_takes_statement_and_salt_from_the_log(desk):
    taken = desk.take(desk.attempt())
    assert taken is not None
    assert taken.statement == desk.registration.statement
    assert taken.salt == salt_of(beacon_value(desk.beacon), KEY.root(), sha256(desk.registration_data))
    assert taken.secrets.sealed == b"sealed"
    assert b"sealed" not in repr(taken).encode()
    assert desk.row().state == "running"


def test_an_attempt_that_lost_its_job_takes_holds_and_writes_nothing(desk):
    first = desk.attempt()
    assert desk.take(first) is not None
    desk.hand_to_another()
    assert desk.take(first) is None
    with transaction(desk.database.service) as session:
        assert desk.mine(first).hold(session) is None
    finish(desk, first)
    assert (desk.row().state, desk.models_in_log()) == ("running", 0)
    second = desk.attempt(number=1)
    assert desk.take(second) is not None
    finish(desk, first)
    finish(desk, second)
    assert (desk.row().state, desk.row().attempt, desk.models_in_log()) == ("done", 1, 1)


def test_a_result_is_written_once_even_if_the_answer_to_the_commit_was_lost(desk):
    attempt = desk.attempt()
    desk.take(attempt)
    finish(desk, attempt)
    finish(desk, attempt)
    assert (desk.row().state, desk.models_in_log(), desk.row().sealed_key) == ("done", 1, b"")
    assert desk.take(attempt) is None


def test_a_result_whose_commit_fails_leaves_the_order_as_it_was(desk):
    attempt = desk.attempt()
    desk.take(attempt)
    with desk.database.owner.begin() as connection:
        connection.execute(
            text("""
                CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
                CREATE CONSTRAINT TRIGGER late AFTER INSERT ON artifacts DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION refuse();
            """)
        )
    with pytest.raises(Exception, match="no"):
        finish(desk, attempt)
    assert (desk.row().state, desk.row().artifact_sha256, desk.models_in_log()) == ("running", None, 0)


def test_a_cancelled_order_is_nobodys(desk):
    attempt = desk.attempt()
    desk.take(attempt)
    with transaction(desk.database.service) as session:
        cancel_order(session, EmbeddingRow, desk.vendor_id, desk.embedding_id, NOW)
    finish(desk, attempt)
    assert (desk.row().state, desk.models_in_log()) == ("cancelled", 0)
    assert desk.take(attempt) is None


def test_an_order_that_cannot_succeed_ends_with_its_reason_and_without_its_key(desk):
    embed(desk.bench, desk.attempt(), {"order_id": str(desk.embedding_id)})
    row = desk.row()
    assert (row.state, row.error["code"], row.sealed_key) == ("failed", NotFound.code, b"")


def test_what_may_pass_goes_back_to_the_queue_until_the_last_attempt(desk):
    attempt = desk.attempt()
    desk.take(attempt)
    with pytest.raises(Unavailable):
        desk.mine(attempt).settle(Unavailable("the object store failed"))
    assert (desk.row().state, desk.row().error["code"], desk.row().sealed_key) == ("queued", "unavailable", b"sealed")
    last = desk.attempt(is_last=True)
    desk.take(last)
    desk.mine(last).settle(TrainingFailed("the training child ended with status -9"))
    assert (desk.row().state, desk.row().error["code"]) == ("failed", "training_failed")


def test_what_the_child_says_is_final_and_keeps_its_code(desk):
    attempt = desk.attempt()
    desk.take(attempt)
    error = TrainingFailed("no channel 4", state=Malformed.code, pointer="/recipe")
    desk.mine(attempt).settle(error)
    assert desk.row().error == {"code": "malformed", "message": "no channel 4", "pointer": "/recipe"}


def test_a_worker_that_stops_leaves_the_order_to_the_next(desk):
    attempt = desk.attempt(stopping=True)
    with pytest.raises(Stopped):
        embed(desk.bench, attempt, {"order_id": str(desk.embedding_id)})
    assert desk.row().state == "running"
    desk.hand_to_another()
    assert desk.take(desk.attempt(number=1)) is not None


def test_the_absence_of_the_database_is_no_reason_to_fail(desk):
    attempt = desk.attempt(is_last=True)
    desk.take(attempt)
    with pytest.raises(DatabaseAway):
        desk.mine(attempt).settle(DatabaseAway("away"))
    assert desk.row().state == "running"


def test_folders_of_dead_attempts_are_removed(desk):
    dead = desk.bench.work_dir / f"job-{desk.job_id}-0"
    dead.mkdir(parents=True)
    (dead / "train_data").write_bytes(b"x")
    desk.hand_to_another()
    embed(desk.bench, desk.attempt(number=1), {"order_id": str(desk.embedding_id)})
    assert list(desk.bench.work_dir.iterdir()) == []
