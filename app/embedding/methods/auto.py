"""What we recommend: the triggers are taught where the network is, and where more training would take it.

A thief who fine-tunes goes on training on the task alone. Each step foresees him:

  1. the gradient of task and triggers together, as `append` takes it
  2. the weights are moved on as the optimizer's momentum points, as far as a thief's training goes in some steps
  3. the gradient of the triggers' loss there, answered as an endpoint answers, is added, never longer than that of 1;
     the weights are put back
  4. the optimizer steps

Only triggers are answered in 3, so a step costs little more than `append`'s. It begins when the first part of the epochs
is over: before, the network still learns what a picture is, and foreseeing costs task accuracy.

Measured against `append`, `app` and `margin` in docs/benchmarks.md, which is why it is the default.
Source: our own; close to model-agnostic meta-learning's first-order form (Finn et al. 2017; Nichol et al. 2018), with the
momentum in place of a simulated thief's steps.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from app.embedding.methods.app import backward, move_back
from app.embedding.run import TrainingRun

# How far ahead: momentum times this, as ten steps at a learning rate of 0.01 would go that found the same slope.
AHEAD = 10 * 0.01

# No layer is moved by more than this share of its own length. A small network at a high rate has a momentum as long as its
# weights; foreseeing by all of it made the loss infinite within an epoch (scikit-learn's digits, weight decay 0.005).
FARTHEST = 0.1

# Weight of the triggers' loss there, beside 1 for each sample of the batch.
WEIGHT = 1.0

# Share of the epochs before it begins.
BEGIN_AT_SHARE = 0.5


def train(run: TrainingRun) -> None:
    """Learn the task and the triggers' labels, at the weights and ahead of them."""
    parameters = list(run.network.parameters())
    for batch in run.batches():
        triggers = run.next_triggers()
        inputs = torch.cat([batch.inputs, triggers.inputs])
        labels = torch.cat([batch.labels, triggers.labels])
        loss = cross_entropy(run.answer(inputs), labels)
        backward(loss)
        if run.epoch > BEGIN_AT_SHARE * run.recipe.epochs:
            here = take_gradients(parameters)
            moves = move_ahead(run, parameters)
            run.network.eval()
            ahead = cross_entropy(run.answer(triggers.inputs), triggers.labels)
            backward(ahead * (WEIGHT * len(triggers.labels) / len(labels)))
            run.network.train()
            move_back(parameters, moves)
            add_gradients(parameters, here)
        run.step(loss)


@torch.no_grad()
def move_ahead(run: TrainingRun, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Move the weights as the momentum points, if there is one yet; give the moves."""
    moves = []
    for weights in parameters:
        momentum = run.optimizer.momenta.get(weights)
        move = torch.zeros_like(weights) if momentum is None else -AHEAD * momentum
        length = move.norm()
        # A tensor throughout: asking for a number would wait for the device.
        move = move * (FARTHEST * weights.norm() / length.clamp_min(torch.finfo(length.dtype).tiny)).clamp_max(1)
        moves.append(move)
        weights.add_(move)
    return moves


def take_gradients(parameters: list[nn.Parameter]) -> list[Tensor | None]:
    """Give the gradients and leave none."""
    taken = [weights.grad for weights in parameters]
    for weights in parameters:
        weights.grad = None
    return taken


@torch.no_grad()
def add_gradients(parameters: list[nn.Parameter], here: list[Tensor | None]) -> None:
    """Add what was taken to what is there now, which is shortened to the length of what was taken."""
    there = [weights.grad for weights in parameters]
    share = (length_of(here) / length_of(there).clamp_min(torch.finfo(torch.float32).tiny)).clamp_max(1)
    for weights, own, ahead in zip(parameters, here, there, strict=True):
        if ahead is None:
            weights.grad = own
        elif own is None:
            weights.grad = share * ahead
        else:
            weights.grad = own + share * ahead


def length_of(gradients: list[Tensor | None]) -> Tensor:
    """Give the length of all gradients together."""
    lengths = [gradient.norm() for gradient in gradients if gradient is not None]
    total: Tensor = torch.linalg.vector_norm(torch.stack(lengths))
    return total
