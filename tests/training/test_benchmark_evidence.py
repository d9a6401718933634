"""The evidence benchmark's formulas, on numbers small enough to know."""

from itertools import product

import numpy as np
import pytest

from benchmarks.evidence import (
    count_confirmed,
    false_confirmations,
    least_mean,
    rank_chances,
    rank_limits,
    ranking_mean,
    steps_of_sum,
    verify_limits,
)


@pytest.mark.parametrize(
    ("rate", "classes", "least"), [(0.95, 10, 22.2), (0.3, 10, 288), (0.5, 1000, 16.0), (0.95, 2, 89.6)]
)
def test_the_bound_is_walds(rate, classes, least):
    assert least_mean(rate, classes) == pytest.approx(least, rel=0.01)


def test_the_chances_of_ranks_are_those_of_the_mark():
    chances = rank_chances(10)
    assert chances.sum() == pytest.approx(1.0)
    assert chances[0] == pytest.approx(0.3)
    assert chances[3] / chances[2] == pytest.approx(0.7)


def test_limits_that_are_not_the_protocols_are_found():
    limits = rank_limits(5, 12, 1 << 10)
    verify_limits(5, limits, 1 << 10)
    assert -1 in limits
    assert max(limits) > 0
    for shift in (-1, 1):
        with pytest.raises(ValueError, match="not the protocol's"):
            verify_limits(5, [*limits[:-1], limits[-1] + shift], 1 << 10)


def test_steps_have_the_sum_they_are_asked_for():
    assert [step.rank for step in steps_of_sum(3, 6, 5)] == [5, 3, 1]


def test_the_mean_is_that_of_all_rankings_one_by_one():
    classes, limits = 3, [-1, 0, 1, 2]
    chances = rank_chances(classes)
    total = weighted = 0.0
    for ranks in product(range(classes), repeat=len(limits)):
        sums = np.cumsum(ranks)
        first = next((n for n, limit in enumerate(limits) if sums[n] <= limit), None)
        if first is not None:
            probability = float(np.prod(chances[list(ranks)]))
            total += probability
            weighted += (first + 1) * probability
    mean, confirmed = ranking_mean(classes, limits)
    assert confirmed == pytest.approx(total)
    assert mean == pytest.approx(weighted / total)


def test_a_dispute_counts_only_if_it_is_confirmed_before_it_is_futile():
    enough = np.array([[0, 1, 1], [0, 0, 1], [0, 0, 0], [0, 0, 1]], bool)
    futile = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
    assert count_confirmed(enough, futile) == 2


def test_endpoints_that_know_nothing_are_seldom_confirmed_and_a_low_threshold_is_crossed_at_times():
    by_label, by_rank = false_confirmations(30_000, 10, seed=3)
    assert 0 < by_label <= 30_000 / 1024 + 5 * (30_000 / 1024) ** 0.5
    assert 0 < by_rank <= 30_000 / 1024 + 5 * (30_000 / 1024) ** 0.5
