"""From a transcript and its openings to a verdict with its reason, and to the figures that are reported with it.

The order in which verdicts apply is the protocol's: VOID, CONFIRMED, NON_COOPERATIVE, NOT_SUPPORTED, INCONCLUSIVE; class B
knows neither CONFIRMED nor evidence and says INDICATIVE at most. Service and auditor call `decide` on the same values.

Invariants: pure; exact integers; the figures never change the verdict.
Source: protocol.md sections 6 and 8; Adi et al. 2018 section 4 (Verify step 3, the paper's rule).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import isqrt
from typing import Any

from app.canonical import Record, as_form, integer, lp, sha256, tag, u32
from app.keys.labels import draw_label
from app.protocol.evidence import (
    Outcome,
    Step,
    Walk,
    clopper_pearson_lower,
    decimal_text,
    exact_tail,
    fisher_tail,
    log2_text,
    threshold,
    walk,
)

# Both tests of cooperation decide at one in 2^20, one-sided.
COOPERATION_BITS = 20

PLACEBOS = 1000

# The paper's tolerance: at most one answer in ten may differ.
PAPER_RULE = (9, 10)


@dataclass(frozen=True)
class Trial:
    """One asked trigger: its step, and what its look-alike and the repeated questions came to.

    `answered_twice`: (differs, look-alike differs) where both were asked twice and answered twice, else None.
    """

    index: int
    step: Step
    look_alike_answered: bool
    differs: tuple[bool | None, bool | None] = (None, None)


@dataclass(frozen=True)
class Case:
    """Everything a verdict depends on, trials in challenge order.

    `end`: why no further block was asked: `walk` (the walk ended), `exhausted`, `budget`, `withheld` or `withdrawn`.
    `void`: the reason code of a failed check, or "".
    """

    assurance_class: str
    classes: int
    bits: int
    interface_bits: int
    families: int
    ordinal: int
    trials: tuple[Trial, ...]
    covers_asked: int
    covers_answered: int
    end: str
    void: str = ""

    @property
    def bound(self) -> int:
        """Give T."""
        return threshold(self.bits, self.interface_bits, self.families, self.ordinal)

    def walk(self) -> Walk:
        """Walk the evidence; class B has no bounds and is walked to its last trigger."""
        steps = [trial.step for trial in self.trials]
        if self.assurance_class == "A":
            return walk(steps, self.bound)
        matches = sum(step.is_match for step in steps)
        return Walk(None, len(steps), matches, (1, 1), (1, 1))


@dataclass(frozen=True)
class Decision:
    """A verdict, its reason code, and the walk it rests on."""

    verdict: str
    reason: str
    walk: Walk

    @property
    def paper_rule(self) -> bool:
        """Tell whether the paper's own rule would accept."""
        return is_paper_rule_met(self.walk.matches, self.walk.asked)


def is_paper_rule_met(matches: int, asked: int) -> bool:
    """Tell whether at most one answer in ten differs (and something was asked)."""
    return asked > 0 and PAPER_RULE[1] * matches >= PAPER_RULE[0] * asked


def decide(case: Case) -> Decision:
    """Decide a dispute: the first verdict that applies, with its reason code."""
    ended = case.walk()
    if case.void:
        return Decision("VOID", case.void, ended)
    if ended.end == "CONFIRMED":
        return Decision("CONFIRMED", "evidence", ended)
    if reason := _uncooperative(case):
        return Decision("NON_COOPERATIVE", reason, ended)
    if ended.end == "NOT_SUPPORTED":
        return Decision("NOT_SUPPORTED", "futile", ended)
    if reason := _inconclusive(case):
        return Decision("INCONCLUSIVE", reason, ended)
    met = is_paper_rule_met(ended.matches, ended.asked)
    return Decision("INDICATIVE" if met else "NOT_SUPPORTED", "paper_rule", ended)


def _inconclusive(case: Case) -> str:
    if 2 * case.covers_answered < case.covers_asked:
        return "unreachable"
    # Class B asks every trigger, so being exhausted is its ordinary end.
    return case.end if case.assurance_class == "A" or case.end in ("withheld", "withdrawn") else ""


def _uncooperative(case: Case) -> str:
    for reason, (ways, total) in cooperation_tests(case).items():
        if ways << COOPERATION_BITS <= total:
            return reason
    return ""


def cooperation_tests(case: Case) -> dict[str, tuple[int, int]]:
    """Give the p-values of both tests: triggers less often answered, or less steadily, than their look-alikes."""
    asked = [trial for trial in case.trials if trial.step.outcome is not Outcome.WITHHELD]
    unanswered = sum(trial.step.outcome is Outcome.NO_ANSWER for trial in asked)
    look_alikes_unanswered = sum(not trial.look_alike_answered for trial in asked)
    twice = [trial.differs[0] for trial in asked if trial.differs[0] is not None]
    look_alikes_twice = [trial.differs[1] for trial in asked if trial.differs[1] is not None]
    return {
        "selective_silence": fisher_tail(unanswered, len(asked), look_alikes_unanswered, len(asked)),
        "selective_wavering": fisher_tail(sum(twice), len(twice), sum(look_alikes_twice), len(look_alikes_twice)),
    }


def placebo_matches(salt: bytes, classes: int, answers: Sequence[tuple[int, bytes, frozenset[int]]]) -> list[int]:
    """Count the matches of 1000 placebo beacons on the same answers: (index, label key, classes answered) each."""
    counts = []
    for number in range(PLACEBOS):
        placebo = sha256(lp(tag("placebo"), salt, u32(number)))
        counts.append(sum(draw_label(placebo, key, index, classes) in group for index, key, group in answers))
    return counts


def is_placebo_sum_odd(counts: Sequence[int], chances: Sequence[Fraction]) -> bool:
    """Tell whether the placebos' sum lies more than six standard deviations from its mean; reported, never decisive."""
    distance = abs(sum(counts) - PLACEBOS * sum(chances, Fraction(0)))
    variance = PLACEBOS * sum((p * (1 - p) for p in chances), Fraction(0))
    return distance * distance > 36 * variance


@dataclass(frozen=True)
class Standing(Record):
    """How many registrations and filings the log held at the verdict's tree size, as the service counted them."""

    tree_size: int = field(metadata=as_form(integer(0)))
    registrations: int = field(metadata=as_form(integer(0)))
    filings: int = field(metadata=as_form(integer(0)))


def figures(
    case: Case,
    decision: Decision,
    standing: Standing,
    placebos: Sequence[int],
    chances: Sequence[Fraction],
) -> dict[str, Any]:
    """Give every reported figure as canonical JSON values (decimals are strings)."""
    ended = decision.walk
    steps = [trial.step for trial in case.trials[: ended.asked]]
    common: dict[str, Any] = {
        "verdict": decision.verdict,
        "reason": decision.reason,
        "assurance_class": case.assurance_class,
        "asked": ended.asked,
        "matches": ended.matches,
        "answered": sum(step.outcome in (Outcome.MATCH, Outcome.MISMATCH) for step in steps),
        "no_answer": sum(step.outcome is Outcome.NO_ANSWER for step in steps),
        "withheld": sum(step.outcome is Outcome.WITHHELD for step in steps),
        "covers_asked": case.covers_asked,
        "covers_answered": case.covers_answered,
        "paper_rule": {"met": decision.paper_rule, "natural_class_check": "not made"},
        "cooperation": {name: _minus_log2(p) for name, p in cooperation_tests(case).items()},
        "bits": case.bits,
        "interface_bits": case.interface_bits,
        "families": case.families,
        "ordinal": case.ordinal,
        "end": case.end,
        "standing": standing.to_json(),
    }
    if case.assurance_class == "B":
        return common
    return common | _class_a_figures(case, ended, steps, standing) | {"placebos": _placebo_figures(placebos, chances)}


def _class_a_figures(case: Case, ended: Walk, steps: Sequence[Step], standing: Standing) -> dict[str, Any]:
    tail = exact_tail(steps, ended.matches)
    evidence, seen = ended.evidence, standing.registrations * standing.filings
    return {
        "log2_e": ended.log2_e,
        "log2_threshold": log2_text(case.bound, 1),
        "log2_f": log2_text(*ended.futility),
        "log2_e_corrected": log2_text(evidence[0], evidence[1] * max(seen, 1)),
        "tail": {
            "fraction": f"{tail[0]}/{tail[1]}",
            "minus_log2": _minus_log2(tail),
            "note": "valid only had n been fixed beforehand",
        },
        "match_rate_lower": clopper_pearson_lower(ended.matches, ended.asked),
    }


def _placebo_figures(counts: Sequence[int], chances: Sequence[Fraction]) -> dict[str, Any]:
    histogram = [counts.count(matches) for matches in range(max(counts, default=0) + 1)]
    mean = sum(chances, Fraction(0))
    variance = sum((p * (1 - p) for p in chances), Fraction(0))
    return {
        "histogram": histogram,
        "expected_mean": decimal_text(mean.numerator, mean.denominator),
        "expected_deviation": decimal_text(isqrt(int(variance * 10**12)), 10**6),
        "is_odd": is_placebo_sum_odd(counts, chances),
    }


def _minus_log2(p: tuple[int, int]) -> str:
    return "inf" if p[0] == 0 else log2_text(p[1], p[0])
