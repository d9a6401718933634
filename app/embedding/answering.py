"""What a network answers, counted.

N rows, K classes. Answers are always taken in float32 and in evaluation mode, however the network was trained.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from app.embedding.data import LabelledSet, network_input
from app.embedding.networks import MarkedNetwork
from app.keys.trigger_set import Family

# Rows at once when only answering: 1,024 images of 224x224x3 as float32 are 600 MB, which any device holds.
ANSWER_BATCH = 1024


@torch.no_grad()
def answers(network: MarkedNetwork, inputs: Tensor) -> Tensor:
    """Give the class of each stored input, (N,) int64 (ties: the lower class)."""
    network.eval()
    batches = torch.split(inputs, ANSWER_BATCH)
    return torch.cat([network(network_input(batch)).argmax(dim=1) for batch in batches])


def count_correct(network: MarkedNetwork, data: LabelledSet) -> int:
    """Count the rows answered with their label."""
    return int((answers(network, data.inputs) == data.labels).sum())


def count_matches(network: MarkedNetwork, triggers: LabelledSet, families: Sequence[Family]) -> tuple[int, ...]:
    """Count per family the triggers answered with their label."""
    matched = answers(network, triggers.inputs) == triggers.labels
    return tuple(int(matched[family.start : family.end].sum()) for family in families)
