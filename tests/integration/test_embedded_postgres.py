"""The server that starts by itself: who may enter, and when it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from app.db.embedded import EmbeddedPostgres, is_answering
from app.db.engine import libpq_url, upgrade

ROOT = Path(__file__).parents[2]

# Starts or attaches, says where, and waits until it is told to end.
OWNER_PROGRAM = """
import sys
from pathlib import Path
from app.db.embedded import EmbeddedPostgres
with EmbeddedPostgres.start(Path(sys.argv[1]), durable=False) as postgres:
    print(postgres.service_url, postgres.is_owner, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder that only its owner may enter, as `mktemp -d` makes it."""
    with tempfile.TemporaryDirectory() as folder:
        assert Path(folder).stat().st_mode & 0o077 == 0
        yield Path(folder) / "clone" / ".trapstreet"


@pytest.fixture
def in_another_process(data_dir: Path) -> Iterator[Callable[[], tuple["subprocess.Popen[str]", str, bool]]]:
    """Start servers in processes of their own."""
    processes = []

    def start() -> tuple["subprocess.Popen[str]", str, bool]:
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER_PROGRAM, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        processes.append(process)
        assert process.stdout is not None
        url, is_owner = process.stdout.readline().split()
        return process, url, is_owner == "True"

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


def is_running(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_it_runs_under_a_folder_that_only_its_owner_enters_and_changes_nothing_outside(data_dir: Path) -> None:
    outside = [data_dir.parent.parent, Path(tempfile.gettempdir()), ROOT, Path(sys.executable).resolve()]
    users = Path("/etc/passwd").read_bytes()
    before = [path.stat().st_mode for path in outside]
    with EmbeddedPostgres.start(data_dir, durable=False) as postgres:
        upgrade(postgres.owner_url)
        assert is_answering(postgres.service_url)
    assert [path.stat().st_mode for path in outside] == before
    assert Path("/etc/passwd").read_bytes() == users
    assert {path.stat().st_uid for path in data_dir.rglob("*")} == {os.geteuid()}


def test_it_stops_at_the_end_and_keeps_data_passwords_and_port(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir, durable=False) as postgres:
        url = postgres.owner_url
        with psycopg.connect(libpq_url(url)) as connection:
            connection.execute("CREATE TABLE kept (id int)")
    assert not is_answering(url)
    with EmbeddedPostgres.start(data_dir, durable=False) as postgres:
        assert postgres.owner_url == url
        with psycopg.connect(libpq_url(url)) as connection:
            connection.execute("SELECT * FROM kept")


def test_passwords_are_needed_and_lie_where_only_the_owner_reads(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir, durable=False) as postgres:
        assert (data_dir / "server.json").stat().st_mode & 0o777 == 0o600
        assert data_dir.stat().st_mode & 0o777 == 0o700
        password = json.loads((data_dir / "server.json").read_text())["trapstreet_service"]
        assert is_answering(postgres.service_url)
        assert not is_answering(postgres.service_url.replace(password, "wrong"))
        rules = (data_dir / "postgres" / "pg_hba.conf").read_text()
        methods = {line.split()[-1] for line in rules.splitlines() if line and not line.startswith("#")}
        assert methods == {"scram-sha-256"}
        with psycopg.connect(libpq_url(postgres.owner_url)) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):  # the owner of the schema is no superuser
                connection.execute("CREATE ROLE another")


def test_who_comes_later_attaches_and_does_not_stop_it(
    data_dir: Path, in_another_process: Callable[[], tuple["subprocess.Popen[str]", str, bool]]
) -> None:
    _, url, is_owner = in_another_process()
    assert is_owner
    with EmbeddedPostgres.start(data_dir) as attached:
        assert not attached.is_owner
        assert attached.service_url == url
    assert is_answering(url)


def test_of_several_who_come_at_once_one_owns_it(data_dir: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        started = [task.result() for task in [pool.submit(EmbeddedPostgres.start, data_dir) for _ in range(4)]]
    assert sum(postgres.is_owner for postgres in started) == 1
    for postgres in started:
        postgres.stop()


def test_it_ends_when_its_owner_is_killed(
    data_dir: Path, in_another_process: Callable[[], tuple["subprocess.Popen[str]", str, bool]]
) -> None:
    process, url, _ = in_another_process()
    pid = postmaster(data_dir)
    process.kill()
    wait_until(lambda: not is_running(pid))
    assert not is_answering(url)
    # Clean: the next start finds nothing to recover.
    assert "database system is shut down" in (data_dir / "server.log").read_text()
    with EmbeddedPostgres.start(data_dir, durable=False) as postgres:
        assert postgres.is_owner


def test_it_ends_even_when_its_supervisor_is_killed_and_starts_again_after_that(
    data_dir: Path, in_another_process: Callable[[], tuple["subprocess.Popen[str]", str, bool]]
) -> None:
    in_another_process()
    pid = postmaster(data_dir)
    supervisor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))
    with EmbeddedPostgres.start(data_dir, durable=False) as postgres:
        assert postgres.is_owner


def test_a_killed_server_comes_back_under_the_same_address_with_what_was_committed(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir) as postgres:
        with psycopg.connect(libpq_url(postgres.owner_url)) as connection:
            connection.execute("CREATE TABLE kept (id int)")
        with psycopg.connect(libpq_url(postgres.owner_url)) as held:
            held.execute("SELECT * FROM kept")
            os.kill(postmaster(data_dir), signal.SIGKILL)
            wait_until(lambda: not is_answering(postgres.owner_url))
            wait_until(lambda: is_answering(postgres.owner_url))
            held.close()
        with psycopg.connect(libpq_url(postgres.owner_url)) as connection:
            connection.execute("SELECT * FROM kept")


def test_a_half_made_cluster_of_a_crash_is_made_anew(data_dir: Path) -> None:
    (data_dir / "postgres.new").mkdir(parents=True)
    (data_dir / "postgres.new" / "PG_VERSION").write_text("18")
    with EmbeddedPostgres.start(data_dir, durable=False) as postgres:
        assert is_answering(postgres.service_url)


def test_a_port_that_another_program_took_is_changed(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir, durable=False) as postgres:
        old = postgres.service_url
    port = int(json.loads((data_dir / "server.json").read_text())["port"])
    with socket.socket() as other:
        # The server's own closed connections still linger on the port.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with EmbeddedPostgres.start(data_dir, durable=False) as postgres:
            assert postgres.service_url != old
            assert is_answering(postgres.service_url)


def test_strings_sort_by_code_point_on_every_host(data_dir: Path) -> None:
    with (
        EmbeddedPostgres.start(data_dir, durable=False) as postgres,
        psycopg.connect(libpq_url(postgres.owner_url)) as connection,
    ):
        rows = connection.execute("SELECT w FROM unnest(ARRAY['a', 'Z', 'é', 'z']) AS w ORDER BY w").fetchall()
    assert [row[0] for row in rows] == ["Z", "a", "z", "é"]
