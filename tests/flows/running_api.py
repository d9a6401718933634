"""The API as its callers have it: uvicorn on a loopback port, before a migrated database."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI

from app.db.engine import transaction
from app.log.beacon import check_beacons, open_beacon
from app.log.store import check_log
from app.main import create_app
from app.registry.registrations import note_beacon
from app.settings import Settings, load_log_identity
from tests.conftest import Database
from tests.flows.vendor_machine import VENDOR_KEY, sign_claim

LOG_SEED = b"\x07" * 32


def settings_for(database: Database, folder: Path, **changes: Any) -> Settings:
    """Make the settings of a service with a database of its own; the log's key is made beforehand."""
    key_file = folder / "log.key"
    if not key_file.exists():
        key_file.touch(mode=0o600)
        key_file.write_text(LOG_SEED.hex())
    values = {"DATABASE_URL": database.service_url, "data_dir": folder, "log_origin": "test.localhost/log", **changes}
    return Settings(**values)


@contextmanager
def served(app: FastAPI, port: int = 0) -> Iterator[str]:
    """Run an application on a loopback port, this one or any, and give its address."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", port))
    listening.listen(128)  # who comes before uvicorn does waits instead of being refused
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


class Service:
    """A running service as tests see it: its address, its database, and what is true of its log."""

    def __init__(self, url: str, database: Database, settings: Settings) -> None:
        self.url = url
        self.database = database
        self.settings = settings
        self.identity = load_log_identity(settings)

    @contextmanager
    def client(self, api_key: str = "") -> Iterator[httpx2.Client]:
        """Connect as the holder of a key, or as nobody."""
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        with httpx2.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False) as client:
            yield client

    def sign_up(self, name: str = "Vendor", private_key: bytes = VENDOR_KEY) -> dict[str, Any]:
        """Register a vendor and give the answer."""
        with self.client() as client:
            challenge = client.post("/v1/vendors/challenges").json()["challenge"]
            answer = client.post("/v1/vendors", json=sign_claim(challenge, name=name, private_key=private_key))
        assert answer.status_code == 201, answer.text
        return answer.json()

    def open_beacon(self, entry_index: int) -> int:
        """Do what the worker does for a registration."""
        with transaction(self.database.service) as session:
            now = datetime.now(UTC)
            opened = open_beacon(session, self.identity, entry_index, now)
            assert note_beacon(session, entry_index, opened.index, now)
            return opened.index

    def check_log(self) -> int:
        """Ask the oracle; give the size of the log."""
        with transaction(self.database.service) as session:
            check_beacons(session)
            return check_log(session, self.identity.public_key, self.identity.origin)


@contextmanager
def running_service(database: Database, folder: Path, **changes: Any) -> Iterator[Service]:
    """Start the API before a database."""
    settings = settings_for(database, folder, **changes)
    with served(create_app(settings, database.service_url)) as url:
        yield Service(url, database, settings)
