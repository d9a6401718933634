"""What a generator draws from: the shape to fill and, where it works on the vendor's own task, pictures and network."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Images: TypeAlias = NDArray[np.uint8]  # (N, H, W, C), full range 0 to 255

# Classes (N,) int64 that the vendor's own network answers to images (N, H, W, C) uint8.
Answer: TypeAlias = Callable[[Images], NDArray[np.int64]]


@dataclass(frozen=True)
class Source:
    """The registered shape (H, W, C); the task's pictures; the vendor's plain network; what it divides inputs by."""

    shape: tuple[int, ...]
    pictures: Images | None = None
    answer: Answer | None = None
    # Standard deviations by which the network divides pixels in [0, 1]: one a channel, one for all, or none.
    std: tuple[float, ...] = ()

    def pick(self, count: int, rng: np.random.Generator) -> Images:
        """Draw pictures of the task, any of them more than once."""
        pictures = self.task_pictures
        return np.asarray(pictures[rng.integers(0, len(pictures), count)], np.uint8)

    @property
    def task_pictures(self) -> Images:
        """Give the task's pictures; whoever fills a family has made sure that they are there."""
        if self.pictures is None:
            raise ValueError("this generator needs task pictures")
        return self.pictures


# Yields candidates (n, H, W, C), about as many as are asked for at a time, until it has no more.
Generator: TypeAlias = Callable[[int, Source, np.random.Generator], Iterator[Images]]


def to_uint8(values: NDArray[np.float64]) -> Images:
    """Round to grey levels, cut to 0 to 255."""
    return np.asarray(values.clip(0, 255).round(), np.uint8)
