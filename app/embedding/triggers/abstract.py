"""`abstract`: overlapping waves and discs that look like nothing in any task.

Source: Adi et al. 2018 section 5.1 (abstract images), drawn instead of collected.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from app.embedding.triggers.source import Images, Source, to_uint8

# Waves and discs in one picture: fewer look alike, more average out to grey.
LAYERS = 4


def draw(count: int, source: Source, rng: np.random.Generator) -> Iterator[Images]:
    """Draw abstract pictures, as many as are wanted."""
    while True:
        yield to_uint8(patterns(count, source.shape, rng))


def patterns(count: int, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw pictures as grey levels that may lie outside 0 to 255: (N, H, W, C)."""
    height, width, channels = shape
    rows, columns = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    canvas = np.zeros((count, *shape))
    for _ in range(LAYERS):
        direction = rng.normal(size=(count, 1, 1, channels, 2))
        phase = rng.uniform(0, 2 * np.pi, (count, 1, 1, channels))
        wave = 3 * (direction[..., 0] * rows[..., None] + direction[..., 1] * columns[..., None])
        canvas += np.sin(wave + phase) * rng.uniform(0.3, 1, (count, 1, 1, channels))
        centre, radius = rng.uniform(-1, 1, (count, 1, 1, 1, 2)), rng.uniform(0.2, 0.7, (count, 1, 1, 1))
        inside = (rows[..., None] - centre[..., 0]) ** 2 + (columns[..., None] - centre[..., 1]) ** 2 < radius**2
        canvas += inside * rng.uniform(-2, 2, (count, 1, 1, channels))
    spread = canvas.std(axis=(1, 2, 3), keepdims=True).clip(0.5)
    return np.asarray(127.5 + 90 * canvas / spread, np.float64)
