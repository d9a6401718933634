"""The false-claim panel: liars of thirteen kinds accuse networks that never saw their triggers.

Each works as well as he can: he knows the rules, asks the accused in private as often as he likes, and files what looks best.
In class A the beacon draws his labels after he has committed to inputs; beside it stands what the paper's own rule says of
the same inputs with labels as the paper leaves them to him.

Invariants: seeded; every verdict is the product's own.
Source: Liu et al. 2024, "False Claims against Model Ownership Resolution"; docs/protocol.md sections 6 to 8.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from statistics import fmean
from typing import Any

from app.canonical import sha256
from app.demo.workshop import CLASSES
from app.embedding.networks import MarkedNetwork
from app.keys.commitment import MarkingKey
from app.keys.trigger_set import Family
from app.protocol.assessment import Assessment
from app.protocol.evidence import Outcome, Step
from app.protocol.verdict import decide, is_paper_rule_met
from benchmarks.false_claim_fitting import FITTERS
from benchmarks.false_claim_inputs import adversarial_examples, agreed_pictures, noise
from benchmarks.false_claim_models import Innocent, classes_of, innocents, surrogates, suspect_of
from benchmarks.false_claim_tally import Tally
from benchmarks.panel_disputes import (
    HONEST,
    Claim,
    Claimant,
    Registered,
    file_claim,
    highest_log2_e,
    is_refused,
    play,
    register,
)
from benchmarks.results import say

NAMES = tuple(str(number) for number in range(CLASSES))
MASTER = sha256(b"accuser")
TRIGGERS = 128  # of an accuser who files one family
GROUND, GROUND_FAMILIES = 256, 4
TINY = 2
WITHHELD_TRIGGERS = 512


@dataclass(frozen=True)
class Scale:
    """How many innocent networks of each kind, and how often each accuser tries."""

    name: str
    each: int
    attempts: int
    registrations: int  # of who grinds


SCALES = {
    "full": Scale("full", each=2, attempts=10, registrations=100),
    "quick": Scale("quick", each=1, attempts=1, registrations=5),
}


@dataclass(frozen=True)
class Accusers:
    """What all accusers share: surrogates, inputs made with them, and a running number of registrations."""

    scale: Scale
    surrogates: Sequence[MarkedNetwork]
    adversarial: tuple[tuple[bytes, ...], tuple[int, ...]]
    agreed: tuple[tuple[bytes, ...], tuple[int, ...]]
    noise: tuple[bytes, ...]
    numbers: Iterator[int]

    def register(self, inputs: Sequence[bytes], families: int = 1, labels: Sequence[int] | None = None) -> Registered:
        """Register inputs in families of equal size."""
        size = len(inputs) // families
        key = MarkingKey(MASTER, tuple(inputs[: size * families]), None if labels is None else tuple(labels))
        parts = [Family(f"f{number}", number * size, (number + 1) * size) for number in range(families)]
        return register(key, NAMES, parts, next(self.numbers), "accuser")


def prepare(scale: Scale) -> Accusers:
    """Train the surrogates and make the inputs."""
    trained = surrogates()
    say("adversarial examples, and pictures on which the surrogates agree")
    return Accusers(
        scale,
        trained,
        adversarial_examples(trained, TRIGGERS),
        agreed_pictures(trained, TRIGGERS),
        noise(WITHHELD_TRIGGERS),
        count(1),
    )


# The accusers.

Accuser = Callable[[Accusers, Innocent], Tally]


def adversarial(liars: Accusers, innocent: Innocent) -> Tally:
    """Transferable adversarial examples; under the paper's scheme their targets are the labels."""
    inputs, labels = liars.adversarial
    return _both_ways(liars, innocent, inputs, labels)


def surrogate_labels(liars: Accusers, innocent: Innocent) -> Tally:
    """Odd pictures with the labels that the accuser's surrogates answer."""
    inputs, labels = liars.agreed
    return _both_ways(liars, innocent, inputs, labels)


def copied_answers(liars: Accusers, innocent: Innocent) -> Tally:
    """Noise with the labels that the accused itself answered in private."""
    inputs = liars.noise[:TRIGGERS]
    return _both_ways(liars, innocent, inputs, tuple(classes_of(innocent.network, inputs)))


def _both_ways(liars: Accusers, innocent: Innocent, inputs: Sequence[bytes], labels: Sequence[int]) -> Tally:
    """File with the accuser's labels as the paper would, and with the beacon's."""
    tally, suspect = Tally(), suspect_of(innocent.network)
    tally.add_paper(accepts=play(liars.register(inputs, labels=labels), Claim("f0"), suspect).paper_rule)
    known = classes_of(innocent.network, inputs)
    for _ in range(liars.scale.attempts):
        registered = liars.register(inputs)
        tally.add(play(registered, Claim("f0"), suspect))
        tally.note(_matching(registered, known), len(inputs))
    return tally


def _matching(registered: Registered, known: Sequence[int], family: Family | None = None) -> int:
    """Count what the accuser knows beforehand: the triggers that the accused answers with the drawn label."""
    chosen = slice(family.start, family.end) if family else slice(None)
    return sum(a == b for a, b in zip(registered.labels[chosen], known[chosen], strict=True))


def grinding(liars: Accusers, innocent: Innocent) -> Tally:
    """Register again and again, and file every family, the one that matches best first."""
    tally, suspect = Tally(), suspect_of(innocent.network)
    inputs = liars.noise[:GROUND]
    known = classes_of(innocent.network, inputs)
    for _ in range(liars.scale.registrations):
        registered = liars.register(inputs, GROUND_FAMILIES)
        families = registered.statement.families
        best = sorted(families, key=lambda family: -_matching(registered, known, family))
        for ordinal, family in enumerate(best, start=1):
            tally.add(play(registered, Claim(family.name, ordinal=ordinal, number=ordinal), suspect))
            accepts = tally.note(_matching(registered, known, family), family.size)
            tally.add_paper(accepts=accepts)
    return tally


def tiny_families(liars: Accusers, innocent: Innocent) -> Tally:
    """Grind with families of two triggers, and file those that match: the paper names no least number."""
    tally = Tally()
    inputs = liars.noise[:TRIGGERS]
    known = classes_of(innocent.network, inputs)
    for _ in range(liars.scale.registrations):
        registered = liars.register(inputs, TRIGGERS // TINY)
        for family in registered.statement.families:
            accepts = tally.note(_matching(registered, known, family), family.size)
            tally.add_paper(accepts=accepts)
            claim = Claim(family.name)
            if accepts and is_refused(file_claim(registered, claim)):
                tally.add_refused()
            elif accepts:
                tally.add(play(registered, claim, suspect_of(innocent.network)))
    return tally


class Withholder(Claimant):
    """Who knows which triggers match, and keeps the others back as far as three in a row do not end the dispute."""

    def __init__(self, matching: frozenset[int], *, labels: bool) -> None:
        self.matching, self.labels = matching, labels

    def opens_inputs(self, indices: Sequence[int], withheld_in_a_row: int) -> bool:
        """Keep inputs back."""
        return self.labels or self._opens(indices, withheld_in_a_row)

    def opens_labels(self, indices: Sequence[int], withheld_in_a_row: int) -> bool:
        """Keep labels back, after the question was asked."""
        return not self.labels or self._opens(indices, withheld_in_a_row)

    def _opens(self, indices: Sequence[int], withheld_in_a_row: int) -> bool:
        return withheld_in_a_row == 2 or bool(self.matching & set(indices))


class Withdrawer(Claimant):
    """Who withdraws as soon as a block leaves less evidence than there was at the start."""

    def withdraws(self, so_far: Assessment) -> bool:
        """Withdraw if E is below 1."""
        above, below = so_far.decision.walk.evidence
        return above < below


def _withholding(liars: Accusers, innocent: Innocent, *, labels: bool) -> Tally:
    tally, suspect = Tally(), suspect_of(innocent.network)
    known = classes_of(innocent.network, liars.noise)
    for _ in range(liars.scale.attempts):
        registered = liars.register(liars.noise)
        drawn = enumerate(zip(registered.labels, known, strict=True))
        claimant = Withholder(frozenset(index for index, (a, b) in drawn if a == b), labels=labels)
        played = play(registered, Claim("f0", block_size=1), suspect, claimant=claimant)
        tally.add(played)
        matching = _matching(registered, known)
        tally.note(matching, len(known))
        # The paper says nothing of what is not opened: he shows what matches, and no more.
        tally.add_paper(accepts=is_paper_rule_met(matching, matching))
        # Were it the same here, the walk would see matches only.
        shown = [Step(Outcome.MATCH, 1, CLASSES)] * matching
        tally.unpaid += highest_log2_e(shown) >= played.log2_t
    return tally


def withholding_inputs(liars: Accusers, innocent: Innocent) -> Tally:
    """Open one trigger at a time, and only those that match."""
    return _withholding(liars, innocent, labels=False)


def withholding_labels(liars: Accusers, innocent: Innocent) -> Tally:
    """Have every trigger asked, and open the labels of those that match."""
    return _withholding(liars, innocent, labels=True)


def withdrawing(liars: Accusers, innocent: Innocent) -> Tally:
    """Withdraw when it goes badly, and file the next family, best first."""
    tally, suspect = Tally(), suspect_of(innocent.network)
    known = classes_of(innocent.network, liars.noise)
    for _ in range(liars.scale.attempts):
        registered = liars.register(liars.noise, GROUND_FAMILIES)
        families = registered.statement.families
        best = sorted(families, key=lambda family: -_matching(registered, known, family))
        for ordinal, family in enumerate(best, start=1):
            claim = Claim(family.name, ordinal=ordinal, number=ordinal, block_size=4)
            tally.add(play(registered, claim, suspect, claimant=Withdrawer()))
            tally.note(_matching(registered, known, family), family.size)
    return tally


def _fitting(name: str) -> Accuser:
    fitter = FITTERS[name]

    def accuser(liars: Accusers, innocent: Innocent) -> Tally:
        tally = Tally()
        inputs = liars.noise[:TRIGGERS]
        for _ in range(liars.scale.attempts):
            registered = liars.register(inputs)
            fitted = fitter(registered, innocent.network)
            played = play(registered, Claim("f0", interface=fitted.interface), fitted.suspect, claimant=HONEST)
            tally.add(played)
            tally.add_paper(accepts=tally.note(fitted.matches, len(inputs)))
            free = decide(replace(played.assessment.case, interface_bits=0))
            tally.unpaid += free.verdict == "CONFIRMED"
        return tally

    return accuser


ACCUSERS: dict[str, Accuser] = {
    "adversarial": adversarial,
    "surrogate_labels": surrogate_labels,
    "copied_answers": copied_answers,
    "grinding": grinding,
    "tiny_families": tiny_families,
    "withholding_inputs": withholding_inputs,
    "withholding_labels": withholding_labels,
    "withdrawing": withdrawing,
    **{f"fitting_{name}": _fitting(name) for name in FITTERS},
}


def false_claim_figures(scale: Scale) -> dict[str, Any]:
    """Let every accuser accuse every innocent network."""
    liars, accused = prepare(scale), innocents(scale.each)
    told: dict[str, dict[str, Any]] = {}
    totals: dict[str, Any] = {}
    for name, accuser in ACCUSERS.items():
        by_kind: dict[str, Tally] = {}
        for innocent in accused:
            say(f"{name} against {innocent.kind}")
            by_kind.setdefault(innocent.kind, Tally()).merge(accuser(liars, innocent))
        together = Tally()
        for tally in by_kind.values():
            together.merge(tally)
        told[name] = {kind: tally.figures() for kind, tally in by_kind.items()}
        totals[name] = together.figures()
    return {
        "accuracy": accuracy_by_kind(accused),
        "by_kind": told,
        "accusers": totals,
        "claims": sum(row["claims"] for row in totals.values()),
        "false_claims_confirmed": sum(row["class_a_confirmed"] for row in totals.values()),
        "paper_rule_accepts": sum(row["paper_rule_accepts"] for row in totals.values()),
    }


def accuracy_by_kind(accused: Sequence[Innocent]) -> dict[str, float]:
    """Give the mean task accuracy of each kind of innocent network."""
    kinds = dict.fromkeys(one.kind for one in accused)
    return {kind: round(fmean(one.accuracy for one in accused if one.kind == kind), 4) for kind in kinds}
