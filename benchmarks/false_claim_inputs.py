"""The inputs of accusers: adversarial examples, odd pictures on which their surrogates agree, and noise.

All of it is made without ever seeing an accused network. 8x8 scans; (N, C, H, W) float32 in [0, 1], or uint8.
Source: Liu et al. 2024 (transferable adversarial examples, chosen by networks held out); app.demo.workshop.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from app.demo.workshop import CLASSES, SHAPE
from app.embedding.data import network_input
from app.embedding.networks import MarkedNetwork
from app.embedding.trigger_order import FamilyOrder
from app.embedding.triggers.families import generate
from app.embedding.triggers.source import Source
from benchmarks.false_claim_models import ACCUSER, part
from benchmarks.panel_disputes import canonical

EPSILON, STEP, STEPS = 0.4, 0.02, 60  # of full scale, as in the demonstration

# Canonical inputs with the labels that the accuser would give them.
Labelled = tuple[tuple[bytes, ...], tuple[int, ...]]


def adversarial_examples(trained: Sequence[MarkedNetwork], wanted: int) -> Labelled:
    """Move scans towards classes that they are not until the surrogates say so; keep what deceives two others best."""
    data = part(ACCUSER)
    targets = (data.labels + 1 + torch.arange(data.count) % (CLASSES - 1)) % CLASSES
    clean = network_input(data.inputs)
    images = clean.clone()
    for _ in range(STEPS):
        images.requires_grad_()
        loss = torch.stack([cross_entropy(network(images), targets) for network in trained[:-2]]).sum()
        (gradient,) = torch.autograd.grad(loss, images)
        images = clean + (images.detach() - STEP * gradient.sign() - clean).clamp(-EPSILON, EPSILON)
        images = (images.clamp(0, 1) * 255).round() / 255
    best = _sure(trained[-2:], images, targets).argsort(descending=True)[:wanted]
    return tuple(canonical((images[best] * 255).round().byte())), tuple(targets[best].tolist())


@torch.no_grad()
def _sure(networks: Sequence[MarkedNetwork], images: Tensor, labels: Tensor) -> Tensor:
    """Give how sure of these labels the least sure network is: (N,)."""
    rows = torch.arange(len(labels))
    return torch.stack([network(images).softmax(1)[rows, labels] for network in networks]).amin(0)


def _drawn(family: str, wanted: int, seed: int) -> Tensor:
    return torch.from_numpy(generate([FamilyOrder(family, wanted)], Source(SHAPE), seed)).permute(0, 3, 1, 2)


@torch.no_grad()
def agreed_pictures(trained: Sequence[MarkedNetwork], wanted: int) -> Labelled:
    """Draw abstract pictures, and keep those of whose class the surrogates are surest together."""
    drawn = _drawn("abstract", 20 * wanted, 11)
    images = network_input(drawn)
    labels = torch.stack([network(images).softmax(1) for network in trained]).mean(0).argmax(1)
    best = _sure(trained, images, labels).argsort(descending=True)[:wanted]
    return tuple(canonical(drawn[best].contiguous())), tuple(labels[best].tolist())


def noise(wanted: int) -> tuple[bytes, ...]:
    """Draw noise."""
    return tuple(canonical(_drawn("noise", wanted, 3)))
