"""The networks of the evasion panel: an owner's marked one, what a thief makes of it, and what he trains beside it.

The owner trains on CIFAR-10 pictures with the method `auto` and two families of triggers, one that looks like nothing and one
of ordinary pictures. The thief has as many other pictures: with them he tunes what he stole, trains networks of his own, and
a detector of odd pictures, for which he draws odd pictures with our own generators (they are public).

Invariants: seeded; owner's, thief's and trigger pictures are disjoint; weights are kept under a digest of what made them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from app.canonical import sha256
from app.embedding.attacks.descent import Effort
from app.embedding.attacks.pruning import prune
from app.embedding.attacks.tuning import tune
from app.embedding.data import LabelledSet, TrainingData, trigger_set
from app.embedding.networks import MarkedNetwork, build, load_network, save_weights
from app.embedding.precision import multiplies_bf16
from app.embedding.recipe import Recipe
from app.embedding.train import train
from app.embedding.trigger_order import FamilyOrder
from app.embedding.triggers.families import generate
from app.embedding.triggers.source import Images, Source
from app.keys.commitment import MarkingKey
from app.keys.trigger_set import Family
from benchmarks.cifar10 import CACHE, CLASSES, MEAN_MILLIS, SHAPE, STD_MILLIS, draw, load
from benchmarks.panel_disputes import Registered, canonical, register
from benchmarks.results import say

K = len(CLASSES)
ODD, PLAIN = 1, 0


@dataclass(frozen=True)
class Scale:
    """How much is trained, and how many challenge orders are played."""

    name: str
    pictures: int
    test: int
    epochs: int
    triggers: int  # a family
    orders: int


SCALES = {
    "full": Scale("full", pictures=10_000, test=2_000, epochs=20, triggers=256, orders=20),
    "quick": Scale("quick", pictures=2_000, test=500, epochs=15, triggers=64, orders=8),
    "trial": Scale("trial", pictures=128, test=64, epochs=1, triggers=32, orders=2),
}


@dataclass(frozen=True)
class Scene:
    """Everything the panel plays with; images are (N, C, H, W) uint8."""

    registered: Registered
    covers: tuple[bytes, ...]
    test: LabelledSet
    stolen: MarkedNetwork
    tuned: MarkedNetwork
    pruned: MarkedNetwork
    own: tuple[MarkedNetwork, MarkedNetwork]
    detector: MarkedNetwork


@dataclass(frozen=True)
class Pictures:
    """Who has which pictures."""

    owner: LabelledSet
    thief: LabelledSet
    held_out: LabelledSet
    covers: LabelledSet
    test: LabelledSet


def pictures_of(scale: Scale) -> Pictures:
    """Deal CIFAR-10's pictures; covers are test pictures on which accuracy is not measured."""
    held_out, covers = 4 * scale.triggers, 64
    dealt = draw(load("train"), 2 * scale.pictures + held_out, 0)
    test = draw(load("test"), scale.test + covers, 0)
    return Pictures(
        owner=_rows(dealt, 0, scale.pictures),
        thief=_rows(dealt, scale.pictures, 2 * scale.pictures),
        held_out=_rows(dealt, 2 * scale.pictures, dealt.count),
        covers=_rows(test, scale.test, test.count),
        test=_rows(test, 0, scale.test),
    )


def _rows(data: LabelledSet, start: int, end: int) -> LabelledSet:
    return LabelledSet(data.inputs[start:end], data.labels[start:end])


def scene_of(scale: Scale) -> Scene:
    """Train what is not kept from an earlier run, and set the scene."""
    pictures = pictures_of(scale)
    registered = register_triggers(scale, pictures)
    effort = Effort(3, 0, 0.1, 128, flip=True, crop_padding=4, half=multiplies_bf16(torch.device("cpu")), seed=7)
    triggers = trigger_set(registered.key.inputs, registered.labels)
    learn = partial(_learn, scale, pictures.test)
    stolen = learn("marked", Recipe.from_options(_options(scale, 0)), pictures.owner, triggers)
    own = (
        learn("own-1", Recipe.from_options(_options(scale, 100)), pictures.thief, None),
        learn("own-2", Recipe.from_options(_options(scale, 200)), pictures.thief, None),
    )
    return Scene(
        registered=registered,
        covers=tuple(canonical(pictures.covers.inputs)),
        test=pictures.test,
        stolen=stolen,
        tuned=tune(stolen, "ftal", 1e-3, pictures.thief, effort, lambda *_: None),
        pruned=prune(stolen, 50),
        own=own,
        detector=_detector(scale, pictures),
    )


def _options(scale: Scale, seed: int) -> dict[str, object]:
    return {
        "network": "resnet_medium",
        "method": "auto",
        "epochs": scale.epochs,
        "batch_size": 128,
        "triggers_per_batch": 16,
        "learning_rate_micros": 100_000,
        "schedule": "cosine",
        "flip": True,
        "crop_padding": 4,
        "mean_millis": list(MEAN_MILLIS),
        "std_millis": list(STD_MILLIS),
        "seed": seed,
        "device": "cpu",
        "threads": 1,
    }


def register_triggers(scale: Scale, pictures: Pictures) -> Registered:
    """Make the owner's key, two families in one registration, and register it."""
    source = Source((SHAPE[1], SHAPE[2], SHAPE[0]), _as_images(pictures.held_out.inputs))
    orders = [FamilyOrder("abstract", scale.triggers), FamilyOrder("heldout", scale.triggers)]
    made = torch.from_numpy(generate(orders, source, 5)).permute(0, 3, 1, 2)
    key = MarkingKey(sha256(b"evasion panel"), tuple(canonical(made)))
    families = (
        Family("abstract", 0, scale.triggers),
        Family("heldout", scale.triggers, 2 * scale.triggers),
    )
    return register(key, CLASSES, families, 0)


def _as_images(inputs: Tensor) -> Images:
    return np.ascontiguousarray(inputs.permute(0, 2, 3, 1).numpy())


def _learn(
    scale: Scale, test: LabelledSet, name: str, recipe: Recipe, task: LabelledSet, triggers: LabelledSet | None
) -> MarkedNetwork:
    marked = triggers is not None
    taught = triggers if triggers is not None else LabelledSet(task.inputs[:1], task.labels[:1])
    made_of = sha256(recipe.encode() + repr((scale.pictures, scale.triggers)).encode() + bytes(taught.labels.tolist()))
    weights = CACHE / f"panels-{scale.name}" / f"{name}-{made_of.hex()[:12]}.safetensors"
    if not weights.exists():
        classes = int(task.labels.max()) + 1 if name == "detector" else K
        network = build(
            recipe.network, SHAPE, classes, seed=recipe.seed, mean_millis=MEAN_MILLIS, std_millis=STD_MILLIS
        )
        train(recipe, network, TrainingData(task, test, taught), marked=marked, on_progress=_tell(name))
        weights.parent.mkdir(parents=True, exist_ok=True)
        save_weights(network, weights, SHAPE, classes)
    return load_network(weights).eval()


def _tell(name: str) -> Callable[[object], None]:
    return lambda progress: say(f"{name}: {progress}")


def _detector(scale: Scale, pictures: Pictures) -> MarkedNetwork:
    """Train the thief's detector: his pictures against odd ones, among them pictures with their tiles shuffled."""
    plain = pictures.thief.inputs[: min(4_000, scale.pictures)]
    odd = torch.cat([_drawn(len(plain) // 2), shuffled(plain[: len(plain) // 2], 3)])
    labels = torch.cat([torch.full((len(plain),), PLAIN), torch.full((len(odd),), ODD)])
    task = LabelledSet(torch.cat([plain, odd]), labels)
    recipe = Recipe.from_options(
        {**_options(scale, 300), "network": "small_cnn", "epochs": max(1, scale.epochs // 4), "crop_padding": 0}
        | {"learning_rate_micros": 20_000}
    )
    return _learn(scale, task, "detector", recipe, task, None)


def _drawn(count: int) -> Tensor:
    """Draw odd pictures by our own public generators: (N, C, H, W) uint8."""
    source = Source((SHAPE[1], SHAPE[2], SHAPE[0]))
    orders = [FamilyOrder("abstract", count - count // 2), FamilyOrder("noise", count // 2)]
    return torch.from_numpy(generate(orders, source, 77)).permute(0, 3, 1, 2).contiguous()


def shuffled(images: Tensor, seed: int) -> Tensor:
    """Shuffle each image's 4x4 tiles: (N, C, H, W)."""
    count, channels, height, width = images.shape
    tiles = images.reshape(count, channels, height // 4, 4, width // 4, 4).permute(0, 2, 4, 1, 3, 5)
    tiles = tiles.reshape(count, -1, channels, 4, 4)
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(tiles.shape[1], generator=generator) for _ in range(count)])
    mixed = tiles[torch.arange(count)[:, None], order].reshape(count, height // 4, width // 4, channels, 4, 4)
    return mixed.permute(0, 3, 1, 4, 2, 5).reshape(images.shape)
