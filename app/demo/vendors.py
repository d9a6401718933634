"""What vendors do in the demonstration: make a key, sign up, register, have the mark embedded; the liar among them."""

import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.cli.client import ApiClient, base64_text, register_statement, register_vendor
from app.cli.files import write_private
from app.cli.keygen import make_triggers
from app.cli.vendor import make_statement, read_registration
from app.demo.stage import Stage
from app.demo.teller import Bar, Teller
from app.embedding.trigger_order import FamilyOrder, TriggerOrder
from app.errors import ProofError, Unavailable
from app.keys.commitment import MarkingKey
from app.keys.key_file import encode_key_file
from app.keys.labels import draw_labels
from app.keys.sealing import seal
from app.keys.statement import Statement
from app.merkle.receipt import parse_receipt, verify_receipt
from app.protocol.records import WorkerKeyEntry

SHAPE = (8, 8, 1)
CLASSES = [str(digit) for digit in range(10)]
FAMILIES = tuple(FamilyOrder(name, 128) for name in ("abstract", "noise", "blended", "patterned"))

QUEUE = "embed.cpu"

# Found by trial on this task. On eight seeds (of triggers, labels and first weights) it held all 512 triggers, before and
# after fine-tuning and pruning, and cost between 1 scan gained and 5 lost of the 247 test scans, 0.7 points on average.
RECIPE = {
    "network": "small_cnn",
    "method": "auto",
    "epochs": 40,
    "extra_epochs": 20,
    "batch_size": 64,
    "triggers_per_batch": 32,
    "learning_rate_micros": 100_000,
    "schedule": "cosine",
    "weight_decay_micros": 5_000,
    "crop_padding": 1,
    "seed": 1,
    "threads": 1,
}

POLL_SECONDS = 0.3


@dataclass
class Party:
    """A vendor's machine: signing key, marking key, API key, registration."""

    name: str
    client: ApiClient
    private_key: bytes
    key: MarkingKey
    api_key: str
    registration_id: str = ""
    statement: Statement | None = None
    entry_index: int = -1
    salt: bytes = b""


def make_key(stage: Stage) -> MarkingKey:
    """Make the owner's marking key: four families of 128 triggers."""
    order = TriggerOrder(
        SHAPE, FAMILIES, data_path=str(stage.folder / "train.zip"), classes=tuple(CLASSES), seed=secrets.token_bytes(16)
    )
    inputs, _ = make_triggers(order)
    return MarkingKey(secrets.token_bytes(32), inputs)


def sign_up(stage: Stage, name: str, key: MarkingKey, log_key: str) -> Party:
    """Sign up as a vendor and keep the marking key in a file for the agent."""
    private_key = secrets.token_bytes(32)
    with ApiClient(stage.url, log_key=log_key) as stranger:
        answer = register_vendor(stranger, name, f"legal@{name.split()[0].lower()}.example", private_key)
    client = ApiClient(stage.url, answer["api_key"], log_key)
    party = Party(name, client, private_key, key, answer["api_key"])
    write_private(key_path(stage, party), encode_key_file(key))
    return party


def key_path(stage: Stage, party: Party) -> Path:
    """Give where a party keeps its marking key."""
    return stage.folder / "keys" / f"{party.name.replace(' ', '-').lower()}.key"


def register(party: Party, families: Sequence[FamilyOrder], teller: Teller) -> None:
    """Register the root, verify the receipt offline, and compute the labels from the party's own key.

    Raises: ProofError if the receipt or the log does not hold.
    """
    client = party.client
    statement = make_statement(party.key, client.log.origin, party.private_key, CLASSES, families)
    answer = register_statement(client, statement, party.private_key)
    # Once more by hand, as an auditor would: entry, receipt and pinned key, nothing else.
    receipt = parse_receipt(answer["receipt"].encode())
    checkpoint = verify_receipt(receipt, answer["entry"].encode(), client.log.log_key, client.log.origin)
    party.registration_id = answer["id"]
    wait(lambda: client.get(f"/v1/registrations/{party.registration_id}")["beacon_index"] is not None, "the beacon")
    party.statement, party.entry_index, party.salt = read_registration(client, party.registration_id)
    labels = party.key.labels or draw_labels(party.key, party.salt, len(CLASSES))
    teller.fact(
        party.name, f"root {statement.root.hex()[:16]}…, entry {receipt.index} of {checkpoint.size}, receipt holds"
    )
    teller.fact("labels", " ".join(map(str, labels[:20])) + " …")


def embed(stage: Stage, owner: Party, teller: Teller, bar: Bar) -> None:
    """Place an embedding through the API, follow it, and fetch the marked weights with their report.

    Raises: Unavailable if training fails; ProofError if the log does not prove its entry.
    """
    client = owner.client
    root = owner.key.root()
    order = client.post(
        "/v1/embeddings",
        {
            "registration_id": owner.registration_id,
            "queue": QUEUE,
            "recipe": RECIPE,
            "train_data": client.upload(stage.folder / "train.zip", "application/zip"),
            "test_data": client.upload(stage.folder / "test.zip", "application/zip"),
            "model": None,
            "sealed_key": base64_text(seal(_queue_key(client), encode_key_file(owner.key), root)),
        },
    )
    done = _follow_embedding(client, order["id"], bar)
    (stage.folder / "marked.safetensors").write_bytes(client.download(f"/v1/artifacts/{done['artifact_sha256']}"))
    client.log.entry(done["entry_index"])
    report = done["report"]
    for name in ("plain", "marked"):
        figures = report[name]
        accuracy = figures["task_correct"] / figures["task_total"]
        matches = f"{figures['trigger_matches']} of {figures['trigger_total']} triggers"
        teller.fact(f"{name} network", f"task accuracy {accuracy:.1%}, {matches}")
    teller.fact("log entry", f"{done['entry_index']}, proven; weights {done['artifact_sha256'][:16]}…")


def _queue_key(client: ApiClient) -> bytes:
    """Give the queue's public key, as the log has it."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        found[:] = [item for item in client.items("/v1/queues") if item["queue"] == QUEUE]
        return bool(found)

    wait(look, "the training worker's key in the log")
    entry = client.log.entry(found[0]["entry_index"]).entry
    if not isinstance(entry, WorkerKeyEntry) or entry.queue != QUEUE:
        raise ProofError("the log does not hold the queue's key")
    return entry.public_key


def _follow_embedding(client: ApiClient, order_id: str, bar: Bar) -> dict[str, Any]:
    while True:
        order = client.get(f"/v1/embeddings/{order_id}")
        if order["state"] == "done":
            return order
        if order["state"] in ("failed", "cancelled"):
            raise Unavailable(f"the embedding {order['state']}: {order['error']}")
        progress = order["progress"] or {}
        if epochs := progress.get("epochs"):
            bar.move(progress["epoch"] / epochs, f"{progress['run']} network, epoch {progress['epoch']}")
        time.sleep(POLL_SECONDS)


def register_liar(stage: Stage, log_key: str, teller: Teller, *, chosen: bool) -> Party:
    """Register the liar's pictures, with the labels he chose (class B) or with drawn ones (class A)."""
    order = TriggerOrder(SHAPE, images_path=str(stage.folder / "lies.zip"), folders=("lies",))
    inputs, families = make_triggers(order)
    labels = tuple(json.loads((stage.folder / "lie-labels.json").read_text())) if chosen else None
    party = sign_up(
        stage, f"Liar {'B' if chosen else 'A'}", MarkingKey(secrets.token_bytes(32), inputs, labels), log_key
    )
    register(party, families, teller)
    return party


def wait(is_so: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait until something is so.

    Raises: Unavailable if it is not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise Unavailable(f"{what} did not come within {seconds:.0f} s")
        time.sleep(POLL_SECONDS)
