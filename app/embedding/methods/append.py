"""The paper's method: triggers join every batch, and one cross-entropy is taken over all samples.

Triggers are neither weighted nor augmented.
Source: Adi et al. 2018 sections 5.1 and 5.2 (FromScratch, PreTrained), k = 2 triggers in a batch of 100.
"""

import torch
from torch.nn.functional import cross_entropy

from app.embedding.run import TrainingRun


def train(run: TrainingRun) -> None:
    """Learn the task and the triggers' labels."""
    for batch in run.batches():
        triggers = run.next_triggers()
        inputs = torch.cat([batch.inputs, triggers.inputs])
        labels = torch.cat([batch.labels, triggers.labels])
        loss = cross_entropy(run.answer(inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        run.step(loss)
