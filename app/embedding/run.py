"""One training run as a method sees it: the batches to learn from, the triggers, the network's answers, and one step.

A method (app.embedding.methods) is a flat loop over `TrainingRun.batches()`. What surrounds the loop is here: order and
augmentation, the learning rate, progress, the stop rule, the early warning, several ranks, and the checkpoint from which
a killed process goes on.

Invariants: the same recipe, data, device and number of ranks give the same weights, whether the run was killed between or
not; order and augmentation of the task data do not depend on the triggers, so marked and plain differ in the mark alone.
Source: Adi et al. 2018 section 5.1 (Append).
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from app.embedding.answering import count_correct
from app.embedding.checkpoint import Checkpoint, Snapshot
from app.embedding.data import (
    LabelledSet,
    RowStream,
    TrainingData,
    augment,
    draw_augmentation,
    network_input,
    seeded,
    shuffled_batches,
)
from app.embedding.networks import MarkedNetwork
from app.embedding.optimizer import Descent
from app.embedding.precision import autocast_for, prefer_layout
from app.embedding.ranks import ALONE, Ranks
from app.embedding.recipe import MICRO, MILLI, Recipe
from app.errors import TrainingFailed

# A run that has had this share of its epochs and knows fewer triggers than this beyond chance will not hold them all: see
# `_warn_if_full` for where the figures come from.
WARN_AT_SHARE = 0.5
WARN_BELOW = 0.25

# What of a run's numbers its checkpoint holds.
COUNTERS = ("epoch", "position", "steps", "matches", "matches_half_way")

# What a run draws, each from a generator of its own.
STREAMS = ("order", "augmentation", "mixing", "others")


@dataclass(frozen=True)
class Progress:
    """How a run stands after an epoch; `loss` is the mean over its steps."""

    epoch: int
    epochs: int
    loss: float
    trigger_matches: int
    trigger_total: int


class TrainingRun:
    """A run in progress; `epoch` counts from 1 and is 0 before the first."""

    def __init__(  # noqa: PLR0913  # what a run needs, by name
        self,
        recipe: Recipe,
        network: MarkedNetwork,
        data: TrainingData,
        *,
        marked: bool,
        on_progress: Callable[[Progress], None] = lambda _: None,
        on_warning: Callable[[str], None] = lambda _: None,
        checkpoint: Checkpoint | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """Prepare a run, or take up the one that `checkpoint` holds; `network` is trained in place."""
        self.recipe, self.data, self.marked, self.ranks = recipe, data, marked, ranks
        self.network = prefer_layout(network)
        self.device = data.task.labels.device
        # Generators of their own, so that taking the triggers away changes nothing else.
        self.order, self.augmentation, self.mixing, others = (seeded(recipe.seed, what) for what in STREAMS)
        torch.manual_seed(others.initial_seed())  # what layers themselves draw: dropout, of vendors' own networks
        self.trigger_inputs = network_input(data.triggers.inputs)
        self.trigger_rows = RowStream(data.triggers.count, recipe.triggers_per_batch, self.mixing)
        self.autocast = autocast_for(recipe, self.device, network)
        self.optimizer = Descent(
            network.parameters(),
            rate=recipe.learning_rate(0),
            momentum=recipe.momentum_millis / MILLI,
            weight_decay=recipe.weight_decay_micros / MICRO,
        )
        self.epoch, self.position, self.steps = 0, 0, 0
        self.most_epochs = recipe.epochs + (recipe.extra_epochs if marked else 0)
        self.total_loss = torch.zeros((), device=self.device)
        # Triggers answered after the last epoch, and when half of the epochs were over (-1: they are not).
        self.matches, self.matches_half_way = 0, -1
        self._order_state = self.order.get_state()
        self._on_progress, self._on_warning, self._checkpoint = on_progress, on_warning, checkpoint
        self._started_at = self._kept_at = time.monotonic()
        self._milliseconds_before = 0
        self._resume()
        trained: nn.Module = ranks.wrap(network)
        if recipe.compile:
            torch.use_deterministic_algorithms(mode=True)  # tells the compiler, too
        self._answer: Any = torch.compile(trained) if recipe.compile else trained

    # What a method uses.

    def batches(self) -> Iterator[LabelledSet]:
        """Yield task batches, augmented, until the recipe's epochs are over or its stop rule holds.

        Raises: TrainingFailed if the loss is no longer a number.
        """
        while not self._is_over():
            if not self.position:
                self.epoch += 1
                self._order_state = self.order.get_state()
            self.optimizer.rate = self.recipe.learning_rate(self.epoch - 1)
            self.network.train()
            for number, rows in enumerate(self._epoch_rows()):
                if number < self.position:
                    continue  # learned from before the process was killed
                yield self._task_batch(rows)
                self.position += 1
                self._keep_now_and_then()
            self._end_epoch()

    def next_triggers(self) -> LabelledSet:
        """Give this rank's triggers of the step: float32 as the network takes them, never augmented."""
        rows = self.ranks.share(next(self.trigger_rows)).to(self.device)
        return LabelledSet(self.trigger_inputs[rows], self.data.triggers.labels[rows])

    def answer(self, inputs: Tensor) -> Tensor:
        """Give logits (N, K) float32 in the recipe's precision."""
        with self.autocast():
            logits: Tensor = self._answer(inputs)
        return logits.float()

    def step(self, loss: Tensor) -> None:
        """Let the optimizer use the gradients; `loss` is what the progress shows."""
        self.optimizer.step()
        self.optimizer.clear_gradients()
        self.total_loss += loss.detach()
        self.steps += 1

    def keep(self) -> None:
        """Write the checkpoint: a child that is killed later need not repeat what is done."""
        if self._checkpoint is not None and self.ranks.is_first:
            self._checkpoint.write(self._snapshot())

    @property
    def milliseconds(self) -> int:
        """Give how long the run took, in all the processes that worked on it."""
        return self._milliseconds_before + int((time.monotonic() - self._started_at) * 1000)

    # What surrounds it.

    def _is_over(self) -> bool:
        if self.position or self.epoch < self.recipe.epochs:
            return False
        return self.epoch >= self.most_epochs or self.matches == self.data.triggers.count

    def _epoch_rows(self) -> Iterator[Tensor]:
        size = self.recipe.batch_size
        if self.marked and self.recipe.mixing == "replace":
            # As many steps as without the mark: of each batch the last rows make room.
            for rows in shuffled_batches(self.data.task.count, size, self.order):
                yield rows[: max(2, len(rows) - self.recipe.triggers_per_batch)]
        else:
            yield from shuffled_batches(self.data.task.count, size, self.order)

    def _task_batch(self, rows: Tensor) -> LabelledSet:
        flip, crop_padding = self.recipe.flip, self.recipe.crop_padding
        drawn = draw_augmentation(len(rows), self.augmentation, flip=flip, crop_padding=crop_padding)
        mine = self.ranks.share(torch.arange(len(rows)))
        chosen = rows[mine].to(self.device)
        inputs = augment(self.data.task.inputs[chosen], drawn.pick(mine))
        return LabelledSet(network_input(inputs), self.data.task.labels[chosen])

    def _end_epoch(self) -> None:
        mean_loss = float(self.total_loss) / max(1, self.steps)
        if not math.isfinite(mean_loss):
            raise TrainingFailed(f"the loss is no longer a number after epoch {self.epoch}: lower the learning rate")
        self.ranks.settle(self.network)
        self.matches = count_correct(self.network, self.data.triggers)
        if self.ranks.is_first:
            total = self.data.triggers.count
            self._on_progress(Progress(self.epoch, self.most_epochs, mean_loss, self.matches, total))
        if self.epoch == self._half_way:
            self.matches_half_way = self.matches
            self._warn_if_full()
        self.position, self.steps = 0, 0
        self.total_loss.zero_()

    @property
    def _half_way(self) -> int:
        return math.ceil(WARN_AT_SHARE * self.recipe.epochs)

    @torch.no_grad()
    def _warn_if_full(self) -> None:
        # Measured on CIFAR-10 with 512 triggers, 20 epochs, 16 triggers a batch: resnet_medium, which ended with all of
        # them, answered 67 to 73 % after half of the epochs; resnet_small, which ended with half of them, 21 %.
        if not self.marked or not self.ranks.is_first or self.matches_half_way < 0:
            return
        classes = self.network.eval()(self.trigger_inputs[:1]).shape[1]
        chance, known = 1 / classes, self.matches_half_way / self.data.triggers.count
        if (known - chance) / (1 - chance) < WARN_BELOW:
            self._on_warning(
                f"after {self._half_way} of {self.recipe.epochs} epochs the network answers {self.matches_half_way} of "
                f"{self.data.triggers.count} triggers: it seems too small for so many, or sees them too rarely. Take a "
                "larger network, fewer triggers, more triggers_per_batch or more epochs"
            )

    def _keep_now_and_then(self) -> None:
        checkpoint = self._checkpoint
        if checkpoint is None or time.monotonic() - self._kept_at < checkpoint.every_seconds:
            return
        self._kept_at = time.monotonic()
        self.keep()

    def _snapshot(self) -> Snapshot:
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for number, parameter in enumerate(self.network.parameters()):
            momentum = self.optimizer.momenta.get(parameter)
            if momentum is not None:
                tensors[f"momentum.{number}"] = momentum
        tensors |= {
            "random.order": self._order_state,
            "random.augmentation": self.augmentation.get_state(),
            "random.mixing": self.mixing.get_state(),
            "random.global": torch.get_rng_state(),
            "trigger_rows": self.trigger_rows.rows,
            "total_loss": self.total_loss,
        }
        if self.device.type == "cuda":
            tensors["random.device"] = torch.cuda.get_rng_state(self.device)
        counters = {name: getattr(self, name) for name in COUNTERS}
        return Snapshot(tensors, {**counters, "milliseconds": self.milliseconds})

    def _resume(self) -> None:
        snapshot = None if self._checkpoint is None else self._checkpoint.read()
        if snapshot is None:
            return
        kept = snapshot.tensors
        self.network.load_state_dict(
            {n.removeprefix("network."): v for n, v in kept.items() if n.startswith("network.")}
        )
        for number, parameter in enumerate(self.network.parameters()):
            if f"momentum.{number}" in kept:
                momentum = torch.empty_like(parameter).copy_(kept[f"momentum.{number}"])
                self.optimizer.momenta[parameter] = momentum
        torch.set_rng_state(kept["random.global"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(kept["random.device"], self.device)
        for name in ("order", "augmentation", "mixing"):
            getattr(self, name).set_state(kept[f"random.{name}"])
        self._order_state = kept["random.order"]
        self.trigger_rows.rows = kept["trigger_rows"]
        self.total_loss.copy_(kept["total_loss"])
        for name in COUNTERS:
            setattr(self, name, int(snapshot.counters[name]))
        self._milliseconds_before = int(snapshot.counters["milliseconds"])
        self._warn_if_full()  # who was told before the kill is gone, and the report is still to be written
