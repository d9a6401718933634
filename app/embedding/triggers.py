"""Trigger families made by program, from a seed that nobody else has.

`noise`: independent pixels. `abstract`: overlapping waves and blobs that look like nothing in the task. `blended`: a task
image mixed with an abstract one. `patterned`: a task image with random patches turned to their negative.

Invariants: the same seed gives the same triggers; any two triggers lie at least MIN_DISTANCE apart in what the network
sees, so that two of them can be taught different labels; too few are refused, not delivered.
Source: Adi et al. 2018 section 5.1 (abstract images); Zhang et al. 2018 (noise, content, unrelated).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import Malformed

Images = NDArray[np.uint8]  # (N, H, W, C)

# Root mean square difference as a share of full scale. The paper's published set has pairs at 0.017 with different
# labels, which small networks cannot tell apart.
MIN_DISTANCE = 0.05

# A generator that cannot fill its family within so many draws of each trigger is asked for too much.
MAX_REDRAWS = 20


@dataclass(frozen=True)
class FamilyOrder:
    """How many triggers of which generator, under which name."""

    name: str
    generator: str
    count: int


def generate(families: list[FamilyOrder], shape: tuple[int, ...], seed: int, base: Images | None = None) -> Images:
    """Make all families' triggers, in order: (N, H, W, C) uint8.

    Raises: Malformed if a generator is unknown, lacks the task images it needs, or cannot make enough distinct triggers.
    """
    rng = np.random.default_rng(seed)
    made = np.zeros((0, *shape), np.uint8)
    for family in families:
        if family.generator not in GENERATORS:
            raise Malformed(f"no trigger generator {family.generator!r}; there are {', '.join(GENERATORS)}")
        if family.generator in NEEDS_BASE and base is None:
            raise Malformed(f"triggers of generator {family.generator} need task images: give a data archive")
        made = _fill(made, family, shape, rng, base)
    return made


def _fill(
    made: Images, family: FamilyOrder, shape: tuple[int, ...], rng: np.random.Generator, base: Images | None
) -> Images:
    wanted = len(made) + family.count
    for _ in range(MAX_REDRAWS):
        missing = wanted - len(made)
        drawn = GENERATORS[family.generator](missing, shape, rng, base)
        for image in drawn:
            if not len(made) or _distances(made, image).min() >= MIN_DISTANCE:
                made = np.concatenate([made, image[None]])
        if len(made) == wanted:
            return made
    raise Malformed(
        f"family {family.name}: only {len(made) - wanted + family.count} of {family.count} triggers lie far enough apart; "
        "ask for fewer, or for larger images"
    )


def _distances(images: Images, image: Images) -> NDArray[np.float64]:
    difference = images.astype(np.float64) - image.astype(np.float64)
    return np.asarray(np.sqrt((difference**2).mean(axis=(1, 2, 3))) / 255, np.float64)


def _noise(count: int, shape: tuple[int, ...], rng: np.random.Generator, _base: Images | None) -> Images:
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8)


def _abstract(count: int, shape: tuple[int, ...], rng: np.random.Generator, _base: Images | None) -> Images:
    height, width, channels = shape
    rows, columns = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    canvas = np.zeros((count, *shape))
    for _ in range(4):
        direction = rng.normal(size=(count, 1, 1, channels, 2))
        phase = rng.uniform(0, 2 * np.pi, (count, 1, 1, channels))
        wave = 3 * (direction[..., 0] * rows[..., None] + direction[..., 1] * columns[..., None])
        canvas += np.sin(wave + phase) * rng.uniform(0.3, 1, (count, 1, 1, channels))
        centre, radius = rng.uniform(-1, 1, (count, 1, 1, 1, 2)), rng.uniform(0.2, 0.7, (count, 1, 1, 1))
        inside = (rows[..., None] - centre[..., 0]) ** 2 + (columns[..., None] - centre[..., 1]) ** 2 < radius**2
        canvas += inside * rng.uniform(-2, 2, (count, 1, 1, channels))
    return _to_uint8(127.5 + 90 * canvas / canvas.std(axis=(1, 2, 3), keepdims=True).clip(0.5))


def _blended(count: int, shape: tuple[int, ...], rng: np.random.Generator, base: Images | None) -> Images:
    # More pattern than picture: half and half, a small network confuses the two and the task pays for it.
    return _to_uint8(0.4 * _pick(base, count, rng) + 0.6 * _abstract(count, shape, rng, None))


def _patterned(count: int, shape: tuple[int, ...], rng: np.random.Generator, base: Images | None) -> Images:
    images = _pick(base, count, rng).copy()
    height, width, channels = shape
    for image in images:
        for _ in range(4):
            top, left = rng.integers(0, max(height - 1, 1)), rng.integers(0, max(width - 1, 1))
            bottom, right = top + rng.integers(1, height // 3 + 2), left + rng.integers(1, width // 3 + 2)
            image[top:bottom, left:right] = 255 - image[top:bottom, left:right] // rng.integers(1, 4, channels)
    return images


def _pick(base: Images | None, count: int, rng: np.random.Generator) -> Images:
    images = np.zeros((0,), np.uint8) if base is None else base
    return np.asarray(images[rng.integers(0, len(images), count)], np.uint8)


def _to_uint8(values: NDArray[np.float64]) -> Images:
    return np.asarray(values.clip(0, 255).round(), np.uint8)


NEEDS_BASE = frozenset({"blended", "patterned"})

GENERATORS: dict[str, Callable[[int, tuple[int, ...], np.random.Generator, Images | None], Images]] = {
    "abstract": _abstract,
    "noise": _noise,
    "blended": _blended,
    "patterned": _patterned,
}
