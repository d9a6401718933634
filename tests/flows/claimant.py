"""A service of real processes, and a claimant with everything it needs: for the tests of disputes."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.canonical import sha256
from app.cli.agent import Agent
from app.cli.client import ApiClient, ApiProblem, file_dispute, register_statement, register_vendor
from app.keys.commitment import MarkingKey
from app.keys.cover_set import encode_cover_set, parse_cover_set
from app.keys.labels import draw_labels, salt_of
from app.keys.statement import Statement
from app.keys.trigger_set import Family, ImageInput
from app.protocol.assessment import beacon_value
from app.protocol.bundle import Checked, check_bundle
from app.protocol.interface import BY_CLAIMANT, Interface, InterfaceOrigin
from app.protocol.records import BeaconEntry, FilingRecord, ModelEntry, Policy, parse_entry
from app.signature import public_key_of, sign
from app.storage.archive import unpack
from app.suspects.adapter_codec import AdapterCodec
from tests.conftest import Database
from tests.forked import Forked
from tests.simulators.suspect import Answer, SuspectSimulator

ORIGIN = "test.trapstreet.localhost/log"
CLASSES = 10

# Of an innocent endpoint. One in 450 is still undecided after 192 triggers, and then the verdict says so.
LET_GO = (("NOT_SUPPORTED", "futile"), ("INCONCLUSIVE", "budget"))

# Generous: several of these tests run beside each other on two cores.
PATIENCE_SECONDS = 60.0

LOG_KEY = b"\x07" * 32

# Seals what suspects want to see before they answer.
SECRETS_KEY = b"\x08" * 32

# Whose countersignature of an interface the service believes.
ARBITER = b"\x33" * 32

BOOT = """
import logging
from app.settings import load_settings
logging.basicConfig(level=logging.INFO)
"""

Answering = Callable[[bytes], Answer]


def wait_until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait until `condition` gives something true, and give it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """The API and light workers as processes over one database."""

    def __init__(self, database: Database, folder: Path, smtp_url: str = "") -> None:
        self.database = database
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.processes: dict[str, Forked] = {}
        self.clients = ExitStack()
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        self.environment = kept | {
            "DATABASE_URL": database.service_url,
            "DATABASE_OWNER_URL": database.owner_url,
            "TRAPSTREET_DATA_DIR": str(folder),
            "TRAPSTREET_LOG_ORIGIN": ORIGIN,
            "TRAPSTREET_ALLOWED_NETWORKS": '["127.0.0.0/8"]',
            "TRAPSTREET_ARBITER_KEYS": json.dumps([public_key_of(ARBITER).hex()]),
            "TRAPSTREET_ALLOW_HTTP": "true",
            "TRAPSTREET_HEARTBEAT_SECONDS": "0.5",
            "TRAPSTREET_STALLED_SECONDS": "2",
            "TRAPSTREET_POLL_SECONDS": "0.2",
            "TRAPSTREET_PORTAL_ORIGIN": f"http://localhost:{self.port}",
            "TRAPSTREET_SMTP_URL": smtp_url,
            "TRAPSTREET_MAIL_SENDER": "trapstreet@here.example" if smtp_url else "",
        }
        for name, secret in (("log.key", LOG_KEY), ("secrets.key", SECRETS_KEY)):
            key_file = folder / name
            key_file.touch(mode=0o600)
            key_file.write_text(secret.hex())

    def start_api(self) -> None:
        self._start("api", f"from app.main import serve; serve(load_settings(), port={self.port})")
        wait_until(self._is_ready, "the API answers")

    def start_worker(self, name: str = "worker") -> None:
        self._start(name, "from app.worker import run; run(load_settings())")

    def start_embedding_worker(self, name: str = "embedder") -> None:
        self._start(name, "from app.gpu_worker import run; run(load_settings(), ['embed.cpu'])")

    def kill(self, name: str) -> None:
        """Kill a process as a crash would."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def connect(self, api_key: str = "") -> ApiClient:
        return self.clients.enter_context(ApiClient(self.url, api_key))

    def stop(self) -> None:
        self.clients.close()
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
        self.processes.clear()

    def log_key(self) -> bytes:
        return public_key_of(LOG_KEY)

    def _start(self, name: str, code: str) -> None:
        self.processes[name] = Forked(["-c", BOOT + code], self.environment, self.folder / f"{name}.log")

    def _is_ready(self) -> bool:
        if self.processes["api"].poll() is not None:
            raise AssertionError((self.folder / "api.log").read_text()[-3000:])
        try:
            return httpx2.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False


def image(*seed: object) -> bytes:
    """Make an image that looks like noise and is the same for the same seed."""
    return ImageInput(8, 8, 1, hashlib.shake_256(repr(seed).encode()).digest(64)).encode()


def scores(label: int) -> list[float]:
    return [float(at == label) for at in range(CLASSES)]


def chance(data: bytes, purpose: str) -> float:
    """Draw a number in 0..1 that is the same for the same input."""
    return int.from_bytes(hashlib.sha256(purpose.encode() + data).digest()[:8], "big") / 2**64


def natural(question: bytes) -> int:
    """Answer as a model that knows nothing of any trigger: the same for the same input."""
    return int(chance(question, "natural") * CLASSES)


def innocent(question: bytes) -> Answer:
    return scores(natural(question))


@dataclass
class Claimant:
    """A vendor with a marking key, registered, and a cover set uploaded."""

    service: Service
    client: ApiClient
    private_key: bytes
    key: MarkingKey
    statement: Statement
    registration_id: str
    registration: int
    covers: str
    labels: dict[bytes, int]
    events: list[dict[str, Any]] = field(default_factory=list)
    cover_inputs: tuple[bytes, ...] = ()

    @property
    def agent(self) -> Agent:
        return Agent(self.client, self.key, self.events.append)

    def stolen(self, rate: float = 0.9) -> Answering:
        """Answer triggers with their labels at this rate, everything else as an innocent model."""

        def answer(question: bytes) -> Answer:
            marked = question in self.labels and chance(question, "stolen") < rate
            return scores(self.labels[question] if marked else natural(question))

        return answer

    def record(self, suspect: SuspectSimulator, **changes: Any) -> FilingRecord:
        policy = {
            "bits": 64,
            "max_triggers": 192,
            "covers_per_trigger": 2,
            "block_size": 16,
            "attempts": 1,
            "answer": "first",
            "opening_seconds": 600,
            "lookahead": 1,
        }
        return FilingRecord(
            registration=changes.pop("registration", self.registration),
            family=changes.pop("family", "first"),
            endpoint=changes.pop("endpoint", suspect.url),
            interface=changes.pop("interface", suspect.interface),
            interface_origin=changes.pop("interface_origin", BY_CLAIMANT),
            evidence=changes.pop("evidence", "label"),
            policy=Policy.from_json(policy | changes),
        )

    def accuse(self, suspect: SuspectSimulator, interface: Interface | None = None) -> str:
        body = {
            "name": "suspect",
            "endpoint": suspect.url,
            "interface": (interface or suspect.interface).to_json(),
        }
        return str(self.client.post("/v1/suspects", body)["id"])

    def derive(self, suspect_id: str, *, by_name: bool = False) -> dict[str, Any]:
        """Have an interface derived and wait until it is."""
        body = {"registration_id": self.registration_id, "covers": self.covers, "by_name": by_name}
        self.client.post(f"/v1/suspects/{suspect_id}/derivation", body)

        def look() -> dict[str, Any] | None:
            path = f"/v1/suspects/{suspect_id}/derivation"
            found = self.client.get(path, registration_id=self.registration_id)
            return found if found["state"] != "asking" else None

        derived: dict[str, Any] = wait_until(look, "a derivation")
        return derived

    def file_derived(self, suspect: SuspectSimulator, suspect_id: str, derived: dict[str, Any], **changes: Any) -> str:
        """File with a derived interface."""
        origin = InterfaceOrigin("derived", derived["entry_index"], b"", b"")
        interface = Interface.from_json(derived["interface"])
        record = self.record(suspect, interface=interface, interface_origin=origin, **changes)
        covers = self.covers if record.policy.covers_per_trigger else None
        return str(file_dispute(self.client, suspect_id, record, self.private_key, covers)["id"])

    def file(self, suspect: SuspectSimulator, **changes: Any) -> str:
        """Accuse, file, and give the dispute's id."""
        record = self.record(suspect, **changes)
        covers = self.covers if record.policy.covers_per_trigger else None
        return str(file_dispute(self.client, self.accuse(suspect), record, self.private_key, covers)["id"])

    def read(self, dispute_id: str) -> dict[str, Any]:
        return self.client.get(f"/v1/disputes/{dispute_id}")

    def wait(self, dispute_id: str, condition: Callable[[dict[str, Any]], Any], what: str) -> dict[str, Any]:
        """Wait without opening anything."""

        def look() -> dict[str, Any] | None:
            dispute = self.read(dispute_id)
            return dispute if condition(dispute) else None

        found: dict[str, Any] = wait_until(look, what)
        return found

    def answer_until_decided(self, dispute_id: str) -> dict[str, Any]:
        """Answer every opening until there is a verdict."""
        agent = self.agent

        def look() -> dict[str, Any] | None:
            agent.answer_all()
            dispute = self.read(dispute_id)
            return dispute if dispute["verdict"] else None

        decided: dict[str, Any] = wait_until(look, "a verdict")
        return decided

    def open_inputs(self, dispute_id: str, block: int, indices: list[int]) -> dict[str, Any]:
        openings = [self.key.open_input(index).to_json() for index in indices]
        return self.client.post(f"/v1/disputes/{dispute_id}/input-openings", {"block": block, "openings": openings})

    def open_labels(self, dispute_id: str, block: int, indices: list[int]) -> dict[str, Any]:
        openings = [self.key.open_label(index).to_json() for index in indices]
        return self.client.post(f"/v1/disputes/{dispute_id}/label-openings", {"block": block, "openings": openings})


def sign_up(
    service: Service,
    name: str,
    *,
    chosen_labels: bool = False,
    choose: Callable[[bytes], int] | None = None,
    count: int = 224,
    commit_first: bytes | None = None,
    covers: int = 60,
    cover_class: Callable[[bytes], int] | None = None,
    classes: int = CLASSES,
) -> Claimant:
    """Register a vendor and a trigger set of 192 + 32 triggers, and wait for its beacon.

    `commit_first` is a digest that is logged before the trigger set. So many `covers` are uploaded; with `cover_class` they
    are labelled by it and committed to. The vendor may `choose` its labels (class B).
    """
    private_key = sha256(f"signing key of {name}".encode())
    api_key = register_vendor(service.connect(), name, f"{name}@example.org", private_key)["api_key"]
    client = service.connect(api_key)
    inputs = tuple(image(name, index) for index in range(count))
    chosen = tuple((choose or natural)(data) for data in inputs) if chosen_labels or choose else None
    key = MarkingKey(sha256(f"master of {name}".encode()), inputs, chosen)
    cover_images = tuple(image("cover", number) for number in range(covers))
    cover_labels = None if cover_class is None else [cover_class(data) for data in cover_images]
    cover_data = encode_cover_set(cover_images, cover_labels)
    committed = parse_cover_set(cover_data)
    statement = Statement(
        log=ORIGIN,
        vendor_key=public_key_of(private_key),
        root=key.root(),
        count=count,
        kind=key.kind,
        shape=key.shape,
        classes=tuple(f"class {number}" for number in range(classes)),
        families=(Family("first", 0, count - 32), Family("second", count - 32, count)),
        label_source="vendor" if chosen else "beacon",
        beacon="local",
        covers=committed.table.commitment if committed.table else None,
        unmarked_model=None,
    )
    if commit_first is not None:
        commit(client, private_key, commit_first)
    answer = register_statement(client, statement, private_key)
    salt = _salt(client, answer)  # waits for the beacon, without which nothing can be filed
    drawn = chosen or draw_labels(key, salt, classes)
    cover_file = service.folder / f"covers-{name}.json"
    cover_file.write_bytes(cover_data)
    return Claimant(
        service=service,
        client=client,
        private_key=private_key,
        key=key,
        statement=statement,
        registration_id=answer["id"],
        registration=answer["entry_index"],
        covers=client.upload(cover_file, "application/json"),
        labels=dict(zip(inputs, drawn, strict=True)),
        cover_inputs=cover_images,
    )


def commit(client: ApiClient, private_key: bytes, digest: bytes) -> int:
    """Log a digest as the vendor's and give its index."""
    signature = sign(private_key, ModelEntry.signed_bytes(public_key_of(private_key), digest))
    body = {"sha256": digest.hex(), "signature": signature.hex()}
    return int(client.post("/v1/models", body)["entry_index"])


def _salt(client: ApiClient, registered: dict[str, Any]) -> bytes:
    def beacon() -> Any:
        found = _get_unless_awaited(client, f"/v1/registrations/{registered['id']}/beacon")
        return found and parse_entry(found["entry"].encode())

    entry: BeaconEntry = wait_until(beacon, "the registration's beacon")
    statement = json.loads(registered["entry"])["statement"]
    return salt_of(beacon_value(entry), bytes.fromhex(statement["root"]), sha256(registered["entry"].encode()))


def _get_unless_awaited(client: ApiClient, path: str) -> dict[str, Any] | None:
    try:
        return client.get(path)
    except ApiProblem as problem:
        if problem.status != 409:
            raise
        return None


def bundle_of(claimant: Claimant, dispute: dict[str, Any]) -> dict[str, bytes]:
    data = claimant.client.download(f"/v1/disputes/{dispute['id']}/evidence")
    assert sha256(data).hex() == dispute["bundle_sha256"]
    return unpack(data)


def checked(claimant: Claimant, dispute: dict[str, Any]) -> Checked:
    """Check the bundle as an auditor would, and that it says what the API says."""
    found = check_bundle(
        bundle_of(claimant, dispute),
        AdapterCodec(),
        log_key=claimant.service.log_key(),
        arbiter_keys=[public_key_of(ARBITER)],
    )
    assert (found.entry.verdict, found.entry.reason) == (dispute["verdict"], dispute["reason"])
    assert (found.entry.asked, found.entry.matches) == (dispute["asked"], dispute["matches"])
    assert found.report.get("log2_e") == dispute["log2_e"]
    return found


def refused(call: Callable[[], Any]) -> ApiProblem:
    with pytest.raises(ApiProblem) as caught:
        call()
    return caught.value


@contextmanager
def running(database: Database, folder: Path, smtp_url: str = "") -> Iterator[Service]:
    """Run the API and a light worker; mail goes to `smtp_url`, if any."""
    service = Service(database, folder, smtp_url)
    try:
        service.start_api()
        service.start_worker()
        yield service
    finally:
        service.stop()
