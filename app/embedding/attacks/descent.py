"""The loop in which an attacker trains: one flat loop for tuning, overwriting, transfer and students.

N rows, K classes. SGD with momentum and weight decay; where the attacker augments, images are shifted and flipped one by
one, as in the owner's training.

Invariants: the same seed gives the same weights on the same device; weights that are exactly zero at the start stay so, so
that a pruned network stays pruned; the given samples are not changed.
Source: Adi et al. 2018 section 5.1 (SGD, momentum 0.9, weight decay 0.0005).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from app.embedding.data import LabelledSet, augment, draw_augmentation, network_input, seeded, shuffled_batches
from app.embedding.networks import MarkedNetwork
from app.embedding.optimizer import Descent
from app.embedding.precision import lay_out, prefer_layout
from app.errors import TrainingFailed

MOMENTUM = 0.9
WEIGHT_DECAY = 0.0005

# Students start from nothing at a high rate; without a bound some diverge in their first steps.
GRADIENT_NORM = 5.0

OnEpoch = Callable[[int, int], None]
# From the rows of a batch, what the network saw (N, ...) float32 and its logits (N, K), to the loss.
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Effort:
    """How much an attacker puts in; `half` trains in bfloat16, `flip` and `crop_padding` are for images only."""

    epochs: int
    student_epochs: int
    student_rate: float
    batch_size: int
    flip: bool
    crop_padding: int
    half: bool
    seed: int


@dataclass(frozen=True)
class Course:
    """One descent: how long, at which rate, and whether the rate falls to nothing (cosine) or stays."""

    epochs: int
    rate: float
    falling: bool = False


def descend(
    network: MarkedNetwork, inputs: Tensor, loss_of: Loss, course: Course, effort: Effort, on_epoch: OnEpoch
) -> None:
    """Train a network in place on stored inputs.

    Raises: TrainingFailed if the loss is no longer a number.
    """
    device = inputs.device
    order, augmentation = seeded(effort.seed), seeded(effort.seed + 1)
    optimizer = Descent(network.parameters(), rate=course.rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    kept = zeros_kept(network)
    prefer_layout(network)
    for epoch in range(course.epochs):
        network.train()
        if course.falling:
            optimizer.rate = course.rate * (1 + math.cos(math.pi * epoch / course.epochs)) / 2
        total_loss = torch.zeros((), device=device)
        for batch in shuffled_batches(inputs.shape[0], effort.batch_size, order):
            rows = batch.to(device)
            drawn = draw_augmentation(len(rows), augmentation, flip=effort.flip, crop_padding=effort.crop_padding)
            seen = lay_out(network_input(augment(inputs[rows], drawn)))
            with torch.autocast(device.type, torch.bfloat16, enabled=effort.half):
                logits = network(seen)
            loss = loss_of(rows, seen, logits.float())
            optimizer.clear_gradients()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
            optimizer.step()
            with torch.no_grad():
                for weights, mask in kept:
                    weights.mul_(mask)
            total_loss += loss.detach()
        if not math.isfinite(float(total_loss)):
            raise TrainingFailed(f"the attacker's loss is no longer a number after epoch {epoch + 1}")
        on_epoch(epoch + 1, course.epochs)


def zeros_kept(network: MarkedNetwork) -> list[tuple[Tensor, Tensor]]:
    """Give the weights that hold exact zeros, each with a mask of what is not zero."""
    weights = [weight for weight in network.parameters() if weight.dim() > 1 and bool((weight == 0).any())]
    return [(weight, weight != 0) for weight in weights]


def label_loss(data: LabelledSet) -> Loss:
    """Give the loss of a data set's own labels."""
    return lambda rows, _seen, logits: nn.functional.cross_entropy(logits, data.labels[rows])
