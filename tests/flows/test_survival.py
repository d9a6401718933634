"""Survival reports through HTTP: ordered, attacked by real worker processes, taken over, cancelled, refused."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.cli.client import ApiClient
from app.db.tables import SurvivalReportRow
from app.embedding.survival.order import SurvivalReport
from app.keys.commitment import MarkingKey
from tests.flows.embedding_house import (
    House,
    Vendor,
    children_of,
    open_house,
    refused,
    sign_up,
    wait_until,
)
from tests.forked import Forked
from tests.training.examples import TINY

# Each takes a good part of a second, so that a worker can be killed between two of them.
SLOW = {"attacks": ["int8", "ftal-1e-4", "ftal-1e-3", "ftal-1e-2"], "epochs": 400, "threads": 1, "precision": "fp32"}


@pytest.fixture(scope="module")
def house(servers: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(servers("embedded"), tmp_path_factory.mktemp("house"), "embed.cpu") as made:
        yield made


@pytest.fixture(scope="module")
def owner(house: House, tmp_path_factory: pytest.TempPathFactory) -> Vendor:
    return sign_up(house, tmp_path_factory.mktemp("owner"), "owner")


@pytest.fixture(scope="module")
def model(house: House, owner: Vendor) -> str:
    """The marked weights that an embedding left."""
    process = house.start(house.queue)
    done = owner.wait_for(owner.place({**TINY, "compare_plain": False}), "done")
    process.terminate()
    process.wait()
    return str(done["artifact_sha256"])


@pytest.fixture(scope="module")
def reporter(owner: Vendor) -> Vendor:
    return replace(owner, path="/v1/survival-reports")


@pytest.fixture
def worker(house: House, reporter: Vendor) -> Iterator[Forked]:
    process = house.start(house.queue)
    yield process
    reporter.cancel_all()
    process.terminate()
    process.wait()


def wait_for_a_result(reporter: Vendor, order: dict[str, Any]) -> list[dict[str, Any]]:
    wait_until(lambda: reporter.read(order)["progress"].get("results"))
    return list(reporter.read(order)["progress"]["results"])


def test_a_placed_order_is_accepted_with_its_address_and_can_be_cancelled(house, reporter, model):
    headers = dict(reporter.client._http.headers)
    with httpx2.Client(base_url=house.url, headers=headers, trust_env=False) as http:
        answer = http.post("/v1/survival-reports", json=reporter.report_order(model, "int8"))
        assert answer.status_code == 202
        order = answer.json()
        assert answer.headers["location"] == f"/v1/survival-reports/{order['id']}"
        assert http.get(answer.headers["location"]).json() == order
    assert (order["state"], order["summary"], order["settings"]["bits"]) == ("queued", None, 64)
    no_page = refused(lambda: reporter.client.download(f"/v1/survival-reports/{order['id']}/page"))
    assert (no_page.status, no_page.state) == (409, "queued")
    assert reporter.cancel(order)["state"] == "cancelled"
    problem = refused(lambda: reporter.cancel(order))
    assert (problem.status, problem.state) == (409, "cancelled")
    assert house.row(order, SurvivalReportRow).sealed_key == b""


def test_without_named_attacks_the_suite_fits_the_registration(reporter, model):
    for suite, transfer in (("quick", None), (None, reporter.train_data)):
        classes = ["circle", "cross", "bars"] if transfer else []
        changes = {"suite": suite, "settings": {}, "transfer_data": transfer, "transfer_classes": classes}
        order = reporter.place_report(model, **changes)
        reporter.cancel(order)
        attacks = order["settings"]["attacks"]
        assert "jpeg-70" in attacks
        assert ("transfer" in attacks) == (transfer is not None)
        assert ("median" in attacks) == (suite is None)


def test_a_model_is_attacked_and_the_report_read_as_values_and_as_a_page(house, reporter, model, worker):
    order = reporter.place_report(model, "ftal-1e-3", "prune-90", "int8+noise-8", plain_model=model)
    done = reporter.wait_for(order, "done")
    report = SurvivalReport.from_json(done["report"])
    assert [row.measured.attack for row in report.attacks] == ["ftal-1e-3", "prune-90", "int8+noise-8"]
    assert report.marked.measured.matches == (12,)
    assert report.plain is not None
    assert report.weights_sha256.hex() == model
    assert done["summary"] == report.summary
    assert [row["attack"] for row in done["progress"]["results"]] == list(report.settings.attacks)
    assert done["progress"]["number"] == done["progress"]["attacks"] == 3
    row = house.row(order, SurvivalReportRow)
    assert (row.sealed_key, row.notebook) == (b"", {})
    assert not list((house.folder / "data" / "work").iterdir())
    (listed,) = [item for item in reporter.client.items("/v1/survival-reports") if item["id"] == order["id"]]
    assert listed["summary"] == report.summary
    assert not listed.keys() & {"report", "progress", "sealed_key"}
    headers = dict(reporter.client._http.headers)
    with httpx2.Client(base_url=house.url, headers=headers, trust_env=False) as http:
        page = http.get(f"/v1/survival-reports/{order['id']}/page")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith(
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:;"
    )
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "<script" not in page.text.lower()
    assert "int8+noise-8" in page.text


def test_when_a_worker_is_killed_another_goes_on_behind_the_finished_attacks(house, reporter, model, worker):
    order = reporter.place_report(model, settings=SLOW)
    before = wait_for_a_result(reporter, order)
    (child,) = children_of(worker.pid)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    wait_until(lambda: not Path(f"/proc/{child}").exists(), 60)
    assert len(before) < len(SLOW["attacks"])
    successor = house.start(house.queue)
    try:
        done = reporter.wait_for(order, "done")
    finally:
        successor.terminate()
        successor.wait()
    assert house.row(order, SurvivalReportRow).attempt == 1
    attacked = [row["measured"] for row in done["report"]["attacks"]]
    assert [row["attack"] for row in attacked] == SLOW["attacks"]
    # The very same measurement, down to the time that it took: it was not made again.
    assert attacked[: len(before)] == before


def test_a_running_order_is_cancelled_and_its_child_ends(house, reporter, model, worker):
    order = reporter.place_report(model, settings={**SLOW, "epochs": 10_000})
    wait_for_a_result(reporter, order)
    assert children_of(worker.pid)
    assert reporter.cancel(order)["state"] == "cancelled"
    wait_until(lambda: not children_of(worker.pid), 60)
    found = reporter.read(order)
    assert (found["state"], found["report"], found["summary"]) == ("cancelled", None, None)
    assert house.row(order, SurvivalReportRow).sealed_key == b""
    # The worker is free for the next.
    reporter.wait_for(reporter.place_report(model, "int8"), "done")


def test_a_wrong_key_or_weights_that_are_none_fail_with_a_reason(house, reporter, model, worker):
    other = MarkingKey(os.urandom(32), reporter.key.inputs)
    failed = reporter.wait_for(reporter.place_report(model, "int8", sealed_key=reporter.sealed(other)), "failed")
    assert failed["error"]["code"] == "opening_invalid"
    failed = reporter.wait_for(reporter.place_report(reporter.train_data, "int8"), "failed")
    assert failed["error"]["code"] in ("malformed", "unsupported_media_type")
    assert (failed["report"], house.row(failed, SurvivalReportRow).sealed_key) == (None, b"")


def test_reports_are_for_their_vendor_alone(house, reporter, model, tmp_path):
    stranger = sign_up(house, tmp_path, "stranger")
    order = reporter.place_report(model, "int8")
    nothing = "01890000-0000-7000-8000-000000000000"
    with ApiClient(house.url) as anonymous:
        for path in ("", f"/{order['id']}", f"/{order['id']}/page"):
            assert refused(lambda p=path: anonymous.get(f"/v1/survival-reports{p}")).status == 401
        assert refused(lambda: anonymous.post(f"/v1/survival-reports/{order['id']}/cancel")).status == 401
        assert (
            refused(lambda: anonymous.post("/v1/survival-reports", reporter.report_order(model, "int8"))).status == 401
        )
    calls: list[Callable[[str], Any]] = [
        lambda id_: stranger.client.get(f"/v1/survival-reports/{id_}"),
        lambda id_: stranger.client.get(f"/v1/survival-reports/{id_}/page"),
        lambda id_: stranger.client.post(f"/v1/survival-reports/{id_}/cancel"),
    ]
    for call in calls:
        not_mine, none = (refused(lambda i=i, call=call: call(i)) for i in (order["id"], nothing))
        assert not_mine.status == none.status == 404
        assert not_mine.problem == none.problem
    for theirs, none in (
        ({"registration_id": reporter.registration_id}, {"registration_id": nothing}),
        ({"model": model}, {"model": "00" * 32}),
        ({"plain_model": model}, {"plain_model": "00" * 32}),
        ({"program": model}, {"program": "00" * 32}),
    ):
        orders = [stranger.report_order(stranger.train_data, "int8") | changes for changes in (theirs, none)]
        problems = [refused(lambda o=o: stranger.client.post(reporter.path, o)).problem for o in orders]
        assert problems[0]["status"] == 404
        assert problems[0] == problems[1]
    assert list(stranger.client.items("/v1/survival-reports")) == []
    assert order["id"] in [item["id"] for item in reporter.client.items("/v1/survival-reports", limit=2)]
    reporter.cancel(order)


@pytest.mark.parametrize(
    ("changes", "status", "pointer"),
    [
        ({"settings": {"attacks": ["magic"]}}, 422, "/settings/attacks/0"),
        ({"settings": {"attacks": ["int8", "transfer"]}}, 422, "/settings/attacks/1"),
        ({"settings": {"attacks": ["int8"], "device": "cuda"}}, 422, "/settings/device"),
        ({"settings": {"attacks": ["int8"], "speed": 1}}, 422, "/settings/speed"),
        ({"suite": "quick"}, 422, "/suite"),
        ({"suite": "huge"}, 422, "/suite"),
        ({"transfer_classes": ["a", "b"]}, 422, "/transfer_classes"),
        ({"queue": "probe"}, 422, "/queue"),
        ({"model": None}, 422, "/model"),
        ({"sealed_key": ""}, 422, "/sealed_key"),
        ({"queue": "embed.gpu"}, 409, None),
    ],
)
def test_a_wrong_order_is_refused_and_nothing_is_placed(reporter, model, changes, status, pointer):
    before = len(list(reporter.client.items("/v1/survival-reports")))
    problem = refused(lambda: reporter.client.post(reporter.path, reporter.report_order(model, "int8") | changes))
    assert problem.status == status
    if pointer:
        assert [error["pointer"] for error in problem.problem["errors"]] == [pointer]
    else:
        assert problem.state == "awaiting_worker"
    assert len(list(reporter.client.items("/v1/survival-reports"))) == before
