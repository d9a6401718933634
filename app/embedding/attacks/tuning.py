"""FTLL, FTAL, RTLL, RTAL: a thief trains the stolen network further on data of the task.

`ft` keeps the last layer, `rt` starts it at random; `ll` trains the last layer alone, `al` all layers.

Invariants: with `ll` every other layer stays as it is, batch-norm statistics included: its features are computed once, in
evaluation mode. (The paper's own script cleared the gradients only, and the statistics drifted.)
Source: Adi et al. 2018 section 5.3.
"""

from copy import deepcopy

import torch
from torch import nn

from app.embedding.attacks.descent import MOMENTUM, WEIGHT_DECAY, Course, Effort, OnEpoch, descend, label_loss
from app.embedding.attacks.heads import check_head, fresh_head, head_features, head_of, with_head
from app.embedding.data import LabelledSet, seeded, shuffled_batches
from app.embedding.networks import MarkedNetwork
from app.embedding.optimizer import Descent


def tune(
    network: MarkedNetwork, kind: str, rate: float, data: LabelledSet, effort: Effort, on_epoch: OnEpoch
) -> MarkedNetwork:
    """Give the tuned network; `kind` is ftll, ftal, rtll or rtal.

    Raises: TrainingFailed if the loss is no longer a number; PolicyRefused if a head is needed and there is none.
    """
    if kind.startswith("rt"):
        check_head(network, data.inputs)
        network = with_head(network, fresh_head(network, head_of(network).out_features, effort.seed))
    if kind.endswith("ll"):
        return _tune_head(network, rate, data, effort, on_epoch)
    network = deepcopy(network)
    descend(network, data.inputs, label_loss(data), Course(effort.epochs, rate), effort, on_epoch)
    return network


def _tune_head(
    network: MarkedNetwork, rate: float, data: LabelledSet, effort: Effort, on_epoch: OnEpoch
) -> MarkedNetwork:
    features = head_features(network, data.inputs)  # (N, D)
    head, order = deepcopy(head_of(network)), seeded(effort.seed)
    kept = head.weight.detach() != 0  # what was pruned stays pruned
    optimizer = Descent(head.parameters(), rate=rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    for epoch in range(effort.epochs):
        for batch in shuffled_batches(data.count, effort.batch_size, order):
            rows = batch.to(features.device)
            loss = nn.functional.cross_entropy(head(features[rows]), data.labels[rows])
            optimizer.clear_gradients()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            with torch.no_grad():
                head.weight.mul_(kept)
        on_epoch(epoch + 1, effort.epochs)
    return with_head(network, head)
