"""The last linear layer of a network: finding it, what goes into it, and putting another in its place.

N rows, D features, K classes. The head is the last `nn.Linear` of the body in the order of its modules, and what it answers
are the logits; a network of which this is not true is refused by name rather than attacked wrongly. That shows only when it
answers, which is what `check_head` asks for.

Invariants: nothing here changes a network that it is given; copies are changed.
Source: Adi et al. 2018 section 5.3: re-training re-initialises the last layer; the owner's own can be put back.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from app.embedding.answering import ANSWER_BATCH
from app.embedding.data import network_input
from app.embedding.networks import MarkedNetwork
from app.errors import PolicyRefused


def head_name(network: MarkedNetwork) -> str:
    """Name the head within the body.

    Raises: PolicyRefused if the body has no linear layer.
    """
    names: list[str] = [name for name, module in network.body.named_modules() if isinstance(module, nn.Linear) and name]
    if not names:
        raise PolicyRefused(f"{network.name} has no linear layer of its own that could be its head")
    return names[-1]


def head_of(network: MarkedNetwork) -> nn.Linear:
    """Give the head itself, not a copy.

    Raises: PolicyRefused if there is none.
    """
    head = network.body.get_submodule(head_name(network))
    if not isinstance(head, nn.Linear):  # head_name found it by this
        raise PolicyRefused(f"{network.name} has no linear head")
    return head


def check_head(network: MarkedNetwork, inputs: Tensor) -> None:
    """Refuse a network whose last linear layer is not its head; a few stored inputs show it.

    Raises: PolicyRefused.
    """
    head_features(network, inputs[:2])


def with_head(network: MarkedNetwork, head: nn.Linear) -> MarkedNetwork:
    """Copy a network with a copy of another head in place of its own.

    Raises: PolicyRefused if the head takes another number of features.
    """
    own = head_of(network)
    if head.in_features != own.in_features:
        raise PolicyRefused(f"the head takes {head.in_features} features; {network.name} has {own.in_features}")
    copy = deepcopy(network)
    path, _, name = head_name(network).rpartition(".")
    setattr(copy.body.get_submodule(path), name, deepcopy(head).to(own.weight.device))
    return copy


def fresh_head(network: MarkedNetwork, classes: int, seed: int) -> nn.Linear:
    """Make a new head of random weights for the network's features."""
    own = head_of(network)
    with torch.random.fork_rng(devices=[]):  # drawn on the CPU, so that every device sees the same
        torch.manual_seed(seed)
        head = nn.Linear(own.in_features, classes, bias=own.bias is not None)
    return head.to(own.weight.device)


@torch.no_grad()
def head_features(network: MarkedNetwork, inputs: Tensor) -> Tensor:
    """Give what goes into the head for stored inputs: (N, D) float32, batch-norm statistics untouched.

    Raises: PolicyRefused if the head's answers are not the network's.
    """
    network.eval()
    taken: list[tuple[Tensor, Tensor]] = []
    hook = head_of(network).register_forward_hook(lambda _head, given, answer: taken.append((given[0], answer)))
    try:
        for rows in torch.split(inputs, ANSWER_BATCH):
            logits = network(network_input(rows))
            if not taken or taken[-1][1].shape != logits.shape or not torch.equal(taken[-1][1], logits):
                raise PolicyRefused(f"the last linear layer of {network.name} does not give its answers: it is no head")
    finally:
        hook.remove()
    return torch.cat([features for features, _ in taken])
