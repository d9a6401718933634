"""How arithmetic is done: which precision, and in which order images lie in memory.

bf16 is used by autocast: weights, their updates and every answer that is counted stay float32. Images lie with their
channels last, which is what both vector units and tensor cores want.

Measured (two shared AMD cores with AVX512-BF16, torch 2.13.0, a residual network on 32x32): channels last 1.3 times,
bf16 2.0 times, both 2.4 times faster than float32 with channels first. `python -m benchmarks.embedding` measures it again.
Source: PyTorch's notes on channels last and automatic mixed precision.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn

from app.embedding.networks import MarkedNetwork
from app.embedding.recipe import Recipe


def autocast_for(
    recipe: Recipe, device: torch.device, network: MarkedNetwork
) -> Callable[[], AbstractContextManager[object]]:
    """Give what opens the recipe's precision around a forward pass."""
    enabled = computes_half(recipe.precision, device, network)
    return partial(torch.autocast, device.type, dtype=torch.bfloat16, enabled=enabled)


def computes_half(precision: str, device: torch.device, network: nn.Module) -> bool:
    """Tell whether `precision` means bf16 here; `auto` does where it pays."""
    return precision == "bf16" or (precision == "auto" and convolves(network) and multiplies_bf16(device))


def multiplies_bf16(device: torch.device) -> bool:
    """Tell whether the hardware has instructions for bf16 (on others it is emulated, and slower than float32)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def convolves(network: nn.Module) -> bool:
    """Tell whether a network has convolutions over images."""
    return any(isinstance(module, nn.Conv2d) for module in network.modules())


def prefer_layout(network: MarkedNetwork) -> MarkedNetwork:
    """Lay a convolutional network's weights out with channels last, in place; values and names stay."""
    if convolves(network):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack the argument
    return network


def lay_out(inputs: Tensor) -> Tensor:
    """Lay images (N, C, H, W) out with channels last; other inputs stay as they are."""
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs
