"""An order whose job is being worked on, of whichever kind, in a real database: what the tests of workers' sides share."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic
from uuid import UUID

from sqlalchemy import func, select, text

from app.canonical import sha256
from app.db.engine import transaction
from app.db.notice_tables import EventRow
from app.db.tables import ArtifactRow, LogEntryRow, RegistrationRow, VendorRow, WorkerKeyRow, new_id
from app.embedding.attempts import Assignment, Bench, OrderAttempt
from app.embedding.orders import NewOrder, Order, R, cancel_order, place
from app.jobs.queue import Stopped
from app.keys.commitment import MarkingKey
from app.keys.sealing import QueueKey
from app.keys.statement import Statement
from app.keys.trigger_set import Family, ImageInput
from app.log.beacon import append_with_nonce, open_beacon
from app.log.store import LogIdentity, append, check_log, entry_time
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
class Desk(Generic[R]):
    """A worker and one placed order whose job is being worked on."""

    database: Database
    bench: Bench
    vendor_id: UUID
    registration: RegistrationEntry
    registration_data: bytes
    row_type: type[R]
    order_id: UUID
    job_id: int
    beacon: BeaconEntry

    def attempt(self, **values: object) -> OneAttempt:
        return OneAttempt(self.job_id, **values)  # type: ignore[arg-type]

    def mine(self, attempt: OneAttempt) -> OrderAttempt[R]:
        return OrderAttempt(self.bench, self.row_type, attempt, self.order_id)

    def take(self, attempt: OneAttempt) -> Assignment | None:
        return self.mine(attempt).take()

    def hand_to_another(self) -> None:
        with transaction(self.database.service) as session:
            session.execute(text("UPDATE procrastinate_jobs SET attempts = attempts + 1"))

    def cancel(self) -> None:
        with transaction(self.database.service) as session:
            cancel_order(session, self.row_type, self.vendor_id, self.order_id, NOW)

    def refuse_at_commit(self, table: str, event: str) -> None:
        """Make every commit fail that does this to that table."""
        with self.database.owner.begin() as connection:
            connection.execute(
                text(f"""
                    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
                    CREATE CONSTRAINT TRIGGER late AFTER {event} ON {table} DEFERRABLE INITIALLY DEFERRED
                    FOR EACH ROW EXECUTE FUNCTION refuse();
                """)
            )

    def row(self) -> R:
        with transaction(self.database.service) as session:
            return session.get_one(self.row_type, self.order_id)

    def told(self) -> list[str]:
        """Name what webhooks and feeds are told."""
        with transaction(self.database.service) as session:
            return list(session.scalars(select(EventRow.kind).order_by(EventRow.id)))

    def models_in_log(self) -> int:
        with transaction(self.database.service) as session:
            check_log(session, self.bench.identity.public_key, self.bench.identity.origin)
            wanted = select(func.count()).select_from(LogEntryRow).where(LogEntryRow.kind == "model")
            return session.scalars(wanted).one()


def open_desk(database: Database, folder: Path, row_type: type[R], order: Order) -> Desk[R]:
    """Register, draw the labels, announce a worker, and place an order whose data are in no store."""
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
        new = NewOrder(vendor_id, registration_id, order, b"sealed")
        row = place(session, row_type, new, now=NOW, randomness=os.urandom(10))
        session.execute(text("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = :id"), {"id": row.job_id})
    store = open_store((folder / "objects").as_uri())
    bench = Bench(database.service, store, identity, {QUEUE: queue_key}, folder / "work", 2**20, lambda: NOW)
    assert row.job_id is not None
    registration = RegistrationEntry.parse(entry.entry)
    return Desk(database, bench, vendor_id, registration, entry.entry, row_type, row.id, row.job_id, opened.entry)
