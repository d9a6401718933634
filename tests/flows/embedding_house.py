"""A service with embedding workers, and a vendor at its door: what the flow of story 2 and its run on CUDA share."""

import base64
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.cli.client import ApiClient, ApiProblem, register_statement, register_vendor
from app.cli.vendor import make_statement, read_registration
from app.db.engine import transaction
from app.db.tables import EmbeddingRow
from app.embedding.orders import R
from app.embedding.trigger_order import FamilyOrder
from app.gpu_worker import announce, load_queue_key
from app.keys.commitment import MarkingKey
from app.keys.key_file import encode_key_file
from app.keys.sealing import seal
from app.log.store import LogIdentity, check_log
from app.main import create_app
from app.protocol.records import WorkerKeyEntry
from app.settings import Settings
from app.storage.secret_file import load_secret
from tests.conftest import TEMPLATE, Database, Server
from tests.flows.claimant import free_port
from tests.flows.running_api import served
from tests.forked import Forked
from tests.training.examples import CLASSES, TINY, image_key, shapes_to_learn, write_tensors

ORIGIN = "log.example/embedding"

# Trains for minutes; every test that uses it ends it sooner.
ENDLESS = {**TINY, "epochs": 10_000, "compare_plain": False}
# Trains for a few seconds: long enough to be killed in the middle.
LONG = {**TINY, "epochs": 700, "compare_plain": False}


def wait_until(is_so: Callable[[], Any], seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@dataclass
class House:
    """The service: API, light worker, and the embedding workers that a test starts."""

    folder: Path
    database: Database
    environment: dict[str, str]
    identity: LogIdentity
    queue: str
    url: str = ""
    processes: list[Forked] = field(default_factory=list)
    clients: ExitStack = field(default_factory=ExitStack)

    def start(self, *queues: str) -> Forked:
        """Start a worker for these queues."""
        options = [option for queue in queues for option in ("--queue", queue)]
        log_file = self.folder / f"process{len(self.processes)}.log"
        process = Forked(["-m", "app.cli", "worker", *options], self.environment, log_file)
        self.processes.append(process)
        return process

    def row(self, order: dict[str, Any], row_type: type[R] = EmbeddingRow) -> R:  # type: ignore[assignment]
        with transaction(self.database.service) as session:
            return session.scalars(select(row_type).where(row_type.id == order["id"])).one()

    def check_log(self) -> None:
        with transaction(self.database.service) as session:
            check_log(session, self.identity.public_key, self.identity.origin)


@contextmanager
def open_house(server: Server, folder: Path, queue: str) -> Iterator[House]:
    """Start API and light worker; the queue's key is in the log before any embedding worker runs."""
    with server.database(TEMPLATE) as database:
        environment = {
            "PATH": os.defpath,
            "DATABASE_URL": database.service_url,
            "TRAPSTREET_DATA_DIR": str(folder / "data"),
            "TRAPSTREET_LOG_ORIGIN": ORIGIN,
            "TRAPSTREET_HEARTBEAT_SECONDS": "0.5",
            "TRAPSTREET_STALLED_SECONDS": "2",
            "TRAPSTREET_POLL_SECONDS": "0.2",
        }
        settings = Settings(DATABASE_URL=database.service_url, data_dir=folder / "data", log_origin=ORIGIN)
        identity = LogIdentity(ORIGIN, load_secret(settings.log_key_path, 32, create_from=os.urandom(32)))
        made = House(folder, database, environment, identity, queue)
        announce(database.service, identity, {queue: load_queue_key(settings.queue_key_folder, queue)})
        try:
            port = free_port()
            app = create_app(settings, database.service_url, portal_origin=f"http://localhost:{port}")
            with served(app, port) as made.url, made.clients:
                made.start("probe", "court", "system")
                yield made
        finally:
            for process in made.processes:
                process.kill()
                process.wait()


@dataclass
class Vendor:
    """A vendor with a registration whose labels are drawn, and uploaded data; its orders are of the kind at `path`."""

    client: ApiClient
    queue: str
    key: MarkingKey
    registration_id: str
    train_data: str
    test_data: str
    salt: bytes
    path: str = "/v1/embeddings"

    def sealed(self, key: MarkingKey | None = None) -> str:
        (queue,) = [item for item in self.client.items("/v1/queues") if item["queue"] == self.queue]
        entry = self.client.log.entry(queue["entry_index"]).entry
        assert isinstance(entry, WorkerKeyEntry)
        sealed = seal(entry.public_key, encode_key_file(key or self.key), self.key.root())
        return base64.b64encode(sealed).decode()

    def order(self, recipe: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        return {
            "registration_id": self.registration_id,
            "queue": self.queue,
            "recipe": recipe or TINY,
            "train_data": self.train_data,
            "test_data": self.test_data,
            "model": None,
            "sealed_key": self.sealed(),
            **changes,
        }

    def place(self, recipe: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        return self.client.post("/v1/embeddings", self.order(recipe, **changes))

    def place_report(self, model: str, *attacks: str, **changes: Any) -> dict[str, Any]:
        return self.client.post("/v1/survival-reports", self.report_order(model, *attacks, **changes))

    def report_order(self, model: str, *attacks: str, **changes: Any) -> dict[str, Any]:
        return {
            "registration_id": self.registration_id,
            "queue": self.queue,
            "settings": {"attacks": list(attacks), "epochs": 1, "student_epochs": 1, "threads": 1},
            "model": model,
            "train_data": self.train_data,
            "test_data": self.test_data,
            "sealed_key": self.sealed(),
            **changes,
        }

    def read(self, order: dict[str, Any]) -> dict[str, Any]:
        return self.client.get(f"{self.path}/{order['id']}")

    def cancel(self, order: dict[str, Any]) -> dict[str, Any]:
        return self.client.post(f"{self.path}/{order['id']}/cancel")

    def cancel_all(self) -> None:
        """End what a failed test left, so that the next one need not wait for it."""
        for item in self.client.items(self.path):
            if item["state"] in ("queued", "running"):
                self.cancel(item)

    def wait_for(self, order: dict[str, Any], state: str) -> dict[str, Any]:
        wait_until(lambda: self.read(order)["state"] not in ("queued", "running"))
        found = self.read(order)
        assert found["state"] == state, found
        return found

    def wait_for_progress(self, order: dict[str, Any]) -> None:
        wait_until(lambda: self.read(order)["progress"].get("epoch", 0) > 0)


def sign_up(house: House, folder: Path, name: str) -> Vendor:
    private_key = os.urandom(32)
    with ApiClient(house.url) as stranger:
        api_key = register_vendor(stranger, name, f"{name}@example.org", private_key)["api_key"]
    client = house.clients.enter_context(ApiClient(house.url, api_key))
    key = MarkingKey(os.urandom(32), image_key().inputs)
    statement = make_statement(key, ORIGIN, private_key, list(CLASSES), [FamilyOrder("all", 12)])
    registration_id = register_statement(client, statement, private_key)["id"]
    uploads = []
    for count, seed in ((90, 1), (30, 2)):
        path = write_tensors(folder / f"{name}{seed}.safetensors", *shapes_to_learn(count, seed))
        uploads.append(client.upload(path))
    wait_until(lambda: client.get(f"/v1/registrations/{registration_id}")["beacon_index"] is not None)
    _, _, salt = read_registration(client, registration_id)
    return Vendor(client, house.queue, key, registration_id, uploads[0], uploads[1], salt)


def refused(call: Callable[[], Any]) -> ApiProblem:
    with pytest.raises(ApiProblem) as problem:
        call()
    return problem.value


def children_of(pid: int) -> list[int]:
    """Every thread lists the children that it started."""
    return [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]
