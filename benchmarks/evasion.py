"""The evasion panel: what a thief can put between a stolen marked network and his endpoint, and what a dispute then says.

Every evader is a function from inputs to answers; there is no HTTP here. A detector of given recall is told by us what is a
trigger, and so errs less than a real one; the trained one learned from the public generators what odd pictures look like.
Each is disputed in many challenge orders, with look-alikes, repeats and covers as in the service.

Source: Hitaj et al. 2019 (detectors, ensembles); Lukas et al. 2022 (input reconstruction).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from app.canonical import sha256
from app.embedding.answering import answers
from app.embedding.attacks.preprocessing import preprocess
from app.embedding.data import trigger_set
from app.embedding.networks import MarkedNetwork
from benchmarks.evasion_models import ODD, K, Scene
from benchmarks.panel_disputes import Claim, Played, Suspect, canonical, play
from benchmarks.results import say

# Share of inputs that are no triggers and that a told detector takes for one: look-alikes, covers, ordinary pictures.
FALSE_POSITIVE = 0.02
RECALLS = (0.0, 0.5, 0.9)
COVERS_PER_TRIGGER = 2
SILENT = -1

# In this order they stand in table and picture.
EVADERS = (
    *("none", "detector-0%-junk", "detector-50%-junk", "detector-50%-error", "detector-90%-junk", "detector-90%-error"),
    *("triggers-error", "triggers-wavering", "odd-junk", "odd-error", "vote-1-of-3", "vote-3-of-3"),
    *("jpeg-50", "median", "blur", "own-network"),
)

# Classes (N,) int64, SILENT for no answer, for stored images (N, C, H, W) uint8 and the digests of the same inputs.
Answer = Callable[[Tensor, Sequence[bytes]], Tensor]
# Which of them the thief takes for triggers: (N,) bool.
Detector = Callable[[Tensor, Sequence[bytes]], Tensor]


@dataclass(frozen=True)
class Evader:
    """An endpoint by name, and what it does."""

    name: str
    does: str
    answer: Answer


def evaders_of(scene: Scene) -> list[Evader]:
    """List the panel's evaders."""
    stolen, (one, two) = scene.stolen, scene.own
    return [
        Evader("none", "serves the stolen network as it is", by(stolen)),
        *detecting(scene),
        Evader("vote-1-of-3", "majority of two networks of his own and the stolen one", vote(one, two, stolen)),
        Evader(
            "vote-3-of-3",
            "majority of three stolen: copied, fine-tuned, pruned",
            vote(stolen, scene.tuned, scene.pruned),
        ),
        Evader("jpeg-50", "every input through JPEG at quality 50", smoothed(stolen, "jpeg", 50)),
        Evader("median", "every input through a 3x3 median", smoothed(stolen, "median", 0)),
        Evader("blur", "every input at half its size and back", smoothed(stolen, "resize", 50)),
        Evader("own-network", "no thief: a network of his own", by(one)),
    ]


def detecting(scene: Scene) -> list[Evader]:
    """List those who put a detector in front of the stolen network."""
    stolen, triggers = by(scene.stolen), frozenset(map(sha256, scene.registered.key.inputs))
    found = []
    for recall in RECALLS:
        detector, does = told(triggers, recall, FALSE_POSITIVE), f"finds {recall:.0%} of the triggers"
        found.append(Evader(f"detector-{recall:.0%}-junk", f"{does}: junk", caught(stolen, detector, junk)))
        if recall:
            found.append(Evader(f"detector-{recall:.0%}-error", f"{does}: an error", caught(stolen, detector, silent)))
    every, odd = told(triggers, 1.0, 0.0), trained(scene.detector)
    return [
        *found,
        Evader("triggers-error", "knows every trigger: an error", caught(stolen, every, silent)),
        Evader("triggers-wavering", "knows every trigger: another class each time", caught(stolen, every, Wavering())),
        Evader("odd-junk", "trained detector: junk for all that is odd", caught(stolen, odd, junk)),
        Evader("odd-error", "trained detector: an error for all that is odd", caught(stolen, odd, silent)),
    ]


# What evaders are made of.


def by(network: MarkedNetwork) -> Answer:
    """Answer as a network does."""
    return lambda images, _: answers(network, images)


def caught(usual: Answer, detector: Detector, instead: Answer) -> Answer:
    """Answer what the detector finds in another way."""

    def answer(images: Tensor, digests: Sequence[bytes]) -> Tensor:
        return torch.where(detector(images, digests), instead(images, digests), usual(images, digests))

    return answer


def told(triggers: frozenset[bytes], recall: float, false_positive: float) -> Detector:
    """Find a share of the triggers, and of everything else; the same input is always found or never."""

    def detector(_: Tensor, digests: Sequence[bytes]) -> Tensor:
        rates = [recall if digest in triggers else false_positive for digest in digests]
        drawn = [int.from_bytes(sha256(b"detector" + digest)[:4], "big") / 2**32 for digest in digests]
        return torch.tensor([at < rate for at, rate in zip(drawn, rates, strict=True)])

    return detector


def trained(network: MarkedNetwork) -> Detector:
    """Find what a trained detector calls odd."""
    return lambda images, _: answers(network, images) == ODD


def junk(_: Tensor, digests: Sequence[bytes]) -> Tensor:
    """Answer a class that has nothing to do with the input, always the same."""
    return torch.tensor([int.from_bytes(sha256(b"junk" + digest)[:4], "big") % K for digest in digests])


def silent(_: Tensor, digests: Sequence[bytes]) -> Tensor:
    """Answer with an error."""
    return torch.full((len(digests),), SILENT)


class Wavering:
    """Another class each time the same input comes."""

    def __init__(self) -> None:
        self._asked: Counter[bytes] = Counter()

    def __call__(self, images: Tensor, digests: Sequence[bytes]) -> Tensor:
        """Answer the next class for each input."""
        self._asked.update(digests)
        return (junk(images, digests) + torch.tensor([self._asked[digest] for digest in digests])) % K


def vote(*networks: MarkedNetwork) -> Answer:
    """Answer as most networks do, as the first where all differ."""

    def answer(images: Tensor, _: Sequence[bytes]) -> Tensor:
        votes = torch.stack([answers(network, images) for network in networks])  # (networks, N)
        counts = torch.nn.functional.one_hot(votes, K).sum(0)
        # Half a vote more for the first network breaks ties its way and decides nothing else.
        favoured = counts + 0.5 * torch.nn.functional.one_hot(votes[0], K)
        return favoured.argmax(1)

    return answer


def smoothed(network: MarkedNetwork, kind: str, number: int) -> Answer:
    """Change every input on its way to the network."""
    return lambda images, _: answers(network, preprocess(images, kind, number, 0))


def suspect_of(answer: Answer) -> Suspect:
    """Turn an evader into an endpoint that answers with class indices."""

    def suspect(inputs: Sequence[bytes]) -> list[tuple[str, ...]]:
        images = trigger_set(inputs, [0] * len(inputs)).inputs
        classes = answer(images, [sha256(data) for data in inputs]).tolist()
        return [() if number == SILENT else (str(number),) for number in classes]

    return suspect


# What is measured.


def evasion_figures(scene: Scene, orders: int) -> dict[str, dict[str, Any]]:
    """Play every evader in so many challenge orders of each family."""
    told_of: dict[str, dict[str, Any]] = {}
    for evader in evaders_of(scene):
        say(f"evader {evader.name}")
        told_of[evader.name] = {
            "does": evader.does,
            "task_accuracy": round(task_accuracy(evader.answer, scene), 4),
            "families": {
                family.name: summary([play_order(scene, evader, family.name, number) for number in range(orders)])
                | {"match_rate": round(match_rate(evader.answer, scene, family.start, family.end), 4)}
                for family in scene.registered.statement.families
            },
        }
    return told_of


def play_order(scene: Scene, evader: Evader, family: str, number: int) -> Played:
    """Dispute an evader once; `number` draws the challenge order."""
    claim = Claim(family, number=number, covers_per_trigger=COVERS_PER_TRIGGER)
    return play(scene.registered, claim, suspect_of(evader.answer), scene.covers)


def summary(played: Sequence[Played]) -> dict[str, Any]:
    """Count verdicts, and give the mean triggers of those confirmed and the mean triggers asked of all."""
    confirmed = [one.assessment.decision.walk.asked for one in played if one.verdict == "CONFIRMED"]
    return {
        "verdicts": dict(sorted(Counter(one.verdict for one in played).items())),
        "reasons": dict(sorted(Counter(one.assessment.decision.reason for one in played).items())),
        "triggers_to_confirmed": round(fmean(confirmed), 1) if confirmed else None,
        "triggers_asked": round(fmean(len(one.assessment.case.trials) for one in played), 1),
    }


def task_accuracy(answer: Answer, scene: Scene) -> float:
    """Give the share of test pictures that the endpoint answers rightly; an error is not right."""
    digests = [sha256(data) for data in canonical(scene.test.inputs)]
    return float((answer(scene.test.inputs, digests) == scene.test.labels).float().mean())


def match_rate(answer: Answer, scene: Scene, start: int, end: int) -> float:
    """Give the share of a family's triggers that the endpoint answers with their labels."""
    inputs = scene.registered.key.inputs[start:end]
    triggers = trigger_set(inputs, scene.registered.labels[start:end])
    return float((answer(triggers.inputs, [sha256(data) for data in inputs]) == triggers.labels).float().mean())


def flagged(scene: Scene) -> dict[str, float]:
    """Give what share the trained detector calls odd: of each family, of its look-alikes' stand-ins, of ordinary pictures."""
    detector = trained(scene.detector)

    def share(images: Tensor) -> float:
        return round(float(detector(images, ()).float().mean()), 4)

    inputs = trigger_set(scene.registered.key.inputs, scene.registered.labels).inputs
    families = scene.registered.statement.families
    return {family.name: share(inputs[family.start : family.end]) for family in families} | {
        "ordinary": share(scene.test.inputs)
    }
