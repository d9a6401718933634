"""White-box checks through HTTP: admitted by the log or refused, counted by a real worker, cancelled, hidden."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from app.cli.client import ApiClient
from app.db.tables import WhiteBoxCheckRow
from app.embedding.white_box.check import NOT_EVIDENCE, WhiteBoxReport
from tests.flows.embedding_house import House, Vendor, open_house, refused, sign_up
from tests.forked import Forked
from tests.training.examples import TINY

BEFORE = "2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def house(servers: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(servers("embedded"), tmp_path_factory.mktemp("house"), "embed.cpu") as made:
        yield made


@pytest.fixture(scope="module")
def owner(house: House, tmp_path_factory: pytest.TempPathFactory) -> Vendor:
    return replace(sign_up(house, tmp_path_factory.mktemp("owner"), "owner"), path="/v1/white-box-checks")


@pytest.fixture(scope="module")
def worker(house: House) -> Forked:
    return house.start(house.queue)


@pytest.fixture(scope="module")
def models(worker: Forked, owner: Vendor) -> dict[str, dict[str, Any]]:
    """Marked networks, whose entries the log holds in this order, and the same task without triggers of this key."""
    at_embeddings = replace(owner, path="/v1/embeddings")
    made = {}
    for name, seed in (("marked", 1), ("later", 2)):
        order = at_embeddings.place({**TINY, "compare_plain": False, "seed": seed})
        made[name] = at_embeddings.wait_for(order, "done")
    return made


def check_of(owner: Vendor, suspect: str, **changes: Any) -> dict[str, Any]:
    return {
        "registration_id": owner.registration_id,
        "queue": owner.queue,
        "suspect": suspect,
        "sealed_key": owner.sealed(),
        **changes,
    }


def with_head(head: str, control: str, **changes: Any) -> dict[str, Any]:
    return {"head": head, "controls": [{"name": "control", "sha256": control}], **changes}


def test_a_suspects_own_answers_are_weighed(house, owner, models):
    suspect = models["marked"]["artifact_sha256"]
    placed = owner.client.post(owner.path, check_of(owner, suspect))
    assert (placed["state"], placed["head"], placed["admission"], placed["report"]) == ("queued", None, None, None)
    done = owner.wait_for(placed, "done")
    report = WhiteBoxReport.from_json(done["report"])
    assert report.suspect_sha256.hex() == suspect
    assert report.own_head is not None
    assert report.own_head.matches == (12,)
    assert report.own_head.log2_e is not None
    assert report.not_evidence is None
    assert house.row(done, WhiteBoxCheckRow).sealed_key == b""
    assert not list((house.folder / "data" / "work").iterdir())


def test_an_older_head_is_tried_apart_as_no_evidence(owner, models):
    head, suspect = models["marked"], models["later"]["artifact_sha256"]
    order = check_of(owner, suspect, **with_head(head["artifact_sha256"], suspect))
    done = owner.wait_for(owner.client.post(owner.path, order), "done")
    assert (done["admission"]["head_entry"], done["admission"]["suspect_source"]) == (head["entry_index"], "log")
    apart = WhiteBoxReport.from_json(done["report"]).not_evidence
    assert apart is not None
    assert apart.note == NOT_EVIDENCE
    assert apart.admission.to_json() == done["admission"]
    assert [count.name for count in apart.controls] == ["control"]
    assert apart.suspect.matches == apart.controls[0].matches


def test_a_head_that_the_log_does_not_show_to_be_older_is_refused(owner, models):
    older, newer = (models[name]["artifact_sha256"] for name in ("marked", "later"))
    unknown = owner.train_data
    before = len(list(owner.client.items(owner.path)))
    for order, reason in (
        (check_of(owner, older, **with_head(newer, older)), "before the head"),
        (check_of(owner, older, **with_head(older, older)), "before the head"),
        (check_of(owner, older, **with_head(unknown, older)), "no model entry"),
        (check_of(owner, unknown, **with_head(older, older)), "nothing shows"),
        (check_of(owner, unknown, **with_head(older, older, suspect_since=BEFORE)), "not yet committed"),
    ):
        problem = refused(lambda o=order: owner.client.post(owner.path, o))
        assert (problem.status, problem.problem["code"]) == (422, "policy_refused")
        assert reason in problem.problem["detail"]
    assert len(list(owner.client.items(owner.path))) == before


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"suspect_since": BEFORE}, "/suspect_since"),
        ({"head": "marked", "suspect_since": "9999-01-01T00:00:00Z"}, "/suspect_since"),
        ({"head": "marked", "suspect_since": "soon"}, "/suspect_since"),
        ({"head": "marked"}, "/controls"),
        ({"bits": 65}, "/bits"),
        ({"suspect": None}, "/suspect"),
        ({"device": "cuda"}, "/device"),
    ],
)
def test_a_wrong_order_is_refused_with_a_pointer(owner, models, changes, pointer):
    named = {"head": models["marked"]["artifact_sha256"]} if "head" in changes else {}
    order = check_of(owner, models["later"]["artifact_sha256"]) | changes | named
    problem = refused(lambda: owner.client.post(owner.path, order))
    assert problem.status == 422
    assert [error["pointer"] for error in problem.problem["errors"]] == [pointer]


def test_weights_that_are_none_fail_with_a_reason(owner, worker):
    failed = owner.wait_for(owner.client.post(owner.path, check_of(owner, owner.train_data)), "failed")
    assert failed["error"]["code"] in ("malformed", "unsupported_media_type")
    assert failed["report"] is None


def test_checks_are_for_their_vendor_alone_and_can_be_cancelled(house, owner, models, worker, tmp_path):
    worker.terminate()  # the order of this test shall wait
    worker.wait()
    stranger = sign_up(house, tmp_path, "stranger")
    suspect = models["marked"]["artifact_sha256"]
    order = owner.client.post(owner.path, check_of(owner, suspect))
    nothing = "01890000-0000-7000-8000-000000000000"
    with ApiClient(house.url) as anonymous:
        for path in ("", f"/{order['id']}"):
            assert refused(lambda p=path: anonymous.get(f"{owner.path}{p}")).status == 401
        assert refused(lambda: anonymous.post(f"{owner.path}/{order['id']}/cancel")).status == 401
        assert refused(lambda: anonymous.post(owner.path, check_of(owner, suspect))).status == 401
    calls: list[Callable[[str], Any]] = [
        lambda id_: stranger.client.get(f"{owner.path}/{id_}"),
        lambda id_: stranger.client.post(f"{owner.path}/{id_}/cancel"),
    ]
    for call in calls:
        not_mine, none = (refused(lambda i=i, call=call: call(i)) for i in (order["id"], nothing))
        assert not_mine.status == none.status == 404
        assert not_mine.problem == none.problem
    own, hidden = stranger.train_data, {"name": "control", "sha256": suspect}
    absent = {"name": "control", "sha256": "00" * 32}
    for theirs, none in (
        (check_of(stranger, suspect), check_of(stranger, "00" * 32)),
        (check_of(stranger, own, program=suspect), check_of(stranger, own, program="00" * 32)),
        (check_of(stranger, own, controls=[hidden]), check_of(stranger, own, controls=[absent])),
    ):
        problems = [refused(lambda o=o: stranger.client.post(owner.path, o)) for o in (theirs, none)]
        assert problems[0].status == 404
        assert problems[0].problem == problems[1].problem
    assert list(stranger.client.items(owner.path)) == []
    assert owner.cancel(order)["state"] == "cancelled"
    problem = refused(lambda: owner.cancel(order))
    assert (problem.status, problem.state) == (409, "cancelled")
