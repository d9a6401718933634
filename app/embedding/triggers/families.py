"""A trigger set from its families: each generator draws candidates, and what lies far enough from all others is kept.

Invariants: the same seed gives the same triggers; any two, of whatever family and the vendor's own included, lie at least
MIN_DISTANCE apart in what the network sees; too few are refused, not delivered.
"""

from collections.abc import Sequence
from itertools import islice

import numpy as np

from app.embedding.trigger_order import FamilyOrder
from app.embedding.triggers import abstract, blended, boundary, heldout, noise, patterned
from app.embedding.triggers.distance import MIN_DISTANCE, as_seen, rows_apart
from app.embedding.triggers.source import Generator, Images, Source
from app.errors import Malformed

GENERATORS: dict[str, Generator] = {
    "abstract": abstract.draw,
    "noise": noise.draw,
    "blended": blended.draw,
    "patterned": patterned.draw,
    "heldout": heldout.draw,
    "boundary": boundary.draw,
}

NEEDS_PICTURES = frozenset({"blended", "patterned", "heldout", "boundary"})
NEEDS_NETWORK = frozenset({"boundary"})

# A generator that cannot fill its family with so many candidates for each trigger is asked for too much.
MAX_REDRAWS = 20

# Candidates at a time: their distances from each other and from 65,536 triggers are 300 MB.
BATCH = 1024


def generate(families: Sequence[FamilyOrder], source: Source, seed: int, own: Images | None = None) -> Images:
    """Make all families' triggers, in order, after the vendor's own: (N, H, W, C) uint8.

    Raises: Malformed if a generator is unknown, lacks what it needs, or cannot make enough distinct triggers.
    """
    for family in families:
        check_source(family.name, source)
    own = np.zeros((0, *source.shape), np.uint8) if own is None else own
    made = np.concatenate([own, np.zeros((sum(family.count for family in families), *source.shape), np.uint8)])
    filled = len(own)
    # A seed for each, so that a family does not depend on how often another had to draw again.
    for family, branch in zip(families, np.random.SeedSequence(seed).spawn(len(families)), strict=True):
        _fill(made, filled, family, source, np.random.default_rng(branch))
        filled += family.count
    return made


def check_source(name: str, source: Source) -> None:
    """Refuse a family that nothing can draw.

    Raises: Malformed.
    """
    if name not in GENERATORS:
        raise Malformed(f"no trigger generator {name!r}; there are {', '.join(GENERATORS)}")
    if name in NEEDS_PICTURES and source.pictures is None:
        raise Malformed(f"{name} triggers are made from task images: give a data archive (--data)")
    if name in NEEDS_NETWORK and source.answer is None:
        raise Malformed(f"{name} triggers lie where your own network changes its answer: give its weights (--model)")


def _fill(made: Images, filled: int, family: FamilyOrder, source: Source, rng: np.random.Generator) -> None:
    """Write a family's triggers behind the `filled` rows that are there."""
    wanted = filled + family.count
    seen = np.concatenate([as_seen(made[:filled], source.std), np.zeros((family.count, made[0].size), np.float32)])
    batch = min(family.count, BATCH)
    draws = GENERATORS[family.name](batch, source, rng)
    for candidates in islice(draws, MAX_REDRAWS * -(-family.count // batch)):
        candidates_seen = as_seen(candidates, source.std)
        chosen = rows_apart(candidates_seen, seen[:filled])[: wanted - filled]
        made[filled : filled + len(chosen)] = candidates[chosen]
        seen[filled : filled + len(chosen)] = candidates_seen[chosen]
        filled += len(chosen)
        if filled == wanted:
            return
    raise Malformed(
        f"family {family.name}: only {family.count - wanted + filled} of {family.count} triggers lie at least "
        f"{MIN_DISTANCE:.0%} of full scale from all others; ask for fewer, for larger images, or give more task images"
    )
