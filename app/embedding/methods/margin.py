"""Margin: triggers whose surroundings answer the same label, against extraction.

Each step looks in the neighbourhood of each trigger for the picture that the network answers worst (five steps of the
gradient's sign) and teaches that one instead. Meant for held-out task images as triggers, whose neighbourhood a thief's
queries come near.

Source: Kim, Lee, Lee, Park, Son 2023 (ICML), "Margin-based Neural Network Watermarking".
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from app.embedding.data import LabelledSet
from app.embedding.run import TrainingRun

# Five steps of one 255th of full scale: the authors' values for pixels. Tensor inputs have no scale of their own; theirs
# are steps in units of the values as registered.
STEPS = 5
STEP_SIZE = 1 / 255


def train(run: TrainingRun) -> None:
    """Learn the task, and the triggers' labels all around them."""
    for batch in run.batches():
        triggers = run.next_triggers()
        worst = worst_neighbours(run, triggers)
        loss = cross_entropy(run.answer(torch.cat([batch.inputs, worst])), torch.cat([batch.labels, triggers.labels]))
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        run.step(loss)


def worst_neighbours(run: TrainingRun, triggers: LabelledSet) -> Tensor:
    """Climb the triggers' loss within STEPS * STEP_SIZE of each, as an endpoint would answer: (k, *shape) float32."""
    run.network.eval()
    inputs, is_image = triggers.inputs, run.data.triggers.inputs.dtype == torch.uint8
    for _ in range(STEPS):
        inputs = inputs.detach().requires_grad_()
        with run.autocast():
            logits = run.network(inputs)
        (gradient,) = torch.autograd.grad(cross_entropy(logits.float(), triggers.labels), inputs)
        inputs = inputs.detach() + STEP_SIZE * gradient.sign()
        inputs = inputs.clamp(0, 1) if is_image else inputs
    run.network.train()
    return inputs.detach()
