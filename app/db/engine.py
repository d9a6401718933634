"""Connections, transactions and migrations.

Invariants: one request or task is one transaction, and nothing signed leaves before it is committed; a lost connection
shows itself as DatabaseAway and nothing half-written remains; no statement, lock or idle transaction holds others up
for ever.
Source: SQLAlchemy 2.1 "Transactions and Connection Management"; PostgreSQL error codes, classes 08 and 57P.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from app.errors import DatabaseAway

# A client waits this long for a new connection, and for one from the pool.
CONNECT_SECONDS = 5
POOL_SECONDS = 10
# No request runs longer than the first; the second is how long a forgotten transaction may hold its locks.
STATEMENT_SECONDS = 30
LOCK_SECONDS = 10
IDLE_IN_TRANSACTION_SECONDS = 60

# Who migrates first makes the others wait this long.
MIGRATION_TURN_SECONDS = 300
# Any number, the same in every version: the name of the lock under which migrations run.
MIGRATION_LOCK = 0x7472_6170_0001

# The server is going down, was killed, is starting, or has no connection left for us.
AWAY_STATES = {"57P01", "57P02", "57P03", "53300"}
# Lock not available, statement cancelled by its timeout, deadlock, serialization.
BUSY_STATES = {"55P03", "57014", "40P01", "40001"}


def normalize_url(url: str) -> str:
    """Name the driver in a Postgres URL as people write it (`postgres://`, `postgresql://`)."""
    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


def libpq_url(url: str) -> str:
    """Write a Postgres URL as libpq reads it, without the driver's name."""
    return normalize_url(url).replace("postgresql+psycopg://", "postgresql://", 1)


def make_engine(url: str, *, pool_size: int = 10, max_overflow: int = 5, application: str = "trapstreet") -> Engine:
    """Make the engine of one process; connections are checked before use and opened only when needed."""
    limits = {
        "statement_timeout": STATEMENT_SECONDS,
        "lock_timeout": LOCK_SECONDS,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_SECONDS,
    }
    options = " ".join(f"-c {name}={seconds}s" for name, seconds in limits.items())
    return create_engine(
        normalize_url(url),
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_timeout=POOL_SECONDS,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "application_name": application,
            "options": f"{options} -c timezone=UTC",
        },
    )


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """Give a session whose work is committed at the end, or not at all.

    Raises: DatabaseAway if the server does not answer. At COMMIT it may then have written or not: callers must be able
    to repeat the whole.
    """
    try:
        # Rows stay readable after the commit: what is signed is signed from them.
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session
    except (DBAPIError, PoolTimeout, psycopg.Error) as error:
        if is_database_away(error):
            raise DatabaseAway("the database does not answer; the same call may succeed later") from error
        raise


def is_database_away(error: BaseException) -> bool:
    """Say whether an error means that the server cannot be reached now, rather than that it refused something."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DatabaseAway | PoolTimeout):
            return True
        if isinstance(cause, DBAPIError) and cause.connection_invalidated:
            return True
        if isinstance(cause, psycopg.errors.IdleInTransactionSessionTimeout):
            return True  # the server gave this connection up because we were frozen
        if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError) and _is_away(cause):
            return True
        cause = cause.__cause__
    return False


def _is_away(error: psycopg.Error) -> bool:
    # An operational error without a code comes from the connection, not from the server.
    return error.sqlstate is None or error.sqlstate.startswith("08") or error.sqlstate in AWAY_STATES


def is_database_busy(error: DBAPIError) -> bool:
    """Say whether the server refused a statement because of others at work: the same may succeed later."""
    return getattr(error.orig, "sqlstate", None) in BUSY_STATES


def migrations_config() -> Config:
    """Make Alembic's configuration; the migrations are installed beside `app`."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
    return config


def upgrade(url: str) -> None:
    """Bring the database to the newest schema in one transaction; of several at once, one works and the others wait.

    Raises: DatabaseAway if the server does not answer.
    """
    engine = create_engine(make_url(normalize_url(url)), poolclass=NullPool)
    config = migrations_config()
    try:
        with engine.begin() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = '{MIGRATION_TURN_SECONDS}s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            # From here on, waiting would make the running service wait behind us.
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DBAPIError as error:
        if is_database_away(error):
            raise DatabaseAway("the database does not answer; start it or correct DATABASE_URL") from error
        raise


def load_revision(session: Session) -> str | None:
    """Read which migration the database has."""
    revision: str | None = session.scalar(text("SELECT version_num FROM alembic_version"))
    return revision
