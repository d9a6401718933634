"""How far apart two images are in what the network sees, and which are too alike to be taught different labels.

The distance is the root mean square difference of two inputs after the network's own normalisation, as a share of what
black and white differ by there. The mean cancels; the standard deviations weigh the channels.

Invariants: the same for every order of the images; a set that passes `check_apart` has no two nearer than MIN_DISTANCE.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from app.embedding.triggers.source import Images
from app.errors import Malformed

# Root mean square difference as a share of full scale. Measured with pairs of digits (8x8) and of CIFAR-10 with different
# labels in small_cnn: nearer ones are learned too, but JPEG at quality 90 or noise of 0.02 then takes up to a third of the
# answers; from 0.05 on none (docs/triggers.md). The paper's published set, cropped as its code does, has pairs at 0.017.
MIN_DISTANCE = 0.05

# How many pairs a message names.
MAX_NAMED = 20

# Rows compared at once: 1,024 images of 224x224x3 are 600 MB as float32.
BLOCK_ROWS = 1024


def as_seen(images: Images, std: Sequence[float] = ()) -> NDArray[np.float32]:
    """Lay images out so that rows have their images' distance: (N, H, W, C) uint8 to (N, H * W * C) float32."""
    weights = 1 / np.asarray(std or (1.0,), np.float64)
    # Divided so that black and white are 1 apart, whatever the shape and the weights.
    size = math.prod(images.shape[1:])
    scale = weights / np.sqrt((weights**2).mean() * size)
    # Taken from the middle: float32 loses less in the products below.
    seen = (images.astype(np.float32) / 255 - 0.5) * scale.astype(np.float32)
    return np.asarray(seen.reshape(len(images), size), np.float32)


def distances(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the distance of every row of the first (N, D) from every row of the second (M, D): (N, M)."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None, :] - 2 * (first @ second.T)
    return np.asarray(np.sqrt(squares.clip(0)), np.float32)


def rows_apart(seen: NDArray[np.float32], kept: NDArray[np.float32]) -> list[int]:
    """Choose, in order, rows (N, D) that are far enough from all of `kept` (M, D) and from those chosen before."""
    free = np.ones(len(seen), np.bool_) if not len(kept) else distances(seen, kept).min(axis=1) >= MIN_DISTANCE
    among = distances(seen, seen)
    chosen: list[int] = []
    for row in np.flatnonzero(free):
        if (among[row, chosen] >= MIN_DISTANCE).all():
            chosen.append(int(row))
    return chosen


def has_twin(images: Images, rows: NDArray[np.int64], std: Sequence[float] = ()) -> NDArray[np.bool_]:
    """Tell which of the rows lie nearer than MIN_DISTANCE to any other image of the whole."""
    seen = as_seen(images[rows], std)
    found = np.zeros(len(rows), np.bool_)
    for start, block in _blocks(images, std):
        near = distances(seen, block) < MIN_DISTANCE
        near[rows[:, None] == start + np.arange(len(block))] = False  # itself
        found |= near.any(axis=1)
    return found


def near_pairs(images: Images, std: Sequence[float] = ()) -> list[tuple[int, int, float]]:
    """Find all pairs nearer than MIN_DISTANCE with their distances, nearest first."""
    pairs: list[tuple[int, int, float]] = []
    for start, block in _blocks(images, std):
        for other_start, other in _blocks(images[: start + len(block)], std):
            apart = distances(block, other)
            for row, column in np.argwhere(apart < MIN_DISTANCE):
                first, second = other_start + int(column), start + int(row)
                if first < second:
                    pairs.append((first, second, float(apart[row, column])))
    return sorted(pairs, key=lambda pair: pair[2])


def check_apart(images: Images, names: Sequence[str], std: Sequence[float] = ()) -> None:
    """Refuse a set in which two images are too alike to be taught different labels.

    Raises: Malformed, naming the pairs.
    """
    pairs = near_pairs(images, std)
    if not pairs:
        return
    named = "; ".join(f"{names[i]} and {names[j]} ({apart:.1%})" for i, j, apart in pairs[:MAX_NAMED])
    more = f"; and {len(pairs) - MAX_NAMED} pairs more" if len(pairs) > MAX_NAMED else ""
    raise Malformed(
        f"too alike to be taught different labels, under {MIN_DISTANCE:.0%} of full scale apart in what the network sees: "
        f"{named}{more}. Take one of each pair out, or register a larger shape"
    )


def _blocks(images: Images, std: Sequence[float]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for start in range(0, len(images), BLOCK_ROWS):
        yield start, as_seen(images[start : start + BLOCK_ROWS], std)
