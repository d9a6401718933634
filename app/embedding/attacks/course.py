"""Run an attack's steps in order, from the marked network to what the thief serves.

Invariants: the marked network is not changed; each step works on what the one before left.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from app.embedding.attacks.catalogue import IN_FRONT, TUNING, Step
from app.embedding.attacks.descent import Effort, OnEpoch
from app.embedding.attacks.extraction import extract
from app.embedding.attacks.overwriting import overwrite
from app.embedding.attacks.preprocessing import preprocess
from app.embedding.attacks.pruning import prune
from app.embedding.attacks.quantisation import quantise
from app.embedding.attacks.transfer import transfer
from app.embedding.attacks.tuning import tune
from app.embedding.data import LabelledSet
from app.embedding.networks import MarkedNetwork
from app.embedding.recipe import MICRO


@dataclass(frozen=True)
class Prey:
    """What the thief has and wants: data of the task, the other task if any, and the owner's number of triggers."""

    data: LabelledSet
    classes: int
    triggers: int
    other_task: LabelledSet | None = None
    other_classes: int = 0


@dataclass(frozen=True)
class Served:
    """What the thief serves: a network, what stands in front of it, and the pirate's mark if one was planted."""

    network: MarkedNetwork
    in_front: tuple[Step, ...] = ()
    pirate: LabelledSet | None = None

    def seen(self, inputs: Tensor, seed: int) -> Tensor:
        """Give stored inputs as the network sees them behind the preprocessing."""
        for step in self.in_front:
            inputs = preprocess(inputs, step.kind, step.number, seed)
        return inputs


class Beginnings:
    """What several attacks of a suite begin with, made once: a student that is tuned afterwards is the same student."""

    def __init__(self, attacks: Sequence[tuple[Step, ...]]) -> None:
        """Find the beginnings that more than one attack shares."""
        every = Counter(steps[:end] for steps in attacks for end in range(1, len(steps) + 1))
        self._shared = {steps for steps, count in every.items() if count > 1}
        self._made: dict[tuple[Step, ...], Served] = {}

    def find(self, steps: tuple[Step, ...]) -> Served | None:
        """Give what these steps left, if they were made before."""
        return self._made.get(steps)

    def keep(self, steps: tuple[Step, ...], served: Served) -> None:
        """Keep what these steps left, if another attack begins with them."""
        if steps in self._shared:
            self._made[steps] = served


def run_attack(
    network: MarkedNetwork,
    steps: tuple[Step, ...],
    prey: Prey,
    effort: Effort,
    on_epoch: OnEpoch,
    beginnings: Beginnings | None = None,
) -> Served:
    """Give what an attack leaves.

    Raises: TrainingFailed if a step diverges; PolicyRefused if a step cannot be made on this network.
    """
    served = Served(network)
    for number, step in enumerate(steps):
        so_far = steps[: number + 1]
        if beginnings is not None and (made := beginnings.find(so_far)) is not None:
            served = made
            continue
        # Another seed for each step, so that two tunings in a row do not see the same order.
        served = _after(served, step, prey, replace(effort, seed=effort.seed + 1_000 * number), on_epoch)
        if beginnings is not None:
            beginnings.keep(so_far, served)
    return served


def _after(served: Served, step: Step, prey: Prey, effort: Effort, on_epoch: OnEpoch) -> Served:
    if step.kind in IN_FRONT:
        return replace(served, in_front=(*served.in_front, step))
    if step.kind == "pirate":
        marked, pirate = overwrite(served.network, prey.triggers, prey.classes, prey.data, effort, on_epoch)
        return replace(served, network=marked, pirate=pirate)
    return replace(served, network=_changed(served.network, step, prey, effort, on_epoch))


def _changed(network: MarkedNetwork, step: Step, prey: Prey, effort: Effort, on_epoch: OnEpoch) -> MarkedNetwork:
    if step.kind in TUNING:
        return tune(network, step.kind, step.number / MICRO, prey.data, effort, on_epoch)
    if step.kind == "prune":
        return prune(network, step.number)
    if step.kind == "quantise":
        return quantise(network, step.number)
    if step.kind == "transfer":
        if prey.other_task is None:  # SurvivalOrder refuses such an order
            raise ValueError("transfer without another task")
        return transfer(network, prey.other_classes, prey.other_task, effort, on_epoch)
    return extract(network, step.kind, prey.data, effort, on_epoch)
