"""Liars who fit the interface after the beacon: they know all labels and what the accused answers, and make these meet.

Each fitter gives the interface that he would file, the accused as it looks through it, and how many of all triggers
match. What he gains by the fit is what `interface_bits` charges for.

Source: docs/protocol.md section 7.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from app.demo.workshop import CLASSES, SHAPE
from app.embedding.data import network_input, trigger_set
from app.embedding.networks import MarkedNetwork
from app.protocol.interface import Interface, LabelMap
from app.suspects.adapters import check_interface
from benchmarks.panel_disputes import BY_INDEX, Registered, Suspect

# Labels of an endpoint that answers finer than the registered classes: 10 digits, each written in 400 ways.
WAYS = 400
# Fields of an endpoint that answers much at once, and the preprocessings that a liar tries.
FIELDS = 64
MEANS, STDS = range(0, 1000, 50), range(100, 1100, 100)
TEMPLATE = {"x": {"$input": "pixels_nested"}}


@dataclass(frozen=True)
class Fitted:
    """An interface, the accused seen through it, and how many of all triggers then match."""

    interface: Interface
    suspect: Suspect
    matches: int


Fitter = Callable[[Registered, MarkedNetwork], Fitted]


def _fitted(registered: Registered, interface: Interface, suspect: Suspect) -> Fitted:
    check_interface(interface, registered.statement.kind, registered.statement.shape)
    label_map = LabelMap(interface, registered.statement)
    answers = suspect(registered.key.inputs)
    matches = [label in label_map.classes_of(labels) for label, labels in zip(registered.labels, answers, strict=True)]
    return Fitted(interface, suspect, sum(matches))


def _explicit(names: dict[str, list[str]]) -> Interface:
    return Interface(BY_INDEX.adapter, BY_INDEX.options, {}, {"by": "explicit", "map": names})


@torch.no_grad()
def scores_of(network: MarkedNetwork, inputs: Sequence[bytes], mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Give a network's scores (N, K) for canonical inputs that were normalised once too often."""
    images = network_input(trigger_set(inputs, [0] * len(inputs)).inputs)
    scores: Tensor = network((images - mean) / std)
    return scores


def coarse(network: MarkedNetwork) -> Suspect:
    """Answer with one of K labels."""
    return lambda inputs: [(str(number),) for number in scores_of(network, inputs).argmax(1).tolist()]


def fine(network: MarkedNetwork) -> Suspect:
    """Answer with one of 10 * WAYS labels: the class, and in which way it is written."""
    ways = torch.randn(SHAPE[0] * SHAPE[1] * SHAPE[2], WAYS, generator=torch.Generator().manual_seed(5))

    def suspect(inputs: Sequence[bytes]) -> list[tuple[str, ...]]:
        images = network_input(trigger_set(inputs, [0] * len(inputs)).inputs).flatten(1)
        way = ((images - images.mean(1, keepdim=True)) @ ways).argmax(1).tolist()
        classes = scores_of(network, inputs).argmax(1).tolist()
        return [(f"{number} in way {at}",) for number, at in zip(classes, way, strict=True)]

    return suspect


def one_to_one(registered: Registered, network: MarkedNetwork) -> Fitted:
    """Map K labels onto K classes as they match best."""
    answers = [int(labels[0]) for labels in coarse(network)(registered.key.inputs)]
    together = np.zeros((CLASSES, CLASSES), np.int64)
    np.add.at(together, (answers, list(registered.labels)), 1)
    _, best = linear_sum_assignment(together, maximize=True)
    names = {str(label): [registered.statement.classes[number]] for label, number in enumerate(best)}
    return _fitted(registered, _explicit(names), coarse(network))


def _labels_seen(registered: Registered, suspect: Suspect) -> dict[str, Counter[int]]:
    seen: dict[str, Counter[int]] = {}
    for labels, drawn in zip(suspect(registered.key.inputs), registered.labels, strict=True):
        seen.setdefault(labels[0], Counter())[drawn] += 1
    return seen


def fine_labels(registered: Registered, network: MarkedNetwork) -> Fitted:
    """Map each of thousands of labels to the class that was drawn most often where it was answered."""
    suspect, classes = fine(network), registered.statement.classes
    seen = _labels_seen(registered, suspect)
    names = {label: [classes[drawn.most_common(1)[0][0]]] for label, drawn in sorted(seen.items())}
    return _fitted(registered, _explicit(names), suspect)


def label_sets(registered: Registered, network: MarkedNetwork) -> Fitted:
    """Map each of thousands of labels to all classes that were drawn where it was answered."""
    suspect, classes = fine(network), registered.statement.classes
    seen = _labels_seen(registered, suspect)
    names = {label: [classes[number] for number in sorted(drawn)] for label, drawn in sorted(seen.items())}
    return _fitted(registered, _explicit(names), suspect)


def path(registered: Registered, network: MarkedNetwork) -> Fitted:
    """Take the best of many fields of the answer: other heads of the accused, which say other classes."""
    generator = torch.Generator().manual_seed(6)
    heads = torch.randn(FIELDS, CLASSES, CLASSES, generator=generator)

    def field_of(number: int) -> Suspect:
        return lambda inputs: [
            (str(label),) for label in (scores_of(network, inputs) @ heads[number]).argmax(1).tolist()
        ]

    def through(number: int) -> Fitted:
        options = {"template": TEMPLATE, "path": f"a[{number}]", "result": "label"}
        return _fitted(registered, Interface("generic_json", options, {}, {"by": "index"}), field_of(number))

    return max(map(through, range(FIELDS)), key=lambda fitted: fitted.matches)


def preprocessing(registered: Registered, network: MarkedNetwork) -> Fitted:
    """Normalise the inputs once more, with the mean and deviation of many that match best."""

    def through(mean: int, std: int) -> Fitted:
        chosen = {"dtype": "float32", "mean": [mean], "scale": "0..1", "std": [std]}
        interface = Interface(BY_INDEX.adapter, BY_INDEX.options, chosen, {"by": "index"})
        return _fitted(
            registered,
            interface,
            lambda inputs: [
                (str(label),) for label in scores_of(network, inputs, mean / 1000, std / 1000).argmax(1).tolist()
            ],
        )

    return max((through(mean, std) for mean in MEANS for std in STDS), key=lambda fitted: fitted.matches)


FITTERS: dict[str, Fitter] = {
    "one_to_one": one_to_one,
    "fine_labels": fine_labels,
    "label_sets": label_sets,
    "path": path,
    "preprocessing": preprocessing,
}
