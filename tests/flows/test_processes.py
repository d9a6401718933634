"""How the operator's processes begin and end: real ones, with real signals."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.db.embedded import SERVICE, is_answering, url_of
from tests.conftest import Database
from tests.flows.claimant import free_port, wait_until

ROOT = Path(__file__).parents[2]

# A stage with one process on it, kept; the signal comes at the worst moment, before anybody waits for it.
KEEP = """
import signal, sys
from pathlib import Path
from app.cli.demonstration import _keep
from app.demo.stage import Stage
from app.demo.teller import Teller

class Interrupted(Teller):
    def say(self, text):
        super().say(text)
        if "everything runs" in text:
            signal.raise_signal(int(sys.argv[2]))

with Stage(Path(sys.argv[1])) as stage:
    stage._start("sleeper", ["-c", "import time; time.sleep(600)"], {})
    print(stage.process_id("sleeper"), flush=True)
    _keep(stage, Interrupted())
print("taken down")
"""


def start(*words: str, **environment: str) -> "subprocess.Popen[bytes]":
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return subprocess.Popen(
        [sys.executable, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        env=kept | {"PYTHONPATH": str(ROOT)} | environment,
    )


def end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_stop_has_stopped_its_database_when_it_ends(
    tmp_path: Path, number: signal.Signals
) -> None:
    port = free_port()
    server = start("-m", "app.cli", "serve", "--port", str(port), TRAPSTREET_DATA_DIR=str(tmp_path))

    def is_ready() -> bool:
        assert server.poll() is None, server.communicate()[0]
        try:
            return httpx2.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    try:
        wait_until(is_ready, "the API answers")
        database: dict[str, Any] = json.loads((tmp_path / "server.json").read_bytes())
        assert is_answering(url_of(database, SERVICE))
        server.send_signal(number)
        output = server.communicate(timeout=30)[0].decode()
        assert not is_answering(url_of(database, SERVICE))
        assert not (tmp_path / "postgres" / "postmaster.pid").exists()
        assert server.returncode == 0, output
        assert "Traceback" not in output
    finally:
        end(server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_kept_demonstration_is_taken_down_by_a_signal_at_any_moment(tmp_path: Path, number: signal.Signals) -> None:
    kept = start("-c", KEEP, str(tmp_path), str(int(number)))
    try:
        output = kept.communicate(timeout=30)[0].decode()
    finally:
        end(kept)
    assert kept.returncode == 0, output
    assert output.endswith("taken down\n")
    with pytest.raises(ProcessLookupError):
        os.kill(int(output.splitlines()[0]), 0)


def test_migrate_needs_no_more_than_the_owners_address(tmp_path: Path, database: Database) -> None:
    migration = start(
        *("-m", "app.cli", "migrate", "--json"),
        DATABASE_OWNER_URL=database.owner_url,
        TRAPSTREET_DATA_DIR=str(tmp_path / "data"),
    )
    output = migration.communicate(timeout=60)[0]
    assert migration.returncode == 0, output
    assert b'"migrated": true' in output
    assert not (tmp_path / "data").exists(), "no server of its own was started"
