"""Disputes of every kind from evidence to verdict: how answers become trials, and what is reported."""

from dataclasses import replace

import pytest

from app.canonical import parse_json
from app.errors import ProofError
from app.protocol.assessment import assess
from app.protocol.evidence import Outcome
from app.protocol.faults import find_fault
from app.protocol.figures import Standing
from app.protocol.records import BlockEntry
from tests.unit.protocol.dispute_in_memory import (
    ARBITER_PUBLIC,
    JsonCodec,
    Plan,
    innocent,
    marking_key,
    play,
    silent,
    silent_on_triggers,
    stolen,
    wavering_on_triggers,
)

PLAN = Plan()
PLAYED = play(PLAN)
EVIDENCE, KEY = PLAYED.evidence, PLAYED.key


def fault_of(evidence, arbiter_keys=(ARBITER_PUBLIC,)):
    return find_fault(evidence, JsonCodec(), arbiter_keys)


@pytest.mark.parametrize(
    ("plan", "verdict"),
    [
        (PLAN, ("CONFIRMED", "evidence", 11)),
        (Plan(origin="claimant"), ("CONFIRMED", "evidence", 12)),
        (Plan(origin="countersigned"), ("CONFIRMED", "evidence", 11)),
        (Plan(covers_per_trigger=0), ("CONFIRMED", "evidence", 11)),
        (Plan(endpoint=innocent, triggers=32), ("NOT_SUPPORTED", "futile", 28)),
        (Plan(endpoint=silent_on_triggers, triggers=16), ("NON_COOPERATIVE", "selective_silence", 16)),
        (Plan(endpoint=silent, end="exhausted"), ("INCONCLUSIVE", "unreachable", 16)),
        (Plan(max_triggers=8, end="budget"), ("INCONCLUSIVE", "budget", 8)),
        (Plan(triggers=5, end="exhausted"), ("INCONCLUSIVE", "exhausted", 5)),
        (Plan(withheld=frozenset({0, 1}), end="withheld"), ("INCONCLUSIVE", "withheld", 16)),
        (Plan(unlabelled=frozenset({0, 1}), end="withheld"), ("INCONCLUSIVE", "withheld", 16)),
        (Plan(blocks=0, end="withdrawn"), ("INCONCLUSIVE", "withdrawn", 0)),
        (Plan(assurance_class="B", end="exhausted"), ("INDICATIVE", "paper_rule", 16)),
        (Plan(assurance_class="B", endpoint=innocent, end="exhausted"), ("NOT_SUPPORTED", "paper_rule", 16)),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else None,
)
def test_a_dispute_of_every_kind_is_without_fault_and_decided(plan, verdict):
    played = play(plan)
    assert fault_of(played.evidence) == ""
    decision = played.assessment.decision
    assert (decision.verdict, decision.reason, decision.walk.asked) == verdict


def test_an_endpoint_that_wavers_on_triggers_alone_is_found_out():
    # Only one trigger in twenty is asked twice, so it takes 12 of them: 240 triggers in the challenge.
    played = play(Plan(endpoint=wavering_on_triggers, classes=2, triggers=240, block_size=240, covers_per_trigger=0))
    twice = [trial.differs for trial in played.assessment.case.trials if trial.differs != (None, None)]
    assert twice == [(True, False)] * 12
    assert played.assessment.decision.reason == "selective_wavering"


def test_answers_become_trials_in_challenge_order():
    def endpoint(question):
        if question.role.kind == "trigger" and question.role.index % 4 == 0:
            return None
        if question.role.kind == "trigger" and question.role.index % 4 == 1:
            return (f"class {(question.label + 1) % question.classes}", "no such class")
        return stolen(question)

    played = play(Plan(endpoint=endpoint, unlabelled=frozenset({1}), end="withheld"))
    case = played.assessment.case
    assert [trial.index for trial in case.trials] == played.evidence.order
    expected = {0: Outcome.NO_ANSWER, 1: Outcome.MISMATCH, 2: Outcome.MATCH, 3: Outcome.MATCH}
    for place, trial in enumerate(case.trials):
        wanted = Outcome.WITHHELD if place >= 8 else expected[trial.index % 4]
        assert (trial.step.outcome, trial.step.group) == (wanted, 1)
        assert trial.look_alike_answered
    assert [trial.differs != (None, None) for trial in case.trials] == [True] + [False] * 15


def test_an_answer_of_several_classes_is_a_group():
    def endpoint(question):
        if question.role.kind != "trigger":
            return stolen(question)
        return tuple(f"class {(question.label + step) % question.classes}" for step in range(3))

    played = play(Plan(endpoint=endpoint, end="exhausted"))
    assert {(trial.step.outcome, trial.step.group) for trial in played.assessment.case.trials} == {(Outcome.MATCH, 3)}


def test_class_b_is_held_against_the_labels_that_were_chosen():
    played = play(Plan(assurance_class="B", end="exhausted"))
    assert played.assessment.case.assurance_class == "B"
    assert played.assessment.decision.walk.matches == 16
    assert played.key == marking_key(16, 100, "B")


def test_blocks_that_were_asked_but_not_finished_do_not_count():
    evidence = replace(EVIDENCE, blocks_done=1)
    case = assess(evidence).case
    assert [trial.index for trial in case.trials] == EVIDENCE.order[:8]
    assert (case.covers_asked, case.covers_answered) == (8, 8)
    assert evidence.due == EVIDENCE.order[:8]
    assert [EVIDENCE.block_of(EVIDENCE.order[place]) for place in (0, 7, 8, 15)] == [0, 0, 1, 1]


def test_the_challenge_is_cut_at_the_policys_budget():
    assert len(play(Plan(max_triggers=5, end="budget")).evidence.order) == 5


def test_the_report_counts_placebos_on_answers_alone():
    report = parse_json(PLAYED.assessment.report(Standing(9, 1, 1)))
    assert (report["verdict"], report["asked"], report["matches"]) == ("CONFIRMED", 11, 11)
    assert sum(report["placebos"]["histogram"]) == 1000
    assert report["placebos"]["expected_mean"] == "0.11"
    silent_report = parse_json(play(Plan(endpoint=silent, end="exhausted")).assessment.report(Standing(9, 1, 1)))
    assert (silent_report["no_answer"], silent_report["placebos"]["histogram"]) == (16, [1000])
    class_b = parse_json(play(Plan(assurance_class="B", end="exhausted")).assessment.report(Standing(9, 1, 1)))
    assert "placebos" not in class_b


def test_every_block_of_a_played_dispute_is_one_entry():
    assert [type(block.entry) for block in EVIDENCE.blocks] == [BlockEntry, BlockEntry]


def test_an_address_dearer_than_any_evidence_is_not_weighed():
    record = replace(EVIDENCE.record, endpoint="https://models.example.org?" + "a" * 600)
    with pytest.raises(ProofError, match="leaves nothing to prove"):
        assess(replace(EVIDENCE, record=record))
