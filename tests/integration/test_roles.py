"""What the service role may not do, and what even the owner may not."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

import app.db.derivation_tables  # its tables stand beside the others
import app.db.lifecycle_tables
import app.db.notice_tables
import app.db.people_tables  # noqa: F401
from app.db.engine import make_engine
from app.db.tables import APPEND_ONLY_TABLES, LOG_TABLES, Base
from tests.conftest import BOTH_SERVERS, TEMPLATE, Database, Server

ENTRY = text("INSERT INTO log_entries VALUES (0, 'k', 'data', decode(repeat('00', 32), 'hex'), now())")


@pytest.fixture(scope="module", params=BOTH_SERVERS)
def guarded_database(request: pytest.FixtureRequest, servers: Callable[[str], Server]) -> Iterator[Database]:
    """One database for all tests whose statements change nothing."""
    with servers(request.param).database(TEMPLATE) as made:
        yield made


def refused(engine: Engine, statement: str) -> str:
    """Run a statement that must fail for want of a right, and give the server's words."""
    with engine.begin() as connection, pytest.raises(ProgrammingError) as failure:
        connection.execute(text(statement))
    assert getattr(failure.value.orig, "sqlstate", None) == "42501", failure.value
    return str(failure.value.orig)


@pytest.mark.parametrize("table", APPEND_ONLY_TABLES)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {} SET {column} = {column}",
        "DELETE FROM {}",
        "TRUNCATE {} CASCADE",
        "ALTER TABLE {} DISABLE TRIGGER append_only",
        "ALTER TABLE {} DISABLE TRIGGER ALL",
        "DROP TABLE {} CASCADE",
        "CREATE RULE hide AS ON INSERT TO {} DO INSTEAD NOTHING",
        "ALTER TABLE {} OWNER TO trapstreet_service",
    ],
)
def test_the_service_cannot_change_what_was_logged(guarded_database: Database, table: str, statement: str) -> None:
    column = next(iter(Base.metadata.tables[table].columns)).name
    refused(guarded_database.service, statement.format(table, column=column))


@pytest.mark.parametrize("statement", ["UPDATE {} SET {column} = {column}", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
@pytest.mark.parametrize("table", APPEND_ONLY_TABLES)
def test_not_even_the_owner_changes_what_was_logged(guarded_database: Database, table: str, statement: str) -> None:
    column = next(iter(Base.metadata.tables[table].columns)).name
    assert "append-only" in refused(guarded_database.owner, statement.format(table, column=column))


def test_a_session_that_plays_a_replica_is_refused_too(any_database: Database) -> None:
    server = any_database.server
    url = server.url(server.postgres.superuser_url, any_database.owner.url.database or "")
    superuser = make_engine(url)
    with superuser.begin() as connection:
        connection.execute(text("SET session_replication_role = replica"))
        with pytest.raises(ProgrammingError, match="append-only"):
            connection.execute(text("DELETE FROM log_entries"))
    superuser.dispose()


def test_the_service_cannot_upsert_over_an_entry(any_database: Database) -> None:
    with any_database.service.begin() as connection:
        connection.execute(ENTRY)
    refused(any_database.service, f"{ENTRY} ON CONFLICT (index) DO UPDATE SET kind = 'forged'")


def test_the_service_appends_and_reads(any_database: Database) -> None:
    with any_database.service.begin() as connection:
        connection.execute(ENTRY)
        zeros = "decode(repeat('00', 32), 'hex')"
        connection.execute(text(f"INSERT INTO entry_nonces VALUES (0, {zeros})"))
        connection.execute(text(f"INSERT INTO log_nodes VALUES (0, 0, {zeros})"))
        connection.execute(text("INSERT INTO log_checkpoints VALUES (1, 'note', now())"))
        for table in APPEND_ONLY_TABLES:
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 1


def test_the_service_cannot_make_tables(any_database: Database) -> None:
    refused(any_database.service, "CREATE TABLE mine (id int)")


def test_the_service_has_every_right_it_needs_and_no_other(any_database: Database) -> None:
    with any_database.owner.begin() as connection:
        rows = connection.execute(
            text(
                "SELECT table_name, string_agg(privilege_type, ' ' ORDER BY privilege_type)"
                " FROM information_schema.table_privileges WHERE grantee = 'trapstreet_service' GROUP BY table_name"
            )
        ).all()
    rights = {row[0]: row[1] for row in rows}
    assert set(LOG_TABLES) < set(rights)
    for table in Base.metadata.tables:
        expected = "INSERT SELECT" if table in APPEND_ONLY_TABLES else "DELETE INSERT SELECT UPDATE"
        assert rights[table] == expected, table
    assert rights["alembic_version"] == "SELECT"
