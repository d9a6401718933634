"""What folders share: a database made by the migrations, empty for every test."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from hypothesis import settings
from sqlalchemy import Engine, make_url

from app.db.embedded import OWNER, EmbeddedPostgres
from app.db.engine import libpq_url, make_engine, upgrade

DEBIAN_BINARIES = Path("/usr/lib/postgresql/15/bin")
TEMPLATE = "made_by_the_migrations"

# These machines are noisy: how long an example takes says nothing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

BOTH_SERVERS = [
    "embedded",
    pytest.param(
        "debian",
        marks=[
            pytest.mark.debian,
            pytest.mark.skipif(not DEBIAN_BINARIES.exists(), reason="Debian's PostgreSQL 15 is not installed"),
        ],
    ),
]


@dataclass(frozen=True)
class Server:
    """A Postgres for the whole run."""

    postgres: EmbeddedPostgres
    data_dir: Path

    def url(self, url: str, database: str) -> str:
        return make_url(url).set(database=database).render_as_string(hide_password=False)

    def run(self, statement: str) -> None:
        with psycopg.connect(libpq_url(self.postgres.superuser_url), autocommit=True) as connection:
            connection.execute(statement)

    def kill(self) -> None:
        """Kill the postmaster as a crash would; its supervisor starts another."""
        pid = int((self.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    @contextmanager
    def database(self, template: str) -> Iterator["Database"]:
        name = f"test_{uuid4().hex}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {OWNER}")
        urls = [self.url(url, name) for url in (self.postgres.owner_url, self.postgres.service_url)]
        owner, service = (make_engine(url) for url in urls)
        try:
            yield Database(self, urls[0], urls[1], owner, service)
        finally:
            owner.dispose()
            service.dispose()
            self.run(f"DROP DATABASE {name} WITH (FORCE)")


@dataclass(frozen=True)
class Database:
    """A database of one test, as its owner and as the service sees it."""

    server: Server
    owner_url: str
    service_url: str
    owner: Engine
    service: Engine


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """Start each server when a test first asks for it."""
    started: dict[str, Server] = {}

    def start(name: str) -> Server:
        if name not in started:
            data_dir = tmp_path_factory.mktemp(name)
            binaries = DEBIAN_BINARIES if name == "debian" else None
            server = Server(EmbeddedPostgres.start(data_dir, binaries=binaries, durable=False), data_dir)
            started[name] = server
            server.run(f"CREATE DATABASE {TEMPLATE} OWNER {OWNER}")
            upgrade(server.url(server.postgres.owner_url, TEMPLATE))
        return started[name]

    yield start
    for server in started.values():
        server.postgres.stop()


@pytest.fixture
def database(servers: Callable[[str], Server]) -> Iterator[Database]:
    """A migrated, empty database on the embedded server."""
    with servers("embedded").database(TEMPLATE) as made:
        yield made


@pytest.fixture(params=BOTH_SERVERS)
def any_database(request: pytest.FixtureRequest, servers: Callable[[str], Server]) -> Iterator[Database]:
    """The same on each server that this machine has."""
    with servers(request.param).database(TEMPLATE) as made:
        yield made


@pytest.fixture(params=BOTH_SERVERS)
def unmigrated_database(request: pytest.FixtureRequest, servers: Callable[[str], Server]) -> Iterator[Database]:
    """A database with nothing in it, on each server."""
    with servers(request.param).database("template0") as made:
        yield made
