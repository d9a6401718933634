"""How few triggers a verdict takes, and how seldom a false one comes: `python -m benchmarks.evidence [--quick]`.

The mean number of triggers to CONFIRMED at T = 2^64 is carried exactly, probability by probability, and held against the
least that any test with these errors needs (Wald's bound). Rankings likewise. False confirmations are counted in simulated
disputes of endpoints that know nothing, at T = 2^10, where they are frequent enough to be counted. Nothing is timed.
Last line: one JSON object. Results: benchmarks/results/evidence.json, the table in docs/benchmarks.md.
Source: docs/protocol.md section 8.1; Wald 1945 (the bound).
"""

import argparse
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from app.embedding.survival.odds import bounds, odds_at_rate
from app.protocol.evidence import Outcome, Step
from app.protocol.ranking import THETA_DENOMINATOR, ranking_path
from benchmarks.results import keep, machine, print_figures, say, table, write_section

BITS = 64
# The errors of Wald's bound: a false confirmation at 2^-64, a mark missed once in a thousand.
FALSE, MISSED = 2.0**-BITS, 1e-3
RATES: dict[int, tuple[float, ...]] = {2: (0.7, 0.8, 0.95), **dict.fromkeys((10, 100, 1000), (0.3, 0.5, 0.8, 0.95))}
MOST_TRIGGERS = 2048

# A mark whose label is first in three rankings of ten, and else geometric over the ranks behind.
TOP_RATE, TAIL_RATIO = 0.3, 0.7
RANKED_CLASSES = (10, 100, 1000)
RANKED_MOST = {10: 400, 100: 100, 1000: 60}
# Limits are computed in floats; so many of each are held against the protocol's decimals.
VERIFIED = 60

SMALL_BITS, DISPUTES, LENGTH, LOT = 10, 1_000_000, 512, 10_000

TARGETS = {"mean_over_bound": 1.11, "ranking_mean": {10: 125, 100: 20, 1000: 11}}


def least_mean(rate: float, classes: int) -> float:
    """Give the least mean number of triggers with which any test tells this rate from 1/K at these errors."""
    chance = 1 / classes
    divergence = rate * math.log(rate / chance) + (1 - rate) * math.log((1 - rate) / (1 - chance))
    gain = (1 - MISSED) * math.log((1 - MISSED) / FALSE) + MISSED * math.log(MISSED / (1 - FALSE))
    return gain / divergence


def label_figures(rates: dict[int, tuple[float, ...]]) -> dict[str, dict[str, dict[str, float]]]:
    """Give per K and rate the mean triggers to CONFIRMED over the bound, the mean itself, and how many are confirmed."""
    told: dict[str, dict[str, dict[str, float]]] = {}
    for classes, known in rates.items():
        say(f"labels, K = {classes}")
        for rate in known:
            odds = odds_at_rate(rate, MOST_TRIGGERS, classes, 1 << BITS)
            told.setdefault(str(classes), {})[str(rate)] = {
                "mean": round(odds.asked_if_confirmed, 2),
                "mean_over_bound": round(odds.asked_if_confirmed / least_mean(rate, classes), 4),
                "confirmed": round(odds.confirmed, 5),
            }
    return told


# Rankings: with all classes ranked, E depends on the number of triggers and the sum of (rank - 1) alone.


def rank_chances(classes: int) -> NDArray[np.float64]:
    """Give the chance of each rank 1..K for the mark measured here: (K,) float64, summing to 1."""
    tail = TAIL_RATIO ** np.arange(classes - 1)
    return np.concatenate([[TOP_RATE], (1 - TOP_RATE) * tail / tail.sum()])


def rank_limits(classes: int, most: int, bound: int) -> list[int]:
    """Give after n triggers (from 1) up to which sum of (rank - 1) a dispute is confirmed, -1 for none."""
    thetas = np.arange(1, THETA_DENOMINATOR, 2) / THETA_DENOMINATOR
    start = np.log(classes) + np.log1p(-thetas) - np.log1p(-(thetas**classes))
    slope, goal = np.log(thetas), math.log(bound) + math.log(len(thetas))
    limits: list[int] = []
    for asked in range(1, most + 1):
        low, high = -1, asked * (classes - 1)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (
                (middle, high) if np.logaddexp.reduce(asked * start + middle * slope) >= goal else (low, middle - 1)
            )
        limits.append(low)
    return limits


def verify_limits(classes: int, limits: list[int], bound: int) -> None:
    """Hold limits computed in floats against the protocol's own decimals, on both sides of each limit.

    Raises: ValueError if they differ.
    """
    for asked, limit in enumerate(limits, start=1):
        for total, is_enough in ((limit, True), (limit + 1, False)):
            if not 0 <= total <= asked * (classes - 1):
                continue
            *_, (above, below) = ranking_path(steps_of_sum(asked, total, classes))
            if (above >= bound * below) != is_enough:
                raise ValueError(f"K = {classes}: the limit {limit} after {asked} triggers is not the protocol's")


def steps_of_sum(asked: int, total: int, classes: int) -> Iterator[Step]:
    """Give so many rankings whose ranks, each less 1, sum to `total`."""
    for _ in range(asked):
        back = min(total, classes - 1)
        total -= back
        yield Step(Outcome.MATCH if back == 0 else Outcome.MISMATCH, 1, classes, back + 1, classes)


def ranking_mean(classes: int, limits: list[int]) -> tuple[float, float]:
    """Give the mean triggers to CONFIRMED with the mark's ranks, and the share confirmed within the limits."""
    chances = rank_chances(classes)
    alive = np.array([1.0])  # the probability of each sum so far
    confirmed = asked_confirmed = 0.0
    for asked, limit in enumerate(limits, start=1):
        alive = np.convolve(alive, chances) if classes <= 100 else _convolve_long(alive, chances)
        enough = float(alive[: limit + 1].sum())
        confirmed += enough
        asked_confirmed += asked * enough
        alive[: limit + 1] = 0.0
    return asked_confirmed / confirmed, confirmed


def _convolve_long(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    size = len(one) + len(other) - 1
    product = np.fft.irfft(np.fft.rfft(one, size) * np.fft.rfft(other, size), size)
    return np.maximum(product, 0.0)


def ranking_figures() -> dict[str, dict[str, float]]:
    """Give per K the mean triggers to CONFIRMED by ranking, and beside it by labels alone."""
    told = {}
    for classes in RANKED_CLASSES:
        say(f"rankings, K = {classes}")
        limits = rank_limits(classes, RANKED_MOST[classes], 1 << BITS)
        verify_limits(classes, limits[:VERIFIED], 1 << BITS)
        mean, confirmed = ranking_mean(classes, limits)
        by_label = odds_at_rate(TOP_RATE, MOST_TRIGGERS, classes, 1 << BITS)
        told[str(classes)] = {
            "ranking_mean": round(mean, 2),
            "confirmed": round(confirmed, 5),
            "label_mean": round(by_label.asked_if_confirmed, 2),
        }
    return told


# False confirmations.


def false_confirmations(disputes: int, classes: int, seed: int) -> tuple[int, int]:
    """Simulate disputes of endpoints that know nothing; count those confirmed by labels and by ranking at T = 2^10."""
    limits = bounds(LENGTH, classes, 1 << SMALL_BITS)
    ranks = np.array(rank_limits(classes, LENGTH, 1 << SMALL_BITS))
    generator = np.random.default_rng(seed)
    by_label = by_rank = 0
    for done in range(0, disputes, LOT):
        drawn = generator.integers(0, classes, (min(LOT, disputes - done), LENGTH), dtype=np.int16)
        matches = np.cumsum(drawn == 0, axis=1, dtype=np.int32)
        by_label += count_confirmed(matches >= np.array(limits.confirmed), matches <= np.array(limits.futile))
        sums = np.cumsum(drawn, axis=1, dtype=np.int32)
        by_rank += count_confirmed(sums <= ranks, matches <= np.array(limits.futile))
        if done % (20 * LOT) == 0:
            say(f"false confirmations: {done + LOT} of {disputes} disputes")
    return by_label, by_rank


def count_confirmed(enough: NDArray[np.bool_], futile: NDArray[np.bool_]) -> int:
    """Count the rows in which the first step that is enough comes before the first that is futile: (N, steps) bool."""
    never = enough.shape[1]
    first = np.where(enough.any(axis=1), enough.argmax(axis=1), never)
    let_go = np.where(futile.any(axis=1), futile.argmax(axis=1), never)
    return int(((first < never) & (first <= let_go)).sum())


def main() -> None:
    """Compute, write and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the disputes; the exact parts are the same")
    disputes = DISPUTES // 10 if parser.parse_args().quick else DISPUTES
    labels, rankings = label_figures(RATES), ranking_figures()
    by_label, by_rank = false_confirmations(disputes, classes=10, seed=1)
    ratios = {classes: {rate: row["mean_over_bound"] for rate, row in rows.items()} for classes, rows in labels.items()}
    figures: dict[str, Any] = {
        "mean_over_bound": ratios,
        "mean_over_bound_worst": max(value for rows in ratios.values() for value in rows.values()),
        "mean": {classes: {rate: row["mean"] for rate, row in rows.items()} for classes, rows in labels.items()},
        "confirmed": {
            classes: {rate: row["confirmed"] for rate, row in rows.items()} for classes, rows in labels.items()
        },
        "ranking_mean": {classes: row["ranking_mean"] for classes, row in rankings.items()},
        "ranking_confirmed": {classes: row["confirmed"] for classes, row in rankings.items()},
        "label_mean_beside_ranking": {classes: row["label_mean"] for classes, row in rankings.items()},
        "false_confirmations": by_label,
        "false_confirmations_by_ranking": by_rank,
        "bound": round(disputes * 2.0**-SMALL_BITS, 1),
        "disputes": disputes,
    }
    quick = disputes != DISPUTES
    setting = {"bits": BITS, "small_bits": SMALL_BITS, "triggers_at_most": LENGTH, **machine(torch.device("cpu"))}
    keep("evidence-quick" if quick else "evidence", setting, figures)
    if not quick:
        write_section("evidence", table_of(figures))
    print_figures(figures)


def table_of(figures: dict[str, Any]) -> str:
    """Set means and ratios by K and rate, then rankings, then false confirmations."""
    rows = [
        (f"K = {classes}, {float(rate):.0%} match", mean, figures["mean_over_bound"][classes][rate], "≤ 1.11")
        for classes, means in figures["mean"].items()
        for rate, mean in means.items()
    ]
    for classes, mean in figures["ranking_mean"].items():
        beside = figures["label_mean_beside_ranking"][classes]
        target = TARGETS["ranking_mean"][int(classes)]  # type: ignore[index]  # the targets of the ranking are by K
        rows.append((f"K = {classes}, ranking, 30% first (labels alone: {beside})", mean, "", f"≤ {target} triggers"))
    for name, count in (("labels", "false_confirmations"), ("ranking", "false_confirmations_by_ranking")):
        rows.append(
            (
                f"false confirmations by {name} in {figures['disputes']:,} disputes at 2^-10",
                figures[count],
                "",
                f"≤ {figures['bound']}",
            )
        )
    return table(("what", "mean triggers, or count", "over the bound", "target"), rows)


if __name__ == "__main__":
    main()
