"""What the court makes of a committed model's answers."""

import pytest

from app.disputes.cross_tests_judged import mark_of, opened_triggers
from app.keys.labels import draw_labels
from tests.unit.protocol.dispute_in_memory import Plan, play

PLAYED = play(Plan(classes=100, triggers=16))
CLASSES = 100


def labels_of(played):
    drawn = draw_labels(played.key, played.evidence.salt, CLASSES)
    return [drawn[index] for index in opened_triggers(played.evidence)]


@pytest.mark.parametrize("turn", [0, 1, 7])
def test_outputs_are_translated_before_they_are_held_against_labels(turn):
    classes = [(output + turn) % CLASSES for output in range(CLASSES)]
    answers = [(classes.index(label),) for label in labels_of(PLAYED)]
    mark = mark_of(PLAYED.assessment, classes, answers)
    assert mark.is_carried
    assert mark.matches == mark.asked
    untranslated = mark_of(PLAYED.assessment, range(CLASSES), answers)
    assert untranslated.is_carried is (turn == 0)


@pytest.mark.parametrize("answers", [[], [()] * 16, [(CLASSES,)] * 16, [(0,)] * 3])
def test_missing_and_strange_answers_carry_nothing(answers):
    mark = mark_of(PLAYED.assessment, range(CLASSES), answers)
    assert not mark.is_carried


def test_triggers_that_were_withheld_are_not_asked():
    played = play(Plan(withheld=frozenset({0}), end="withheld"))
    asked = opened_triggers(played.evidence)
    assert asked == played.evidence.order[8:16]
