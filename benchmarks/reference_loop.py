"""The training loop that the paper describes, built as one would build it fairly today: what our engine is measured against.

Pixels lie in memory as uint8 tensors; a DataLoader with two processes cuts and flips picture by picture in torch and
stacks the batches; the network computes in float32; two triggers, chosen in turn, join every batch of 100. Only what the
product does otherwise differs: network, data, start, schedule and optimizer are the same.

Source: Adi et al. 2018 section 5.1; github.com/adiyoss/WatermarkNN, trainer.py.
"""

import resource
import time
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from app.embedding.answering import count_correct
from app.embedding.data import LabelledSet, TrainingData
from app.embedding.networks import MarkedNetwork
from app.embedding.recipe import MICRO, MILLI, Recipe


class Pictures(Dataset[tuple[Tensor, int]]):
    """A set that gives one picture at a time, float32 (C, H, W) in [0, 1], cut and flipped at random."""

    def __init__(self, data: LabelledSet, padding: int, *, flip: bool) -> None:
        """Keep the pictures as bytes, on the CPU."""
        self.inputs, self.labels = data.inputs.cpu().contiguous(), data.labels.cpu()
        self.padding, self.flip = padding, flip

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        """Give one picture and its label."""
        image = self.inputs[row]
        if self.padding:
            height, width = image.shape[1:]
            padded = torch.nn.functional.pad(image, (self.padding,) * 4)
            top, left = torch.randint(0, 2 * self.padding + 1, (2,)).tolist()
            image = padded[:, top : top + height, left : left + width]
        if self.flip and bool(torch.rand(()) < 0.5):
            image = image.flip(2)
        return image.float() / 255, int(self.labels[row])


class ReferenceTraining:
    """A training by the reference loop, one epoch at a time; it counts the seconds its loop waited and its loaders worked."""

    def __init__(self, recipe: Recipe, network: MarkedNetwork, data: TrainingData, workers: int = 2) -> None:
        """Prepare; `network` is trained in place, with `recipe`'s batch size, schedule and optimizer."""
        self.recipe, self.network, self.data = recipe, network, data
        self.device = data.task.labels.device
        self.order = torch.Generator().manual_seed(recipe.seed)
        pictures = Pictures(data.task, recipe.crop_padding, flip=recipe.flip)
        self.loader = DataLoader(
            pictures, recipe.batch_size, shuffle=True, num_workers=workers, drop_last=True, generator=self.order
        )
        self.triggers = _triggers_in_turn(data.triggers, recipe.triggers_per_batch)
        self.optimizer = torch.optim.SGD(
            network.parameters(),
            lr=recipe.learning_rate(0),
            momentum=recipe.momentum_millis / MILLI,
            weight_decay=recipe.weight_decay_micros / MICRO,
        )
        self.epoch, self.matches = 0, 0
        # Seconds the loop stood still for data, by the wall's clock; processor seconds of the loading processes.
        self.waiting, self.loading = 0.0, 0.0

    def train_epoch(self) -> None:
        """Train one more epoch, and count the triggers as every run does."""
        self.optimizer.param_groups[0]["lr"] = self.recipe.learning_rate(self.epoch)
        self.epoch += 1
        self.network.train()
        for images, labels in self._batches():
            triggers = next(self.triggers)
            inputs = torch.cat([images.to(self.device), triggers.inputs])
            targets = torch.cat([labels.to(self.device), triggers.labels])
            self.optimizer.zero_grad()
            loss = cross_entropy(self.network(inputs), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        self.matches = count_correct(self.network, self.data.triggers)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        began, worked = time.perf_counter(), _child_seconds()
        for batch in self.loader:
            self.waiting += time.perf_counter() - began
            yield batch
            began = time.perf_counter()
        self.waiting += time.perf_counter() - began
        self.loading += _child_seconds() - worked  # the loaders ended with the epoch


def _child_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def _triggers_in_turn(triggers: LabelledSet, size: int) -> Iterator[LabelledSet]:
    inputs, count = triggers.inputs.float() / 255, triggers.count
    start = 0
    while True:
        rows = [(start + number) % count for number in range(size)]
        yield LabelledSet(inputs[rows], triggers.labels[rows])
        start = (start + size) % count
