"""The few formulas behind the benchmarks' figures."""

import math
from collections.abc import Sequence
from statistics import mean, median, stdev


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Give the median of the ratios of pairs."""
    return median(a / b for a, b in zip(above, below, strict=True))


def median_of(values: Sequence[float]) -> float:
    """Give the median."""
    return median(values)


def corrected(ratio: float, control: float) -> float:
    """Take from a ratio what a pair of equals shows in the same run."""
    return ratio - (control - 1)


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Give the mean and its standard error (0 for a single value, which has none)."""
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return mean(values), error


def points(correct: int, total: int) -> float:
    """Give a share in percent."""
    return 100 * correct / total
