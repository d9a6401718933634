"""The figures reported with a verdict, and what a verdict says and does not say.

None of them changes a verdict. Service and auditor compute them by the same functions, so a report is part of the evidence
and one changed digit is found.

Invariants: pure; canonical JSON values only, decimals as strings; class B has no evidence, tail or placebos.
Source: docs/protocol.md sections 8.4 (reported always) and 10 (what a verdict says).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import isqrt
from typing import Any, Final

from app.canonical import Record, as_form, choice, integer, lp, sha256, tag, text, u32
from app.keys.labels import draw_label
from app.protocol.evidence import (
    Outcome,
    Step,
    Walk,
    clopper_pearson_lower,
    decimal_text,
    exact_tail,
    log2_text,
)
from app.protocol.verdict import Case, Decision, cooperation_tests

PLACEBOS = 1000

SAYS: Final = {
    "CONFIRMED": (
        "Between the times of its first and its last query the endpoint answered the committed inputs in agreement with "
        "labels that public randomness drew after the commitment, to a degree that an endpoint independent of those labels "
        "shows with probability at most 2^-bits."
    ),
    "INDICATIVE": (
        "The endpoint answered at least nine in ten of the inputs with labels that the claimant chose before registering "
        "them. Labels that a claimant chooses can be made to fit endpoints it never saw, so this is no proof."
    ),
    "NOT_SUPPORTED": "The answers do not support the claim. This does not say that the endpoint is innocent.",
    "NON_COOPERATIVE": (
        "The endpoint treated the committed inputs otherwise than the same inputs with their tiles shuffled: it was silent, "
        "or wavered, on them alone, to a degree that chance shows less than once in 2^20."
    ),
    "INCONCLUSIVE": "The dispute ended without evidence for either side; the reason says why.",
    "VOID": "A check of the evidence failed, so nothing can be concluded from it; the reason says which.",
}

ASSUMES: Final = (
    "nobody planted inputs with these labels in the endpoint's training data or feedback",
    "the service wrote the answers down truly: TLS gives no proof that can be passed on, only a second querier helps",
)

DOES_NOT_SAY: Final = (
    "theft",
    "intent",
    "absence of a licence",
    "that weights were copied rather than distilled",
    "who runs the address",
    "innocence, where the claim is not supported",
)


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


@dataclass(frozen=True)
class Trust(Record):
    """Which assumptions a verdict rests on.

    The beacon's source, who vouches for time, who fixed the interface, who asked and from how many addresses.
    """

    beacon: str = field(metadata=as_form(text(1, 100)))
    time: str = field(metadata=as_form(choice("operator trusted for time")))
    interface_origin: str = field(metadata=as_form(text(1, 40)))
    queriers: int = field(metadata=as_form(integer(1)))
    egresses: int = field(metadata=as_form(integer(1)))


def figures(
    case: Case,
    decision: Decision,
    standing: Standing,
    placebos: Sequence[int],
    chances: Sequence[Fraction],
    *,
    trust: "Trust",
) -> dict[str, Any]:
    """Give every reported figure as canonical JSON values (decimals are strings)."""
    ended = decision.walk
    steps = [trial.step for trial in case.trials[: ended.asked]]
    common: dict[str, Any] = {
        "verdict": decision.verdict,
        "reason": decision.reason,
        "assurance_class": case.assurance_class,
        "evidence": "ranking" if case.by_ranking else "label",
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
        "trust": trust.to_json(),
        "says": SAYS[decision.verdict],
        "assumes": list(ASSUMES),
        "does_not_say": list(DOES_NOT_SAY),
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
            # Hexadecimal: Python refuses to print longer decimals than 4,300 digits.
            "fraction": f"{tail[0]:#x}/{tail[1]:#x}",
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
