"""Which operations a program may use, and how their arguments are read.

Listed are pure functions of tensors that image and tensor classifiers are made of. Not listed, so refused: whatever draws
random numbers (dropout excepted, which follows the mode), writes into its arguments (`relu_` and its like are run as `relu`,
app.embedding.exported.graph says when that is the same), reads values back, runs a graph inside the graph, or is not torch's.

Invariants: a name is looked up in the list before torch is asked for it; arguments are numbers, short words, element types
and references to earlier values, never expressions; sizes are checked where the values are known (`program`).
Source: torch/_export/serde/schema.py (Argument), schema 8.
"""

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from app.embedding.exported.archive import DTYPES, STRIDED, member_of
from app.errors import Malformed

LAYERS = """
    conv1d.default conv1d.padding conv2d.default conv2d.padding conv3d.default conv_transpose2d.input linear.default
    batch_norm.default layer_norm.default group_norm.default instance_norm.default rms_norm.default embedding.default
    scaled_dot_product_attention.default dropout.default feature_dropout.default alpha_dropout.default
    max_pool1d.default max_pool2d.default max_pool3d.default avg_pool1d.default avg_pool2d.default avg_pool3d.default
    adaptive_avg_pool1d.default adaptive_avg_pool2d.default adaptive_max_pool2d.default
    upsample_nearest2d.vec upsample_bilinear2d.vec upsample_bicubic2d.vec
    _upsample_bilinear2d_aa.vec _upsample_bicubic2d_aa.vec
"""
ACTIVATIONS = """
    relu.default relu6.default leaky_relu.default prelu.default elu.default selu.default celu.default gelu.default
    silu.default mish.default hardtanh.default hardswish.default hardsigmoid.default sigmoid.default tanh.default
    softplus.default log_sigmoid.default softmax.int log_softmax.int glu.default hardshrink.default softshrink.default
"""
ARITHMETIC = """
    add.Tensor add.Scalar sub.Tensor sub.Scalar rsub.Tensor rsub.Scalar mul.Tensor mul.Scalar div.Tensor div.Scalar
    div.Tensor_mode div.Scalar_mode floor_divide.default remainder.Scalar
    addcmul.default addcdiv.default lerp.Scalar lerp.Tensor
    pow.Tensor_Scalar pow.Scalar pow.Tensor_Tensor square.default sqrt.default rsqrt.default reciprocal.default
    exp.default expm1.default log.default log1p.default sin.default cos.default erf.default abs.default neg.default
    sign.default floor.default ceil.default round.default clamp.default clamp_min.default clamp_max.default
    minimum.default maximum.default matmul.default mm.default bmm.default addmm.default baddbmm.default einsum.default
    eq.Scalar eq.Tensor ne.Scalar ne.Tensor lt.Scalar lt.Tensor le.Scalar le.Tensor gt.Scalar gt.Tensor ge.Scalar ge.Tensor
    logical_and.default logical_or.default logical_not.default bitwise_not.default bitwise_and.Tensor bitwise_or.Tensor
    where.self where.ScalarOther where.ScalarSelf masked_fill.Scalar masked_fill.Tensor
    mean.default mean.dim sum.default sum.dim_IntList prod.dim_int amax.default amin.default max.dim min.dim
    var.dim var.correction std.dim std.correction var_mean.correction linalg_vector_norm.default norm.ScalarOpt_dim
    cumsum.default argmax.default
"""
SHAPES = """
    view.default reshape.default reshape_as.default view_as.default flatten.using_ints unflatten.int permute.default
    transpose.int t.default squeeze.dim squeeze.dims squeeze.default unsqueeze.default expand.default expand_as.default
    repeat.default tile.default repeat_interleave.self_int cat.default stack.default chunk.default split.Tensor
    split_with_sizes.default tensor_split.sections unbind.int select.int slice.Tensor narrow.default index.Tensor
    index_select.default gather.default roll.default flip.default pad.default constant_pad_nd.default movedim.int
    movedim.intlist pixel_shuffle.default pixel_unshuffle.default channel_shuffle.default unfold.default
    contiguous.default clone.default to.dtype to.device to.dtype_layout type_as.default
    detach.default alias.default lift_fresh_copy.default tril.default triu.default
    arange.default arange.start arange.start_step linspace.default zeros.default ones.default full.default
    zeros_like.default ones_like.default full_like.default new_zeros.default new_ones.default new_full.default
    scalar_tensor.default sym_size.int
"""
ALLOWED = frozenset((LAYERS + ACTIVATIONS + ARITHMETIC + SHAPES).split())

# Checks that the exporter adds for the batch dimension; they compute nothing, and we look at the shapes ourselves.
ASSERTIONS = frozenset(("_assert_tensor_metadata.default", "_assert_scalar.default"))

# Sizes are Python integers; this is all that is done with them.
INTEGERS: dict[str, Callable[..., Any]] = {
    f"_operator.{call.__name__}": call
    for call in (
        *(operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg),
        *(operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge),
    )
}

# Whether dropout drops and batch norm learns is the network's mode, not what it was at the export.
TRAINING_ARGUMENT = {
    "batch_norm.default": "training",
    "dropout.default": "train",
    "feature_dropout.default": "train",
    "alpha_dropout.default": "train",
}

# Results that may share memory with an argument though torch's schema does not say so.
SILENT_VIEWS = """
    dropout.default feature_dropout.default alpha_dropout.default type_as.default einsum.default pad.default tile.default
    repeat_interleave.self_int pixel_shuffle.default pixel_unshuffle.default channel_shuffle.default squeeze.default
"""
SHARES_MEMORY = frozenset(SILENT_VIEWS.split())

# Made from nothing: they follow the input's device.
FACTORIES = frozenset(
    name
    for name in SHAPES.split()
    if name.split(".")[0] in ("arange", "linspace", "zeros", "ones", "full", "scalar_tensor")
)

# Lists of sizes have a handful of items, densenet201 joins 34 tensors.
MAX_ITEMS = 4_096
INT64 = range(-(2**63), 2**63)
WORD = re.compile(r"[A-Za-z0-9_,.> -]{0,100}", re.ASCII)
INFINITIES = {"Infinity": math.inf, "-Infinity": -math.inf}

MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}


@dataclass(frozen=True)
class Ref:
    """A value of the graph, by name."""

    name: str


@dataclass(frozen=True)
class InputDevice:
    """Wherever the input is: a program says `cpu` because it was exported there."""


@dataclass(frozen=True)
class Operation:
    """One allowed operation: what runs, with torch's description of its arguments (none for integers)."""

    name: str
    call: Callable[..., Any]
    schema: Any
    is_in_place: bool = False
    is_assertion: bool = False

    @property
    def shares_memory(self) -> bool:
        """Say whether a result may be a view of an argument."""
        if self.schema is None:
            return False
        return self.name in SHARES_MEMORY or any(result.alias_info is not None for result in self.schema.returns)


def find_operation(target: str) -> Operation:
    """Look up an operation by the name that programs use.

    Raises: Malformed if it is not on the list.
    """
    if target in INTEGERS:
        return Operation(target, partial(_on_integers, INTEGERS[target]), None)
    prefix, _, name = target.partition("torch.ops.aten.")
    if prefix == "" and name in ASSERTIONS:
        return Operation(name, _nothing, None, is_assertion=True)
    packet, _, overload = name.partition(".")
    is_in_place = packet.endswith("_") and name not in ALLOWED
    pure = f"{packet.removesuffix('_')}.{overload}" if is_in_place else name
    if prefix or pure not in ALLOWED:
        raise Malformed(
            f"the operation {target[:200]!r} is not on the list of docs/networks.md: export the network in eval mode, "
            "without decompositions, and without operations of its own"
        )
    try:
        call, named = (getattr(getattr(torch.ops.aten, one.partition(".")[0]), overload) for one in (pure, name))
    except AttributeError as error:
        raise Malformed(f"torch has no operation {target[:200]!r}") from error
    return Operation(pure, call, named._schema, is_in_place=is_in_place)  # noqa: SLF001  # torch has no other way to ask


def _on_integers(call: Callable[..., Any], *values: Any) -> Any:
    """Calculate with sizes. A word or a list times a number would be as long as the file likes, unseen by any check."""
    if not all(isinstance(value, int) for value in values):
        raise Malformed("only integers are calculated with outside tensors")
    return call(*values)


def _nothing(*_: Any) -> None:
    """Stand for an assertion."""


def bind_arguments(operation: Operation, inputs: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Read a node's arguments in the order of the operation, with torch's defaults for the rest.

    Raises: Malformed.
    """
    if len(inputs) > 64:
        raise Malformed(f"{operation.name} has {len(inputs)} arguments")
    given: dict[str, Any] = {}
    for item in inputs:
        name = member_of(item, "name", str)
        if name in given:
            raise Malformed(f"{operation.name} has the argument {name!r} twice")
        given[name] = read_argument(member_of(item, "arg", dict))
    if operation.schema is None:
        return tuple(given.values()), {}
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for argument in operation.schema.arguments:
        if argument.name not in given and not argument.has_default_value():
            raise Malformed(f"{operation.name} lacks its argument {argument.name!r}")
        value = given.pop(argument.name) if argument.name in given else argument.default_value
        if argument.name == "device" and operation.name in FACTORIES:
            value = InputDevice()
        if argument.kwarg_only:
            keywords[argument.name] = value
        else:
            positional.append(value)
    if given:
        raise Malformed(f"{operation.name} has no argument {min(given)!r}")
    return tuple(positional), keywords


def read_argument(argument: dict[str, Any]) -> Any:
    """Read one argument of a node: a plain value, a reference, or a list of them.

    Raises: Malformed on every other kind (graphs, objects, expressions, complex numbers).
    """
    if len(argument) != 1:
        raise Malformed("an argument has exactly one kind")
    (kind, value), *_ = argument.items()
    if kind not in READERS:
        raise Malformed(f"arguments of the kind {kind[:50]!r} are not taken")
    return READERS[kind](value)


def _none(_: Any) -> None:
    return None


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in INT64:
        raise Malformed("an integer argument needs 64 bits at most")
    return value


def _float(value: Any) -> float:
    if isinstance(value, str) and value in INFINITIES:
        return INFINITIES[value]
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
        raise Malformed("a number argument must be a finite number, or Infinity as a string")
    return float(value)


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Malformed("a flag must be true or false")
    return value


def _word(value: Any) -> str:
    if not isinstance(value, str) or not WORD.fullmatch(value):
        raise Malformed("a word argument has letters, digits and `_,.> -` only")
    return value


def _tensor(value: Any) -> Ref:
    return Ref(member_of(value, "name", str))


def _named_integer(value: Any) -> Ref | int:
    if isinstance(value, dict) and set(value) == {"as_name"}:
        return Ref(member_of(value, "as_name", str))
    return _integer(member_of(value, "as_int", int))


def _dtype(value: Any) -> torch.dtype:
    if isinstance(value, bool) or not isinstance(value, int) or value not in DTYPES:
        raise Malformed("an element type must be float32, uint8, int32, int64 or bool")
    return DTYPES[value]


def _memory_format(value: Any) -> torch.memory_format:
    if isinstance(value, bool) or not isinstance(value, int) or value not in MEMORY_FORMATS:
        raise Malformed("there is no such memory format")
    return MEMORY_FORMATS[value]


def _layout(value: Any) -> torch.layout:
    if value != STRIDED:
        raise Malformed("only strided tensors are taken")
    return torch.strided


def _device(_: Any) -> InputDevice:
    return InputDevice()


def _optional_tensor(value: Any) -> Ref | None:
    return None if isinstance(value, dict) and "as_none" in value else _tensor(member_of(value, "as_tensor", dict))


def _list_of(read: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def read_list(value: Any) -> list[Any]:
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            raise Malformed(f"a list argument has {MAX_ITEMS} items at most")
        return [read(item) for item in value]

    return read_list


READERS: dict[str, Callable[[Any], Any]] = {
    "as_none": _none,
    "as_int": _integer,
    "as_float": _float,
    "as_bool": _bool,
    "as_string": _word,
    "as_tensor": _tensor,
    "as_optional_tensor": _optional_tensor,
    "as_sym_int": _named_integer,
    "as_sym_bool": lambda value: Ref(member_of(value, "as_name", str)),
    "as_scalar_type": _dtype,
    "as_memory_format": _memory_format,
    "as_layout": _layout,
    "as_device": _device,
    "as_ints": _list_of(_integer),
    "as_floats": _list_of(_float),
    "as_bools": _list_of(_bool),
    "as_tensors": _list_of(_tensor),
    "as_optional_tensors": _list_of(_optional_tensor),
    "as_sym_ints": _list_of(_named_integer),
}
