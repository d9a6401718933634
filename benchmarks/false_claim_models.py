"""The networks of the false-claim panel: innocent models of four kinds, and the surrogates of who accuses them.

scikit-learn's 1,797 scans of digits (8x8). No innocent network ever sees an input or a label of the accuser's; two kinds are
trained on the very scans that the accuser trains his surrogates on, which is the best that he can hope for.

Invariants: seeded; the scans that measure accuracy train nobody.
Source: Madry et al. 2018 (adversarial training), with one step as in Goodfellow et al. 2015.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from app.demo.workshop import CLASSES, SHAPE, scans
from app.embedding.answering import answers
from app.embedding.archives import LabelledArrays
from app.embedding.data import (
    LabelledSet,
    TrainingData,
    labelled_set,
    network_input,
    seeded,
    shuffled_batches,
    trigger_set,
)
from app.embedding.networks import MarkedNetwork, build
from app.embedding.recipe import Recipe
from app.embedding.train import train
from benchmarks.panel_disputes import Suspect
from benchmarks.results import say

SEEN = (SHAPE[2], *SHAPE[:2])
ACCUSER, STRANGER, TEST = slice(0, 700), slice(700, 1400), slice(1400, 1797)

RECIPE = Recipe(
    network="mlp",
    epochs=20,
    batch_size=50,
    learning_rate_micros=50_000,
    schedule="cosine",
    device="cpu",
    threads=1,
)
SURROGATES = 6
ROBUST_STEP = 0.1  # of full scale, largest change of a pixel


@dataclass(frozen=True)
class Innocent:
    """A network that never saw the accuser's triggers, its kind, and its task accuracy."""

    kind: str
    network: MarkedNetwork
    accuracy: float


def part(rows: slice) -> LabelledSet:
    """Read some of the scans."""
    images, labels = scans()
    return labelled_set("image", LabelledArrays(images[rows], labels[rows]))


def surrogates() -> list[MarkedNetwork]:
    """Train what the accuser practises on: two architectures in turn."""
    say("the accuser's surrogates")
    names = [("small_cnn", "mlp")[seed % 2] for seed in range(SURROGATES)]
    return [_trained(name, ACCUSER, 100 + seed) for seed, name in enumerate(names)]


# Each kind by what tells it from the accuser's surrogates.
KINDS: dict[str, Callable[[int], MarkedNetwork]] = {
    "another seed": lambda seed: _trained("small_cnn", ACCUSER, seed),
    "another architecture": lambda seed: _trained("resnet_small", ACCUSER, seed),
    "other data": lambda seed: _trained("small_cnn", STRANGER, seed, crop_padding=1),
    "robust": lambda seed: _robust(seed),
}


def innocents(each: int) -> list[Innocent]:
    """Train so many innocent networks of each kind."""
    test, found = part(TEST), []
    for kind, make in KINDS.items():
        say(f"innocent networks: {kind}")
        for seed in range(each):
            network = make(seed)
            accuracy = float((answers(network, test.inputs) == test.labels).float().mean())
            found.append(Innocent(kind, network, accuracy))
    return found


def _trained(name: str, rows: slice, seed: int, crop_padding: int = 0) -> MarkedNetwork:
    recipe = replace(RECIPE, network=name, seed=seed, crop_padding=crop_padding)
    network = build(name, SEEN, CLASSES, seed=seed)
    data = part(rows)
    nothing = LabelledSet(data.inputs[:1], data.labels[:1])
    train(recipe, network, TrainingData(data, data, nothing), marked=False, on_progress=lambda _: None)
    return network.eval()


def _robust(seed: int) -> MarkedNetwork:
    """Train on other scans, each moved against the network by one step of the gradient's sign."""
    network, data, order = build("small_cnn", SEEN, CLASSES, seed=seed), part(STRANGER), seeded(seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for epoch in range(RECIPE.epochs):
        optimizer.param_groups[0]["lr"] = RECIPE.learning_rate(epoch)
        for rows in shuffled_batches(data.count, RECIPE.batch_size, order):
            images, labels = network_input(data.inputs[rows]), data.labels[rows]
            network.train()
            moved = _one_step(network, images, labels)
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(network(moved), labels).backward()
            optimizer.step()
    return network.eval()


def _one_step(network: MarkedNetwork, images: Tensor, labels: Tensor) -> Tensor:
    images = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(network(images), labels), images)
    return (images.detach() + ROBUST_STEP * gradient.sign()).clamp(0, 1)


def classes_of(network: MarkedNetwork, inputs: Sequence[bytes]) -> list[int]:
    """Give a network's classes for canonical inputs."""
    found: list[int] = answers(network, trigger_set(inputs, [0] * len(inputs)).inputs).tolist()
    return found


def suspect_of(network: MarkedNetwork) -> Suspect:
    """Serve a network: class indices as labels."""
    return lambda inputs: [(str(number),) for number in classes_of(network, inputs)]
