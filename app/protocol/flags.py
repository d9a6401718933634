"""What a report points at beside the verdict: how well covers were answered, and how an endpoint treats what is odd.

Every flag holds its numbers and a sentence. Two tests against look-alikes decide (`verdict`), and nothing here does: an
honest network answers pictures that are none of its task oddly, too, and labels of covers are the claimant's word.

Invariants: pure; the same values give the same flags; never changes a verdict; p-values are Fisher's exact ones, one-sided,
and raise a flag at 2^-20.
Source: reference-soundness section 4.2 (functional check, junk for odd inputs, consistency, vantage points).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from math import comb
from typing import Any, Final

from app.protocol.decimals import power
from app.protocol.evidence import decimal_text, fisher_tail, log2_text
from app.protocol.transcript import Role

FLAG_BITS: Final = 20
KINDS: Final = ("trigger", "look-alike", "cover")

# Accuracy on covers is bounded from both sides at one in a million each.
RISK: Final = 10**6
_SCALE = 1 << 32
_DIGITS = Context(prec=60, Emin=-400_000_000, Emax=400_000_000)

SAYS: Final = {
    "accuracy": (
        "How often covers got the class that the claimant committed to before the labels were drawn. The claimant chose "
        "inputs and classes, so a low rate may be the covers' fault as well as the endpoint's."
    ),
    "silence": (
        "How often a first question got no label. Flagged if triggers or look-alikes were left unanswered more often than "
        "covers: something in front may refuse odd pictures, and an honest endpoint may do so to both alike."
    ),
    "wavering": (
        "How often a question asked twice got two answers. Flagged if triggers or look-alikes wavered more often than covers."
    ),
    "second_egress": (
        "The same where the second asking left from another address of the service: an endpoint that knows who asks may "
        "answer each address otherwise."
    ),
    "one_answer": (
        "How often the most frequent answer to look-alikes was given to look-alikes and to covers. Flagged if look-alikes "
        "got it more often: odd pictures may be answered by rule. Many honest networks favour a class for them, too."
    ),
    "elsewhere": (
        "How many answers came from an address, and how many under a certificate, that was not seen while the interface was "
        "derived."
    ),
}


@dataclass(frozen=True)
class Said:
    """One question of a finished block: its role, the labels in the answer, and the classes that they map to."""

    role: Role
    labels: tuple[str, ...]
    classes: frozenset[int]
    address: str
    certificate: bytes


def flags(
    said: Sequence[Said], labels: Sequence[int] | None, egresses: int, derived_at: tuple[set[str], set[bytes]] | None
) -> dict[str, Any]:
    """Give every flag as canonical JSON values; those that were not measured are null.

    `labels` are the committed covers' classes; `derived_at` the addresses and certificates seen at the derivation.
    """
    first = {kind: [one for one in said if one.role.kind == kind and not one.role.repeat] for kind in KINDS}
    pairs = {kind: _pairs(said, kind) for kind in KINDS}
    return {
        "covers": {"asked": len(first["cover"]), "distinct": len({one.role.index for one in first["cover"]})},
        "accuracy": None if labels is None else _accuracy(first["cover"], labels),
        "silence": _compared("silence", {kind: _rate(not one.labels for one in first[kind]) for kind in KINDS}),
        "wavering": _compared(
            "wavering", {kind: _rate(a.labels != b.labels for a, b in pairs[kind]) for kind in KINDS}
        ),
        "second_egress": _second_egress(pairs, egresses),
        "one_answer": _one_answer(first["look-alike"], first["cover"]),
        "elsewhere": None if derived_at is None else _elsewhere(said, *derived_at),
    }


def _pairs(said: Iterable[Said], kind: str) -> list[tuple[Said, Said]]:
    """Give what was asked twice and answered twice; a cover may have been asked first more than once, its first counts."""
    first: dict[int, Said] = {}
    second = []
    for one in said:
        if one.role.kind == kind and not one.role.repeat:
            first.setdefault(one.role.index, one)
        elif one.role.kind == kind:
            second.append(one)
    both = [(first[one.role.index], one) for one in second if one.role.index in first]
    return [(before, after) for before, after in both if before.labels and after.labels]


def _rate(hits: Iterable[bool]) -> tuple[int, int]:
    listed = list(hits)
    return sum(listed), len(listed)


def _compared(name: str, rates: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    p = {kind: fisher_tail(*rates[kind], *rates["cover"]) for kind in KINDS[:2]}
    return {
        "counts": {kind: {"hits": hits, "of": of} for kind, (hits, of) in rates.items()},
        "minus_log2_p": {kind: log2_text(total, ways) for kind, (ways, total) in p.items()},
        "is_flagged": any(ways << FLAG_BITS <= total for ways, total in p.values()),
        "says": SAYS[name],
    }


def _second_egress(pairs: Mapping[str, list[tuple[Said, Said]]], egresses: int) -> dict[str, Any] | None:
    if egresses < 2:
        return None
    return _compared("second_egress", {kind: _rate(a.labels != b.labels for a, b in pairs[kind]) for kind in KINDS})


def _one_answer(look_alikes: Sequence[Said], covers: Sequence[Said]) -> dict[str, Any] | None:
    given = Counter(one.labels for one in look_alikes if one.labels)
    if not given:
        return None
    answer = min(given, key=lambda labels: (-given[labels], labels))
    odd = (given[answer], given.total())
    ordinary = (sum(one.labels == answer for one in covers), sum(bool(one.labels) for one in covers))
    ways, total = fisher_tail(*odd, *ordinary)
    # The answer was picked for being frequent, so each that was given had its chance.
    ways *= len(given)
    return {
        "counts": {
            "look-alike": {"hits": odd[0], "of": odd[1]},
            "cover": {"hits": ordinary[0], "of": ordinary[1]},
        },
        "answers": len(given),
        "minus_log2_p": "0" if ways >= total else log2_text(total, ways),
        "is_flagged": ways << FLAG_BITS <= total,
        "says": SAYS["one_answer"],
    }


def _accuracy(covers: Sequence[Said], labels: Sequence[int]) -> dict[str, Any]:
    first: dict[int, Said] = {}
    for one in covers:
        if one.role.index < len(labels):
            first.setdefault(one.role.index, one)
    answered = [one for one in first.values() if one.classes]
    correct = sum(labels[one.role.index] in one.classes for one in answered)
    return {
        "correct": correct,
        "answered": len(answered),
        "asked": len(first),
        "lower": decimal_text(rate_below(correct, len(answered)), _SCALE),
        "upper": decimal_text(_SCALE - rate_below(len(answered) - correct, len(answered)), _SCALE),
        "says": SAYS["accuracy"],
    }


def _elsewhere(said: Sequence[Said], addresses: set[str], certificates: set[bytes]) -> dict[str, Any]:
    answered = [one for one in said if one.labels]
    return {
        "answered": len(answered),
        "other_address": sum(one.address not in addresses for one in answered),
        "other_certificate": sum(one.certificate not in certificates for one in answered),
        "says": SAYS["elsewhere"],
    }


def rate_below(hits: int, of: int) -> int:
    """Give the one-sided lower Clopper-Pearson bound at 1 - 10^-6 in units of 2^-32, rounded down.

    Decimals of 60 digits stand in for the integers of `evidence.clopper_pearson_lower`, which would take minutes for as many
    questions as covers.
    """
    low, high = 0, _SCALE
    while high - low > 1 and hits:
        middle = (low + high) // 2
        low, high = (middle, high) if _DIGITS.multiply(_tail(hits, of, middle), Decimal(RISK)) <= 1 else (low, middle)
    return low


def _tail(hits: int, of: int, rate: int) -> Decimal:
    """P[at least `hits` of `of`] at `rate` * 2^-32; what is below 10^-40 of the sum is left out."""
    times, divided = _DIGITS.multiply, _DIGITS.divide
    chance, miss = divided(Decimal(rate), Decimal(_SCALE)), divided(Decimal(_SCALE - rate), Decimal(_SCALE))
    term = times(Decimal(comb(of, hits)), times(power(_DIGITS, chance, hits), power(_DIGITS, miss, of - hits)))
    total = term
    for j in range(hits, of):
        term = divided(times(term, Decimal((of - j) * rate)), Decimal((j + 1) * (_SCALE - rate)))
        total = _DIGITS.add(total, term)
        if j * (_SCALE - rate) > of * rate and times(term, Decimal(10**40)) < total:
            break
    return total
