"""Architectures of timm, by name and with fresh weights: an optional extra, `pip install 'trapstreet[timm]'`.

timm imports torchvision, whose wheel on PyPI is built for torch's CUDA wheel and cannot be imported beside the CPU wheel: its
compiled operators do not load, and its Python part asks for one of them. Then the two operators it misses are declared
(not implemented: no classifier uses them) and the import is tried again. Nothing else here needs torchvision.

Invariants: nothing is downloaded (`pretrained` is never set, names have no tag and no address); torch and torchvision meet
only where a recipe asks for timm.
Source: timm 1.0.31, torchvision 0.28.0.
"""

import importlib
import sys
from typing import Any

import torch
from torch import Tensor, nn

from app.errors import Malformed, PolicyRefused

# torchvision's own text (torchvision/csrc/ops/nms.cpp, quantized/cpu/qnms_kernel.cpp): what its Python part looks for.
MISSING_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_declared: list[torch.library.Library] = []  # a declaration lasts as long as its library


def build_timm(name: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Make one of timm's architectures for (C, H, W).

    Raises: PolicyRefused if timm is not installed; Malformed if it has no such network or it cannot take this shape.
    """
    timm = import_timm()
    if name not in timm.list_models():
        raise Malformed(f"timm {timm.__version__} has no network {name!r}")
    options: dict[str, Any] = {"num_classes": classes, "in_chans": shape[0]}
    if timm.get_pretrained_cfg(name, allow_unregistered=True).fixed_input_size:  # transformers are built for one size
        options["img_size"] = shape[1:]
    try:
        body: nn.Module = timm.create_model(name, pretrained=False, **options)
        body = with_ordered_pooling(body).eval()
        with torch.no_grad():
            answer = body(torch.zeros(2, *shape))
    except (RuntimeError, TypeError, ValueError, AssertionError, IndexError, ZeroDivisionError) as error:
        raise Malformed(f"timm's {name} cannot take inputs of the shape {shape}: {str(error)[:300]}") from error
    if not isinstance(answer, Tensor) or answer.shape != (2, classes):
        raise Malformed(f"timm's {name} is no classifier that gives one row of logits an input")
    return body.train()


def import_timm() -> Any:
    """Import timm, and before it what it needs of torchvision.

    Raises: PolicyRefused if it is not installed.
    """
    try:
        try:
            importlib.import_module("torchvision")
        except RuntimeError:  # "operator torchvision::nms does not exist"
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
            library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
            _declared.append(library)
            for operator in MISSING_OPERATORS:
                library.define(operator)  # type: ignore[no-untyped-call]
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise PolicyRefused(
            f"timm's networks need `pip install 'trapstreet[timm]'` on the machine that trains: {error}",
            pointer="/recipe/network",
        ) from error


class EvenMean(nn.Module):
    """Average over height and width and keep them as 1 (its gradient is deterministic on CUDA, adaptive pooling's is not)."""

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into (N, C, 1, 1)."""
        return x.mean(dim=(2, 3), keepdim=True)


def with_ordered_pooling(body: nn.Module) -> nn.Module:
    """Replace global average pooling by a mean, which is the same."""
    for module in list(body.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1)):
                setattr(module, name, EvenMean())
    return body
