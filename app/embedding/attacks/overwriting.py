"""Ownership piracy: a thief trains a mark of its own into the stolen network.

The pirate draws as many random triggers as the owner has, and random labels, and mixes every one of them into every epoch of
fine-tuning all layers. Both marks are scored afterwards.

Source: Adi et al. 2018 section 5.3 (ownership piracy), table 2: the owner's mark stays, and the pirate's is the weaker one.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from app.embedding.attacks.descent import Course, Effort, OnEpoch, descend
from app.embedding.data import LabelledSet, seeded
from app.embedding.networks import MarkedNetwork

RATE = 0.01


def overwrite(
    network: MarkedNetwork, count: int, classes: int, data: LabelledSet, effort: Effort, on_epoch: OnEpoch
) -> tuple[MarkedNetwork, LabelledSet]:
    """Give the network with a pirate's mark of `count` triggers, and that mark.

    Raises: TrainingFailed if the loss is no longer a number.
    """
    mark = draw_mark(count, classes, data, effort.seed)
    network = deepcopy(network)
    # One set of rows in which the triggers stand once an epoch, or more often where they are few beside the data.
    copies = max(1, data.count // (20 * count))
    inputs = torch.cat([data.inputs, *([mark.inputs] * copies)])
    labels = torch.cat([data.labels, *([mark.labels] * copies)])

    def loss_of(rows: Tensor, _seen: Tensor, logits: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels[rows])

    descend(network, inputs, loss_of, Course(effort.epochs, RATE), effort, on_epoch)
    return network, mark


def draw_mark(count: int, classes: int, data: LabelledSet, seed: int) -> LabelledSet:
    """Draw triggers like the data in form and nothing else: independent values, independent labels."""
    generator = seeded(seed + 2)
    shape, device = (count, *data.inputs.shape[1:]), data.labels.device
    if data.inputs.dtype == torch.uint8:
        inputs = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    else:
        spread, middle = float(data.inputs.std()), float(data.inputs.mean())
        inputs = torch.randn(shape, generator=generator) * spread + middle
    labels = torch.randint(0, classes, (count,), generator=generator)
    return LabelledSet(inputs.to(device), labels.to(device))
