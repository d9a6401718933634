"""Story 2 through HTTP: orders placed, trained by real worker processes, delivered, cancelled, taken over, refused."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.cli.client import ApiClient
from app.embedding.answering import count_correct
from app.embedding.artifacts import digest_of_file
from app.embedding.data import trigger_set
from app.embedding.networks import load_network
from app.errors import Unavailable
from app.keys.commitment import MarkingKey
from app.keys.labels import draw_labels
from app.protocol.records import ModelEntry
from app.signature import verify_signature
from tests.flows.embedding_house import (
    ENDLESS,
    LONG,
    House,
    Vendor,
    children_of,
    open_house,
    refused,
    sign_up,
    wait_until,
)
from tests.forked import Forked
from tests.training.examples import CLASSES, TINY


@pytest.fixture(scope="module")
def house(servers: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(servers("embedded"), tmp_path_factory.mktemp("house"), "embed.cpu") as made:
        yield made


@pytest.fixture(scope="module")
def owner(house: House, tmp_path_factory: pytest.TempPathFactory) -> Vendor:
    return sign_up(house, tmp_path_factory.mktemp("owner"), "owner")


@pytest.fixture
def worker(house: House, owner: Vendor) -> Iterator[Forked]:
    process = house.start(house.queue)
    yield process
    owner.cancel_all()
    process.terminate()
    process.wait()
    house.check_log()


def test_an_order_waits_and_can_be_cancelled_before_anyone_works_on_it(house, owner):
    order = owner.place()
    assert (order["state"], order["registration_id"], order["recipe"]["epochs"]) == (
        "queued",
        owner.registration_id,
        25,
    )
    assert owner.cancel(order)["state"] == "cancelled"
    problem = refused(lambda: owner.cancel(order))
    assert (problem.status, problem.state) == (409, "cancelled")
    assert house.row(order).sealed_key == b""


def test_a_placed_order_is_accepted_with_its_address(house, owner):
    headers = dict(owner.client._http.headers)
    with httpx2.Client(base_url=house.url, headers=headers, trust_env=False) as http:
        answer = http.post("/v1/embeddings", json=owner.order())
        assert answer.status_code == 202
        assert answer.headers["location"] == f"/v1/embeddings/{answer.json()['id']}"
        assert http.get(answer.headers["location"]).json() == answer.json()
        http.post(answer.headers["location"] + "/cancel")


def test_an_order_is_trained_delivered_and_logged(house, owner, worker, tmp_path):
    order = owner.place()
    done = owner.wait_for(order, "done")
    report = done["report"]["marked"]
    assert report["trigger_matches"] == report["trigger_total"] == 12
    assert done["report"]["plain"]["trigger_matches"] < 12
    assert [point["run"] for point in done["progress"]["curve"]] == ["plain"] * 25 + ["marked"] * 25
    assert done["error"] is None

    weights = tmp_path / "marked.safetensors"
    weights.write_bytes(owner.client.download(f"/v1/artifacts/{done['artifact_sha256']}"))
    assert digest_of_file(weights).hex() == done["artifact_sha256"] == report["weights_sha256"]
    triggers = trigger_set(owner.key.inputs, draw_labels(owner.key, owner.salt, len(CLASSES)))
    assert count_correct(load_network(weights), triggers) == 12

    entry = owner.client.log.entry(done["entry_index"]).entry
    assert isinstance(entry, ModelEntry)
    (queue,) = [item for item in owner.client.items("/v1/queues") if item["queue"] == house.queue]
    assert entry.owner_key.hex() == queue["public_key"][:64]
    verify_signature(entry.owner_key, entry.signature, ModelEntry.signed_bytes(entry.owner_key, entry.sha256))
    assert entry.sha256.hex() == done["artifact_sha256"]
    assert house.row(order).sealed_key == b""
    assert not list((house.folder / "data" / "work").iterdir())
    problem = refused(lambda: owner.cancel(order))
    assert (problem.status, problem.state) == (409, "done")


def test_a_running_order_is_cancelled_and_its_child_ends(house, owner, worker):
    order = owner.place(ENDLESS)
    owner.wait_for_progress(order)
    assert children_of(worker.pid)
    assert owner.cancel(order)["state"] == "cancelled"
    wait_until(lambda: not children_of(worker.pid), 60)
    found = owner.read(order)
    assert (found["state"], found["artifact_sha256"], found["entry_index"]) == ("cancelled", None, None)
    # The worker is free for the next.
    owner.wait_for(owner.place({**TINY, "compare_plain": False}), "done")


def test_when_a_worker_is_killed_another_takes_its_order_over(house, owner, worker):
    order = owner.place(LONG)
    owner.wait_for_progress(order)
    (child,) = children_of(worker.pid)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    successor = house.start(house.queue)
    done = owner.wait_for(order, "done")
    successor.terminate()
    successor.wait()
    assert done["report"]["marked"]["trigger_matches"] == 12
    assert house.row(order).attempt == 1
    assert not Path(f"/proc/{child}").exists()
    entries = [
        entry
        for item in owner.client.items("/v1/log/entries")
        if item["kind"] == "model"
        and (entry := owner.client.log.entry(item["index"]).entry).sha256.hex() == done["artifact_sha256"]
    ]
    assert len(entries) == 1


def test_when_postgres_is_killed_the_training_goes_on_and_is_delivered(house, owner, worker):
    order = owner.place(LONG)
    owner.wait_for_progress(order)
    house.database.server.kill()

    def is_done() -> bool:
        try:
            return owner.read(order)["state"] == "done"
        except Unavailable:
            return False

    wait_until(is_done)
    assert house.row(order).attempt == 0


def test_another_marking_key_than_the_registered_one_fails_with_a_reason(house, owner, worker):
    other = MarkingKey(os.urandom(32), owner.key.inputs)
    failed = owner.wait_for(owner.place(sealed_key=owner.sealed(other)), "failed")
    assert failed["error"]["code"] == "opening_invalid"
    assert (failed["report"], failed["artifact_sha256"], failed["entry_index"]) == (None, None, None)


def test_data_that_does_not_fit_fails_with_a_reason(house, owner, worker):
    failed = owner.wait_for(owner.place(train_data=junk_of(owner, house)), "failed")
    assert failed["error"]["code"] == "unsupported_media_type"


def junk_of(vendor: Vendor, house: House) -> str:
    path = house.folder / "junk"
    path.write_bytes(b"this is no archive")
    return vendor.client.upload(path)


def test_orders_are_for_their_vendor_alone(house, owner, tmp_path):
    stranger = sign_up(house, tmp_path, "stranger")
    order = owner.place()
    nothing = "01890000-0000-7000-8000-000000000000"
    calls: list[Callable[[str], Any]] = [
        lambda id_: stranger.client.get(f"/v1/embeddings/{id_}"),
        lambda id_: stranger.client.post(f"/v1/embeddings/{id_}/cancel"),
    ]
    for call in calls:
        not_mine, none = (refused(lambda i=i, call=call: call(i)) for i in (order["id"], nothing))
        assert not_mine.status == none.status == 404
        assert not_mine.problem == none.problem
    for field_, theirs, none in (
        ("registration_id", owner.registration_id, nothing),
        ("train_data", house_digest(owner), "00" * 32),
    ):
        problems = [refused(lambda v=v, f=field_: stranger.place(**{f: v})).problem for v in (theirs, none)]
        assert problems[0]["status"] == 404
        assert problems[0] == problems[1]
    assert order["id"] not in [item["id"] for item in stranger.client.items("/v1/embeddings")]
    assert order["id"] in [item["id"] for item in owner.client.items("/v1/embeddings", limit=2)]
    with ApiClient(house.url) as anonymous:
        assert refused(lambda: anonymous.get(f"/v1/embeddings/{order['id']}")).status == 401
        assert refused(lambda: anonymous.get("/v1/embeddings")).status == 401
        assert refused(lambda: anonymous.post("/v1/embeddings", owner.order())).status == 401
    owner.cancel(order)


def house_digest(vendor: Vendor) -> str:
    """Upload something that no other vendor has uploaded too."""
    path = Path(os.devnull)
    return vendor.client.upload(path)


@pytest.mark.parametrize(
    ("changes", "status", "pointer"),
    [
        ({"recipe": {"network": "vgg"}}, 422, "/recipe/network"),
        ({"recipe": {"network": "mlp", "mean_millis": [1, 2], "std_millis": [1, 2]}}, 422, "/recipe/mean_millis"),
        ({"queue": "probe"}, 422, "/queue"),
        ({"model": "00" * 32}, 422, "/model"),
        ({"sealed_key": "*"}, 422, "/sealed_key"),
        ({"sealed_key": ""}, 422, "/sealed_key"),
        ({"train_data": 7}, 422, "/train_data"),
        ({"queue": "embed.gpu"}, 409, None),
    ],
)
def test_a_wrong_order_is_refused_and_nothing_is_placed(house, owner, changes, status, pointer):
    before = len(list(owner.client.items("/v1/embeddings")))
    problem = refused(lambda: owner.place(**changes))
    assert problem.status == status
    if pointer:
        assert [error["pointer"] for error in problem.problem["errors"]] == [pointer]
    else:
        assert problem.state == "awaiting_worker"
    assert len(list(owner.client.items("/v1/embeddings"))) == before
