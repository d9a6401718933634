"""Quantisation: a thief stores the weights in eight or four bits.

Invariants: symmetric, one scale for each output channel, rounded to the nearest; activations stay as they are. Weights are
simulated in float32, which answers as the integers with their scales would.
Source: Lukas et al. 2022 (weight quantization).
"""

from copy import deepcopy

import torch

from app.embedding.networks import MarkedNetwork


@torch.no_grad()
def quantise(network: MarkedNetwork, bits: int) -> MarkedNetwork:
    """Give the network with its weights rounded to 2^bits - 1 steps a channel."""
    network = deepcopy(network)
    steps = 2 ** (bits - 1) - 1
    for weight in network.body.parameters():
        if weight.dim() > 1:
            largest = weight.abs().flatten(1).amax(dim=1).clamp_min(1e-12)
            scale = (largest / steps).reshape(-1, *(1,) * (weight.dim() - 1))
            weight.copy_((weight / scale).round() * scale)
    return network
