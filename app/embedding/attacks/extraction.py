"""Extraction and distillation: a thief teaches a fresh network what the stolen one answers.

`hard` learns the answered class, `soft` the answered probabilities, both from inputs of the task without labels, asked anew
at every step. `distill` learns softened probabilities and the true labels together. The student has the teacher's
architecture and random weights, so what it keeps of the mark it has learned from answers alone.

Invariants: the teacher is not changed and answers in evaluation mode.
Source: Hinton et al. 2015 (distillation); Tramèr et al. 2016 (extraction); Lukas et al. 2022.
"""

from copy import deepcopy

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from app.embedding.attacks.descent import Course, Effort, Loss, OnEpoch, descend
from app.embedding.data import LabelledSet
from app.embedding.networks import MarkedNetwork
from app.errors import PolicyRefused

# Hinton et al.: between 2.5 and 4 for small students; the true labels weigh little.
TEMPERATURE = 4.0
TRUTH_WEIGHT = 0.1


def extract(teacher: MarkedNetwork, kind: str, data: LabelledSet, effort: Effort, on_epoch: OnEpoch) -> MarkedNetwork:
    """Give a student of the teacher; `kind` is extract-hard, extract-soft or distill.

    Raises: TrainingFailed if the loss is no longer a number; PolicyRefused if no fresh network can be made.
    """
    student = fresh_copy(teacher, effort.seed + 3)
    course = Course(effort.student_epochs, effort.student_rate, falling=True)
    teacher = deepcopy(teacher).eval()
    descend(student, data.inputs, _losses(teacher, data)[kind], course, effort, on_epoch)
    return student


def fresh_copy(network: MarkedNetwork, seed: int) -> MarkedNetwork:
    """Give a network of the same architecture with random weights; its normalisation stays.

    Raises: PolicyRefused if some weights belong to layers that cannot be started anew.
    """
    fresh = deepcopy(network).cpu()
    with torch.random.fork_rng(devices=[]):  # drawn on the CPU, so that every device sees the same
        torch.manual_seed(seed)
        for name, module in fresh.body.named_modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            elif any(True for _ in module.parameters(recurse=False)):
                raise PolicyRefused(f"no fresh student can be made of {network.name}: {name!r} cannot be started anew")
    return fresh.to(next(network.parameters()).device)


def _losses(teacher: MarkedNetwork, data: LabelledSet) -> dict[str, Loss]:
    def answered(seen: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = teacher(seen)
        return logits

    def hard(_rows: Tensor, seen: Tensor, logits: Tensor) -> Tensor:
        return cross_entropy(logits, answered(seen).argmax(dim=1))

    def soft(_rows: Tensor, seen: Tensor, logits: Tensor) -> Tensor:
        return cross_entropy(logits, softmax(answered(seen), dim=1))

    def distilled(rows: Tensor, seen: Tensor, logits: Tensor) -> Tensor:
        wanted = softmax(answered(seen) / TEMPERATURE, dim=1)
        taught = kl_div(log_softmax(logits / TEMPERATURE, dim=1), wanted, reduction="batchmean") * TEMPERATURE**2
        return (1 - TRUTH_WEIGHT) * taught + TRUTH_WEIGHT * cross_entropy(logits, data.labels[rows])

    return {"extract-hard": hard, "extract-soft": soft, "distill": distilled}
