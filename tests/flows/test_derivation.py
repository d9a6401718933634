"""An interface by the fixed rule, through HTTP: derived from committed covers, filed with, checked offline."""

import json
from typing import Any

import pytest
from sqlalchemy import text

from app.canonical import sha256
from app.db.engine import transaction
from app.errors import ProofError
from app.keys.cover_set import encode_cover_set
from app.protocol.bundle import check_bundle
from app.protocol.derivation import MAX_DERIVATIONS
from app.protocol.interface import Interface
from app.suspects.adapter_codec import AdapterCodec
from tests.flows.claimant import Service, bundle_of, checked, natural, refused, sign_up, wait_until
from tests.simulators.suspect import Answer, SuspectSimulator

# Enough that each of ten classes has its twenty.
COVERS = 400

FLOATS = {"dtype": "float32", "scale": "0..1"}


def names(label: int) -> str:
    """What an endpoint of another maker calls a class: in another order, in other words."""
    return f"Klasse {(label * 3 + 1) % 10}"


def described(question: bytes) -> Answer:
    return names(natural(question))


@pytest.fixture(scope="module")
def suspect_metadata() -> dict[str, Any]:
    return {"/v1/models": {"models": ["digits"]}}


def test_a_derived_interface_is_free_and_ends_in_a_verdict_that_checks(
    service: Service, suspect_metadata: dict[str, Any]
) -> None:
    claimant = sign_up(service, "deriver", covers=COVERS, cover_class=natural)

    def stolen(question: bytes) -> Answer:
        return names(claimant.labels.get(question, natural(question)))

    with SuspectSimulator(stolen, preprocessing=FLOATS, metadata=suspect_metadata) as suspect:
        suspect_id = claimant.accuse(suspect, suspect.interface)
        derived = claimant.derive(suspect_id)
        assert derived["state"] == "done"
        assert (derived["interface_bits"], derived["ordinal"]) == (0, 1)
        assert derived["interface"]["preprocessing"] == FLOATS
        expected = {names(label): [f"class {label}"] for label in range(10)}
        assert derived["interface"]["label_map"] == {"by": "explicit", "map": expected}
        chosen = [one for one in derived["candidates"] if one["chosen"]]
        assert [one["purity_millis"] for one in chosen] == [1000]
        assert all(one["mapped"] and one["agreeing"] == one["answered"] >= 20 for one in derived["classes"])

        dispute = claimant.answer_until_decided(claimant.file_derived(suspect, suspect_id, derived))
    assert dispute["verdict"] == "CONFIRMED"
    found = checked(claimant, dispute)
    assert found.report["interface_bits"] == 0
    assert found.report["trust"]["interface_origin"] == "derived"
    assert found.report["flags"]["accuracy"]["correct"] == found.report["flags"]["accuracy"]["asked"] > 0
    assert found.report["flags"]["elsewhere"]["other_address"] == 0

    files = bundle_of(claimant, dispute)
    assert sha256(files["derivation.jsonl"]).hex() == derived["file_sha256"]
    lines = files["derivation.jsonl"].decode().splitlines()
    answer = next(at for at, line in enumerate(lines[1:], 1) if json.loads(line)["labels"])
    forged = lines[answer].replace("Klasse 1", "Klasse 2")
    altered = "\n".join([*lines[:answer], forged, *lines[answer + 1 :], ""]).encode()
    with pytest.raises(ProofError):
        check_bundle(files | {"derivation.jsonl": altered}, AdapterCodec(), log_key=service.log_key())


def test_a_server_that_says_what_it_is_is_derived_for_nothing(service: Service) -> None:
    claimant = sign_up(service, "mlflow deriver", covers=COVERS, cover_class=natural)
    said = {"/version": "3.17.2"}
    with SuspectSimulator(described, protocol="mlflow", preprocessing=FLOATS, metadata=said) as suspect:
        derived = claimant.derive(claimant.accuse(suspect, Interface("kserve_v1", {}, {}, {"by": "index"})))
    assert (derived["interface"]["adapter"], derived["interface"]["preprocessing"]) == ("mlflow", FLOATS)
    assert (derived["interface_bits"], "it is free" in derived["why"]) == (0, True)


def test_an_adapter_is_named_for_a_server_that_says_nothing_of_itself(service: Service) -> None:
    claimant = sign_up(service, "namer", covers=COVERS, cover_class=natural)

    def stolen(question: bytes) -> Answer:
        return names(claimant.labels.get(question, natural(question)))

    with SuspectSimulator(stolen, protocol="huggingface") as suspect:
        suspect_id = claimant.accuse(suspect)
        assert claimant.derive(suspect_id)["state"] == "failed"
        derived = claimant.derive(suspect_id, by_name=True)
        assert (derived["state"], derived["interface_bits"]) == ("done", 12)
        assert "you named the adapter" in derived["why"]
        assert derived["interface"]["adapter"] == "huggingface"
        # That was this host's one derivation: to name nothing would be another.
        problem = refused(lambda: claimant.derive(suspect_id))
        assert (problem.status, "as huggingface" in problem.message) == (409, True)
        dispute = claimant.answer_until_decided(claimant.file_derived(suspect, suspect_id, derived))
    assert dispute["verdict"] == "CONFIRMED"
    assert checked(claimant, dispute).report["interface_bits"] == 12


def test_answers_that_fail_while_ways_are_compared_are_paid_for(service: Service) -> None:
    claimant = sign_up(service, "silencer", covers=COVERS, cover_class=natural)
    silenced = set(claimant.cover_inputs[::7])

    def answering(question: bytes) -> Answer:
        return None if question in silenced else described(question)

    with SuspectSimulator(answering, preprocessing={}) as suspect:
        derived = claimant.derive(claimant.accuse(suspect))
    assert derived["interface_bits"] > 8
    assert "silence can be chosen" in derived["why"]


def test_covers_of_the_derivation_are_asked_last(service: Service) -> None:
    claimant = sign_up(service, "reminded", covers=560, cover_class=natural)
    with SuspectSimulator(described, preprocessing={}) as suspect:
        suspect_id = claimant.accuse(suspect)
        derived = claimant.derive(suspect_id)
        dispute_id = claimant.file_derived(suspect, suspect_id, derived, max_triggers=32, covers_per_trigger=1)
        files = bundle_of(claimant, claimant.answer_until_decided(dispute_id))
    shown = {json.loads(line)["cover"] for line in files["derivation.jsonl"].splitlines()[1:]}
    asked = [json.loads(line)["role"] for line in files["queries.jsonl"].splitlines()]
    covers = {role["index"] for role in asked if role["kind"] == "cover"}
    assert len(shown) < 560 - len(covers)
    assert not shown & covers


def test_a_killed_workers_derivation_is_finished_by_another(service: Service) -> None:
    claimant = sign_up(service, "interrupted", covers=COVERS, cover_class=natural)
    with SuspectSimulator(described, preprocessing={}, latency_seconds=0.05) as suspect:
        suspect_id = claimant.accuse(suspect)
        body = {"registration_id": claimant.registration_id, "covers": claimant.covers}
        path = f"/v1/suspects/{suspect_id}/derivation"
        claimant.client.post(path, body)

        def stored() -> int:
            return int(claimant.client.get(path, registration_id=claimant.registration_id)["asked"])

        wait_until(lambda: stored() >= 64, "the first lots of answers")
        service.kill("worker")
        assert claimant.client.get(path, registration_id=claimant.registration_id)["state"] == "asking"
        service.start_worker()
        derived = claimant.derive(suspect_id)
        assert (derived["state"], derived["ordinal"]) == ("done", 1)
        # At most the lot that was under way is asked again.
        assert derived["asked"] <= len(suspect.requests) <= derived["asked"] + 32 + len(suspect.metadata) + 1
        dispute_id = claimant.file_derived(suspect, suspect_id, derived, max_triggers=32, covers_per_trigger=1)
        checked(claimant, claimant.answer_until_decided(dispute_id))


def test_a_host_is_derived_at_once_and_what_came_of_it_stays(service: Service) -> None:
    claimant = sign_up(service, "repeater", covers=COVERS, cover_class=natural)
    with SuspectSimulator(described, preprocessing={}) as suspect:
        suspect_id = claimant.accuse(suspect)
        first = claimant.derive(suspect_id)
        asked = len(suspect.requests)
        again = claimant.derive(suspect_id)
        assert (again["id"], again["entry_index"]) == (first["id"], first["entry_index"])
        assert len(suspect.requests) == asked
        body = {
            "name": "by another path",
            "endpoint": suspect.url + "/elsewhere",
            "interface": suspect.interface.to_json(),
        }
        other = claimant.client.post("/v1/suspects", body)["id"]
        problem = refused(lambda: claimant.derive(other))
        assert (problem.status, problem.problem_code) == (409, "conflict")
        assert "once a host" in problem.message
    # Another host: it counts, and so it costs.
    with SuspectSimulator(described, preprocessing={}) as elsewhere:
        second = claimant.derive(claimant.accuse(elsewhere))
        assert (second["ordinal"], second["interface_bits"]) == (2, 8)


def test_a_derivation_holds_for_its_endpoint_and_its_interface_alone(service: Service) -> None:
    claimant = sign_up(service, "mover", covers=COVERS, cover_class=natural)
    with (
        SuspectSimulator(described, preprocessing={}) as suspect,
        SuspectSimulator(described, preprocessing={}) as other,
    ):
        suspect_id = claimant.accuse(suspect)
        derived = claimant.derive(suspect_id)
        elsewhere = claimant.accuse(other)
        problem = refused(lambda: claimant.file_derived(other, elsewhere, derived))
        assert (problem.status, problem.problem_code) == (422, "malformed")
        swapped = json.loads(json.dumps(derived))
        entries = swapped["interface"]["label_map"]["map"]
        entries["Klasse 1"], entries["Klasse 2"] = entries["Klasse 2"], entries["Klasse 1"]
        problem = refused(lambda: claimant.file_derived(suspect, suspect_id, swapped))
        assert "another interface" in problem.message
        unlabelled = service.folder / "unlabelled.json"
        unlabelled.write_bytes(encode_cover_set(claimant.cover_inputs))
        claimant.covers = claimant.client.upload(unlabelled, "application/json")
        problem = refused(lambda: claimant.file_derived(suspect, suspect_id, derived))
        assert "committed covers" in problem.message


def test_an_endpoint_that_was_away_may_be_derived_at_again(service: Service) -> None:
    claimant = sign_up(service, "early", covers=COVERS, cover_class=natural)
    with SuspectSimulator(described, preprocessing={}, fault="status_500") as suspect:
        suspect_id = claimant.accuse(suspect)
        failed = claimant.derive(suspect_id)
        assert (failed["state"], failed["interface"], failed["ordinal"]) == ("failed", None, None)
        suspect.fault = ""
        assert claimant.derive(suspect_id)["state"] in ("done", "failed")
        done = wait_until(lambda: _done(claimant, suspect_id), "the second derivation")
        assert done["ordinal"] == 1


def _done(claimant: Any, suspect_id: str) -> dict[str, Any] | None:
    found = claimant.derive(suspect_id)
    return found if found["state"] == "done" else None


def test_covers_that_are_not_the_committed_ones_are_refused(service: Service) -> None:
    claimant = sign_up(service, "swapper", covers=COVERS, cover_class=natural)
    moved = [natural(data) for data in claimant.cover_inputs]
    moved[0] = (moved[0] + 1) % 10
    changed = service.folder / "changed.json"
    changed.write_bytes(encode_cover_set(claimant.cover_inputs, moved))
    digest = claimant.client.upload(changed, "application/json")
    with SuspectSimulator(described, preprocessing={}) as suspect:
        suspect_id = claimant.accuse(suspect)
        claimant.covers = digest
        for call in (lambda: claimant.derive(suspect_id), lambda: claimant.file(suspect)):
            problem = refused(call)
            assert (problem.status, problem.problem_code) == (422, "opening_invalid")
            assert "not the covers that the registration commits to" in problem.message
        assert suspect.requests == []


def test_without_committed_covers_nothing_is_derived(service: Service) -> None:
    claimant = sign_up(service, "uncommitted")
    with SuspectSimulator(described) as suspect:
        problem = refused(lambda: claimant.derive(claimant.accuse(suspect)))
        assert (problem.status, problem.problem_code) == (422, "malformed")
        assert "no labels" in problem.message


def test_one_derivation_too_many_is_refused_before_anybody_is_asked(service: Service) -> None:
    claimant = sign_up(service, "tireless", covers=COVERS, cover_class=natural)
    made = text(
        "INSERT INTO derivations (id, vendor_id, registration_id, host, endpoint, address_options, covers_sha256, "
        "state, asked, answered, asking_milliseconds, created_at, updated_at) "
        "SELECT gen_random_uuid(), vendor_id, id, n || '.test:443', 'https://' || n || '.test', '{}', statement_sha256, "
        "'done', 0, 0, 0, now(), now() FROM registrations, generate_series(1, :many) AS n WHERE id = :registration"
    )
    with transaction(service.database.service) as session:
        session.execute(made, {"many": MAX_DERIVATIONS, "registration": claimant.registration_id})
    with SuspectSimulator(described, preprocessing={}) as suspect:
        problem = refused(lambda: claimant.derive(claimant.accuse(suspect)))
        assert (problem.status, problem.problem_code) == (409, "conflict")
        assert suspect.requests == []


def test_strangers_see_no_derivation(service: Service) -> None:
    claimant, stranger = (sign_up(service, name, covers=COVERS, cover_class=natural) for name in ("seen", "stranger"))
    with SuspectSimulator(described, preprocessing={}) as suspect:
        suspect_id = claimant.accuse(suspect)
        claimant.derive(suspect_id)
    path = f"/v1/suspects/{suspect_id}/derivation"
    nobody = refused(lambda: service.connect().get(path, registration_id=claimant.registration_id))
    assert nobody.status == 401
    for registration in (claimant.registration_id, stranger.registration_id):
        problem = refused(lambda: stranger.client.get(path, registration_id=registration))  # noqa: B023
        assert problem.status == 404
