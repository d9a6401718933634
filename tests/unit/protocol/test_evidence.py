from fractions import Fraction
from itertools import combinations, product
from math import comb, log2, prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocol.evidence import (
    BETS,
    Outcome,
    Step,
    can_reach,
    clopper_pearson_lower,
    decimal_text,
    evidence_path,
    exact_tail,
    fisher_tail,
    futility_path,
    log2_text,
    needed,
    threshold,
    walk,
)

MATCH, MISMATCH = Step(Outcome.MATCH, 1, 10), Step(Outcome.MISMATCH, 1, 10)
NO_ANSWER, WITHHELD = Step(Outcome.NO_ANSWER, 1, 10), Step(Outcome.WITHHELD, 1, 10)
T64 = threshold(64, 0, 1, 1)

steps_of_any_kind = st.lists(
    st.builds(Step, st.sampled_from(Outcome), st.integers(1, 5), st.just(5)), min_size=1, max_size=8
)


def evidence_by_definition(steps):
    """Section 6, word for word."""
    total = Fraction(0)
    for t in range(1, 398, 2):
        bet = Fraction(t, 398)
        total += prod(1 - bet + bet * step.is_match * Fraction(step.classes, step.group) for step in steps)
    return total / 199


def futility_by_definition(steps):
    counted = [step for step in steps if step.outcome is not Outcome.NO_ANSWER]
    return prod(Fraction(7, 9) + Fraction(2, 9) * s.is_match * Fraction(s.classes, s.group) for s in counted)


@given(steps_of_any_kind)
@settings(deadline=None, max_examples=15)
def test_e_and_f_are_those_of_the_definition_after_every_step(steps):
    assert len(BETS) == 199
    both = list(zip(evidence_path(steps), futility_path(steps), strict=True))
    for n, (evidence, futility) in enumerate(both, start=1):
        assert Fraction(*evidence) == evidence_by_definition(steps[:n])
        assert Fraction(*futility) == futility_by_definition(steps[:n])


@pytest.mark.parametrize(
    ("step", "evidence_sign", "futility_sign"),
    [
        (MATCH, 1, 1),
        (Step(Outcome.MATCH, 9, 10), 1, 1),
        (Step(Outcome.MATCH, 10, 10), 0, 0),
        (MISMATCH, -1, -1),
        (NO_ANSWER, -1, 0),
        (WITHHELD, -1, -1),
    ],
)
def test_what_one_answer_says(step, evidence_sign, futility_sign):
    evidence, futility = Fraction(*next(evidence_path([step]))), Fraction(*next(futility_path([step])))
    assert ((evidence > 1) - (evidence < 1), (futility > 1) - (futility < 1)) == (evidence_sign, futility_sign)


@given(st.integers(1, 5), st.integers(5, 9))
@settings(deadline=None, max_examples=20)
def test_both_are_fair_bets_under_independence(group, classes):
    """The mean over a uniform label is exactly 1: that is the whole theorem."""
    chance = Fraction(group, classes)
    for path in (evidence_path, futility_path):
        hit = Fraction(*next(path([Step(Outcome.MATCH, group, classes)])))
        miss = Fraction(*next(path([Step(Outcome.MISMATCH, group, classes)])))
        assert chance * hit + (1 - chance) * miss == 1


def test_the_threshold_counts_families_and_every_filing_before():
    assert threshold(64, 0, 1, 1) == 2**65
    assert threshold(80, 8, 3, 4) == 2**88 * 3 * 4 * 5
    # The union over all filings: sum of 1/(j(j+1)) is at most 1.
    assert sum(Fraction(2**64, threshold(64, 0, 1, j)) for j in range(1, 200)) < 1


def test_the_walk_ends_at_its_first_bound_and_later_steps_change_nothing():
    confirmed = walk([MATCH] * 21, T64)
    assert (confirmed.end, confirmed.asked, confirmed.matches) == ("CONFIRMED", 21, 21)
    futile = walk([MISMATCH] * 28, T64)
    assert (futile.end, futile.asked, futile.matches) == ("NOT_SUPPORTED", 28, 0)
    for ended, tail in ((confirmed, [MISMATCH] * 50), (futile, [MATCH] * 50)):
        first = [MATCH] * 21 if ended is confirmed else [MISMATCH] * 28
        assert walk(first + tail, T64) == ended


def test_a_walk_one_step_short_of_its_bound_has_not_ended():
    assert walk([MATCH] * 20, T64).end is None
    assert walk([MISMATCH] * 27, T64).end is None
    assert walk([], T64) == walk(iter(()), T64)
    assert (walk([], T64).asked, walk([], T64).evidence, walk([], T64).log2_e) == (0, (1, 1), "0")


def test_a_bound_is_reached_by_being_equal_to_it():
    evidence = next(evidence_path([MATCH]))
    bound = evidence[0] // evidence[1]
    assert walk([Step(Outcome.MATCH, 1, 1)], 1).end == "CONFIRMED"
    assert walk([MATCH], bound).end == "CONFIRMED"
    assert walk([MATCH], bound + 1).end is None


def test_nobody_is_let_go_for_not_answering():
    assert walk([NO_ANSWER] * 200, T64).end is None


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("bound", [2, 2**20, T64, threshold(80, 300, 4, 10)], ids=["2", "2^20", "T64", "T400"])
def test_a_family_can_reach_what_a_walk_of_matches_reaches(classes, bound):
    for triggers in (1, 5, 7, 20, 21, 22, 71, 72, 400):
        reached = walk([Step(Outcome.MATCH, 1, classes)] * triggers, bound).end == "CONFIRMED"
        assert can_reach(bound, triggers, classes) == reached


def test_reach_is_decided_at_once_however_many_triggers_there_are():
    assert can_reach(T64, 65_536, 10)
    assert not can_reach(T64, 20, 10)
    assert not can_reach(1 << 10_000, 100, 65_536)


def needed_by_definition(n, classes, bits):
    for least in range(n + 1):
        tail = sum(comb(n, j) * (classes - 1) ** (n - j) for j in range(least, n + 1))
        if tail * 2**bits <= classes**n:
            return least
    return None


def test_the_matches_needed_for_planning():
    assert needed(20, 10, 10) == 8
    assert needed(3, 2, 10) is None
    assert needed(5, 2, 0) == 0
    for n, classes, bits in product(range(1, 9), (2, 3, 7), (1, 4, 9)):
        assert needed(n, classes, bits) == needed_by_definition(n, classes, bits)


@given(
    st.lists(st.tuples(st.sampled_from(Outcome), st.integers(1, 4)), max_size=7),
    st.integers(0, 8),
)
@settings(deadline=None, max_examples=50)
def test_the_tail_is_the_share_of_label_draws_with_so_many_matches(answers, matches):
    """Brute force over all draws: an answer of g classes out of 4 matches g of 4 labels, a missing one none."""
    steps = [Step(outcome, group, 4) for outcome, group in answers]
    groups = [s.group if s.outcome in (Outcome.MATCH, Outcome.MISMATCH) else 0 for s in steps]
    draws = list(product(range(4), repeat=len(groups)))
    hits = sum(sum(label < group for label, group in zip(draw, groups, strict=True)) >= matches for draw in draws)
    assert Fraction(*exact_tail(steps, matches)) == Fraction(hits, len(draws))


@pytest.mark.parametrize(("matches", "asked"), [(1, 1), (1, 30), (7, 20), (19, 20), (20, 20), (60, 120)])
def test_the_lower_bound_is_where_the_tail_is_one_in_a_million(matches, asked):
    bound = Fraction(clopper_pearson_lower(matches, asked))

    def tail(p):
        return sum(comb(asked, j) * p**j * (1 - p) ** (asked - j) for j in range(matches, asked + 1))

    step = Fraction(1, 1 << 32)
    assert tail(bound) <= Fraction(1, 10**6) < tail(bound + step + Fraction(1, 10**20))


def test_no_match_has_no_lower_bound():
    assert clopper_pearson_lower(0, 50) == clopper_pearson_lower(0, 0) == "0"


@pytest.mark.parametrize(("of", "other_of"), [(1, 1), (4, 3), (3, 5), (5, 5)])
def test_fishers_tail_is_the_share_of_ways_to_spread_the_hits(of, other_of):
    for hits, other_hits in product(range(of + 1), range(other_of + 1)):
        ways = list(combinations(range(of + other_of), hits + other_hits))
        as_high = sum(sum(person < of for person in way) >= hits for way in ways)
        assert Fraction(*fisher_tail(hits, of, other_hits, other_of)) == Fraction(as_high, len(ways))


def test_fishers_tail_of_nothing_is_one():
    assert fisher_tail(0, 0, 0, 0) == (1, 1)


@pytest.mark.parametrize(
    ("numerator", "denominator", "text"),
    [
        (1, 1, "0"),
        (0, 1, "-inf"),
        (1, 2, "-1"),
        (8, 1, "3"),
        (2**5000, 3, "4998.4150374992788438185"),
        (10, 1, "3.3219280948873623478703"),
        (2**300 + 1, 2**300, "0"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_logarithms_are_printed_in_24_characters(numerator, denominator, text):
    assert log2_text(numerator, denominator) == text
    assert len(text) <= 24


def test_logarithms_of_big_fractions_are_right():
    for numerator, denominator in ((7**9000, 5**9000), (3, 7**2000), (10**50 + 1, 10**50 - 1)):
        exact = log2(Fraction(numerator, denominator)) if numerator < 2**1000 > denominator else None
        text = log2_text(numerator, denominator)
        assert exact is None or float(text) == pytest.approx(exact, abs=1e-12)
    assert float(log2_text(7**9000, 5**9000)) == pytest.approx(9000 * log2(1.4))
    assert float(log2_text(3, 7**2000)) == pytest.approx(log2(3) - 2000 * log2(7))


@pytest.mark.parametrize(
    ("numerator", "denominator", "text"),
    [
        (0, 5, "0"),
        (1, 3, "0.3333333333333333333333"),
        (1, 4, "0.25"),
        (100, 1, "100"),
        (1, 10**30, "0"),
        (-1, 10**30, "0"),
        (-1, 3, "-0.333333333333333333333"),
        (10**30, 1, "1" + "0" * 30),
        (10**30, 7, "142857142857142857142857142857"),
        (10**22 * 2 + 1, 2, "10000000000000000000000"),
    ],
)
def test_decimals_are_positional_and_cut(numerator, denominator, text):
    assert decimal_text(numerator, denominator) == text
