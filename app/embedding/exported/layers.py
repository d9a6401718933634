"""How the operations of a program run: as layers where they are some, as functions with the network's mode elsewhere.

Invariants: a layer computes what the operation computes; batch norm and dropout follow train() and eval(), whatever mode the
program was exported in; results do not depend on CUDA's order of additions where another form avoids it.
Source: torch.nn.functional (adaptive_avg_pool2d as mean or avg_pool2d where sizes divide).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from app.embedding.exported.graph import Graph, Step
from app.embedding.exported.ops import TRAINING_ARGUMENT, Operation, Ref


@dataclass(frozen=True)
class Layer:
    """A step that a module of the tree runs, and the value it takes."""

    path: str
    input_name: str


class AnyBatchNorm(nn.BatchNorm2d):
    """Batch normalisation of inputs with any number of dimensions (the graph does not say how many)."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  # torch's name
        """Take them all: shapes are checked when the graph runs on shapes alone."""


def adopt_layers(body: nn.Module, graph: Graph) -> dict[str, Layer]:
    """Replace plain owners of tensors by the layers they are, and say which steps they run.

    A step becomes a layer if its tensors are all of its owner's and nothing else is there; an owner that another step used
    before becomes one for that step only.
    """
    layers: dict[str, Layer] = {}
    taken: set[str] = set()
    for step in graph.steps:
        first = step.arguments[0] if step.arguments else None
        path = _owner_path(step, graph)
        if not path or path in taken or not isinstance(first, Ref):
            continue
        owner = body.get_submodule(path)
        layer = _as_layer(step, graph, path, owner)
        if layer is None:
            continue
        for name, parameter in owner.named_parameters(recurse=False):
            layer.register_parameter(name, parameter)
        for name, buffer in owner.named_buffers(recurse=False):
            layer.register_buffer(name, buffer)
        above, _, name = path.rpartition(".")
        setattr(body.get_submodule(above), name, layer)
        taken.add(path)
        layers[step.node] = Layer(path, first.name)
    return layers


# Where an operation has its tensors, after the input.
TENSORS = {
    "linear.default": ("weight", "bias"),
    "conv2d.default": ("weight", "bias"),
    "batch_norm.default": ("weight", "bias", "running_mean", "running_var"),
}


def _owner_path(step: Step, graph: Graph) -> str:
    """Give the one owner of all tensors of a step, or nothing."""
    expected = TENSORS.get(step.operation.name, ())
    owners = set()
    for name, argument in zip(expected, step.arguments[1:], strict=False):
        if argument is None:
            continue
        stored = graph.stored.get(argument.name, "") if isinstance(argument, Ref) else ""
        owner, _, attribute = stored.rpartition(".")
        owners.add(owner if attribute == name else "")
    return owners.pop() if len(owners) == 1 else ""


def _as_layer(step: Step, graph: Graph, path: str, owner: nn.Module) -> nn.Module | None:
    expected = zip(TENSORS[step.operation.name], step.arguments[1:], strict=False)
    names = {name for name, argument in expected if isinstance(argument, Ref)}
    parameters = {name for name, _ in owner.named_parameters(recurse=False)}
    buffers = {name for name, _ in owner.named_buffers(recurse=False)}
    persistent = all(f"{path}.{name}" in graph.persistent for name in buffers)
    if parameters != names & {"weight", "bias"} or buffers - {"num_batches_tracked"} != names - parameters:
        return None
    if list(owner.children()) or not persistent:
        return None
    match step.operation.name:
        case "linear.default":
            return _linear(owner)
        case "conv2d.default":
            return _convolution(owner, step)
        case _:
            return _batch_norm(owner, step)


def _linear(owner: nn.Module) -> nn.Module | None:
    weight = owner.weight
    if not isinstance(weight, nn.Parameter) or weight.dim() != 2:
        return None
    return nn.Linear(weight.shape[1], weight.shape[0], bias=hasattr(owner, "bias"), device="meta")


def _convolution(owner: nn.Module, step: Step) -> nn.Module | None:
    weight = owner.weight
    stride, padding, dilation, groups = step.arguments[3:7]
    sizes = [[value] if type(value) is int else value for value in (stride, padding, dilation)]
    pairs = [tuple(value) * (2 // len(value)) for value in sizes if _is_sizes(value)]
    if not isinstance(weight, nn.Parameter) or weight.dim() != 4 or len(pairs) != 3 or not isinstance(groups, int):
        return None
    if groups < 1 or weight.shape[0] % groups:
        return None
    return nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        (weight.shape[2], weight.shape[3]),
        stride=pairs[0],
        padding=pairs[1],
        dilation=pairs[2],
        groups=groups,
        bias=hasattr(owner, "bias"),
        device="meta",
    )


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) in (1, 2) and all(type(size) is int for size in value)


def _batch_norm(owner: nn.Module, step: Step) -> nn.Module | None:
    momentum, eps = step.arguments[6:8]
    mean, variance = getattr(owner, "running_mean", None), getattr(owner, "running_var", None)
    if not isinstance(mean, Tensor) or not isinstance(variance, Tensor) or mean.dim() != 1:
        return None
    if hasattr(owner, "weight") != hasattr(owner, "bias") or not isinstance(momentum, float):
        return None
    layer = AnyBatchNorm(mean.shape[0], eps=eps, momentum=momentum, affine=hasattr(owner, "weight"), device="meta")
    if not hasattr(owner, "num_batches_tracked"):
        layer.register_buffer("num_batches_tracked", None)
    return layer


def run_functional(operation: Operation, arguments: list[Any], keywords: dict[str, Any], *, training: bool) -> Any:
    """Run one operation on values."""
    name = operation.name
    if name in TRAINING_ARGUMENT:
        position = [argument.name for argument in operation.schema.arguments].index(TRAINING_ARGUMENT[name])
        without_statistics = name == "batch_norm.default" and arguments[3] is None
        arguments[position] = training or without_statistics
    elif name == "scaled_dot_product_attention.default" and not training:
        arguments[4] = 0.0
    elif name == "adaptive_avg_pool2d.default":
        return _adaptive_average(*arguments)
    return operation.call(*arguments, **keywords)


def _adaptive_average(values: Tensor, size: list[int]) -> Tensor:
    """Average (…, C, H, W) over an even grid; where it is even, in a form whose gradient CUDA adds up in order."""
    height, width = values.shape[-2:]
    if list(size) == [1, 1]:
        return values.mean(dim=(-2, -1), keepdim=True)
    if len(size) == 2 and all(type(part) is int and part > 0 for part in size):
        rows, columns = size
        if height % rows == 0 and width % columns == 0:
            return torch.nn.functional.avg_pool2d(values, (height // rows, width // columns))
    return torch.ops.aten.adaptive_avg_pool2d.default(values, size)  # type: ignore[no-any-return]  # torch's operations are Any
