"""The steps of a dispute, as those are told of it who may be."""

from uuid import UUID

from app.db.engine import transaction
from app.db.tables import DisputeRow
from app.disputes.lifecycle import list_steps
from tests.flows.claimant import Service, sign_up, wait_until
from tests.simulators.suspect import SuspectSimulator

Steps = list[tuple[str, int | None, bool]]


def steps_of(service: Service, dispute_id: str) -> Steps:
    with transaction(service.database.service) as session:
        steps = list_steps(session, session.get_one(DisputeRow, UUID(dispute_id)))
        assert [step.number for step in steps] == list(range(len(steps)))
        assert "127.0.0.1" not in str([step.details for step in steps])
        return [(step.kind, step.entry_index, step.is_public) for step in steps]


def test_every_step_of_a_dispute_is_written_down_once_and_names_its_entry(service: Service) -> None:
    claimant = sign_up(service, "lifecycle steps")
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect))
    steps = steps_of(service, dispute["id"])
    blocks = dispute["blocks_probed"]
    kinds = [kind for kind, _, _ in steps if kind != "block_probed"]
    assert kinds[:2] == ["filed", "challenge_drawn"]
    assert [kind for kind in kinds if kind in ("probing_ended", "verdict")] == ["probing_ended", "verdict"]
    assert [kind for kind, _, _ in steps].count("block_probed") == blocks
    at = {kind: (entry, is_public) for kind, entry, is_public in steps}
    assert at["filed"] == (dispute["filing_index"], False)
    assert at["challenge_drawn"] == (dispute["beacon_index"], False)
    assert at["verdict"] == (dispute["verdict_index"], True)
    assert not any(is_public for kind, _, is_public in steps if kind == "block_probed")


def test_what_is_withdrawn_is_public_only_from_then_on(service: Service) -> None:
    claimant = sign_up(service, "lifecycle withdrawn")
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        dispute_id = claimant.file(suspect)
        wait_until(lambda: claimant.read(dispute_id)["state"] == "asking", "the challenge")
        claimant.client.post(f"/v1/disputes/{dispute_id}/withdrawal", {})
        wait_until(lambda: claimant.read(dispute_id)["verdict"], "the withdrawal's entry")
    steps = steps_of(service, dispute_id)
    assert [kind for kind, _, is_public in steps if not is_public] == ["filed", "challenge_drawn"]
    assert [kind for kind, _, is_public in steps if is_public and kind in ("withdrawn", "verdict")] == [
        "withdrawn",
        "verdict",
    ]
