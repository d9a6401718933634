"""Transfer learning: a thief uses the stolen network as the start for another task.

The head is replaced by a fresh one for the other task's classes and all layers are trained. Such a network no longer answers
in the registered classes, so there is nothing to ask it: only the count with the owner's head is left, which is no evidence.

Source: Adi et al. 2018 section 5.3, table 3.
"""

from app.embedding.attacks.descent import Course, Effort, OnEpoch, descend, label_loss
from app.embedding.attacks.heads import check_head, fresh_head, with_head
from app.embedding.data import LabelledSet
from app.embedding.networks import MarkedNetwork

RATE = 0.01


def transfer(
    network: MarkedNetwork, classes: int, data: LabelledSet, effort: Effort, on_epoch: OnEpoch
) -> MarkedNetwork:
    """Give the network after training on another task of so many classes.

    Raises: TrainingFailed if the loss is no longer a number; PolicyRefused if the network has no head.
    """
    check_head(network, data.inputs)
    network = with_head(network, fresh_head(network, classes, effort.seed))
    descend(network, data.inputs, label_loss(data), Course(effort.epochs, RATE), effort, on_epoch)
    return network
