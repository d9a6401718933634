"""Batch norm with the statistics of the task rows alone, while triggers pass through the same layers.

Triggers in a batch shift its mean and variance; an endpoint, and a thief who fine-tunes, know those of the task. Inside
`clean_statistics` the first rows of every batch are the task's: they are normalised and counted as usual, the rest with
the mean and variance of these, as constants.

Source: Gan et al. 2023 (ICCV), section on clean-sample-based batch normalisation.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


@contextmanager
def clean_statistics(network: nn.Module, rows: int, *, counted: bool) -> Iterator[None]:
    """Normalise with the first `rows` of each batch; the running statistics follow them only if `counted`.

    Layers that are no modules of torch.nn (an exported program's) go on as they are.
    """
    layers = [module for module in network.modules() if isinstance(module, BatchNorm)]
    for layer in layers:
        layer.forward = _forward(layer, rows, counted=counted)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: BatchNorm, rows: int, *, counted: bool) -> Callable[[Tensor], Tensor]:
    def forward(inputs: Tensor) -> Tensor:
        task, triggers = inputs[:rows], inputs[rows:]
        dimensions = [0, *range(2, inputs.dim())]
        with torch.no_grad():
            variance, mean = torch.var_mean(task.float(), dimensions, unbiased=False)
        running = (layer.running_mean, layer.running_var) if counted else (None, None)
        momentum = 0.0 if layer.momentum is None else layer.momentum
        normal = batch_norm(task, *running, layer.weight, layer.bias, True, momentum, layer.eps)  # noqa: FBT003  # torch's order
        rest = batch_norm(triggers, mean, variance, layer.weight, layer.bias, False, 0.0, layer.eps)  # noqa: FBT003
        return torch.cat([normal, rest])

    return forward
