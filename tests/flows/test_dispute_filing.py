"""What a filing and a suspect must be, through HTTP: everything here is refused, or costs nothing."""

import base64
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from app.cli.client import file_dispute
from app.disputes.trials import TESTS_AT_ONCE
from app.errors import Unavailable
from app.protocol.interface import InterfaceOrigin
from app.signature import public_key_of, sign
from tests.flows.claimant import (
    ARBITER,
    Claimant,
    Service,
    checked,
    commit,
    image,
    innocent,
    natural,
    refused,
    sign_up,
    wait_until,
)
from tests.simulators.suspect import SuspectSimulator

# --- filings that are refused -----------------------------------------------------------------------------------------


def test_a_filing_must_fit_its_suspect_and_registration(owner: Claimant) -> None:
    with SuspectSimulator(innocent) as suspect:
        suspect_id = owner.accuse(suspect)
        fitting = owner.record(suspect)

        def answer(record: Any, key: bytes = owner.private_key, covers: str | None = owner.covers) -> tuple[int, str]:
            problem = refused(lambda: file_dispute(owner.client, suspect_id, record, key, covers))
            return problem.status, problem.problem_code

        policy = fitting.policy
        named = replace(suspect.interface, label_map={"by": "explicit", "map": {"0": ["no such class"]}})
        assert answer(fitting, key=b"\x44" * 32) == (422, "signature_invalid")
        assert answer(replace(fitting, endpoint=suspect.url + "/other")) == (422, "malformed")
        assert answer(replace(fitting, interface=named)) == (422, "malformed")
        assert answer(replace(fitting, family="third")) == (422, "malformed")
        assert answer(replace(fitting, registration=10_000)) == (404, "not_found")
        assert answer(fitting, covers=None) == (422, "malformed")
        assert answer(fitting, covers="00" * 32) == (404, "not_found")
        assert answer(replace(fitting, policy=replace(policy, covers_per_trigger=0))) == (422, "malformed")
        unreachable = replace(fitting, policy=replace(policy, max_triggers=15))
        assert answer(unreachable) == (422, "policy_refused")


def test_covers_are_read_only_for_a_filing_that_is_otherwise_accepted(owner: Claimant, service: Service) -> None:
    rubbish = service.folder / "rubbish"
    rubbish.write_bytes(b"no cover set")
    covers = owner.client.upload(rubbish, "application/json")
    with SuspectSimulator(innocent) as suspect:
        suspect_id = owner.accuse(suspect)
        fitting = owner.record(suspect)
        unreachable = replace(fitting, policy=replace(fitting.policy, max_triggers=15))
        for record, key, code in (
            (fitting, b"\x44" * 32, "signature_invalid"),
            (unreachable, owner.private_key, "policy_refused"),
            (fitting, owner.private_key, "malformed"),
        ):
            problem = refused(lambda: file_dispute(owner.client, suspect_id, record, key, covers))  # noqa: B023
            assert problem.problem_code == code


def test_an_interface_fixed_by_nobody_else_is_not_free(owner: Claimant, service: Service) -> None:
    with SuspectSimulator(innocent) as suspect:
        suspect_id = owner.accuse(suspect)
        logged = commit(owner.client, owner.private_key, suspect.interface.digest())
        stranger = b"\x55" * 32
        strange = sign(stranger, suspect.interface.encode())
        wrong = sign(ARBITER, b"something else")
        for origin, status in (
            (InterfaceOrigin("logged", logged, b"", b""), 422),
            (InterfaceOrigin("logged", 0, b"", b""), 422),
            (InterfaceOrigin("countersigned", None, public_key_of(stranger), strange), 422),
            (InterfaceOrigin("countersigned", None, public_key_of(ARBITER), wrong), 422),
        ):
            record = owner.record(suspect, interface_origin=origin)
            problem = refused(
                lambda: file_dispute(owner.client, suspect_id, record, owner.private_key, owner.covers)  # noqa: B023
            )
            assert problem.status == status


def test_an_interface_logged_before_the_beacon_costs_its_place_in_the_log(service: Service) -> None:
    with SuspectSimulator(innocent) as suspect:
        claimant = sign_up(service, "foresighted", commit_first=suspect.interface.digest())
        # The vendor's key, the digest, the statement.
        origin = InterfaceOrigin("logged", claimant.registration - 1, b"", b"")
        suspect.answer = claimant.stolen(1.0)
        dispute = claimant.answer_until_decided(claimant.file(suspect, interface_origin=origin, covers_per_trigger=0))
    assert dispute["verdict"] == "CONFIRMED"
    beacon_index = claimant.client.get(f"/v1/registrations/{claimant.registration_id}")["beacon_index"]
    assert checked(claimant, dispute).report["interface_bits"] == beacon_index.bit_length()


def test_an_interface_that_an_arbiter_countersigned_costs_nothing(service: Service) -> None:
    claimant = sign_up(service, "vouched")
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        signature = sign(ARBITER, suspect.interface.encode())
        origin = InterfaceOrigin("countersigned", None, public_key_of(ARBITER), signature)
        dispute = claimant.answer_until_decided(claimant.file(suspect, interface_origin=origin, covers_per_trigger=0))
    assert dispute["verdict"] == "CONFIRMED"
    assert checked(claimant, dispute).report["interface_bits"] == 0


def test_a_family_has_one_open_dispute(service: Service) -> None:
    claimant = sign_up(service, "hasty")
    with SuspectSimulator(innocent) as suspect:
        first = claimant.file(suspect)
        second = refused(lambda: claimant.file(suspect))
        assert (second.status, second.problem_code) == (409, "conflict")
        assert first in str(second)
        other = claimant.read(claimant.file(suspect, family="second"))
        assert other["ordinal"] == 2


# --- suspects ---------------------------------------------------------------------------------------------------------


def test_a_suspect_is_stored_priced_tested_and_forgotten(owner: Claimant) -> None:
    with SuspectSimulator(innocent) as suspect:
        body = {
            "name": "one",
            "endpoint": suspect.url,
            "interface": suspect.interface.to_json(),
            "registration_id": owner.registration_id,
        }
        made = owner.client.post("/v1/suspects", body)
        assert made["interface_bits"] == 8
        assert owner.client.get(f"/v1/suspects/{made['id']}")["endpoint"] == suspect.url
        assert made["id"] in {item["id"] for item in owner.client.items("/v1/suspects", limit=1)}
        question = image("a cover")
        seen = owner.client.post(
            f"/v1/suspects/{made['id']}/test",
            {"registration_id": owner.registration_id, "input": base64.b64encode(question).decode()},
        )
        assert (seen["labels"], seen["status"], seen["error"]) == ([str(natural(question))], 200, "")
        assert seen["classes"] == [f"class {natural(question)}"]
        assert len(suspect.requests) == 1
        owner.client._call("DELETE", f"/v1/suspects/{made['id']}")
        assert refused(lambda: owner.client.get(f"/v1/suspects/{made['id']}")).status == 404


def test_so_many_suspects_are_tested_at_once_and_no_more(owner: Claimant, service: Service) -> None:
    body = {"registration_id": owner.registration_id, "input": base64.b64encode(image("a cover")).decode()}
    headers = {"Authorization": f"Bearer {owner.client.api_key}"}
    with SuspectSimulator(innocent, latency_seconds=30.0) as slow, SuspectSimulator(innocent) as quick:
        slow_id, quick_id = owner.accuse(slow), owner.accuse(quick)

        def test(suspect_id: str) -> httpx2.Response:
            path = f"{service.url}/v1/suspects/{suspect_id}/test"
            return httpx2.post(path, json=body, headers=headers, timeout=30, trust_env=False)

        with ThreadPoolExecutor(TESTS_AT_ONCE) as pool:
            waiting = [pool.submit(test, slow_id) for _ in range(TESTS_AT_ONCE)]
            wait_until(lambda: len(slow.requests) == TESTS_AT_ONCE, "as many tests as there may be", 8)
            refused_one = test(quick_id)
            assert (refused_one.status_code, refused_one.json()["code"]) == (503, "unavailable")
            assert int(refused_one.headers["retry-after"]) > 0
            with pytest.raises(Unavailable, match=r"status 503: .*; try again later"):
                owner.client.post(f"/v1/suspects/{quick_id}/test", body)
            assert quick.requests == []
            slow.closing.set()
            assert [future.result().json()["error"] for future in waiting] == [""] * TESTS_AT_ONCE
        assert test(quick_id).json()["error"] == ""


@pytest.mark.parametrize(
    ("change", "status", "pointer"),
    [
        ({"endpoint": "http://10.0.0.1/"}, 422, "/endpoint"),
        ({"endpoint": "https://user:secret@example.org/"}, 422, "/endpoint"),
        ({"endpoint": "http://169.254.169.254/latest"}, 422, "/endpoint"),
        ({"interface": {"adapter": "kserve_v1"}}, 422, "/interface/label_map"),
        (
            {"interface": {"adapter": "psychic", "options": {}, "preprocessing": {}, "label_map": {"by": "index"}}},
            422,
            "/interface/adapter",
        ),
        (
            {"interface": {"adapter": "kserve_v1", "options": {}, "preprocessing": {}, "label_map": {"by": "guess"}}},
            422,
            "/interface/label_map",
        ),
    ],
)
def test_a_suspect_that_cannot_be_asked_is_refused(
    owner: Claimant, change: dict[str, Any], status: int, pointer: str
) -> None:
    interface = {
        "adapter": "kserve_v1",
        "options": {"model": "digits"},
        "preprocessing": {},
        "label_map": {"by": "index"},
    }
    body = {"name": "one", "endpoint": "https://example.org/", "interface": interface} | change
    problem = refused(lambda: owner.client.post("/v1/suspects", body))
    assert problem.status == status
    assert [error["pointer"] for error in problem.problem["errors"]] == [pointer]
