"""`noise`: every pixel on its own, every grey level as likely as any other.

Source: Zhang et al. 2018 (noise as trigger).
"""

from collections.abc import Iterator

import numpy as np

from app.embedding.triggers.source import Images, Source


def draw(count: int, source: Source, rng: np.random.Generator) -> Iterator[Images]:
    """Draw noise, as much as is wanted."""
    while True:
        yield rng.integers(0, 256, (count, *source.shape), dtype=np.uint8)
