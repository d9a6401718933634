"""Weights of the accused: older ones that answer as the endpoint void the claim, all others change nothing."""

import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from sqlalchemy import select
from typer.testing import CliRunner

from app.canonical import sha256
from app.cli.client import register_vendor
from app.cli.commands import main as trapstreet
from app.db.engine import transaction
from app.db.lifecycle_tables import WeightDeliveryRow
from app.embedding.data import network_input, trigger_set
from app.embedding.networks import MarkedNetwork, build, save_weights
from app.jobs.names import COURT, EMBED_CPU
from app.jobs.queue import (
    COMPARE_WEIGHTS_TASK,
    CONCLUDE_WEIGHTS_TASK,
    PREPARE_WEIGHTS_TASK,
    enqueue,
    find_state,
)
from app.merkle.checkpoint import verifier_key_text
from app.protocol.steps import check_steps
from app.storage.archive import pack, unpack
from tests.conftest import TEMPLATE, Server
from tests.flows.claimant import (
    CLASSES,
    ORIGIN,
    Claimant,
    Service,
    bundle_of,
    checked,
    commit,
    running,
    scores,
    sign_up,
    wait_until,
)
from tests.portal.conftest import needs_browser, opened, origin_of, sign_in, vendor_id_of
from tests.simulators.suspect import SuspectSimulator

pytestmark = needs_browser

SHAPE = (1, 8, 8)


def network_of(seed: int) -> MarkedNetwork:
    """A tiny network that tells noise from noise: what it learned does not matter here, only that it is one."""
    made = build("mlp", SHAPE, CLASSES, seed=seed, mean_millis=(500,), std_millis=(100,))
    return made.eval()


@torch.no_grad()
def answer_of(network: MarkedNetwork, question: bytes) -> int:
    return int(network(network_input(trigger_set([question], [0]).inputs)).argmax())


def file_of(network: MarkedNetwork, folder: Path, name: str) -> bytes:
    path = folder / f"{name}.safetensors"
    save_weights(network, path, SHAPE, CLASSES)
    return path.read_bytes()


@dataclass
class Accused:
    """A decided dispute about a network that is older than the claim, and files of the accused."""

    service: Service
    claimant: Claimant
    dispute: dict[str, Any]
    token: str
    files: dict[str, bytes]

    def send(self, name: str, *, program: bytes = b"") -> httpx2.Response:
        files = {"weights": ("w", self.files[name]), "program": ("p" if program else "", program)}
        with httpx2.Client(base_url=self.service.url, trust_env=False, timeout=60) as client:
            headers = {"Origin": origin_of(self.service)}
            return client.post(f"/d/{self.token}/weights", files=files, headers=headers)

    def told(self) -> list[dict[str, Any]]:
        found = self.claimant.client.get(f"/v1/disputes/{self.dispute['id']}/accused")["deliveries"]
        assert isinstance(found, list)
        return found

    def wait_for(self, number: int) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            last = self.told()[-1]
            return last if last["number"] == number and last["state"] in ("done", "failed") else None

        found: dict[str, Any] = wait_until(look, f"delivery {number}")
        return found

    def read(self) -> dict[str, Any]:
        return self.claimant.read(self.dispute["id"])


@pytest.fixture(scope="module")
def service(servers: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with an embedding worker, too."""
    folder = tmp_path_factory.mktemp("weights")
    embedded: Server = servers("embedded")
    with embedded.database(TEMPLATE) as database, running(database, folder) as service:
        service.start_embedding_worker()
        yield service


@pytest.fixture(scope="module")
def accused(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Accused:
    """A claimant whose chosen labels are what an older network says anyway: the prior art that the rule is for."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("files")
    old = network_of(1)
    files = {
        "same": file_of(old, folder, "same"),
        "other": file_of(network_of(2), folder, "other"),
        "late": file_of(network_of(3), folder, "late"),
        "unknown": file_of(network_of(4), folder, "unknown"),
        "hostile": pickle.dumps({"<script>": 1}) + bytes(100),
    }
    private_key = sha256(b"signing key of the accused")
    registered = register_vendor(service.connect(), "weights accused", "accused@example.org", private_key)
    theirs = service.connect(registered["api_key"])
    for name in ("same", "other", "hostile"):
        commit(theirs, private_key, sha256(files[name]))
    claimant = sign_up(service, "weights claimant", choose=lambda question: answer_of(old, question))
    commit(theirs, private_key, sha256(files["late"]))
    with SuspectSimulator(lambda question: scores(answer_of(old, question))) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect, max_triggers=64, covers_per_trigger=1))
    assert dispute["verdict"] == "INDICATIVE"
    link = claimant.client.get(f"/v1/disputes/{dispute['id']}/accused")["link"]
    wait_until(lambda: list(claimant.client.items("/v1/queues")), "the embedding worker")
    return Accused(service, claimant, dispute, str(link).rpartition("/")[2], files)


@pytest.mark.parametrize(("name", "why"), [("unknown", "no model entry"), ("late", "logged too late")])
def test_weights_that_the_log_does_not_show_to_be_older_are_refused_and_not_kept(
    service: Service, accused: Accused, name: str, why: str
):
    refused = accused.send(name)
    assert (refused.status_code, why in refused.text, "were not taken" in refused.text) == (422, True, True)
    assert accused.told() == []
    digest = sha256(accused.files[name]).hex()
    assert not (service.folder / "objects" / "sha256" / digest[:2] / digest[2:]).exists()
    assert list((service.folder / "objects").rglob("incoming/*")) == []


def test_a_file_that_is_no_network_is_told_in_words_and_changes_nothing(accused: Accused):
    assert accused.send("hostile").status_code == 303
    assert accused.wait_for(1)["state"] == "failed"
    with httpx2.Client(base_url=accused.service.url, trust_env=False) as client:
        page = client.get(f"/d/{accused.token}").text
    assert "not a safetensors file" in page
    assert accused.read() == accused.dispute


def test_other_older_weights_change_nothing(accused: Accused):
    assert accused.send("other").status_code == 303
    again = accused.send("same")
    assert (again.status_code, "being compared" in again.text) == (409, True)
    compared = accused.wait_for(2)
    assert compared["state"] == "done"
    assert 100 * compared["repeated"] < 99 * compared["answered"]
    assert not compared["has_voided"]
    assert accused.read() == accused.dispute
    repeated = accused.send("other")
    assert (repeated.status_code, "compared already" in repeated.text) == (422, True)


def test_the_same_weights_void_the_claim_and_the_new_bundle_checks(
    accused: Accused, browser: Any, service: Service, tmp_path: Path
):
    earlier = bundle_of(accused.claimant, accused.dispute)
    with opened(browser, origin_of(service), java_script_enabled=False) as tab:
        page = tab.go(f"/d/{accused.token}")
        page.get_by_role("button", name="Ask for a second run").click()
        buffer = accused.files["same"]
        chosen = {"name": "w.safetensors", "mimeType": "application/octet-stream", "buffer": buffer}
        page.get_by_label("The weights, as they were logged").set_input_files(chosen)
        page.get_by_role("button", name="Deliver").click()
        page.wait_for_url("**/d/*#weights")
    compared = accused.wait_for(3)
    assert compared["has_voided"]
    assert 100 * compared["repeated"] >= 99 * compared["answered"] > 0
    voided = accused.read()
    assert (voided["verdict"], voided["reason"]) == ("VOID", "prior_model")
    prior = checked(accused.claimant, voided).assessment.evidence.prior_model
    assert prior is not None
    assert (prior.repeated, prior.answered) == (compared["repeated"], compared["answered"])
    log_key = verifier_key_text(ORIGIN, service.log_key())
    (tmp_path / "bundle.zip").write_bytes(pack(bundle_of(accused.claimant, voided)))
    said = CliRunner().invoke(trapstreet, ["check", str(tmp_path / "bundle.zip"), "--json", "--log-key", log_key])
    assert said.exit_code == 0
    assert json.loads(said.stdout)["weights"] == sha256(accused.files["same"]).hex()
    assert "service's word" in json.loads(said.stdout)["weights_word"]
    with httpx2.Client(base_url=service.url, trust_env=False, timeout=60) as client:
        kept = client.get(f"/d/{accused.token}/weights/3/evidence")
        assert unpack(kept.content) == earlier
        check_steps(unpack(client.get(f"/d/{accused.token}/steps").content), log_key=service.log_key())
    again = accused.send("same")
    assert (again.status_code, "no verdict against" in again.text) == (409, True)


def test_a_job_that_comes_again_changes_nothing(accused: Accused, service: Service):
    before, deliveries = accused.read(), accused.told()
    jobs = []
    with transaction(service.database.service) as session:
        for row in session.scalars(select(WeightDeliveryRow)).all():
            told = {"delivery": str(row.id), "order_id": str(row.id)}
            jobs += [enqueue(session, task, COURT, told) for task in (PREPARE_WEIGHTS_TASK, CONCLUDE_WEIGHTS_TASK)]
            jobs.append(enqueue(session, COMPARE_WEIGHTS_TASK, EMBED_CPU, told))

    def are_over() -> bool:
        with transaction(service.database.service) as session:
            found = [find_state(session, job) for job in jobs]
        return all(state is not None and state.status == "succeeded" for state in found)

    wait_until(are_over, "the jobs")
    assert (accused.read(), accused.told()) == (before, deliveries)
    kinds = [entry["kind"] for entry in accused.claimant.client.items("/v1/log/entries")]
    assert kinds.count("verdict") == 2


def test_a_browser_recomputes_the_new_bundle_and_says_whose_word_the_count_is(
    accused: Accused, browser: Any, service: Service
):
    bundle = pack(bundle_of(accused.claimant, accused.read()))
    with opened(browser, origin_of(service)) as tab:
        page = tab.go("/verify")
        chosen = {"name": "bundle.zip", "mimeType": "application/zip", "buffer": bundle}
        page.get_by_label("Evidence bundle or receipt").set_input_files(chosen)
        page.get_by_role("button", name="Check it here").click()
        page.locator("#result").wait_for()
        shown = page.locator("#result").inner_text()
        assert "VOID" in shown
        assert "how many answers the delivered weights repeated: it is the service's word" in shown
        assert tab.faults == []


def test_both_sides_read_what_became_of_it(accused: Accused, browser: Any, service: Service):
    with opened(browser, origin_of(service)) as tab:
        page = tab.go(f"/d/{accused.token}")
        shown = page.inner_text("main")
        assert "The claim is void" in shown
        assert "That voids nothing" in shown
        assert [delivery["has_voided"] for delivery in accused.told()] == [False, False, True]
        assert page.get_by_role("button", name="Deliver").count() == 0
        tab.check()
        tab.check_phone()
        sign_in(tab, service, vendor_id_of(accused.claimant))
        page = tab.go(f"/disputes/{accused.dispute['id']}")
        assert "The claim is void" in page.inner_text("main")
        tab.check()
        tab.check_phone()
