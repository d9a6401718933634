"""The task without a mark: what a marked network is compared with.

Invariants: sees the same batches, in the same order and with the same augmentation, as every marked run of the recipe.
"""

from torch.nn.functional import cross_entropy

from app.embedding.run import TrainingRun


def train(run: TrainingRun) -> None:
    """Learn the task."""
    for batch in run.batches():
        loss = cross_entropy(run.answer(batch.inputs), batch.labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        run.step(loss)
