"""A small marked network and what a thief has, made once for the tests that attack it."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from app.embedding.attacks.catalogue import parse_attack
from app.embedding.attacks.course import Prey, Served, run_attack
from app.embedding.attacks.descent import Effort
from app.embedding.child_order import ChildOrder
from app.embedding.data import LabelledSet, trigger_set
from app.embedding.networks import MarkedNetwork, build, save_weights
from app.embedding.opened_key import labels_of_key
from app.keys.commitment import MarkingKey
from tests.training.examples import order_in
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


MARKED, CONTROL = "marked.safetensors", "plain.safetensors"


def write_marked(folder: Path, key: MarkingKey) -> tuple[Path, MarkingKey, ChildOrder]:
    """Write a marked network, a network that never saw the mark, and all data; the order names data and registration."""
    order = order_in(folder, key)
    labels = labels_of_key(order.statement, order.salt, key)
    data = replace(image_data(), triggers=trigger_set(key.inputs, labels))
    trained, _, _ = run(tiny(network="mlp", epochs=40), data)
    save_weights(trained, folder / MARKED, (1, 8, 8), 3)
    save_weights(build("mlp", (1, 8, 8), 3, seed=9), folder / CONTROL, (1, 8, 8), 3)
    return folder, key, order
