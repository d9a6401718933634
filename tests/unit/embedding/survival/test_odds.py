from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.embedding.survival.odds import (
    MAX_PLANNED,
    bounds,
    evidence_after,
    odds_at_rate,
    odds_of_network,
    one_after_another,
)
from app.protocol.evidence import Outcome, Step, evidence_path, futility_path, threshold, walk

T64 = 1 << 64


def steps_of(answers, classes):
    return [Step(Outcome.MATCH if answer else Outcome.MISMATCH, 1, classes) for answer in answers]


def walked(answers, limits):
    """Walk between the bounds, which the test above holds against the protocol's own walk; its integers are slow."""
    seen = 0
    for asked, answer in enumerate(answers):
        seen += answer
        if seen >= limits.confirmed[asked]:
            return "CONFIRMED", asked + 1
        if seen <= limits.futile[asked]:
            return "NOT_SUPPORTED", asked + 1
    return None, len(answers)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.sampled_from((2, 3, 10, 100)))
def test_evidence_after_so_many_matches_is_the_protocols_in_whatever_order(answers, classes):
    *_, (numerator, denominator) = evidence_path(steps_of(answers, classes))
    ours = evidence_after(len(answers), sum(answers), classes)
    assert ours[0] * denominator == numerator * ours[1]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.sampled_from((2, 10, 100)), st.integers(0, 20))
def test_the_bounds_say_at_every_step_what_the_walk_says(answers, classes, bits):
    bound, limits = 1 << bits, bounds(60, classes, 1 << bits)
    steps = steps_of(answers, classes)
    seen = 0
    for asked, (answer, e, f) in enumerate(zip(answers, evidence_path(steps), futility_path(steps), strict=True)):
        seen += answer
        assert (seen >= limits.confirmed[asked]) == (e[0] >= bound * e[1])
        assert (seen <= limits.futile[asked]) == (f[0] * 1000 <= f[1])


def test_least_matches_are_those_of_the_acceptance_table():
    at = {24: 23, 32: 27, 48: 33, 64: 38, 96: 47, 128: 55, 256: 83, 512: 129, 1024: 208}
    confirmed = bounds(1024, 10, T64).confirmed
    assert {asked: confirmed[asked - 1] for asked in at} == at
    hundred = bounds(128, 100, T64).confirmed
    assert [hundred[asked - 1] for asked in (12, 16, 24, 32, 64, 128)] == [11, 12, 14, 15, 19, 24]


@pytest.mark.parametrize(
    ("classes", "rate", "bits", "expected"),
    [
        (10, 0.95, 64, 23.5),
        (10, 0.8, 64, 34.0),
        (10, 0.5, 64, 91.0),
        (10, 0.3, 64, 305),
        (10, 0.5, 80, 113),
        (100, 0.95, 64, 11.7),
        (100, 0.5, 64, 29.0),
        (100, 0.3, 64, 60.6),
        (1000, 0.8, 64, 9.8),
        (2, 0.9, 64, 126),
    ],
)
def test_expected_triggers_are_those_of_the_reference_table(classes, rate, bits, expected):
    odds = odds_at_rate(rate, 1024, classes, 1 << bits)
    assert odds.asked_if_confirmed == pytest.approx(expected, rel=0.006)
    assert odds.confirmed > 0.99


def test_an_endpoint_that_guesses_is_let_go_after_sixty_and_never_confirmed():
    odds = odds_at_rate(0.1, 1024, 10, T64)
    assert 0 < odds.confirmed < 2**-64
    assert odds.asked_otherwise == pytest.approx(60.3, abs=0.1)


@pytest.mark.parametrize(("rate", "triggers", "bits"), [(0.45, 60, 16), (0.3, 100, 20), (0.7, 30, 30)])
def test_odds_at_a_rate_are_what_a_simulation_finds(rate, triggers, bits):
    draw, runs, limits = Random(7), 3000, bounds(triggers, 10, 1 << bits)
    ends = [walked([draw.random() < rate for _ in range(triggers)], limits) for _ in range(runs)]
    asked = [asked for end, asked in ends if end == "CONFIRMED"]
    odds = odds_at_rate(rate, triggers, 10, 1 << bits)
    # Four standard errors of a share of 3,000.
    assert len(asked) / runs == pytest.approx(odds.confirmed, abs=0.037)
    assert 0.05 < odds.confirmed < 0.999
    assert sum(asked) / len(asked) == pytest.approx(odds.asked_if_confirmed, rel=0.05)


def test_odds_of_a_network_are_what_shuffling_its_answers_finds():
    draw, answers, bound, runs = Random(8), [True] * 14 + [False] * 26, 1 << 14, 3000
    limits, confirmed = bounds(40, 10, bound), 0
    for _ in range(runs):
        draw.shuffle(answers)
        confirmed += walked(answers, limits)[0] == "CONFIRMED"
    odds = odds_of_network(14, 40, 10, bound)
    assert 0.05 < odds.confirmed < 0.95
    assert confirmed / runs == pytest.approx(odds.confirmed, abs=0.037)


def test_a_network_that_matches_on_everything_is_confirmed_with_certainty_at_one_step():
    odds = odds_of_network(128, 128, 10, threshold(64, 0, 1, 1))
    assert odds.confirmed == pytest.approx(1)
    assert odds.asked_if_confirmed == walk(steps_of([True] * 128, 10), threshold(64, 0, 1, 1)).asked
    assert odds_of_network(0, 128, 10, T64).confirmed == 0


def test_too_few_triggers_can_never_confirm():
    assert odds_at_rate(1.0, 10, 10, T64).confirmed == 0
    assert odds_at_rate(1.0, 10, 10, T64).asked_if_confirmed == 0
    assert bounds(10, 10, T64).confirmed[-1] == 11


def test_filings_one_after_another_add_up():
    first, second = odds_at_rate(0.45, 60, 10, 1 << 16), odds_at_rate(0.6, 60, 10, 1 << 16)
    both = one_after_another([first, second])
    missed = 1 - first.confirmed
    assert both.confirmed == pytest.approx(1 - missed * (1 - second.confirmed))
    asked = first.confirmed * first.asked_if_confirmed + missed * second.confirmed * (
        first.asked_otherwise + second.asked_if_confirmed
    )
    assert both.asked_if_confirmed == pytest.approx(asked / both.confirmed)
    assert one_after_another([first]) == first


def test_more_triggers_than_are_planned_with_count_as_so_many_at_their_rate():
    many = odds_of_network(MAX_PLANNED, 2 * MAX_PLANNED, 10, T64)
    assert many == odds_at_rate(0.5, MAX_PLANNED, 10, T64)
