"""Ranking evidence: the definition, its fairness to an independent endpoint, and what silence costs."""

from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import permutations
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Malformed
from app.protocol.evidence import Outcome, Step, can_reach, threshold, walk
from app.protocol.interface import Interface, LabelMap
from app.protocol.ranking import can_rank_reach, factors, ranking_path
from tests.unit.protocol.dispute_in_memory import Plan, play, stolen_and_forgetful

THETAS = [Fraction(t, 398) for t in range(1, 398, 2)]
# 60 digits, each lost at most once in some ten operations.
ERROR = Fraction(1, 10**55)


def ranked(rank, classes, of=None):
    return Step(Outcome.MATCH if rank == 1 else Outcome.MISMATCH, 1, classes, rank, of or classes)


def missing(of, classes):
    return Step(Outcome.MISMATCH, 1, classes, None, of)


def q(theta, rank, classes):
    return (1 - theta) * theta ** (rank - 1) / (1 - theta**classes)


def by_definition(step):
    """Section 6, word for word."""
    k, m = step.classes, step.ranked
    if step.rank is not None:
        return [k * q(theta, step.rank, k) for theta in THETAS]
    return [k * (1 - sum(q(theta, r, k) for r in range(1, m + 1))) / (k - m) for theta in THETAS]


@pytest.mark.parametrize(
    "step", [ranked(1, 2), ranked(2, 2), ranked(3, 10), ranked(40, 100), missing(1, 10), missing(7, 10)]
)
def test_factors_are_those_of_the_definition(step):
    for got, wanted in zip(factors(step), by_definition(step), strict=True):
        assert abs(Fraction(got) / wanted - 1) < ERROR


@given(st.lists(st.integers(1, 5).map(lambda rank: ranked(rank, 5)), min_size=1, max_size=6))
@settings(deadline=None, max_examples=10)
def test_e_is_the_mean_of_the_bets_after_every_step(steps):
    tables = [by_definition(step) for step in steps]
    for n, value in enumerate(ranking_path(steps), start=1):
        wanted = sum(prod(table[j] for table in tables[:n]) for j in range(199)) / 199
        assert abs(Fraction(*value) / wanted - 1) < ERROR


@given(classes=st.integers(2, 40), data=st.data())
@settings(deadline=None, max_examples=30)
def test_under_independence_every_bet_has_mean_one_whatever_is_ranked(classes, data):
    of = data.draw(st.integers(0, classes))
    steps = [ranked(rank, classes, of) for rank in range(1, of + 1)] + [missing(of, classes)] * (classes - of)
    assert len(steps) == classes
    for bets in zip(*(factors(step) for step in steps), strict=True):
        assert abs(sum(map(Fraction, bets)) / classes - 1) < ERROR


@pytest.mark.parametrize("outcome", [Outcome.NO_ANSWER, Outcome.WITHHELD])
@given(classes=st.integers(2, 30), data=st.data())
@settings(deadline=None, max_examples=20)
def test_no_answer_could_have_brought_less_than_silence_brings(outcome, classes, data):
    """Else a claimant who knows the labels would silence the endpoint, or keep openings back, where the rank is bad."""
    of = data.draw(st.integers(1, classes))
    rank = data.draw(st.integers(1, of) | (st.none() if of < classes else st.nothing()))
    said = ranked(rank, classes, of) if rank is not None else missing(of, classes)
    silence = factors(Step(outcome, 1, classes))
    for nothing, something in zip(silence, factors(said), strict=True):
        assert Fraction(nothing) <= Fraction(something) * (1 + ERROR)


def test_the_order_of_triggers_does_not_move_the_end_by_more_than_rounding():
    steps = [ranked(1, 10), ranked(4, 10), missing(3, 10)]
    ends = {Fraction(*list(ranking_path(order))[-1]) for order in permutations(steps)}
    assert max(ends) / min(ends) - 1 < ERROR


def test_the_decimals_do_not_depend_on_the_callers_context():
    steps = [ranked(1, 7), ranked(3, 7), missing(2, 7)]
    usual = list(ranking_path(steps))
    with localcontext() as context:
        context.prec = 5
        assert list(ranking_path([ranked(1, 7), ranked(3, 7), missing(2, 7)])) == usual
    assert all(len(Decimal(above / below).as_tuple().digits) > 5 for above, below in usual)


def test_second_places_confirm_where_labels_alone_do_not():
    steps = [ranked(1 + n % 2, 100) for n in range(40)]
    bound = threshold(64, 0, 1, 1)
    by_label, by_rank = walk(steps, bound), walk(steps, bound, ranking_path)
    assert (by_label.end, by_rank.end) == ("CONFIRMED", "CONFIRMED")
    assert by_rank.asked < by_label.asked


def test_choosing_between_labels_and_ranking_wins_nothing():
    """All filings of B families, each by labels and by ranking, stay within the error allowed."""
    for families in (1, 2, 7, 64):
        spent = sum(
            families * Fraction(2**64, threshold(64, 0, families, ordinal, ranking=ranking))
            for ordinal in range(1, families + 1)
            for ranking in (False, True)
        )
        assert spent <= 1


def test_rankings_reach_a_threshold_or_do_not():
    bound = threshold(64, 0, 1, 1, ranking=True)
    assert can_rank_reach(bound, 24, 10)
    assert not can_rank_reach(bound, 12, 10)
    assert can_reach(bound, 24, 10)


def mapped(label_map):
    interface = Interface(adapter="kserve_v1", options={"model": "m"}, preprocessing={}, label_map=label_map)
    return LabelMap(interface, play().evidence.statement)


def test_a_ranking_leaves_out_what_is_not_mapped_and_counts_a_class_once():
    explicit = {"a": ["class 0"], "b": ["class 2"], "c": ["class 0"]}
    label_map = mapped({"by": "explicit", "map": explicit})
    label_map.verify_rankable()
    assert label_map.ranking_of(["x", "c", "b", "a"]) == (0, 2)


def test_a_label_of_several_classes_cannot_be_ranked():
    label_map = mapped({"by": "explicit", "map": {"a": ["class 1", "class 2"]}})
    with pytest.raises(Malformed, match="label evidence") as refused:
        label_map.verify_rankable()
    assert refused.value.pointer == "/interface/label_map/map/a"


def test_a_dispute_by_ranking_is_confirmed_and_its_top_answers_are_its_matches():
    plan = Plan(endpoint=stolen_and_forgetful, classes=100, triggers=32, evidence="ranking", origin="countersigned")
    assessment = play(plan).assessment
    assert (assessment.decision.verdict, assessment.case.by_ranking) == ("CONFIRMED", True)
    steps = [trial.step for trial in assessment.case.trials]
    assert {step.rank for step in steps} == {1, 2}
    assert all(step.is_match == (step.rank == 1) and step.group == 1 for step in steps)
    assert {len(group) for group in assessment.groups.values()} == {1}


def test_a_tail_that_wavers_is_no_wavering():
    def trembling(question):
        first, *rest = stolen_and_forgetful(question)
        return (first, *(reversed(rest) if question.role.repeat else rest))

    plan = Plan(endpoint=trembling, classes=100, triggers=32, evidence="ranking", origin="countersigned")
    assert all(True not in trial.differs for trial in play(plan).assessment.case.trials)
