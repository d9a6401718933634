"""The networks that can be trained, by name, and their weights as safetensors.

Ours (app.embedding.architectures), timm's as `timm:NAME` (app.embedding.timm_networks), and `exported`, a program that the
vendor brings (app.embedding.exported). Every network takes float32 in the registered shape, images as (N, C, H, W) in [0, 1]
and tensors as they are, and normalises inside (`normalise.mean`, `normalise.std` are part of the weights), so that whoever
serves the file needs no other knowledge of the preprocessing. Answers are logits (N, K).

The weights of a program are delivered under the program's own names and nothing else, so that its owner's code takes them as
they are; what stands in front of it is in the file's header.

Invariants: weights load only if every name, shape and dtype is the network's own and every value is finite; nothing
here unpickles. Initial weights depend on the seed alone, not on the device.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from app.canonical import Record, as_form, choice, integer, nullable, octets, sequence
from app.embedding.architectures import BUILDERS
from app.embedding.artifacts import digest_of_file, is_program, write_whole
from app.embedding.exported.program import load_program
from app.embedding.recipe import DEVIATIONS, EXPORTED, MEANS, MILLI, NETWORKS, TIMM, network_name
from app.embedding.timm_networks import build_timm
from app.errors import Malformed, TooLarge
from app.keys.statement import MAX_CLASSES, MIN_CLASSES
from app.keys.trigger_set import MAX_DIMENSION, MAX_RANK

# ResNet-152 has 230 MiB; nobody needs more than this for what we can build.
MAX_WEIGHTS_BYTES = 1024 * 1024 * 1024

METADATA_KEY = "trapstreet"


def model_shape(kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Give the shape a network sees: images turn from (H, W, C) to (C, H, W), tensors stay."""
    return (shape[2], shape[0], shape[1]) if kind == "image" else shape


class Normalise(nn.Module):
    """Subtract a mean and divide by a deviation, per channel or for all."""

    mean: Tensor
    std: Tensor

    def __init__(self, rank: int, mean_millis: tuple[int, ...], std_millis: tuple[int, ...]) -> None:
        """Spread the given values along the first of `rank` dimensions: one for each channel, one for all, or none."""
        super().__init__()
        shape = (max(1, len(mean_millis)),) + (1,) * (rank - 1)
        self.register_buffer("mean", torch.tensor(mean_millis or (0,), dtype=torch.float32).reshape(shape) / MILLI)
        self.register_buffer("std", torch.tensor(std_millis or (MILLI,), dtype=torch.float32).reshape(shape) / MILLI)

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise a batch."""
        return (inputs - self.mean) / self.std


@dataclass(frozen=True)
class Origin:
    """What a network of the name `exported` was made from: the program's SHA-256, and the recipe's normalisation."""

    sha256: bytes
    mean_millis: tuple[int, ...]
    std_millis: tuple[int, ...]


class MarkedNetwork(nn.Module):
    """A network with its normalisation in front: inputs (N, *shape) float32 to logits (N, K)."""

    def __init__(self, name: str, body: nn.Module, normalise: Normalise, program: Origin | None = None) -> None:
        """Keep the name under which `build` makes this network, or the program that it comes from."""
        super().__init__()
        self.name = name
        self.program = program
        self.normalise = normalise
        self.body = body

    def forward(self, inputs: Tensor) -> Tensor:
        """Answer a batch."""
        logits: Tensor = self.body(self.normalise(inputs))
        return logits


def build(
    name: str,
    shape: tuple[int, ...],
    classes: int,
    *,
    seed: int = 0,
    mean_millis: tuple[int, ...] = (),
    std_millis: tuple[int, ...] = (),
) -> MarkedNetwork:
    """Make a network with fresh weights for inputs of the shape it sees (`model_shape`).

    Raises: Malformed if there is no such network or it cannot take this shape; PolicyRefused if timm is asked for and is
    not installed.
    """
    if name == EXPORTED:
        raise Malformed("an exported program comes with its weights: use mode pretrained and give the .pt2 file")
    if name not in BUILDERS and not name.startswith(TIMM):
        raise Malformed(f"there is no network {name!r}; there are {', '.join(NETWORKS)}, {EXPORTED} and {TIMM}NAME")
    if name != "mlp" and len(shape) != 3:
        raise Malformed(f"{name} needs inputs of three dimensions (channels, height, width), not {len(shape)}")
    with torch.random.fork_rng(devices=[]):  # initial weights come from the CPU's generator on every device
        torch.manual_seed(seed)
        if name.startswith(TIMM):
            body = build_timm(name.removeprefix(TIMM), shape, classes)
        else:
            body = BUILDERS[name](shape, classes)
    return MarkedNetwork(name, body, Normalise(len(shape), mean_millis, std_millis))


def build_exported(
    program: Path,
    shape: tuple[int, ...],
    classes: int,
    *,
    mean_millis: tuple[int, ...] = (),
    std_millis: tuple[int, ...] = (),
) -> MarkedNetwork:
    """Make the network of an exported program, with the weights it comes with and a normalisation in front.

    Raises: Malformed, TooLarge or UnsupportedMedia, saying what to change.
    """
    body = load_program(program, shape, classes)
    origin = Origin(digest_of_file(program), mean_millis, std_millis)
    return MarkedNetwork(EXPORTED, body, Normalise(len(shape), mean_millis, std_millis), origin)


@dataclass(frozen=True)
class WeightsHeader(Record):
    """What a weights file says of itself, in its metadata: enough to build the network again."""

    NAME: ClassVar[str] = "weights"

    network: str = field(metadata=as_form(network_name()))
    shape: tuple[int, ...] = field(metadata=as_form(sequence(integer(1, MAX_DIMENSION), 1, MAX_RANK)))
    classes: int = field(metadata=as_form(integer(MIN_CLASSES, MAX_CLASSES)))
    # How many values the normalisation has: one for all channels, or one each.
    channels: int = field(metadata=as_form(choice(1, 3)))
    # `exported` only: the program that the weights belong to, and the normalisation, which is not among its weights.
    program: bytes | None = field(default=None, metadata=as_form(nullable(octets(32))))
    mean_millis: tuple[int, ...] = field(default=(), metadata=as_form(MEANS))
    std_millis: tuple[int, ...] = field(default=(), metadata=as_form(DEVIATIONS))

    def check(self, pointer: str) -> None:
        """Refuse a header whose parts do not fit each other."""
        if (self.network == EXPORTED) != (self.program is not None):
            raise Malformed(
                "a program goes with the network `exported`, and only with it", pointer=f"{pointer}/program"
            )
        if len(self.mean_millis) != len(self.std_millis) or (self.mean_millis and self.network != EXPORTED):
            raise Malformed("mean and std belong to `exported`, one each", pointer=f"{pointer}/mean_millis")


def weights_of(network: MarkedNetwork) -> nn.Module:
    """Give the part whose weights are delivered: all of it, or the program without what stands in front."""
    return network if network.program is None else network.body


def save_weights(network: MarkedNetwork, path: Path, shape: tuple[int, ...], classes: int) -> None:
    """Write the weights as safetensors, with the header that `load_network` needs."""
    header = WeightsHeader(network.name, shape, classes, network.normalise.mean.shape[0])
    if (origin := network.program) is not None:
        header = replace(header, program=origin.sha256, mean_millis=origin.mean_millis, std_millis=origin.std_millis)
    # Copies, because safetensors refuses tied weights; without channels-last strides, which it does not keep.
    weights = weights_of(network).state_dict()
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in weights.items()
    }
    write_whole(path, save(tensors, metadata={METADATA_KEY: header.encode().decode()}))


def read_header(path: Path) -> WeightsHeader:
    """Read what a weights file says of itself.

    Raises: Malformed if it is no safetensors file or lacks the header; TooLarge.
    """
    if path.stat().st_size > MAX_WEIGHTS_BYTES:
        raise TooLarge(f"weights may have {MAX_WEIGHTS_BYTES} bytes")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise Malformed(f"not a safetensors file: {error}") from error
    if METADATA_KEY not in metadata:
        raise Malformed(f"the weights' metadata must name network, shape and classes under {METADATA_KEY!r}")
    return WeightsHeader.parse(metadata[METADATA_KEY].encode())


def load_weights(network: MarkedNetwork, path: Path) -> None:
    """Fill a network from a safetensors file.

    Raises: Malformed unless names, shapes and dtypes are exactly the network's and all values are usable.
    """
    part = weights_of(network)
    expected = part.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            if strange := sorted(set(file.keys()) ^ set(expected)):
                raise Malformed(f"tensor names are not those of {network.name}: {strange[0]!r} is extra or missing")
            loaded = {name: _read_tensor(file, name, expected[name]) for name in expected}
    except SafetensorError as error:
        raise Malformed(f"not a safetensors file: {error}") from error
    part.load_state_dict(loaded)


def _read_tensor(file: Any, name: str, expected: Tensor) -> Tensor:
    shape = tuple(file.get_slice(name).get_shape())  # from the header, before any value is read
    if shape != tuple(expected.shape):
        raise Malformed(f"the tensor {name!r} has the shape {shape}, not {tuple(expected.shape)}")
    value: Tensor = file.get_tensor(name)
    if value.dtype != expected.dtype:
        raise Malformed(f"the tensor {name!r} is {value.dtype}, not {expected.dtype}")
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise Malformed(f"the tensor {name!r} holds values that are not finite")
    if name == "normalise.std" and bool((value <= 0).any()):
        raise Malformed("normalise.std must be positive")
    return value


def load_network(path: Path, program: Path | None = None) -> MarkedNetwork:
    """Build the network that a file of `save_weights` names, and fill it; an exported one needs its program again.

    Raises: Malformed, TooLarge or UnsupportedMedia; PolicyRefused if it is timm's and timm is not installed.
    """
    header = read_header(path)
    if header.program is not None:
        if program is None or digest_of_file(program) != header.program:
            raise Malformed(
                f"the weights {path.name} belong to the exported program with SHA-256 {header.program.hex()}: "
                f"give that file as the program; {'none' if program is None else 'another'} was given"
            )
        network = build_exported(
            program, header.shape, header.classes, mean_millis=header.mean_millis, std_millis=header.std_millis
        )
    else:
        unit = (MILLI,) * header.channels
        network = build(header.network, header.shape, header.classes, mean_millis=unit, std_millis=unit)
    load_weights(network, path)
    return network


def open_network(
    path: Path, shape: tuple[int, ...], classes: int, program: Path | None = None, beside: Sequence[Path] = ()
) -> MarkedNetwork:
    """Read a network from its weights, or from a program as it is; both take `shape`, a program also answers `classes`.

    A program does not say how its inputs are normalised: weights of it `beside` it do, otherwise they are not.
    Raises: Malformed, TooLarge or UnsupportedMedia; PolicyRefused if it is timm's and timm is not installed.
    """
    if is_program(path):
        mean_millis, std_millis = _normalisation_beside(path, beside)
        return build_exported(path, shape, classes, mean_millis=mean_millis, std_millis=std_millis)
    header = read_header(path)
    if header.shape != shape:
        raise Malformed(f"{path.name} takes inputs of {header.shape}; registered are {shape}")
    return load_network(path, program)


def _normalisation_beside(program: Path, beside: Sequence[Path]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    digest = digest_of_file(program)
    for path in beside:
        with suppress(Malformed):  # another program, or a head in a file of its own: neither has a header
            header = read_header(path)
            if header.program == digest:
                return header.mean_millis, header.std_millis
    return (), ()
