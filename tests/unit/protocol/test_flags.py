"""Flags: each measured where it should be, and none of them ever changes a verdict."""

import json
from dataclasses import replace
from decimal import Decimal, localcontext

import pytest

from app.protocol.evidence import clopper_pearson_lower, decimal_text
from app.protocol.figures import Standing
from app.protocol.flags import Said, flags, rate_below
from app.protocol.transcript import Role
from app.protocol.verdict import decide
from tests.unit.protocol.dispute_in_memory import (
    Plan,
    innocent,
    name_of,
    play,
    silent_on_triggers,
    wavering_on_triggers,
)

STANDING = Standing(9, 1, 1)


def said(kind, index, label="x", *, repeat=0, classes=(), address="192.0.2.1"):
    labels = () if label is None else (label,)
    return Said(Role(kind, index, repeat), labels, frozenset(classes), address, b"")


def made(asked, labels=None, egresses=1, derived_at=None):
    return flags(asked, labels, egresses, derived_at)


def reported(plan):
    played = play(plan)
    return played, json.loads(played.assessment.report(STANDING))["flags"]


def test_accuracy_counts_each_cover_once_and_bounds_it_from_both_sides():
    covers = [said("cover", index, classes={0} if index < 90 else {1}) for index in range(100)]
    again = [said("cover", 95, classes={0}), said("cover", 3, repeat=1, classes={1}), said("cover", 200, classes={0})]
    silent = [said("cover", 100, None)]
    found = made([*covers, *again, *silent], labels=[0] * 101)["accuracy"]
    assert (found["correct"], found["answered"], found["asked"]) == (90, 100, 101)
    assert Decimal(found["lower"]) < Decimal("0.9") < Decimal(found["upper"])
    assert found["lower"] == clopper_pearson_lower(90, 100)
    assert Decimal(found["upper"]) > 1 - Decimal(clopper_pearson_lower(10, 100)) - Decimal("1e-8")
    assert made(covers)["accuracy"] is None


@pytest.mark.parametrize(("hits", "of"), [(0, 0), (0, 5), (1, 1), (5, 5), (7, 10), (90, 100), (333, 1000)])
def test_the_bound_is_that_of_exact_integers(hits, of):
    assert decimal_text(rate_below(hits, of), 1 << 32) == clopper_pearson_lower(hits, of)


def test_the_bound_over_as_many_questions_as_a_dispute_may_ask():
    low = rate_below(45_000, 50_000) / 2**32
    assert 0.89 < low < 0.9


def test_silence_on_odd_pictures_is_flagged_and_decides_nothing():
    def refuses_odd_pictures(question):
        return None if question.role.kind != "cover" else name_of(question.guess)

    plan = Plan(endpoint=refuses_odd_pictures, triggers=64, block_size=64, covers_per_trigger=2, end="exhausted")
    played, found = reported(plan)
    assert found["silence"]["is_flagged"]
    assert found["silence"]["counts"]["look-alike"] == {"hits": 64, "of": 64}
    assert played.assessment.decision.verdict == "INCONCLUSIVE"
    assert found["one_answer"] is None


def test_silence_on_triggers_alone_is_flagged_and_decides_by_its_own_test():
    played, found = reported(Plan(endpoint=silent_on_triggers, triggers=32, block_size=32, end="exhausted"))
    assert found["silence"]["is_flagged"]
    assert played.assessment.decision.verdict == "NON_COOPERATIVE"


def test_an_innocent_endpoint_raises_no_flag():
    _, found = reported(Plan(endpoint=innocent, triggers=64, block_size=64, covers_per_trigger=4))
    assert [found[name]["is_flagged"] for name in ("silence", "wavering", "one_answer")] == [False] * 3
    assert found["second_egress"] is None
    assert found["elsewhere"] is None
    assert found["covers"] == {"asked": 252, "distinct": 60}


def test_wavering_is_compared_with_covers_that_were_asked_twice():
    plan = Plan(
        endpoint=wavering_on_triggers, triggers=800, block_size=256, max_triggers=800, covers_per_trigger=2, classes=2
    )
    played, found = reported(replace(plan, end="exhausted"))
    counts = found["wavering"]["counts"]
    assert counts["trigger"] == {"hits": 40, "of": 40}
    assert counts["cover"] == {"hits": 0, "of": 40}
    assert found["wavering"]["is_flagged"]
    assert played.assessment.decision == decide(played.assessment.case)


def test_a_second_egress_is_reported_where_there_was_one():
    asked = [said(kind, 0, repeat=repeat, label=f"{repeat}") for kind in ("trigger", "cover") for repeat in (0, 1)]
    found = made(asked, egresses=2)["second_egress"]
    assert found["counts"] == {
        "trigger": {"hits": 1, "of": 1},
        "look-alike": {"hits": 0, "of": 0},
        "cover": {"hits": 1, "of": 1},
    }
    assert not found["is_flagged"]
    played = play(Plan(triggers=12, block_size=12))
    two = replace(played, evidence=replace(played.evidence, egresses=2))
    report = json.loads(two.assessment.report(STANDING))
    assert report["trust"]["egresses"] == 2
    assert report["flags"]["second_egress"]["counts"]["trigger"]["of"] == 1


def test_a_second_asking_without_a_first_or_an_answer_is_no_pair():
    asked = [said("cover", 1, repeat=1), said("cover", 2, None), said("cover", 2, repeat=1)]
    assert made(asked)["wavering"]["counts"]["cover"] == {"hits": 0, "of": 0}


def test_one_answer_to_all_odd_pictures_is_flagged():
    odd = [said("look-alike", index, "junk") for index in range(40)]
    covers = [said("cover", index, f"{index % 10}") for index in range(200)]
    found = made([*odd, *covers])["one_answer"]
    assert (found["counts"]["look-alike"], found["counts"]["cover"]) == ({"hits": 40, "of": 40}, {"hits": 0, "of": 200})
    assert found["is_flagged"]
    few = made([*odd[:1], said("look-alike", 50, "other"), *covers[:1]])["one_answer"]
    assert (few["minus_log2_p"], few["is_flagged"], few["answers"]) == ("0", False, 2)


def test_answers_from_elsewhere_than_the_derivation_are_counted():
    asked = [said("cover", 0), said("cover", 1, address="192.0.2.2"), said("cover", 2, None, address="")]
    found = made(asked, derived_at=({"192.0.2.1"}, {b"\x01" * 32}))["elsewhere"]
    assert (found["answered"], found["other_address"], found["other_certificate"]) == (2, 1, 2)


def test_mislabelled_covers_change_the_reported_accuracy_and_nothing_else():
    played = play(Plan(classes=100, triggers=32, covers_per_trigger=4, labelled=True))
    covers = played.evidence.covers
    wrong = replace(covers, labels=tuple((label + 1) % 100 for label in covers.labels))
    lied = replace(played, evidence=replace(played.evidence, covers=wrong))
    honest, other = (json.loads(one.assessment.report(STANDING)) for one in (played, lied))
    # The altered root is found; what is compared here is what a registration with such covers would be decided by.
    assert honest["flags"]["accuracy"]["correct"] > 0 == other["flags"]["accuracy"]["correct"]
    assert decide(replace(lied.assessment.case, void="")) == played.assessment.decision


def test_questions_of_a_block_that_was_not_finished_count_for_nothing():
    played = play(Plan(triggers=16, block_size=8, covers_per_trigger=1))
    half = replace(played, evidence=replace(played.evidence, blocks_done=1, end="withdrawn"))
    assert json.loads(half.assessment.report(STANDING))["flags"]["covers"] == {"asked": 8, "distinct": 8}


def test_the_bounds_do_not_depend_on_the_callers_context():
    usual = rate_below(700, 1000)
    with localcontext() as context:
        context.prec = 3
        assert rate_below(700, 1000) == usual
