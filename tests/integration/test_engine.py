from datetime import UTC, datetime

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from app.db.engine import (
    is_database_away,
    is_database_busy,
    libpq_url,
    make_engine,
    normalize_url,
    transaction,
    upgrade,
)
from app.db.tables import VendorRow, new_id
from app.errors import DatabaseAway
from tests.conftest import Database

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
NOBODY = "postgresql://nobody:x@127.0.0.1:1/none"


def vendor(name: str = "Vendor") -> VendorRow:
    return VendorRow(id=new_id(NOW, name.encode() * 10), name=name, contact="", public_key=bytes(32), created_at=NOW)


@pytest.mark.parametrize("prefix", ["postgres://", "postgresql://", "postgresql+psycopg://"])
def test_a_url_may_name_postgres_in_any_of_its_ways(prefix: str) -> None:
    assert normalize_url(f"{prefix}u:p@h/d") == "postgresql+psycopg://u:p@h/d"
    assert libpq_url(f"{prefix}u:p@h/d") == "postgresql://u:p@h/d"


def test_a_transaction_is_kept_at_its_end(database: Database) -> None:
    with transaction(database.service) as session:
        session.add(vendor())
    with transaction(database.service) as session:
        assert session.get_one(VendorRow, vendor().id).created_at == NOW


def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), transaction(database.service) as session:  # noqa: PT012
        session.add(vendor())
        session.flush()
        raise ZeroDivisionError
    with transaction(database.service) as session:
        assert session.get(VendorRow, vendor().id) is None


def test_rows_can_be_read_after_the_commit(database: Database) -> None:
    with transaction(database.service) as session:
        row = vendor()
        session.add(row)
    assert row.name == "Vendor"


def test_a_refusal_of_the_database_is_not_its_absence(database: Database) -> None:
    with pytest.raises(IntegrityError), transaction(database.service) as session:
        session.add(VendorRow(id=vendor().id, name="", contact="", public_key=b"short", created_at=NOW))


def test_no_server_is_database_away() -> None:
    engine = make_engine(NOBODY)
    with pytest.raises(DatabaseAway), transaction(engine) as session:
        session.execute(text("SELECT 1"))
    with pytest.raises(DatabaseAway):
        upgrade(NOBODY)


def test_a_connection_that_dies_in_a_transaction_is_database_away_and_the_next_one_works(database: Database) -> None:
    with pytest.raises(DatabaseAway), transaction(database.service) as session:  # noqa: PT012
        session.add(vendor())
        session.flush()
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        database.server.run(f"SELECT pg_terminate_backend({pid}, 5000)")
        session.execute(text("SELECT 1"))
    with transaction(database.service) as session:
        assert session.get(VendorRow, vendor().id) is None


def test_a_connection_that_died_while_idle_is_replaced_unseen(database: Database) -> None:
    with transaction(database.service) as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
    database.server.run(f"SELECT pg_terminate_backend({pid}, 5000)")
    with transaction(database.service) as session:
        assert session.scalar(text("SELECT 1")) == 1


def test_a_full_pool_is_database_away(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.engine.POOL_SECONDS", 0.1)
    engine = make_engine(database.service_url, pool_size=1, max_overflow=0)
    with transaction(engine) as first:
        first.execute(text("SELECT 1"))
        with pytest.raises(DatabaseAway), transaction(engine) as second:
            second.execute(text("SELECT 1"))
    engine.dispose()


def test_no_statement_and_no_forgotten_transaction_runs_for_ever(database: Database) -> None:
    with transaction(database.service) as session:
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            assert session.scalar(text("SELECT setting::int FROM pg_settings WHERE name = :name"), {"name": name}) > 0


def test_a_statement_over_its_time_is_database_busy_and_not_away(database: Database) -> None:
    with pytest.raises(DBAPIError) as failure, transaction(database.service) as session:  # noqa: PT012
        session.execute(text("SET LOCAL statement_timeout = '50ms'"))
        session.execute(text("SELECT pg_sleep(5)"))
    assert is_database_busy(failure.value)
    assert not is_database_away(failure.value)


def test_a_lock_that_another_holds_is_database_busy_and_a_wrong_statement_is_not(database: Database) -> None:
    take = text("SELECT pg_advisory_xact_lock(1)")
    with transaction(database.service) as holder:
        holder.execute(take)
        with pytest.raises(DBAPIError) as refused, transaction(database.service) as session:  # noqa: PT012
            session.execute(text("SET LOCAL lock_timeout = '50ms'"))
            session.execute(take)
    assert is_database_busy(refused.value)
    with pytest.raises(DBAPIError) as wrong, transaction(database.service) as session:
        session.execute(text("SELECT 1 / 0"))
    assert not is_database_busy(wrong.value)


def test_the_cause_behind_another_error_counts() -> None:
    error = RuntimeError("outer")
    error.__cause__ = psycopg.OperationalError("connection failed")
    assert is_database_away(error)
    assert not is_database_away(RuntimeError("alone"))
