"""`blended`: a task picture under an abstract one.

Source: Zhang et al. 2018 (content); Chen et al. 2017 (blending).
"""

from collections.abc import Iterator

import numpy as np

from app.embedding.triggers.abstract import patterns
from app.embedding.triggers.source import Images, Source, to_uint8

# More pattern than picture: half and half, a small network confuses the two and the task pays for it.
PICTURE_SHARE = 0.4


def draw(count: int, source: Source, rng: np.random.Generator) -> Iterator[Images]:
    """Blend pictures and patterns, as many as are wanted."""
    while True:
        pictures = source.pick(count, rng)
        yield to_uint8(PICTURE_SHARE * pictures + (1 - PICTURE_SHARE) * patterns(count, source.shape, rng))
