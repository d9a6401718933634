"""A network that its owner brings as an exported program (`.pt2`), run step by step from its checked graph.

No code is made from the file: a loop calls the listed operations (app.embedding.exported.ops) on named values. Layers whose
tensors are named like a layer's (`x.weight`, `x.bias`) stand in the tree as nn.Linear, nn.Conv2d and nn.BatchNorm2d, so
that whoever looks for a head, prunes, freezes or draws weights anew finds them as in any other network.

Invariants: names of parameters and buffers are the original ones; before any value is computed, the whole graph has run on
shapes alone and no value was larger than MAX_ROW_ELEMENTS a row; batch norm and dropout follow train() and eval().
Source: torch/_export/serde/schema.py, schema 8; docs/networks.md.
Trust: a program comes from anybody with an API key; this runs in child processes only, within their limits.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from app.embedding.exported.archive import Program, read_program
from app.embedding.exported.graph import Graph, Step, parse_graph
from app.embedding.exported.layers import Layer, adopt_layers, run_functional
from app.embedding.exported.ops import InputDevice, Ref
from app.errors import Malformed, TooLarge, TrapstreetError

# Of one input. VGG-16 at 224x224 has 3.2 million in its largest value and 15 million in all; a vision transformer of 24
# blocks at 384x384 has 5 million in its largest (the attention) and 500 million in all.
MAX_ROW_ELEMENTS = 2**24
MAX_ROW_TOTAL = 2**31
# Sizes that grow faster than the batch are found by a large one; 2 and 3 find sizes that do not follow it.
TRIED_BATCHES = (2, 3, 257)
MAX_RANK = 12
MAX_PIECES = 65_536
MAX_SIZE = 2**62

PIECES = frozenset(("chunk.default", "split.Tensor", "split_with_sizes.default", "tensor_split.sections", "unbind.int"))

COMPONENT = re.compile(r"[A-Za-z0-9_]{1,100}", re.ASCII)
MAX_DEPTH = 32

Watch = Callable[[Step, Any], None]


@dataclass(frozen=True)
class Source:
    """A value of the graph that is a stored tensor: its owner's path in the module tree, and its name there."""

    name: str
    owner: str
    attribute: str


class ExportedBody(nn.Module):
    """An exported network: (N, *shape) float32 to logits (N, K)."""

    def __init__(self, graph: Graph, program: Program) -> None:
        """Build the module tree that the tensors' names describe."""
        super().__init__()
        # Taken before any tensor is registered, so that none can be called like them.
        self._graph, self._layers, self._sources = graph, dict[str, Layer](), tuple[Source, ...]()
        _register_tensors(self, graph, program)
        self._layers = adopt_layers(self, graph)
        used = {name for step in graph.steps if step.node not in self._layers for name in step.refs()}
        self._sources = tuple(Source(name, *_split(graph.stored[name])) for name in graph.stored if name in used)

    def forward(self, inputs: Tensor, watch: Watch | None = None) -> Tensor:
        """Answer a batch; `watch` sees every step's results, and before those of operations that make many, its inputs."""
        values: dict[str, Any] = {self._graph.input_name: inputs}
        for source in self._sources:
            values[source.name] = getattr(self.get_submodule(source.owner), source.attribute)
        for step in self._graph.steps:
            result = self._run_step(step, values, inputs.device, watch)
            if watch is not None:
                watch(step, result)
                _check_rewrite(step, result, values)
            self._keep(step, result, values)
            for name in step.drops:
                values.pop(name, None)
        logits: Tensor = values[self._graph.output_name]
        return logits

    def _run_step(self, step: Step, values: dict[str, Any], device: torch.device, watch: Watch | None) -> Any:
        layer = self._layers.get(step.node)
        if layer is not None:
            return self.get_submodule(layer.path)(values[layer.input_name])
        arguments = _resolve(step.arguments, values, device)
        if watch is not None and step.operation.name in PIECES and max(arguments[0].shape, default=0) > MAX_PIECES:
            raise TooLarge(f"the node {step.node!r} cuts a tensor into over {MAX_PIECES} pieces")
        keywords = {name: _resolve(value, values, device) for name, value in step.keywords.items()}
        return run_functional(step.operation, arguments, keywords, training=self.training)

    @staticmethod
    def _keep(step: Step, result: Any, values: dict[str, Any]) -> None:
        results = tuple(result) if step.returns_list else (result,)
        if len(results) != len(step.outputs):
            raise Malformed(f"the node {step.node!r} gives {len(results)} results, not {len(step.outputs)}")
        values.update(zip(step.outputs, results, strict=True))
        if step.rewrites is not None:
            values[step.rewrites] = result


def _check_rewrite(step: Step, result: Any, values: dict[str, Any]) -> None:
    """Refuse an in-place operation that could not have been one: its result is of another shape or type."""
    before = values.get(step.rewrites) if step.rewrites is not None else None
    if before is not None and (before.shape, before.dtype) != (result.shape, result.dtype):
        raise Malformed(f"the node {step.node!r} writes {tuple(result.shape)} in place of {tuple(before.shape)}")


def load_program(path: Path, shape: tuple[int, ...], classes: int) -> ExportedBody:
    """Read an exported program as a network for inputs of `shape` (without the batch), with the weights it comes with.

    Raises: Malformed, TooLarge or UnsupportedMedia, saying what to change.
    """
    program = read_program(path)
    graph = parse_graph(program.graph)
    if graph.input_shape != shape:
        raise Malformed(f"the program takes inputs of the shape {graph.input_shape}; the registration has {shape}")
    body = ExportedBody(graph, program)
    check_shapes(body, shape, classes)
    _try_once(body, shape)
    return body


def check_shapes(body: ExportedBody, shape: tuple[int, ...], classes: int) -> None:
    """Run the graph on shapes alone, without memory for values, and refuse what is too large or no classifier.

    Raises: Malformed or TooLarge.
    """
    stored = {
        **dict(body.named_parameters()),
        **dict(body.named_buffers()),
    }  # tied tensors once; functional_call ties them
    on_meta = {name: torch.empty_like(value, device="meta") for name, value in stored.items()}
    for is_training, batch in ((True, 2), *((False, batch) for batch in TRIED_BATCHES)):
        body.train(is_training)
        inputs = torch.empty((batch, *shape), device="meta")
        with torch.no_grad(), _as_malformed("on shapes alone"):
            output = functional_call(body, on_meta, (inputs, _bounds(batch)))
        if not isinstance(output, Tensor) or output.shape != (batch, classes) or output.dtype != torch.float32:
            found = f"{output.dtype} {tuple(output.shape)}" if isinstance(output, Tensor) else "no tensor"
            raise Malformed(f"for {batch} inputs the program gives {found}, not float32 logits ({batch}, {classes})")


def _bounds(batch: int) -> Watch:
    total = 0

    def watch(step: Step, result: Any) -> None:
        nonlocal total
        for value in result if isinstance(result, list | tuple) else (result,):
            if isinstance(value, Tensor):
                total += value.numel()
                if value.numel() > batch * MAX_ROW_ELEMENTS or value.dim() > MAX_RANK or total > batch * MAX_ROW_TOTAL:
                    raise TooLarge(f"the node {step.node!r} makes a tensor of the shape {tuple(value.shape)}")
            elif isinstance(value, int) and abs(value) > MAX_SIZE:
                raise TooLarge(f"the node {step.node!r} makes a size of over {MAX_SIZE}")

    return watch


def _try_once(body: ExportedBody, shape: tuple[int, ...]) -> None:
    """Answer two inputs, so that what shapes do not show (an index out of range) is said here and not in training."""
    body.eval()
    with _as_malformed("on two inputs of zeros"):
        output = body(torch.zeros(2, *shape))
    if not output.requires_grad:
        raise Malformed("the program's answers depend on no trained weight: export it with requires_grad")
    if not bool(torch.isfinite(output).all()):
        raise Malformed("the program's answer to an input of zeros is not finite")


class _as_malformed:  # noqa: N801  # used as a statement, like contextlib.suppress
    """Turn whatever torch raises on a graph that does not fit together into Malformed."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """End; torch's kernels raise everything from ZeroDivisionError to AssertionError."""
        if isinstance(error, Exception) and not isinstance(error, TrapstreetError):
            raise Malformed(f"the program does not run {self.where}: {str(error)[:500]}") from error


def _resolve(value: Any, values: dict[str, Any], device: torch.device) -> Any:
    match value:
        case Ref():
            return values[value.name]
        case InputDevice():
            return device
        case list() | tuple():
            return [_resolve(item, values, device) for item in value]
        case _:
            return value


def _split(name: str) -> tuple[str, str]:
    owner, _, attribute = name.rpartition(".")
    return owner, attribute


def _register_tensors(body: nn.Module, graph: Graph, program: Program) -> None:
    """Put every tensor where its name says; equal tensors (tied weights) stay one parameter."""
    parameters: dict[int, nn.Parameter] = {}
    for name, tensor, is_buffer in _tensors(graph, program):
        owner, attribute = _owner(body, name)
        try:
            if is_buffer:
                owner.register_buffer(attribute, tensor, persistent=name in graph.persistent)
            else:
                trained = name in program.trained
                parameter = parameters.setdefault(id(tensor), nn.Parameter(tensor, requires_grad=trained))
                owner.register_parameter(attribute, parameter)
        except KeyError as error:  # torch's own rule: a tensor is not named like a method or a part
            raise Malformed(f"a tensor cannot be called {name!r}") from error


def _tensors(graph: Graph, program: Program) -> Iterator[tuple[str, Tensor, bool]]:
    weights = frozenset(graph.parameters.values())
    for name in graph.stored.values():
        is_parameter = name in weights
        is_weight = is_parameter or name in graph.persistent
        tensor = (program.weights if is_weight else program.constants).get(name)
        if tensor is None:
            raise Malformed(f"the program lacks the values of {name!r}")
        if is_parameter and tensor.dtype != torch.float32:
            raise Malformed(f"the weight {name!r} is {tensor.dtype}: export the network in float32")
        is_usable = not tensor.is_floating_point() or not bool(
            (~torch.isfinite(tensor)).any() if is_weight else torch.isnan(tensor).any()
        )
        if not is_usable:
            raise Malformed(f"the tensor {name!r} holds values that are not finite")
        yield name, tensor, not is_parameter


def _owner(body: nn.Module, name: str) -> tuple[nn.Module, str]:
    *path, attribute = name.split(".")
    if len(path) > MAX_DEPTH or not all(COMPONENT.fullmatch(part) for part in (*path, attribute)):
        raise Malformed(f"a tensor cannot be called {name!r}")
    owner = body
    for part in path:
        if part not in dict(owner.named_children()):
            try:
                owner.add_module(part, nn.Module())
            except KeyError as error:
                raise Malformed(f"a tensor cannot be called {name!r}") from error
        owner = owner.get_submodule(part)
    return owner, attribute
