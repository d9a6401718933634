"""A small marked network and what a thief has, made once for the tests that attack it."""

from functools import cache

import torch

from app.embedding.attacks.catalogue import parse_attack
from app.embedding.attacks.course import Prey, Served, run_attack
from app.embedding.attacks.descent import Effort
from app.embedding.data import LabelledSet
from app.embedding.networks import MarkedNetwork
from tests.training.runs import image_data, run, tiny

TRIGGERS = 12


@cache
def marked(network: str = "small_cnn") -> MarkedNetwork:
    """A network that knows the easy task and all twelve triggers."""
    torch.set_num_threads(1)
    trained, _, _ = run(tiny(network=network, epochs=20, learning_rate_micros=50_000), image_data())
    return trained.eval()


def effort(**changes: object) -> Effort:
    usual = {
        "epochs": 3,
        "student_epochs": 12,
        "student_rate": 0.05,
        "batch_size": 16,
        "flip": False,
        "crop_padding": 0,
        "half": False,
        "seed": 3,
    }
    return Effort(**{**usual, **changes})  # type: ignore[arg-type]


def other_task() -> LabelledSet:
    """The same pictures as negatives, with two classes of their own."""
    task = image_data().task
    return LabelledSet(255 - task.inputs, task.labels % 2)


def prey() -> Prey:
    return Prey(image_data().task, 3, TRIGGERS, other_task(), 2)


def attack(name: str, network: MarkedNetwork | None = None, **changes: object) -> Served:
    return run_attack(network or marked(), parse_attack(name), prey(), effort(**changes), lambda *_: None)


def state(network: MarkedNetwork) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in one if not torch.equal(one[name], other[name])}
