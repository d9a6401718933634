"""Training one epoch at a time, so that several runs can take turns in one process and meet the same machine."""

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from app.embedding.data import TrainingData
from app.embedding.methods import plain
from app.embedding.networks import MarkedNetwork, build
from app.embedding.recipe import Recipe
from app.embedding.run import TrainingRun
from app.embedding.train import METHODS
from benchmarks.cifar10 import CLASSES, MEAN_MILLIS, SHAPE, STD_MILLIS


@dataclass(frozen=True)
class Spent:
    """Seconds of the wall's clock and of processors, those of ended children included."""

    wall: float
    processor: float

    def __add__(self, other: "Spent") -> "Spent":
        """Add up."""
        return Spent(self.wall + other.wall, self.processor + other.processor)

    def on(self, device: torch.device) -> float:
        """Give what counts on a device: processor time on a CPU, which others share, and the wall's clock on a GPU."""
        return self.processor if device.type == "cpu" else self.wall


def clock(work: Callable[[], object], device: torch.device) -> Spent:
    """Do some work and say what it took."""
    wall, processor = time.perf_counter(), _processor_seconds()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Spent(time.perf_counter() - wall, _processor_seconds() - processor)


def _processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def start_network(recipe: Recipe, device: torch.device, shape: tuple[int, ...] = SHAPE) -> MarkedNetwork:
    """Give the recipe's network with fresh weights."""
    rank = min(len(MEAN_MILLIS), shape[0])
    values = {"mean_millis": MEAN_MILLIS[:rank], "std_millis": STD_MILLIS[:rank]}
    return build(recipe.network, shape, len(CLASSES), seed=recipe.seed, **values).to(device)


class _Renewable(TrainingRun):
    """A run that ends after each epoch it was allowed, and can be allowed another."""

    allowed = 0

    def _is_over(self) -> bool:
        return not self.position and self.epoch >= self.allowed


class Stepwise:
    """A training that goes on by one epoch whenever it is told to."""

    def __init__(self, recipe: Recipe, network: MarkedNetwork, data: TrainingData, *, marked: bool) -> None:
        """Prepare; `network` is trained in place."""
        self.network = network
        self._run = _Renewable(recipe, network, data, marked=marked)
        self._method = METHODS[recipe.method] if marked else plain.train

    def train_epoch(self) -> None:
        """Train one more epoch, and count the triggers as every run does."""
        self._run.allowed += 1
        self._method(self._run)

    @property
    def matches(self) -> int:
        """Count the triggers answered with their labels."""
        return self._run.matches


class EpochByEpoch(Protocol):
    """What can take turns."""

    def train_epoch(self) -> None:
        """Train one more epoch."""


def take_turns(runs: Mapping[str, EpochByEpoch], rounds: int, device: torch.device) -> dict[str, list[Spent]]:
    """Let each run train one epoch a round; who begins moves on, so that none always runs on another's caches."""
    names = list(runs)
    spent: dict[str, list[Spent]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            spent[name].append(clock(runs[name].train_epoch, device))
    return spent
