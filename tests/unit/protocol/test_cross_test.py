"""Two registrants, one model: the rule, the classes that outputs stand for, and the walk with a model's answers."""

from dataclasses import replace

import pytest

from app.errors import Malformed
from app.keys.labels import draw_labels
from app.protocol.assessment import walk_as
from app.protocol.cross_test import Mark, Party, Repeated, decide_cross_test, namesakes
from app.protocol.evidence import Outcome
from tests.unit.protocol.dispute_in_memory import Plan, play
from tests.unit.protocol.examples import CROSS_TEST

ALIKE = (Repeated(50, 50), Repeated(48, 50))
STATEMENT = play(Plan()).evidence.statement


def mark(*, carried):
    return Mark(24, 24 if carried else 3, is_carried=carried)


def party(*carried, covers=ALIKE, **changes):
    marks = tuple(mark(carried=each) for each in carried)
    made = Party(2, 7, 1, bytes(32), covers, marks, is_first=False)
    return replace(made, **changes)


ABSENT = Party(2, 7, None, b"", (), (), is_first=False)


@pytest.mark.parametrize(
    ("parties", "first", "reason"),
    [
        # What each model carries: the mark of the one party, the mark of the other.
        ((party(True, False), party(True, True)), 0, "one_carries_both"),
        ((party(True, True), party(False, True)), 1, "one_carries_both"),
        ((party(True, True), party(True, True)), None, "both_carry_both"),
        ((party(True, False), party(False, True)), None, "none_carries_both"),
        ((party(False, False), party(True, True)), None, "own_mark_missing"),
        ((party(True, False), party(True, False)), None, "own_mark_missing"),
        ((ABSENT, party(True, True)), None, "not_delivered"),
        ((party(True, False), ABSENT), None, "not_delivered"),
        # Nine in ten of both transcripts together, and not one in a hundred less.
        (
            (party(True, False, covers=(Repeated(80, 100), Repeated(100, 100))), party(True, True)),
            0,
            "one_carries_both",
        ),
        ((party(True, False, covers=(Repeated(79, 100), Repeated(100, 100))), party(True, True)), None, "not_repeated"),
        ((party(True, False), party(True, True, covers=(Repeated(0, 0), Repeated(0, 0)))), None, "not_repeated"),
    ],
)
def test_one_model_with_both_marks_against_one_with_its_own_decides_and_nothing_else(parties, first, reason):
    outcome = decide_cross_test(parties)
    assert (outcome.first, outcome.reason) == (first, reason)
    assert outcome.result == ("not_decided" if first is None else "first")
    turned = [replace(each, covers=each.covers[::-1], marks=each.marks[::-1]) for each in (parties[1], parties[0])]
    swapped = decide_cross_test(turned)
    assert (swapped.first, swapped.reason) == (None if first is None else 1 - first, reason)


@pytest.mark.parametrize(
    "changes",
    [{"model": None}, {"sha256": b""}, {"covers": ()}, {"covers": ALIKE[:1]}, {"marks": ()}],
)
def test_counts_without_a_model_and_a_model_without_counts_are_malformed(changes):
    with pytest.raises(Malformed, match="counts of both"):
        Party.from_json(replace(party(True, False), **changes).to_json())
    assert Party.from_json(ABSENT.to_json()) == ABSENT


def test_more_hits_than_questions_are_malformed():
    with pytest.raises(Malformed, match="more was repeated"):
        Repeated.from_json({"repeated": 3, "answered": 2})
    with pytest.raises(Malformed, match="more matched"):
        Mark.from_json({"asked": 2, "matches": 3, "is_carried": False})


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"result": "not_decided"}, "one party is first"),
        ({"parties": tuple(replace(each, is_first=True) for each in CROSS_TEST.parties)}, "one party is first"),
        ({"parties": tuple(replace(each, is_first=False) for each in CROSS_TEST.parties)}, "one party is first"),
        ({"parties": CROSS_TEST.parties[:1] * 2}, "two filings"),
    ],
)
def test_an_entry_that_contradicts_itself_is_malformed(changes, what):
    with pytest.raises(Malformed, match=what):
        type(CROSS_TEST).parse(replace(CROSS_TEST, **changes).encode())


def with_classes(*names):
    return replace(STATEMENT, classes=names)


@pytest.mark.parametrize(
    ("own", "other", "places"),
    [
        (("cat", "dog", "cow"), ("cow", "CAT ", "dog"), (1, 2, 0)),
        (("cat", "dog", "cow"), ("0", "1", "2"), (0, 1, 2)),
        # Half of the names say nothing of the others.
        (("cat", "dog", "cow"), ("dog", "cat", "horse"), (0, 1, 2)),
        (("cat", "dog"), ("cat", "dog", "cow"), None),
    ],
)
def test_outputs_stand_for_the_classes_of_the_same_name_or_else_place(own, other, places):
    assert namesakes(with_classes(*own), with_classes(*other)) == places


@pytest.mark.parametrize("change", [{"kind": "image"}, {"shape": (4, 5)}])
def test_who_takes_other_inputs_cannot_be_asked(change):
    assert namesakes(STATEMENT, replace(STATEMENT, **change)) is None


def labels_of(played):
    evidence = played.evidence
    drawn = draw_labels(played.key, evidence.salt, len(evidence.statement.classes))
    return {index: drawn[index] for index in evidence.order}


@pytest.mark.parametrize("evidence", ["label", "ranking"])
def test_a_model_is_walked_as_the_endpoint_was(evidence):
    played = play(Plan(evidence=evidence))
    assessment = played.assessment
    labels = labels_of(played)
    right = {index: (label, (label + 1) % 10) for index, label in labels.items()}
    wrong = {index: ranking[::-1] for index, ranking in right.items()}
    confirmed = walk_as(assessment, right)
    assert confirmed.end == "CONFIRMED"
    assert confirmed.matches == confirmed.asked
    assert walk_as(assessment, wrong).matches == 0
    assert walk_as(assessment, {}).matches == 0
    assert walk_as(assessment, {}).end != "CONFIRMED"


def test_a_trigger_whose_label_was_withheld_matches_nothing():
    played = play(Plan(unlabelled=frozenset({0}), end="withheld"))
    trials = played.assessment.case.trials
    withheld = [trial.index for trial in trials if trial.step.outcome is Outcome.WITHHELD]
    assert withheld
    everything = {index: (label,) for index, label in labels_of(played).items()}
    assert walk_as(played.assessment, everything).matches <= len(trials) - len(withheld)
