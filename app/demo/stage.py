"""The processes of the demonstration: service, workers, agents, suspects, and the workshop's children.

Invariants: every server listens on loopback only; every process ends when this one does, even when it is killed, because
each watches its standard input; suspects get neither the service's settings nor its database's address.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from app.errors import Unavailable

START_SECONDS = 60.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.1


class Stage:
    """A folder and the processes that work in it; use as a context manager."""

    def __init__(self, folder: Path) -> None:
        """Work in `folder`: data and logs of every process lie there."""
        self.folder = folder
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        # Passkeys want a name, not an address.
        self.portal = f"http://localhost:{port}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = _bare_environment()
        self._settings = {
            "TRAPSTREET_DATA_DIR": str(folder / "service"),
            "TRAPSTREET_ALLOWED_NETWORKS": json.dumps(["127.0.0.0/8"]),
            "TRAPSTREET_ALLOW_HTTP": "true",
            "TRAPSTREET_PORTAL_ORIGIN": self.portal,
            "TRAPSTREET_LOG_ORIGIN": "demo.trapstreet.localhost/log",
        }

    def __enter__(self) -> Self:
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(*reversed(list(self._running)))

    def start_service(self) -> None:
        """Start the API with its embedded Postgres, the light worker and the training worker.

        Raises: Unavailable if the API does not become ready.
        """
        port = self.url.rpartition(":")[2]
        self._start("api", ["-m", "app.cli", "serve", "--port", port, "--with-parent"], self._settings)
        self._wait_until_ready()
        for name, queues in (
            ("light-worker", ["probe", "court", "post", "system"]),
            ("training-worker", ["embed.cpu"]),
        ):
            options = [option for queue in queues for option in ("--queue", queue)]
            self._start(name, ["-m", "app.cli", "worker", *options, "--with-parent"], self._settings)

    def start_agent(self, name: str, key_file: Path, api_key: str, log_key: str) -> None:
        """Start `trapstreet agent` for a key file."""
        access = {"TRAPSTREET_API_KEY": api_key, "TRAPSTREET_LOG_KEY": log_key, "TRAPSTREET_URL": self.url}
        options = ["--poll-seconds", "0.2", "--with-parent"]
        self._start(name, ["-m", "app.cli", "agent", str(key_file), *options], access)

    def start_suspect(self, name: str) -> None:
        """Start a model server for the weights of this name; `suspect_url` waits for it."""
        weights = self.folder / f"{name}.safetensors"
        self._start(f"suspect-{name}", ["-m", "app.demo.suspect_server", str(weights), "digits"], {}, piped=True)

    def suspect_url(self, name: str) -> str:
        """Give the address of a suspect once it listens.

        Raises: Unavailable with the end of its log if it does not.
        """
        process = self._running[f"suspect-{name}"]
        line = process.stdout.readline() if process.stdout else b""
        if not line:
            raise Unavailable(f"suspect {name} did not start: {self._log_end(f'suspect-{name}')}")
        return f"http://127.0.0.1:{int(line)}"

    def sign_in_link(self, vendor_id: str, name: str) -> str:
        """Make a one-time link for a new owner of a vendor, as the operator does.

        Raises: Unavailable.
        """
        command = [sys.executable, "-m", "app.cli", "people", "link", "--vendor", vendor_id, "--name", name, "--json"]
        done = subprocess.run(command, capture_output=True, check=False, env=self._environment | self._settings)
        if done.returncode:
            raise Unavailable(f"no sign-in link: {done.stdout!r} {done.stderr!r}")
        link: str = json.loads(done.stdout)["link"]
        return link

    def workshop(self, task: str) -> "Workshop":
        """Start a task of the workshop in the background."""
        return Workshop(task, self.folder, self._environment)

    def stop(self, *names: str) -> None:
        """Stop processes by name, the last started first."""
        for name in names:
            process = self._running.pop(name)
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            if process.stdin:
                process.stdin.close()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()

    def stop_service(self) -> None:
        """Stop everything but the suspects: agents, workers, API and its Postgres."""
        self.stop(*[name for name in reversed(list(self._running)) if not name.startswith("suspect-")])

    def process_id(self, name: str) -> int:
        """Give the id of a running process."""
        return self._running[name].pid

    def addresses(self) -> dict[str, str]:
        """Give the process ids of what runs, by name."""
        return {name: f"process {process.pid}" for name, process in self._running.items()}

    def _start(self, name: str, command: list[str], extra: dict[str, str], *, piped: bool = False) -> None:
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if piped else log,
                stderr=log,
                env=self._environment | extra,
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        with httpx2.Client(base_url=self.url, trust_env=False) as client:
            while time.monotonic() < deadline and self._running["api"].poll() is None:
                with suppress(httpx2.TransportError):
                    if client.get("/readyz").status_code == 200:
                        return
                time.sleep(POLL_SECONDS)
        raise Unavailable(f"the service did not start: {self._log_end('api')}")

    def _log_end(self, name: str) -> str:
        return (self.folder / "logs" / f"{name}.log").read_text(errors="replace")[-2000:]


class Workshop:
    """One task of the workshop, running."""

    def __init__(self, task: str, folder: Path, environment: dict[str, str]) -> None:
        self._task = task
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app.demo.workshop", str(folder), task],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )

    @property
    def is_done(self) -> bool:
        """Tell whether the task has ended."""
        return self._process.poll() is not None

    def result(self) -> dict[str, Any]:
        """Wait for the task and give what came of it.

        Raises: Unavailable with its last words if it failed.
        """
        output, errors = self._process.communicate()
        if self._process.returncode:
            raise Unavailable(f"the workshop's task {self._task} failed: {errors.decode(errors='replace')[-1000:]}")
        value: dict[str, Any] = json.loads(output)
        return value


def _bare_environment() -> dict[str, str]:
    """Keep what a Python needs to start and nothing that configures the service."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
    inherited = {name: value for name, value in os.environ.items() if name in kept}  # noqa: TID251  # not settings
    return {**inherited, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def new_folder(base: Path) -> Path:
    """Make a fresh folder for one run, so that two demonstrations never share one."""
    folder = base / f"demo-{secrets.token_hex(4)}"
    folder.mkdir(parents=True, mode=0o700)
    return folder
