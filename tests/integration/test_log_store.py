import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text

from app.canonical import sha256
from app.db.engine import transaction
from app.db.tables import EntryNonceRow, LogCheckpointRow, LogEntryRow, LogNodeRow
from app.errors import Malformed, NotFound, PolicyRefused, ProofError
from app.log.beacon import OPEN_BEACON_TASK, append_with_nonce, check_beacons, find_beacon, open_beacon
from app.log.store import (
    LogIdentity,
    append,
    check_log,
    consistency,
    count_entries,
    entry_time,
    latest_checkpoint,
    load_entry,
    receipt_for,
    verify_identity,
)
from app.merkle.checkpoint import verify_checkpoint
from app.merkle.receipt import parse_receipt, verify_receipt
from app.merkle.tree import verify_consistency
from app.protocol.records import BlockEntry, Entry, FilingEntry, RegistrationEntry
from tests.conftest import Database
from tests.flows.vendor_machine import a_statement

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LOG = LogIdentity("test.localhost/log", b"\x07" * 32)
NONCE = b"\x05" * 32


def add_block(database: Database, number: int, now: datetime = NOW) -> int:
    with transaction(database.service) as session:
        entry = BlockEntry(time=entry_time(session, now), filing=0, block=number, head=bytes(32))
        return append(session, LOG, entry, now).index


def is_whole(database: Database) -> int:
    with transaction(database.service) as session:
        check_beacons(session)
        return check_log(session, LOG.public_key, LOG.origin)


def a_registration(nonce_hash: bytes, time: str) -> Entry:
    return RegistrationEntry(time, a_statement(LOG.origin), bytes(64), nonce_hash)


def a_filing(registration: int) -> Callable[[bytes, str], Entry]:
    return lambda nonce_hash, time: FilingEntry(time, registration, 1, bytes(32), nonce_hash)


def test_every_entry_is_proven_at_every_size(database: Database) -> None:
    last = 17
    for number in range(last):
        assert add_block(database, number) == number
        assert is_whole(database) == number + 1
    with transaction(database.service) as session:
        for size in range(1, last + 1):
            for index in range(size):
                receipt = parse_receipt(receipt_for(session, index, size).encode())
                checkpoint = verify_receipt(receipt, load_entry(session, index), LOG.public_key, LOG.origin)
                assert (receipt.index, checkpoint.size) == (index, size)
        notes = dict(session.execute(select(LogCheckpointRow.size, LogCheckpointRow.note)).all())
        roots = {size: verify_checkpoint(note, LOG.public_key, LOG.origin).root for size, note in notes.items()}
        for old in range(1, last + 1):
            for new in range(old, last + 1):
                verify_consistency(old, roots[old], new, roots[new], consistency(session, old, new))
        assert verify_checkpoint(latest_checkpoint(session), LOG.public_key, LOG.origin).size == last


def test_an_empty_log_has_no_checkpoint_and_is_whole(database: Database) -> None:
    assert is_whole(database) == 0
    with transaction(database.service) as session:
        assert consistency(session, 0, 0) == []
        with pytest.raises(NotFound):
            latest_checkpoint(session)
        with pytest.raises(NotFound):
            receipt_for(session, 0)


def test_what_is_not_in_the_log_is_not_proven(database: Database) -> None:
    add_block(database, 0)
    add_block(database, 1)
    with transaction(database.service) as session:
        with pytest.raises(Malformed):
            receipt_for(session, 1, 1)
        with pytest.raises(NotFound):
            receipt_for(session, 1, 3)
        with pytest.raises(NotFound):
            receipt_for(session, 2)
        with pytest.raises(Malformed):
            consistency(session, 1, 3)
        with pytest.raises(Malformed):
            consistency(session, 2, 1)


def test_an_append_that_is_not_committed_leaves_nothing(database: Database) -> None:
    add_block(database, 0)
    with pytest.raises(ZeroDivisionError), transaction(database.service) as session:  # noqa: PT012
        append_with_nonce(session, LOG, a_registration, NONCE, NOW)
        raise ZeroDivisionError
    assert is_whole(database) == 1
    assert add_block(database, 1) == 1
    with transaction(database.service) as session:
        assert session.scalars(select(EntryNonceRow)).all() == []
        assert session.scalars(text("SELECT id FROM procrastinate_jobs")).all() == []


def test_appenders_at_once_never_share_an_index(database: Database) -> None:
    ready, given = threading.Barrier(4), []

    def work(worker: int) -> None:
        ready.wait()
        given.extend(add_block(database, worker) for _ in range(10))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == list(range(40))
    assert is_whole(database) == 40


def test_time_never_goes_back_even_if_the_clock_does(database: Database) -> None:
    add_block(database, 0, NOW)
    add_block(database, 1, NOW - timedelta(hours=1))
    assert is_whole(database) == 2
    with transaction(database.service) as session:
        assert b'"time":"2026-01-31T12:00:00Z"' in load_entry(session, 1)
        early = BlockEntry(time="2026-01-31T11:00:00Z", filing=0, block=2, head=bytes(32))
        with pytest.raises(ValueError, match="cannot follow"):
            append(session, LOG, early, NOW)


def test_entries_are_counted_by_kind_and_place(database: Database) -> None:
    add_block(database, 0)
    with transaction(database.service) as session:
        append_with_nonce(session, LOG, a_registration, NONCE, NOW)
    add_block(database, 1)
    with transaction(database.service) as session:
        assert count_entries(session) == 3
        assert count_entries(session, "block") == 2
        assert count_entries(session, "block", before_index=2) == 1


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("log_entries", "data = data || ' '"),
        ("log_entries", "kind = 'model'"),
        ("log_entries", "leaf_hash = sha256('')"),
        ("log_entries", "created_at = created_at + interval '1 s'"),
        ("log_nodes", "hash = sha256('')"),
        ("log_checkpoints", "note = replace(note, 'A', 'B')"),
    ],
)
def test_the_oracle_sees_every_change(database: Database, table: str, change: str) -> None:
    for number in range(3):
        add_block(database, number)
    with database.owner.begin() as connection:
        connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER append_only"))
        connection.execute(text(f"UPDATE {table} SET {change}"))
    with pytest.raises((ProofError, Malformed)):
        is_whole(database)


@pytest.mark.parametrize("table", [LogNodeRow, LogCheckpointRow])
def test_the_oracle_sees_what_is_too_much(database: Database, table: type) -> None:
    add_block(database, 0)
    with transaction(database.service) as session:
        extra = {LogNodeRow: {"level": 1, "index": 7, "hash": bytes(32)}, LogCheckpointRow: {"size": 9, "note": ""}}
        made_at = {} if table is LogNodeRow else {"created_at": NOW}
        session.add(table(**extra[table], **made_at))
    with pytest.raises(ProofError):
        is_whole(database)


def test_a_log_is_not_continued_under_another_key_or_origin(database: Database) -> None:
    with transaction(database.service) as session:
        verify_identity(session, LOG)
    add_block(database, 0)
    with transaction(database.service) as session:
        verify_identity(session, LOG)
        with pytest.raises(PolicyRefused):
            verify_identity(session, LogIdentity(LOG.origin, b"\x08" * 32))
        with pytest.raises(PolicyRefused):
            verify_identity(session, LogIdentity("other.localhost/log", LOG.private_key))


def test_a_beacon_opens_the_nonce_of_its_entry_once(database: Database) -> None:
    with transaction(database.service) as session:
        registration = append_with_nonce(session, LOG, a_registration, NONCE, NOW)
        filing = append_with_nonce(session, LOG, a_filing(registration.index), b"\x06" * 32, NOW)
        jobs = session.execute(text("SELECT task_name, queue_name, args FROM procrastinate_jobs ORDER BY id")).all()
    assert [tuple(job) for job in jobs] == [(OPEN_BEACON_TASK, "court", {"entry_index": i}) for i in (0, 1)]
    for entry_index, nonce in ((filing.index, b"\x06" * 32), (registration.index, NONCE)):
        with transaction(database.service) as session:
            assert find_beacon(session, entry_index) is None
            opened = open_beacon(session, LOG, entry_index, NOW)
            assert (opened.entry.entry, opened.entry.round, opened.entry.nonce) == (entry_index, entry_index, nonce)
        with transaction(database.service) as session:
            assert open_beacon(session, LOG, entry_index, NOW) == opened
            assert find_beacon(session, entry_index) == opened
    assert is_whole(database) == 4


def test_an_entry_without_a_nonce_has_no_beacon(database: Database) -> None:
    add_block(database, 0)
    with transaction(database.service) as session, pytest.raises(NotFound):
        open_beacon(session, LOG, 0, NOW)


def test_the_database_holds_the_hash_of_a_nonce_in_the_entry(database: Database) -> None:
    with transaction(database.service) as session:
        index = append_with_nonce(session, LOG, a_registration, NONCE, NOW).index
        entry = RegistrationEntry.parse(load_entry(session, index))
        assert entry.nonce_hash == sha256(NONCE)
        assert session.get_one(LogEntryRow, index).kind == "registration"
