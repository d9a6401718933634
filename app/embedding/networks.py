"""The networks we can train, and their weights as safetensors.

Every network takes float32 in the registered shape, images as (N, C, H, W) in [0, 1] and tensors as they are, and
normalises inside (`normalise.mean`, `normalise.std` are part of the weights), so that whoever serves the file needs no
other knowledge of the preprocessing. Answers are logits (N, K).

Invariants: weights load only if every name, shape and dtype is the network's own and every value is finite; nothing
here unpickles. Initial weights depend on the seed alone, not on the device.
Source: He et al. 2016 (residual blocks); Adi et al. 2018 section 5.1 (ResNet-18 for 32x32).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from app.canonical import Record, as_form, choice, integer, sequence
from app.embedding.artifacts import write_whole
from app.embedding.recipe import MILLI, NETWORKS
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


class MarkedNetwork(nn.Module):
    """A network with its normalisation in front: inputs (N, *shape) float32 to logits (N, K)."""

    def __init__(self, name: str, body: nn.Module, normalise: Normalise) -> None:
        """Keep the name under which `build` makes this network."""
        super().__init__()
        self.name = name
        self.normalise = normalise
        self.body = body

    def forward(self, inputs: Tensor) -> Tensor:
        """Answer a batch."""
        logits: Tensor = self.body(self.normalise(inputs))
        return logits


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        """Project the shortcut only where the shape changes."""
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width_out:
            projection = nn.Conv2d(width_in, width_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(width_out))

    def forward(self, x: Tensor) -> Tensor:
        """Add what the block learned to what came in."""
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class SpatialMean(nn.Module):
    """Average over height and width (its gradient is deterministic on CUDA, adaptive pooling's is not)."""

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into (N, C)."""
        return x.mean(dim=(2, 3))


def _mlp(shape: tuple[int, ...], classes: int) -> nn.Module:
    width = 512
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(shape), width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, classes),
    )


def _small_cnn(shape: tuple[int, ...], classes: int) -> nn.Module:
    channels, height, width = shape
    layers: list[nn.Module] = []
    for filters in (32, 64, 128):
        layers += [nn.Conv2d(channels, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]
        channels = filters
        if min(height, width) > 4:  # a 4x4 map still says where; 8x8 digits would be pooled away otherwise
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    features = channels * height * width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 256), nn.ReLU(), nn.Linear(256, classes))


def _resnet(shape: tuple[int, ...], classes: int, widths: tuple[int, ...], blocks: int) -> nn.Module:
    stem = nn.Conv2d(shape[0], widths[0], 3, padding=1, bias=False)
    layers: list[nn.Module] = [stem, nn.BatchNorm2d(widths[0]), nn.ReLU()]
    width_in = widths[0]
    for stage, width_out in enumerate(widths):
        for block in range(blocks):
            layers.append(ResidualBlock(width_in, width_out, 2 if stage and not block else 1))
            width_in = width_out
    return nn.Sequential(*layers, SpatialMean(), nn.Linear(width_in, classes))


def _resnet_small(shape: tuple[int, ...], classes: int) -> nn.Module:
    return _resnet(shape, classes, (16, 32, 64), blocks=1)


def _resnet_medium(shape: tuple[int, ...], classes: int) -> nn.Module:
    # Holds 512 triggers beside CIFAR-10 at the price of resnet_small, which does not: the stem halves the picture first.
    widths = (32, 64, 128)
    stem = nn.Conv2d(shape[0], 16, 3, 2, 1, bias=False)
    layers: list[nn.Module] = [stem, nn.BatchNorm2d(16), nn.ReLU()]
    layers += [ResidualBlock(width // 2, width, 1 if width == widths[0] else 2) for width in widths]
    return nn.Sequential(*layers, SpatialMean(), nn.Linear(widths[-1], classes))


def _resnet18(shape: tuple[int, ...], classes: int) -> nn.Module:
    return _resnet(shape, classes, (64, 128, 256, 512), blocks=2)


BUILDERS: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {
    "mlp": _mlp,
    "small_cnn": _small_cnn,
    "resnet_small": _resnet_small,
    "resnet_medium": _resnet_medium,
    "resnet18": _resnet18,
}


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

    Raises: Malformed if there is no such network or it cannot take this shape.
    """
    if name not in BUILDERS:
        raise Malformed(f"there is no network {name!r}; there are {', '.join(BUILDERS)}")
    if name != "mlp" and len(shape) != 3:
        raise Malformed(f"{name} needs inputs of three dimensions (channels, height, width), not {len(shape)}")
    with torch.random.fork_rng(devices=[]):  # initial weights come from the CPU's generator on every device
        torch.manual_seed(seed)
        body = BUILDERS[name](shape, classes)
    return MarkedNetwork(name, body, Normalise(len(shape), mean_millis, std_millis))


@dataclass(frozen=True)
class WeightsHeader(Record):
    """What a weights file says of itself, in its metadata: enough to build the network again."""

    NAME: ClassVar[str] = "weights"

    network: str = field(metadata=as_form(choice(*NETWORKS)))
    shape: tuple[int, ...] = field(metadata=as_form(sequence(integer(1, MAX_DIMENSION), 1, MAX_RANK)))
    classes: int = field(metadata=as_form(integer(MIN_CLASSES, MAX_CLASSES)))
    # How many values the normalisation has: one for all channels, or one each.
    channels: int = field(metadata=as_form(choice(1, 3)))


def save_weights(network: MarkedNetwork, path: Path, shape: tuple[int, ...], classes: int) -> None:
    """Write the weights as safetensors, with the header that `load_network` needs."""
    header = WeightsHeader(network.name, shape, classes, network.normalise.mean.shape[0])
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
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
    expected = network.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            if strange := sorted(set(file.keys()) ^ set(expected)):
                raise Malformed(f"tensor names are not those of {network.name}: {strange[0]!r} is extra or missing")
            loaded = {name: _read_tensor(file, name, expected[name]) for name in expected}
    except SafetensorError as error:
        raise Malformed(f"not a safetensors file: {error}") from error
    network.load_state_dict(loaded)


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


def load_network(path: Path) -> MarkedNetwork:
    """Build the network that a file of `save_weights` names, and fill it.

    Raises: Malformed or TooLarge.
    """
    header = read_header(path)
    unit = (MILLI,) * header.channels
    network = build(header.network, header.shape, header.classes, mean_millis=unit, std_millis=unit)
    load_weights(network, path)
    return network
