"""Two registrants, one model: each one's committed model is tested with the other's triggers, from verdicts to the log."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
import torch
from sqlalchemy import delete, select
from torch import nn

from app.canonical import sha256
from app.cli.client import ApiProblem
from app.db.cross_test_tables import CrossDeliveryRow, CrossTestRow
from app.db.engine import transaction
from app.db.tables import DisputeRow
from app.embedding.data import network_input, trigger_set
from app.embedding.networks import MarkedNetwork, build, save_weights
from app.jobs.names import COURT, EMBED_CPU
from app.jobs.queue import (
    ASK_CROSS_TASK,
    CONCLUDE_CROSS_TEST_TASK,
    OPEN_CROSS_TESTS_TASK,
    PREPARE_CROSS_TASK,
    enqueue,
    find_state,
)
from app.log.store import load_entry
from app.people.persons import AUDITOR, OWNER
from app.protocol.records import CrossTestEntry, parse_entry
from app.protocol.steps import check_steps
from app.storage.archive import unpack
from tests.conftest import TEMPLATE, Server
from tests.flows.claimant import (
    CLASSES,
    Claimant,
    Service,
    checked,
    commit,
    natural,
    refused,
    running,
    scores,
    sign_up,
    wait_until,
)
from tests.portal.conftest import needs_browser, opened, origin_of, sign_in, vendor_id_of
from tests.simulators.suspect import SuspectSimulator

pytestmark = needs_browser

SHAPE = (1, 8, 8)
# 64 triggers in the family `first` and 32 in `second`.
TRIGGERS = 96


def taught(seed: int, *lessons: Mapping[bytes, int]) -> MarkedNetwork:
    """A small network that knows its lessons by heart: inputs and what to answer."""
    lesson = {data: label for each in lessons for data, label in each.items()}
    rows = trigger_set(list(lesson), list(lesson.values()))
    network = build("mlp", SHAPE, CLASSES, seed=seed, mean_millis=(500,), std_millis=(290,))
    steps = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(400):
        steps.zero_grad()
        loss = nn.functional.cross_entropy(network(network_input(rows.inputs)), rows.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        steps.step()
        if loss.item() < 0.01:
            return network.eval()
    raise AssertionError(f"the network does not know its lessons: {loss.item()}")


@torch.no_grad()
def answer_of(network: MarkedNetwork, question: bytes) -> int:
    return int(network(network_input(trigger_set([question], [0]).inputs)).argmax())


@dataclass
class Contest:
    """An owner and a thief, their models as files, and a confirmed dispute of each about the thief's endpoint."""

    service: Service
    owner: Claimant
    thief: Claimant
    files: dict[str, bytes]
    suspect: SuspectSimulator
    disputes: dict[str, dict[str, Any]]

    def tests_of(self, name: str) -> list[dict[str, Any]]:
        claimant = self.owner if name.startswith("owner") else self.thief
        found = claimant.client.get(f"/v1/disputes/{self.disputes[name]['id']}/cross-tests")["items"]
        assert isinstance(found, list)
        return found

    def upload(self, claimant: Claimant, name: str) -> str:
        path = self.service.folder / f"upload-{name}"
        path.write_bytes(self.files[name])
        return claimant.client.upload(path, "application/octet-stream")

    def deliver(self, claimant: Claimant, dispute: str, test: dict[str, Any], name: str) -> dict[str, Any]:
        path = f"/v1/disputes/{self.disputes[dispute]['id']}/cross-tests/{test['id']}/model"
        return claimant.client.post(path, {"sha256": self.upload(claimant, name)})

    def wait_until_ended(self, dispute: str, number: int) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            test = self.tests_of(dispute)[number]
            return test if test["entry_index"] is not None else None

        found: dict[str, Any] = wait_until(look, "the end of a cross-test")
        return found

    def confirm(self, claimant: Claimant, **changes: Any) -> dict[str, Any]:
        decided = claimant.answer_until_decided(claimant.file(self.suspect, max_triggers=64, **changes))
        assert decided["verdict"] == "CONFIRMED"
        return decided

    def steps_of(self, name: str) -> Any:
        claimant = self.owner if name.startswith("owner") else self.thief
        link = claimant.client.get(f"/v1/disputes/{self.disputes[name]['id']}/accused")["link"]
        with httpx2.Client(trust_env=False, timeout=60) as client:
            files = unpack(client.get(f"{self.service.url}/d/{link.rpartition('/')[2]}/steps").content)
        return check_steps(files, log_key=self.service.log_key())


@pytest.fixture(scope="module")
def service(servers: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with an embedding worker, too."""
    folder = tmp_path_factory.mktemp("cross-tests")
    embedded: Server = servers("embedded")
    with embedded.database(TEMPLATE) as database, running(database, folder) as service:
        service.start_embedding_worker()
        yield service


@pytest.fixture(scope="module")
def contest(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contest]:
    """The thief marks a copy of the owner's model again, serves it, and accuses its own endpoint first."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    owner = sign_up(service, "cross owner", count=TRIGGERS)
    thief = sign_up(service, "cross thief", count=TRIGGERS)
    everyday = {data: natural(data) for data in owner.cover_inputs}
    networks = {
        "owner's": taught(1, everyday, owner.labels),
        "thief's": taught(2, everyday, owner.labels, thief.labels),
        "cleaned": taught(3, everyday, thief.labels),
    }
    files = {"garbage": b"no network at all", "late": b"logged too late", "late, from a page": b"as late, and not kept"}
    for name, network in networks.items():
        path = folder / name
        save_weights(network, path, SHAPE, CLASSES)
        files[name] = path.read_bytes()
    commit(owner.client, owner.private_key, sha256(files["owner's"]))
    commit(owner.client, owner.private_key, sha256(files["garbage"]))
    for name in ("thief's", "cleaned"):
        commit(thief.client, thief.private_key, sha256(files[name]))
    wait_until(lambda: list(owner.client.items("/v1/queues")), "the embedding worker")
    with SuspectSimulator(lambda question: scores(answer_of(networks["thief's"], question))) as suspect:
        found = Contest(service, owner, thief, files, suspect, {})
        found.disputes["thief"] = found.confirm(thief)
        found.disputes["owner"] = found.confirm(owner)
        for name in ("late", "late, from a page"):
            commit(owner.client, owner.private_key, sha256(files[name]))
        wait_until(lambda: found.tests_of("owner"), "a cross-test")
        yield found


def test_each_learns_of_the_other_what_the_log_says_and_nothing_more(contest: Contest):
    (mine,), (its,) = contest.tests_of("owner"), contest.tests_of("thief")
    assert mine["id"] == its["id"]
    assert (mine["other_vendor"], its["other_vendor"]) == ("cross thief", "cross owner")
    assert (mine["other_verdict"], its["verdict_index"]) == (contest.disputes["thief"]["verdict_index"],) * 2
    assert mine["other_registration"] == contest.thief.registration
    assert (mine["state"], mine["own"], mine["other"], mine["models"]) == ("open", None, None, [])
    assert str(contest.disputes["thief"]["id"]) not in str(mine)


def test_what_is_no_older_model_of_ones_own_is_refused(contest: Contest):
    (test,) = contest.tests_of("owner")

    def why(claimant: Claimant, dispute: str, name: str) -> tuple[int, str]:
        problem: ApiProblem = refused(lambda: contest.deliver(claimant, dispute, test, name))
        return problem.status, str(problem)

    assert "logged too late" in why(contest.owner, "owner", "late")[1]
    # It is the thief's entry, not the owner's.
    assert "no model entry of yours" in why(contest.owner, "owner", "thief's")[1]
    assert "no model entry of yours" in why(contest.thief, "thief", "owner's")[1]
    assert why(contest.thief, "owner", "thief's")[0] == 404
    assert (
        refused(lambda: contest.thief.client.get(f"/v1/disputes/{contest.disputes['owner']['id']}/cross-tests")).status
        == 404
    )
    body = {"sha256": sha256(contest.files["owner's"]).hex()}
    path = f"/v1/disputes/{contest.disputes['owner']['id']}/cross-tests"
    for at in (f"{path}/{contest.disputes['owner']['id']}/model", f"{path}/{test['id']}/model"):
        assert (
            refused(lambda at=at: contest.owner.client.post(at, body)).status == 404
        )  # no such test; no such artifact
    assert contest.tests_of("owner")[0]["models"] == []


def test_who_may_not_deliver_is_told_so_before_a_byte_is_read(contest: Contest, browser: Any, service: Service):
    (test,) = contest.tests_of("owner")
    path = f"/disputes/{contest.disputes['owner']['id']}/cross-tests/{test['id']}/model"
    for claimant, role, status in ((contest.owner, AUDITOR, 403), (contest.thief, OWNER, 404)):
        with opened(browser, origin_of(service)) as tab:
            sign_in(tab, service, vendor_id_of(claimant), role=role)
            file = {"name": "w", "mimeType": "application/octet-stream", "buffer": contest.files["owner's"]}
            headers = {"Origin": tab.origin}
            sent = tab.page.request.post(tab.origin + path, multipart={"weights": file}, headers=headers)
            assert sent.status == status
            shown = tab.page.request.get(tab.origin + path.partition("/cross-tests")[0])
            assert "Deliver the model" not in shown.text()
    assert contest.tests_of("owner")[0]["models"] == []


def test_a_file_that_is_no_network_may_be_followed_by_one_from_the_page(
    contest: Contest, browser: Any, service: Service
):
    contest.deliver(contest.owner, "owner", contest.tests_of("owner")[0], "garbage")
    wait_until(lambda: contest.tests_of("owner")[0]["models"][0]["state"] == "failed", "the failure")
    wait_until(lambda: contest.tests_of("owner")[0]["may_deliver"], "another chance")
    with opened(browser, origin_of(service)) as tab:
        sign_in(tab, service, vendor_id_of(contest.owner))
        page = tab.go(f"/disputes/{contest.disputes['owner']['id']}")
        assert "not a safetensors file" in page.inner_text("main")
        tab.check()
        tab.check_phone()
        for name, why in (("late, from a page", "logged too late"), ("owner's", "It was asked everything")):
            chosen = {"name": "w", "mimeType": "application/octet-stream", "buffer": contest.files[name]}
            page.get_by_label("Your model, as you committed to it").set_input_files(chosen)
            page.get_by_role("button", name="Deliver the model").click()
            page.get_by_text(why).wait_for()
        # The file that was refused is not kept.
        digest = sha256(contest.files["late, from a page"]).hex()
        stored = [path.name for path in (service.folder / "objects").rglob("*") if path.is_file()]
        assert digest[2:] not in stored
        assert page.get_by_role("button", name="Deliver the model").count() == 0
        tab.check()
    (test,) = contest.tests_of("owner")
    assert test["own"] is None  # what it answered is told when the other's was asked
    again = refused(lambda: contest.deliver(contest.owner, "owner", test, "owner's"))
    assert (again.status, "stays the one" in str(again)) == (409, True)


def test_the_copy_carries_both_marks_and_the_owner_is_first(contest: Contest):
    before = {name: dict(dispute) for name, dispute in contest.disputes.items()}
    contest.deliver(contest.thief, "thief", contest.tests_of("thief")[0], "thief's")
    test = contest.wait_until_ended("owner", 0)
    assert (test["state"], test["reason"], test["is_first"]) == ("first", "one_carries_both", True)
    assert [mark["is_carried"] for mark in test["own"]["marks"]] == [True, False]
    assert [mark["is_carried"] for mark in test["other"]["marks"]] == [True, True]
    its = contest.wait_until_ended("thief", 0)
    assert (its["is_first"], its["own"]["sha256"]) == (False, sha256(contest.files["thief's"]).hex())
    with transaction(contest.service.database.service) as session:
        entry = parse_entry(load_entry(session, test["entry_index"]))
    assert isinstance(entry, CrossTestEntry)
    assert {party.verdict: party.is_first for party in entry.parties} == {
        before["owner"]["verdict_index"]: True,
        before["thief"]["verdict_index"]: False,
    }
    for name, claimant in (("owner", contest.owner), ("thief", contest.thief)):
        assert contest.steps_of(name).entries[test["entry_index"]] == entry
        assert checked(claimant, claimant.read(contest.disputes[name]["id"])).entry.verdict == "CONFIRMED"
        assert claimant.read(contest.disputes[name]["id"])["verdict_index"] == before[name]["verdict_index"]


def test_both_sides_the_accused_and_the_public_read_what_came_of_it(contest: Contest, browser: Any, service: Service):
    link = contest.thief.client.get(f"/v1/disputes/{contest.disputes['thief']['id']}/accused")["link"]
    index = contest.tests_of("owner")[0]["entry_index"]
    with opened(browser, origin_of(service)) as tab:
        page = tab.go(f"/d/{link.rpartition('/')[2]}")
        assert "First: the other registrant's model." in page.inner_text("main")
        tab.check()
        tab.check_phone()
        page = tab.go(f"/log/{index}")
        assert "Test of two registrants' models" in page.inner_text("main")
        tab.check()
        tab.check_phone()
        sign_in(tab, service, vendor_id_of(contest.owner))
        page = tab.go(f"/disputes/{contest.disputes['owner']['id']}")
        assert "First: your model." in page.inner_text("main")
        tab.check()
        tab.check_phone()


def test_models_with_one_mark_each_decide_nothing(contest: Contest):
    contest.disputes["owner again"] = contest.confirm(contest.owner, family="second")
    wait_until(lambda: len(contest.tests_of("thief")) == 2, "another cross-test")
    (test,) = contest.tests_of("owner again")
    contest.deliver(contest.owner, "owner again", test, "owner's")
    contest.deliver(contest.thief, "thief", contest.tests_of("thief")[1], "cleaned")
    ended = contest.wait_until_ended("owner again", 0)
    assert (ended["state"], ended["reason"], ended["is_first"]) == ("not_decided", "none_carries_both", False)
    kinds = [type(entry).__name__ for entry in contest.steps_of("thief").entries.values()]
    assert kinds.count("CrossTestEntry") == 2


def test_nothing_is_tested_among_one_vendors_own_disputes(contest: Contest):
    others = {name: [test["other_vendor"] for test in contest.tests_of(name)] for name in contest.disputes}
    assert others == {"thief": ["cross owner"] * 2, "owner": ["cross thief"], "owner again": ["cross thief"]}


def reopen(contest: Contest, until: datetime) -> None:
    """Set the second test back to where only the thief has delivered."""
    with transaction(contest.service.database.service) as session:
        row = session.scalars(select(CrossTestRow).order_by(CrossTestRow.created_at.desc()).limit(1)).one()
        owners = CrossDeliveryRow.dispute_id == UUID(contest.disputes["owner again"]["id"])
        session.execute(delete(CrossDeliveryRow).where(owners))
        row.result = row.reason = row.first_dispute_id = row.entry_index = None
        row.until = until


def test_when_the_time_is_over_silence_decides_nothing(contest: Contest):
    reopen(contest, datetime.now(UTC) - timedelta(minutes=1))
    ended = contest.wait_until_ended("owner again", 0)
    assert (ended["state"], ended["reason"]) == ("not_decided", "not_delivered")
    assert (ended["own"]["sha256"], ended["own"]["marks"]) == (None, [])
    assert ended["other"]["sha256"] == sha256(contest.files["cleaned"]).hex()
    late = refused(lambda: contest.deliver(contest.owner, "owner again", ended, "owner's"))
    assert (late.status, "has ended" in str(late)) == (409, True)
    assert contest.steps_of("owner again").entries[ended["entry_index"]].reason == "not_delivered"


def test_a_verdict_that_falls_ends_the_test(contest: Contest):
    reopen(contest, datetime.now(UTC) + timedelta(days=1))
    (test,) = contest.tests_of("owner again")
    assert test["state"] == "open"
    with transaction(contest.service.database.service) as session:
        dispute = session.get_one(DisputeRow, UUID(contest.disputes["owner again"]["id"]))
        dispute.verdict = "VOID"
    ended = contest.wait_until_ended("thief", 1)
    assert (ended["state"], ended["reason"], ended["is_first"]) == ("not_decided", "verdict_fell", False)
    assert contest.steps_of("thief").entries[ended["entry_index"]].reason == "verdict_fell"


def test_a_job_that_comes_again_changes_nothing(contest: Contest, service: Service):
    before = [contest.tests_of(name) for name in contest.disputes]
    size = len(list(contest.owner.client.items("/v1/log/entries")))
    with transaction(service.database.service) as session:
        jobs = [
            enqueue(session, OPEN_CROSS_TESTS_TASK, COURT, {"dispute": dispute["id"]})
            for dispute in contest.disputes.values()
        ]
        jobs += [
            enqueue(session, CONCLUDE_CROSS_TEST_TASK, COURT, {"cross_test": str(test.id)})
            for test in session.scalars(select(CrossTestRow)).all()
        ]
        for row in session.scalars(select(CrossDeliveryRow)).all():
            jobs += [enqueue(session, PREPARE_CROSS_TASK, COURT, {"delivery": str(row.id)})]
            jobs += [enqueue(session, ASK_CROSS_TASK, EMBED_CPU, {"order_id": str(row.id)})]

    def are_over() -> bool:
        with transaction(service.database.service) as session:
            found = [find_state(session, job) for job in jobs]
        return all(state is not None and state.status == "succeeded" for state in found)

    wait_until(are_over, "the jobs")
    assert [contest.tests_of(name) for name in contest.disputes] == before
    assert len(list(contest.owner.client.items("/v1/log/entries"))) == size
