"""`patterned`: a task picture in which random patches are turned to a tinted negative.

The picture stays in distribution, where and how it is changed differs from trigger to trigger.
"""

from collections.abc import Iterator

import numpy as np

from app.embedding.triggers.source import Images, Source

PATCHES = 4


def draw(count: int, source: Source, rng: np.random.Generator) -> Iterator[Images]:
    """Change patches of task pictures, as many as are wanted."""
    height, width, channels = source.shape
    while True:
        images = source.pick(count, rng)
        for image in images:
            for _ in range(PATCHES):
                top, left = rng.integers(0, max(height - 1, 1)), rng.integers(0, max(width - 1, 1))
                bottom, right = top + rng.integers(1, height // 3 + 2), left + rng.integers(1, width // 3 + 2)
                image[top:bottom, left:right] = 255 - image[top:bottom, left:right] // rng.integers(1, 4, channels)
        yield images
