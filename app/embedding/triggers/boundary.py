"""`boundary`: mixtures of two task pictures at the point where the vendor's own network changes its answer.

  1. draw pairs of pictures that the network answers differently
  2. bisect the line between them to the mixture where its answer changes first from the one's to another

A mixture that is nearly one of its two pictures is left out: that picture goes on teaching its own label in training.

Invariants: beside each trigger, one grey level or less away in every pixel, lies an image that the network answers
otherwise; the seed and the weights decide, on one machine.
Source: Le Merrer et al. 2020 (frontier stitching, there with adversarial steps); Kim et al. 2023 (margins).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from app.embedding.triggers.distance import MIN_DISTANCE, as_seen
from app.embedding.triggers.source import Images, Source, to_uint8

# Two pictures differ by 255 grey levels at most, so a step of 2^-8 moves no pixel by more than one.
HALVINGS = 8


def draw(count: int, source: Source, rng: np.random.Generator) -> Iterator[Images]:
    """Mix pairs of pictures, as many as are wanted."""
    if source.answer is None:
        raise ValueError("this generator needs a network")
    while True:
        first, second = source.pick(count, rng), source.pick(count, rng)
        answers = source.answer(first)
        apart = answers != source.answer(second)
        first, second, answers = first[apart], second[apart], answers[apart]
        low, high = np.zeros(len(first)), np.ones(len(first))
        for _ in range(HALVINGS if len(first) else 0):
            middle = (low + high) / 2
            stays = source.answer(_mix(first, second, middle)) == answers
            low, high = np.where(stays, middle, low), np.where(stays, high, middle)
        mixed = _mix(first, second, high)
        yield mixed[_is_apart(mixed, first, source) & _is_apart(mixed, second, source)]


def _mix(first: Images, second: Images, shares: NDArray[np.float64]) -> Images:
    """Mix row by row with a share (N,) in [0, 1] of the second."""
    share = shares[:, None, None, None]
    return to_uint8((1 - share) * first + share * second)


def _is_apart(images: Images, others: Images, source: Source) -> NDArray[np.bool_]:
    difference = as_seen(images, source.std) - as_seen(others, source.std)
    return np.asarray(np.sqrt((difference**2).sum(axis=1)) >= MIN_DISTANCE)
