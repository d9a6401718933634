"""Small networks of every common kind, exported for real, and a way to edit what was exported."""

import json
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from app.embedding.exported.program import load_program

SHAPE = (1, 8, 8)
CLASSES = 3


class Residual(nn.Module):
    """In place wherever one can be, a frozen stem, a dropout, and batch norm under names of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.conv1, self.bn1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.drop = nn.Dropout(0.25)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = torch.relu_(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x
        y.relu_()
        return self.head(self.drop(self.pool(y).flatten(1)))


class Vgg(nn.Sequential):
    def __init__(self) -> None:
        conv = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        super().__init__(*conv, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, 16), nn.ReLU(), nn.Linear(16, 3))


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(1 + 4 * i) for i in range(3)])
        self.convs = nn.ModuleList([nn.Conv2d(1 + 4 * i, 4, 3, padding=1, bias=False) for i in range(3)])
        self.head = nn.Linear(13, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(torch.relu_(norm(x)))], 1)
        return self.head(nn.functional.adaptive_avg_pool2d(x, (1, 1)).view(x.shape[0], -1))


class ConvNext(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 2, stride=2)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm = nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 32), nn.Linear(32, 8)
        self.scale = nn.Parameter(torch.full((8, 1, 1), 0.5))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.down(nn.functional.gelu(self.up(y), approximate="tanh")).permute(0, 3, 1, 2)
        return self.head((x + self.scale * y).mean((-2, -1)))


class Mobile(nn.Module):
    """What MobileNet and EfficientNet add: squeeze and excitation, hard and smooth gates, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Hardswish(inplace=True),
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True),
        )  # fmt: skip
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.act, self.gate = nn.SiLU(inplace=True), nn.Hardsigmoid()
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.1, inplace=True), nn.Linear(8, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = x * self.gate(self.excite(self.act(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1))


class Attention(nn.Module):
    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            y = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            y = torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1), dim=-1) @ v
        return self.out(y.transpose(1, 2).reshape(n, tokens, width))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, 5, 16) * 0.02)
        self.register_buffer("ones", torch.ones(16), persistent=False)
        self.norms = nn.ModuleList([nn.LayerNorm(16) for _ in range(3)])
        self.blocks = nn.ModuleList([Attention(fused=True), Attention(fused=False)])
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) * self.ones
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        for norm, block in zip(self.norms, self.blocks, strict=False):
            x = x + block(norm(x))
        return self.head(self.norms[2](x)[:, 0] * torch.tensor(2.0))


class Tied(nn.Module):
    """One weight under two names, and a channels-last one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1).to(memory_format=torch.channels_last)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1).to(memory_format=torch.channels_last)
        self.first, self.second, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv2(torch.relu(self.conv(x)))).amax((2, 3))
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    network.__name__.lower(): network for network in (Residual, Vgg, Dense, ConvNext, Mobile, Transformer, Tied)
}


def settled(network: nn.Module, shape: tuple[int, ...] = SHAPE) -> nn.Module:
    """A network whose batch norm has seen data, so that its statistics are not those of a new one."""
    torch.manual_seed(3)
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.rand(16, *shape))
    return network.eval()


def example(name: str) -> nn.Module:
    torch.manual_seed(1)
    return settled(NETWORKS[name]())


def export(network: nn.Module, path: Path, shape: tuple[int, ...] = SHAPE, *, is_dynamic: bool = True) -> Path:
    shapes = ({0: torch.export.Dim("batch")},) if is_dynamic else None
    program = torch.export.export(network, (torch.zeros(2, *shape),), dynamic_shapes=shapes)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor found")  # what torch says of channels-last weights
        torch.export.save(program, path)
    return path


def edit(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Write a program anew with other members; names are below the archive's folder."""
    with zipfile.ZipFile(path) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(f"program/{name}", data)
    return path


GRAPH = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


def edit_json(path: Path, member: str, change: Callable[[dict], None]) -> Path:
    def change_member(members: dict[str, bytes]) -> None:
        value = json.loads(members[member])
        change(value)
        members[member] = json.dumps(value).encode()

    return edit(path, change_member)


def load(path: Path) -> nn.Module:
    return load_program(path, SHAPE, CLASSES)


def expressions_in(value: Any) -> Iterator[dict]:
    if isinstance(value, dict):
        if "expr_str" in value:
            yield value
        for item in value.values():
            yield from expressions_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from expressions_in(item)


def with_expression(program: Path, text: str) -> Path:
    """Write a text in place of every size that is an expression."""

    def change(model: dict) -> None:
        for holder in expressions_in(model):
            holder["expr_str"] = text

    return edit_json(program, GRAPH, change)
