"""How much the embedding benchmark measures, and the recipe that all its parts share."""

from dataclasses import dataclass
from typing import Any

from app.embedding.data import TrainingData
from app.embedding.recipe import Recipe


@dataclass(frozen=True)
class Scale:
    """How much is measured; `rounds` are of epochs over `timed_pictures`."""

    name: str
    pictures: int
    test_pictures: int
    epochs: int
    seeds: int
    timed_pictures: int
    rounds: int
    triggers_per_batch: int
    # Pairs of a reference loop and ours: accuracies differ by what chance does to one.
    compared_pairs: int
    network: str = "resnet_medium"


FULL = Scale("full", 50_000, 10_000, 20, 5, 5_000, 20, 4, 3)
# A hundredth of the work: fewer pictures, so lower accuracies and larger errors, and no fewer pairs of epochs than 20.
QUICK = Scale("quick", 2_500, 2_000, 10, 3, 1_280, 20, 16, 1)


def recipe_of(scale: Scale, **changes: object) -> Recipe:
    """Give the recipe that all parts share."""
    options: dict[str, Any] = {
        "network": scale.network,
        "method": "append",
        "epochs": scale.epochs,
        "batch_size": 128,
        "triggers_per_batch": scale.triggers_per_batch,
        "mixing": "replace",
        "schedule": "cosine",
        "flip": True,
        "crop_padding": 4,
    }
    return Recipe.from_options({**options, **changes})


def shape_of(data: TrainingData) -> tuple[int, ...]:
    """Give the shape of one input."""
    return tuple(data.task.inputs.shape[1:])
