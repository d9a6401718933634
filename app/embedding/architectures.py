"""Our own networks, small enough to read: each builds from the shape it sees and the number of classes.

Invariants: inputs (N, *shape) float32, logits (N, K); every operation has a deterministic gradient on CUDA.
Source: He et al. 2016 (residual blocks); Zagoruyko and Komodakis 2016 (wide residual networks); Simonyan and Zisserman 2015
(VGG); Howard et al. 2017 (depthwise separable convolutions); Adi et al. 2018 section 5.1 (ResNet-18 for 32x32).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


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


def _wide_resnet(shape: tuple[int, ...], classes: int) -> nn.Module:
    return _resnet(shape, classes, (64, 128, 256), blocks=2)


def _vgg_small(shape: tuple[int, ...], classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    channels, height, width = shape
    for filters in (64, 128, 256):
        for _ in range(2):
            layers += [nn.Conv2d(channels, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]
            channels = filters
        if min(height, width) > 1:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    return nn.Sequential(*layers, SpatialMean(), nn.Linear(channels, 256), nn.ReLU(), nn.Linear(256, classes))


def _mobile_small(shape: tuple[int, ...], classes: int) -> nn.Module:
    width_in = 32
    layers: list[nn.Module] = [
        nn.Conv2d(shape[0], width_in, 3, padding=1, bias=False),
        nn.BatchNorm2d(width_in),
        nn.ReLU(),
    ]
    for width_out, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
        each = nn.Conv2d(width_in, width_in, 3, stride, 1, groups=width_in, bias=False)
        across = nn.Conv2d(width_in, width_out, 1, bias=False)
        layers += [each, nn.BatchNorm2d(width_in), nn.ReLU(), across, nn.BatchNorm2d(width_out), nn.ReLU()]
        width_in = width_out
    return nn.Sequential(*layers, SpatialMean(), nn.Linear(width_in, classes))


BUILDERS: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {
    "mlp": _mlp,
    "small_cnn": _small_cnn,
    "resnet_small": _resnet_small,
    "resnet_medium": _resnet_medium,
    "resnet18": _resnet18,
    "wide_resnet": _wide_resnet,
    "vgg_small": _vgg_small,
    "mobile_small": _mobile_small,
}
