"""Adversarial parametric perturbation: triggers that stay when the weights move, against fine-tuning and pruning.

Each step asks where nearby weights answer the triggers worst, and teaches the triggers there too:

  1. the gradient of the triggers' loss, with the batch-norm statistics of the task rows
  2. each layer's weights are moved along it, by a share of their own length
  3. the gradient of the triggers' loss there is kept, and the weights are put back
  4. the gradient of task and triggers together, as `append` takes it, is added; then the optimizer steps

About three times the cost of `append`. The authors' triggers share one label; ours have one each.
Source: Gan, Li, Wu, Xia 2023 (ICCV), "Towards Robust Model Watermark via Reducing Parametric Vulnerability".
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from app.embedding.batch_norm import clean_statistics
from app.embedding.run import TrainingRun

# Length of the move as a share of a layer's own, and weight of the triggers' loss there: the authors' values.
EPSILON = 2e-2
ALPHA = 1e-2


def train(run: TrainingRun) -> None:
    """Learn the task and the triggers' labels, at the weights and around them."""
    layers = [weights for weights in run.network.parameters() if weights.dim() > 1]
    for batch in run.batches():
        triggers = run.next_triggers()
        rows = len(batch.labels)
        inputs = torch.cat([batch.inputs, triggers.inputs])
        labels = torch.cat([batch.labels, triggers.labels])
        with clean_statistics(run.network, rows, counted=False):
            backward(cross_entropy(run.answer(inputs)[rows:], triggers.labels))
            moves = move_along_gradient(layers, EPSILON)
            run.optimizer.clear_gradients()
            backward(ALPHA * cross_entropy(run.answer(inputs)[rows:], triggers.labels))
        move_back(layers, moves)
        loss = cross_entropy(run.answer(inputs), labels)
        backward(loss)
        run.step(loss)


@torch.no_grad()
def move_along_gradient(layers: list[nn.Parameter], share: float) -> list[Tensor]:
    """Move each layer's weights along its gradient by a share of their own length; give the moves."""
    moves = []
    for weights in layers:
        gradient = torch.zeros_like(weights) if weights.grad is None else weights.grad
        moves.append(gradient * (share * weights.norm() / (gradient.norm() + torch.finfo(gradient.dtype).tiny)))
        weights.add_(moves[-1])
    return moves


@torch.no_grad()
def move_back(layers: list[nn.Parameter], moves: list[Tensor]) -> None:
    """Take the moves back."""
    for weights, move in zip(layers, moves, strict=True):
        weights.sub_(move)


def backward(loss: Tensor) -> None:
    """Add a loss's gradient to the parameters' own."""
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
