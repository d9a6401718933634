"""`heldout`: task pictures as they are, taken out of the training data.

Training drops every task row that is a trigger (app.embedding.data.without_triggers). A picture with a twin among the
task's other pictures is not taken: the twin would go on teaching the label that the trigger must not have.

Invariants: no picture is taken twice, none that lies nearer than MIN_DISTANCE to another picture of the task.
Source: Adi et al. 2018 section 2 (a trigger set may be any set of inputs); Namba and Sakuma 2019 (in-distribution keys).
"""

from collections.abc import Iterator

import numpy as np

from app.embedding.triggers.distance import has_twin
from app.embedding.triggers.source import Images, Source


def draw(count: int, source: Source, rng: np.random.Generator) -> Iterator[Images]:
    """Go through the task's pictures in a drawn order, each once."""
    pictures = source.task_pictures
    order = rng.permutation(len(pictures))
    for start in range(0, len(order), count):
        rows = order[start : start + count]
        yield pictures[rows[~has_twin(pictures, rows, source.std)]]
