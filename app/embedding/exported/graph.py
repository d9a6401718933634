"""The graph of a program as a list of steps, checked: what comes in, what runs in which order, what comes out.

In-place operations are run as their pure counterparts, and the value they wrote to gets the result. That is the same
only while nobody else looks at the memory they wrote to, so it is refused where an input, a weight or a view that is still
needed shares it. The one write to a buffer that is taken is batch norm's: its running statistics, and its counter.

Invariants: every value has one name, defined before it is used, so there are no loops; one input, one output; texts of the
file are compared and looked up, never evaluated.
Source: torch/_export/serde/schema.py (Graph, GraphSignature, Node), schema 8.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from app.embedding.exported.archive import member_of
from app.embedding.exported.ops import Operation, Ref, bind_arguments, find_operation
from app.errors import Malformed, TooLarge

SCHEMA_MAJOR = 8
# densenet121 has 1,161, a vision transformer of 24 blocks about 800.
MAX_NODES = 20_000
MAX_NAME_CHARACTERS = 300
MAX_NESTING = 64

# Sizes that depend on the batch: printed sums and products of integers and symbols. They are only looked at.
# (Possessive throughout: a text that does not match must not take exponential time.)
EXPRESSION = re.compile(
    r"(?:Symbol\('[su][0-9]{1,6}'(?:, (?:positive|nonnegative|integer)=True)*+\)|[su][0-9]{1,6}+"
    r"|(?:Integer|Mul|Add|FloorDiv|Mod)\(|-?[0-9]{1,19}+|[ ,)*+-])++",
    re.ASCII,
)
BATCH = re.compile(r"Symbol\('[su][0-9]{1,6}'(?:, (?:positive|nonnegative|integer)=True)*\)|[su][0-9]{1,6}", re.ASCII)


@dataclass(frozen=True)
class Step:
    """One operation: its arguments hold `Ref`s; `outputs` are the names of its results."""

    node: str
    operation: Operation
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    outputs: tuple[str, ...]
    returns_list: bool
    # An in-place operation: the value that gets the result too.
    rewrites: str | None = None
    # Values that nobody needs after this step.
    drops: tuple[str, ...] = ()

    def refs(self) -> Iterator[str]:
        """Name the values this step reads."""
        yield from refs_in((self.arguments, tuple(self.keywords.values())))

    def may_share(self) -> Iterator[str]:
        """Name the values whose memory the results may share: the first argument's, of einsum all."""
        if self.operation.shares_memory or self.rewrites is not None:
            yield from refs_in(self.arguments if self.operation.name == "einsum.default" else self.arguments[:1])


@dataclass(frozen=True)
class Graph:
    """A checked program: steps, and where the values that are not computed come from."""

    input_name: str
    # Of one input, without the batch.
    input_shape: tuple[int, ...]
    output_name: str
    # Names in the graph to the tensors' own names, as state_dict has them.
    parameters: dict[str, str]
    buffers: dict[str, str]
    constants: dict[str, str]
    persistent: frozenset[str]
    steps: tuple[Step, ...] = field(default=())

    def __deepcopy__(self, memo: object) -> "Graph":
        """Stay one when a network is copied: nothing here changes."""
        return self

    @property
    def stored(self) -> dict[str, str]:
        """Name every stored tensor of the graph."""
        return {**self.parameters, **self.buffers, **self.constants}


def refs_in(value: Any) -> Iterator[str]:
    """Name the references in an argument, lists included."""
    if isinstance(value, Ref):
        yield value.name
    elif isinstance(value, list | tuple):
        for item in value:
            yield from refs_in(item)


def parse_graph(model: dict[str, Any]) -> Graph:
    """Check a program's JSON and give its steps.

    Raises: Malformed or TooLarge, saying what to change.
    """
    version = member_of(model, "schema_version", dict)
    if member_of(version, "major", int) != SCHEMA_MAJOR:
        raise Malformed(
            f"the program has schema {version['major']}: this service reads schema {SCHEMA_MAJOR}, of torch 2.13"
        )
    check_expressions(model)
    module = member_of(model, "graph_module", dict)
    graph, signature = member_of(module, "graph", dict), member_of(module, "signature", dict)
    for kind in ("custom_obj_values", "sym_float_values"):
        if graph.get(kind):
            raise Malformed(f"the program has {kind}, which are not taken")
    header = _parse_signature(graph, signature)
    nodes = member_of(graph, "nodes", list)
    if len(nodes) > MAX_NODES:
        raise TooLarge(f"a program may have {MAX_NODES} nodes, not {len(nodes)}")
    steps = [step for step in map(_parse_node, nodes) if step is not None]
    uses = Counter(name for step in steps for name in step.refs())
    steps = [step for step in steps if not _is_batch_counter(step, header, uses)]
    _check_order(header, steps)
    _check_buffers(header, steps)
    _check_rewrites(header, steps)
    return replace(header, steps=tuple(_with_drops(header, steps)))


def check_expressions(model: dict[str, Any]) -> None:
    """Refuse every size that is more than integers and symbols; torch's loader would evaluate it.

    Raises: Malformed.
    """
    pending: list[tuple[Any, int]] = [(model, 0)]
    while pending:
        value, depth = pending.pop()
        if depth > MAX_NESTING:
            raise Malformed("the program's JSON is nested too deeply")
        if isinstance(value, list):
            pending += [(item, depth + 1) for item in value]
        elif isinstance(value, dict):
            if "expr_str" in value:
                text = member_of(value, "expr_str", str)
                if len(text) > MAX_NAME_CHARACTERS or not EXPRESSION.fullmatch(text):
                    raise Malformed(f"the size {text[:100]!r} is not made of integers and symbols")
            pending += [(item, depth + 1) for item in value.values()]


def _parse_signature(graph: dict[str, Any], signature: dict[str, Any]) -> Graph:
    names = [_name(member_of(member_of(item, "as_tensor", dict), "name", str)) for item in _items(graph, "inputs")]
    specs = _items(signature, "input_specs")
    if len(names) != len(specs) or len(set(names)) != len(names):
        raise Malformed("the program's inputs are not those of its signature")
    parameters: dict[str, str] = {}
    buffers: dict[str, str] = {}
    constants: dict[str, str] = {}
    persistent: set[str] = set()
    inputs: list[str] = []
    for name, spec in zip(names, specs, strict=True):
        kind, value = _one_kind(spec)
        if kind == "parameter":
            parameters[name] = _name(member_of(value, "parameter_name", str))
        elif kind == "buffer":
            buffers[name] = _name(member_of(value, "buffer_name", str))
            persistent |= {buffers[name]} if member_of(value, "persistent", bool) else set()
        elif kind == "tensor_constant":
            constants[name] = _name(member_of(value, "tensor_constant_name", str))
        elif kind == "user_input":
            inputs.append(name)
        else:
            raise Malformed(f"the program has an input of the kind {kind[:50]!r}: only tensors are taken")
    if len(inputs) != 1:
        raise Malformed(f"the program takes {len(inputs)} inputs: export a network of one")
    stored = [*parameters.values(), *buffers.values(), *constants.values()]
    if len(set(stored)) != len(stored):
        raise Malformed("the program names a tensor twice")
    return Graph(
        input_name=inputs[0],
        input_shape=_input_shape(graph, inputs[0]),
        output_name=_output_name(graph, signature),
        parameters=parameters,
        buffers=buffers,
        constants=constants,
        persistent=frozenset(persistent),
    )


def _input_shape(graph: dict[str, Any], name: str) -> tuple[int, ...]:
    sizes = _items(member_of(member_of(graph, "tensor_values", dict), name, dict), "sizes")
    if not sizes or not isinstance(sizes[0], dict) or "as_expr" not in sizes[0]:
        raise Malformed(
            "the program has a fixed batch size: export it with a dynamic batch dimension, "
            'dynamic_shapes=({0: torch.export.Dim("batch")},)'
        )
    if not BATCH.fullmatch(member_of(sizes[0]["as_expr"], "expr_str", str)):
        raise Malformed("the batch dimension must be a plain symbol: export it with torch.export.Dim")
    if any(not isinstance(size, dict) or "as_int" not in size for size in sizes[1:]):
        raise Malformed("only the batch dimension may be dynamic")
    return tuple(member_of(size, "as_int", int) for size in sizes[1:])


def _output_name(graph: dict[str, Any], signature: dict[str, Any]) -> str:
    outputs, specs = _items(graph, "outputs"), _items(signature, "output_specs")
    kinds = [_one_kind(spec)[0] for spec in specs]
    if kinds != ["user_output"] or len(outputs) != 1:
        raise Malformed(
            f"the program gives {', '.join(map(str, kinds))[:200] or 'nothing'}: export a network that returns one tensor "
            "of logits and changes nothing, in eval mode and without decompositions"
        )
    return _name(member_of(member_of(outputs[0], "as_tensor", dict), "name", str))


def _one_kind(spec: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(spec, dict) or len(spec) != 1:
        raise Malformed("an entry of the program's signature has exactly one kind")
    (kind, value), *_ = spec.items()
    return kind, value if isinstance(value, dict) else {}


def _items(value: Any, key: str) -> list[Any]:
    items: list[Any] = member_of(value, key, list)
    if len(items) > MAX_NODES:
        raise TooLarge(f"{key!r} may have {MAX_NODES} items")
    return items


def _name(name: str) -> str:
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS:
        raise Malformed(f"a name has 1 to {MAX_NAME_CHARACTERS} characters")
    return name


def _parse_node(node: Any) -> Step | None:
    operation = find_operation(member_of(node, "target", str))
    if operation.is_assertion:
        return None
    arguments, keywords = bind_arguments(operation, _items(node, "inputs"))
    outputs, returns_list = _outputs(_items(node, "outputs"))
    rewrites = arguments[0].name if operation.is_in_place and isinstance(arguments[0], Ref) else None
    if operation.is_in_place and rewrites is None:
        raise Malformed(f"{operation.name} has nothing to write to")
    return Step(outputs[0], operation, arguments, keywords, outputs, returns_list, rewrites)


def _outputs(outputs: list[Any]) -> tuple[tuple[str, ...], bool]:
    names: list[str] = []
    returns_list = len(outputs) > 1
    for output in outputs:
        kind, value = next(iter(output.items())) if isinstance(output, dict) and len(output) == 1 else ("", None)
        if kind == "as_tensor":
            names.append(_name(member_of(value, "name", str)))
        elif kind in ("as_sym_int", "as_sym_bool"):
            names.append(_name(member_of(value, "as_name", str)))
        elif kind == "as_tensors" and len(outputs) == 1 and isinstance(value, list):
            names += [_name(member_of(item, "name", str)) for item in value]
            returns_list = True
        else:
            raise Malformed(f"a result of the kind {kind[:50]!r} is not taken")
    if not names:
        raise Malformed("an operation without a result is not taken")
    return tuple(names), returns_list


def _is_batch_counter(step: Step, graph: Graph, uses: Counter[str]) -> bool:
    """Say whether a step is batch norm counting its batches: nobody reads the count, so the step is left out."""
    if step.rewrites is None or (step.operation.name, step.arguments[1:]) != ("add.Tensor", (1,)):
        return False
    is_counter = graph.buffers.get(step.rewrites, "").endswith("num_batches_tracked")
    return is_counter and uses[step.rewrites] == 1 and uses[step.node] == 0


def _check_order(graph: Graph, steps: list[Step]) -> None:
    known = {graph.input_name, *graph.stored}
    for step in steps:
        for name in step.refs():
            if name not in known:
                raise Malformed(f"the node {step.node[:100]!r} needs {name[:100]!r}, which is not computed before it")
        for name in step.outputs:
            if name in known:
                raise Malformed(f"the program computes {name[:100]!r} twice")
            known.add(name)
    if graph.output_name not in {name for step in steps for name in step.outputs}:
        raise Malformed("the program's output is not computed by it")


def _check_buffers(graph: Graph, steps: list[Step]) -> None:
    """Refuse batch norm with statistics that are no buffers: in training it writes to them."""
    for step in steps:
        if step.operation.name in ("batch_norm.default", "instance_norm.default"):
            for argument in step.arguments[3:5]:
                if argument is not None and not (isinstance(argument, Ref) and argument.name in graph.buffers):
                    raise Malformed(f"the statistics of {step.node[:100]!r} are not buffers of the network")
        if step.operation.name == "instance_norm.default" and step.arguments[3:5] != (None, None):
            raise Malformed("instance norm with running statistics is not taken: set track_running_stats=False")


def _check_rewrites(graph: Graph, steps: list[Step]) -> None:
    """Refuse an in-place operation whose effect somebody else would see (see the module's text)."""
    last_use = {name: index for index, step in enumerate(steps) for name in step.refs()}
    last_use[graph.output_name] = len(steps)
    lasting = {graph.input_name, *graph.stored}
    group = {name: {name} for name in lasting}  # values that share memory share one set
    for index, step in enumerate(steps):
        if step.rewrites is not None:
            for name in group[step.rewrites]:
                if name in lasting or (name != step.rewrites and last_use.get(name, -1) > index):
                    raise Malformed(
                        f"the node {step.node[:100]!r} writes in place into an input, a weight or a value that is "
                        "used again: use the operation that does not"
                    )
        together: set[str] = set()
        for name in (*step.outputs, *step.may_share()):  # results of one list may be parts of one tensor
            together = _join(group, together, group.setdefault(name, {name}))


def _join(group: dict[str, set[str]], one: set[str], other: set[str]) -> set[str]:
    if one is other:
        return one
    small, large = sorted((one, other), key=len)
    large |= small
    group.update((name, large) for name in small)
    return large


def _with_drops(graph: Graph, steps: list[Step]) -> Iterator[Step]:
    last_use = {name: index for index, step in enumerate(steps) for name in (*step.refs(), *step.outputs)}
    last_use[graph.output_name] = len(steps)
    dropped: dict[int, list[str]] = {}
    for name, index in last_use.items():
        dropped.setdefault(index, []).append(name)
    for index, step in enumerate(steps):
        yield replace(step, drops=tuple(dropped.get(index, ())))
