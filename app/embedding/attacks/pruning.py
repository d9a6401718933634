"""Pruning: a thief sets the smallest weights of all layers to zero.

Invariants: global by magnitude, over the weights of linear and convolutional layers; biases and batch norm are left alone.
Source: Adi et al. 2018 section 5 names pruning as out of its scope; Lukas et al. 2022 (weight pruning).
"""

from copy import deepcopy

import torch

from app.embedding.networks import MarkedNetwork


@torch.no_grad()
def prune(network: MarkedNetwork, percent: int) -> MarkedNetwork:
    """Give the network without the smallest `percent` of its weights."""
    network = deepcopy(network)
    weights = [weight for weight in network.body.parameters() if weight.dim() > 1]
    sizes = torch.cat([weight.abs().flatten() for weight in weights])
    removed = sizes.numel() * percent // 100
    if removed:
        limit = sizes.kthvalue(removed).values
        for weight in weights:
            weight.mul_(weight.abs() > limit)
    return network
