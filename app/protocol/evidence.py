"""The walk of the evidence, in exact integers.

E is a mixture of 199 bets against independence: under a beacon drawn after the commitment, no independent endpoint makes it
ever reach T with probability above 1/T (Ville's inequality), whatever its answers. F is the bet of an honest accused; when
it falls to 1/1000 the claim is futile. Whichever bound is crossed first ends the walk.

Invariants: decisions compare integers; decimals are for printing only; steps after the end change nothing.
Source: docs/protocol.md section 8.1; Waudby-Smith and Ramdas 2020 (betting).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from enum import Enum
from math import comb
from typing import Final

# Bets lambda = t/398 for odd t: a uniform mixture over (0, 1).
BET_DENOMINATOR = 398
BETS: Final = tuple(range(1, 398, 2))

# An honest accused is let go when evidence against the claim reaches a thousand to one.
FUTILITY_BOUND = 1000

# Printing: 60 digits inside, 24 characters outside.
_DIGITS = Context(prec=60)
_PRINTED_CHARACTERS = 24


class Outcome(Enum):
    """What one trigger's question came to."""

    MATCH = "match"
    MISMATCH = "mismatch"
    NO_ANSWER = "no-answer"
    WITHHELD = "withheld"


@dataclass(frozen=True)
class Step:
    """One trigger in the walk: `group` is how many of the `classes` classes the answer covers (at least 1).

    For ranking evidence: the answer ranks `ranked` classes, the drawn label is the `rank`-th of them, or None of them.
    """

    outcome: Outcome
    group: int
    classes: int
    rank: int | None = None
    ranked: int = 0

    @property
    def is_match(self) -> bool:
        """Tell whether the drawn label was in the answer."""
        return self.outcome is Outcome.MATCH


@dataclass(frozen=True)
class Walk:
    """Where a walk ended: `end` is CONFIRMED, NOT_SUPPORTED or None, after `asked` steps with `matches` matches."""

    end: str | None
    asked: int
    matches: int
    evidence: tuple[int, int]
    futility: tuple[int, int]

    @property
    def log2_e(self) -> str:
        """Print log2 of E at the end of the walk."""
        return log2_text(*self.evidence)


def threshold(bits: int, interface_bits: int, families: int, ordinal: int, *, ranking: bool = False) -> int:
    """Give T = 2^(bits + interface_bits) * families * ordinal * (ordinal + 1), for rankings times families again.

    A claimant who chooses between labels and ranking has two chances. A family is asked once, so label filings of B families
    use up B/(B + 1) of the error allowed; ranking filings at B times the threshold use the rest, 1/(B + 1).
    """
    bound: int = (1 << (bits + interface_bits)) * families * ordinal * (ordinal + 1)
    return bound * families if ranking else bound


# Gives E after each step as a fraction.
Path = Callable[[Iterable["Step"]], Iterator[tuple[int, int]]]


def walk(steps: Iterable[Step], bound: int, evidence_of: Path | None = None) -> Walk:
    """Walk the steps in challenge order until E reaches `bound`, F falls to 1/1000, or they are exhausted.

    `evidence_of` gives E; by default from labels (`ranking.ranking_path` is the other).
    """
    steps = tuple(steps)
    matches = 0
    evidence = futility = (1, 1)
    path = zip(steps, (evidence_of or evidence_path)(steps), futility_path(steps), strict=True)
    for asked, (step, evidence, futility) in enumerate(path, start=1):
        matches += step.is_match
        if evidence[0] >= bound * evidence[1]:
            return Walk("CONFIRMED", asked, matches, evidence, futility)
        if futility[0] * FUTILITY_BOUND <= futility[1]:
            return Walk("NOT_SUPPORTED", asked, matches, evidence, futility)
    return Walk(None, len(steps), matches, evidence, futility)


def evidence_path(steps: Iterable[Step]) -> Iterator[tuple[int, int]]:
    """Give E after each step as a fraction."""
    bets = [1] * len(BETS)
    denominator = len(BETS)
    for step in steps:
        bets = [bet * _bet_factor(t, step) for t, bet in zip(BETS, bets, strict=True)]
        denominator *= BET_DENOMINATOR * (step.group if step.is_match else 1)
        yield sum(bets), denominator


def futility_path(steps: Iterable[Step]) -> Iterator[tuple[int, int]]:
    """Give F after each step as a fraction."""
    numerator = denominator = 1
    for step in steps:
        up, down = _futility_factor(step)
        numerator, denominator = numerator * up, denominator * down
        yield numerator, denominator


def _bet_factor(t: int, step: Step) -> int:
    # 1 - t/398 + (t/398) X K/g, times the denominator 398 (and g, where X = 1).
    if step.is_match:
        return step.group * (BET_DENOMINATOR - t) + t * step.classes
    return BET_DENOMINATOR - t


def _futility_factor(step: Step) -> tuple[int, int]:
    # 7/9 + (2/9) X K/g; a missing answer is the endpoint's failure, not evidence for it.
    match step.outcome:
        case Outcome.MATCH:
            return 7 * step.group + 2 * step.classes, 9 * step.group
        case Outcome.NO_ANSWER:
            return 1, 1
        case _:
            return 7, 9


def can_reach(bound: int, triggers: int, classes: int) -> bool:
    """Tell whether a family of so many triggers reaches T if every one matches."""
    # Matches alone make E grow at every step, the boldest bet by 1.99 (K = 2) or more: after this many steps it is past T.
    steps = min(triggers, 2 * bound.bit_length() + 64)
    bets: int = sum((BET_DENOMINATOR - t + t * classes) ** steps for t in BETS)
    denominator: int = BET_DENOMINATOR**steps
    return bets >= bound * len(BETS) * denominator


def needed(n: int, classes: int, bits: int) -> int | None:
    """Give the least number of matches in n with false-claim tail at most 2^-bits; for planning, never to decide."""
    tail, total = 0, classes**n
    least: int | None = None
    for matches in range(n, -1, -1):
        tail += comb(n, matches) * (classes - 1) ** (n - matches)
        if tail << bits > total:
            break
        least = matches
    return least


def exact_tail(steps: Iterable[Step], matches: int) -> tuple[int, int]:
    """Give P[at least `matches` matches] of an independent endpoint as a fraction, had n been fixed beforehand.

    A missing or withheld answer cannot match, so its chance is 0; answers of different group sizes make it Poisson-binomial.
    """
    counts = [1]
    denominator = 1
    for step in steps:
        if step.outcome in (Outcome.NO_ANSWER, Outcome.WITHHELD):
            continue
        miss, hit = step.classes - step.group, step.group
        counts = [miss * a + hit * b for a, b in zip([*counts, 0], [0, *counts], strict=True)]
        denominator *= step.classes
    return sum(counts[matches:]), denominator


def clopper_pearson_lower(matches: int, asked: int, risk: int = 10**6) -> str:
    """Print the one-sided lower confidence bound of the match rate at 1 - 1/risk, rounded down to 2^-32."""
    scale = 1 << 32
    low, high = 0, scale
    while high - low > 1 and matches:
        middle = (low + high) // 2
        tail = _binomial_tail(matches, asked, middle, scale - middle)
        low, high = (middle, high) if tail * risk <= scale**asked else (low, middle)
    return decimal_text(low, scale)


def _binomial_tail(matches: int, asked: int, hit: int, miss: int) -> int:
    # Each term from the one before; the division is exact.
    term: int = comb(asked, matches) * hit**matches * miss ** (asked - matches)
    total = term
    for j in range(matches, asked):
        term = term * ((asked - j) * hit) // ((j + 1) * miss)
        total += term
    return total


def fisher_tail(hits: int, of: int, other_hits: int, other_of: int) -> tuple[int, int]:
    """Give the one-sided exact p-value, as a fraction, that the first rate is higher than the second by chance."""
    total_hits = hits + other_hits
    ways = sum(comb(of, j) * comb(other_of, total_hits - j) for j in range(hits, min(of, total_hits) + 1))
    return ways, comb(of + other_of, total_hits)


def log2_text(numerator: int, denominator: int) -> str:
    """Print log2 of a positive fraction as the protocol prints decimals; of zero as `-inf`."""
    if numerator == 0:
        return "-inf"
    value = _DIGITS.subtract(_log2(numerator), _log2(denominator))
    return _cut(value)


def _log2(value: int) -> Decimal:
    # Split off a power of two first: Decimal of a ten-thousand-digit integer is slow, and exact here is free.
    shift = max(value.bit_length() - 256, 0)
    head = _DIGITS.divide(_DIGITS.ln(Decimal(value >> shift)), _DIGITS.ln(Decimal(2)))
    return _DIGITS.add(head, Decimal(shift))


def decimal_text(numerator: int, denominator: int) -> str:
    """Print a fraction positionally, cut to 24 characters."""
    return _cut(_DIGITS.divide(Decimal(numerator), Decimal(denominator)))


def _cut(value: Decimal) -> str:
    if value == 0:
        return "0"
    text = format(value, "f")
    if "." in text:
        text = text[:_PRINTED_CHARACTERS] if text.index(".") < _PRINTED_CHARACTERS else text[: text.index(".")]
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
