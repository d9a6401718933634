"""Evidence from a ranking: where the drawn label stands among all classes that an endpoint ranks.

Under independence the rank of a label drawn afterwards is uniform on 1..K, whatever the ranking. E bets on the first ranks:
a mixture of 199 geometric densities q over them, each with mean 1 under independence, so Ville's inequality holds as for
labels. A partial ranking pays the mean of what its missing classes would have.

Invariants: decimals of 60 digits, half-even, computed in the order written here, so that every machine gets the same ones;
powers by squaring from the highest bit. What was withheld or not answered counts as the last rank, the least that any
answer could bring: a claimant who knows the labels gains nothing by making an endpoint silent.
Source: docs/protocol.md section 8.1 (ranking evidence); reference for such bets: Waudby-Smith and Ramdas 2020.
"""

from collections.abc import Iterable, Iterator
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache

from app.protocol.decimals import power
from app.protocol.evidence import Outcome, Step

# theta = t/398 for odd t, as the bets on labels.
THETA_DENOMINATOR = 398
_CONTEXT = Context(prec=60, rounding=ROUND_HALF_EVEN, Emin=-400_000_000, Emax=400_000_000)
_THETAS = tuple(_CONTEXT.divide(Decimal(t), Decimal(THETA_DENOMINATOR)) for t in range(1, THETA_DENOMINATOR, 2))
_ONE = Decimal(1)


def ranking_path(steps: Iterable[Step]) -> Iterator[tuple[int, int]]:
    """Give E after each step as a fraction, exactly the decimal that it is."""
    bets = [_ONE] * len(_THETAS)
    for step in steps:
        bets = [_CONTEXT.multiply(bet, factor) for bet, factor in zip(bets, factors(step), strict=True)]
        total = Decimal(0)
        for bet in bets:
            total = _CONTEXT.add(total, bet)
        yield _CONTEXT.divide(total, Decimal(len(_THETAS))).as_integer_ratio()


def can_rank_reach(bound: int, triggers: int, classes: int) -> bool:
    """Tell whether a family of so many triggers reaches T if the drawn label is first in every ranking."""
    first = Step(Outcome.MATCH, 1, classes, rank=1, ranked=classes)
    return any(
        above >= bound * below for above, below in ranking_path([first] * min(triggers, 2 * bound.bit_length() + 64))
    )


def factors(step: Step) -> tuple[Decimal, ...]:
    """Give what each of the 199 bets is multiplied by."""
    if step.outcome in (Outcome.NO_ANSWER, Outcome.WITHHELD):
        return _of_rank(step.classes, step.classes)
    if step.rank is not None:
        return _of_rank(step.rank, step.classes)
    return _of_missing(step.ranked, step.classes)


@lru_cache(maxsize=4096)
def _of_rank(rank: int, classes: int) -> tuple[Decimal, ...]:
    """K q(R), q(r) = (1 - theta) theta^(r-1) / (1 - theta^K)."""
    times = _CONTEXT.multiply
    return tuple(
        times(Decimal(classes), _CONTEXT.divide(times(_CONTEXT.subtract(_ONE, theta), power), rest))
        for theta, power, rest in zip(_THETAS, _powers(rank - 1), _rests(classes), strict=True)
    )


@lru_cache(maxsize=4096)
def _of_missing(ranked: int, classes: int) -> tuple[Decimal, ...]:
    """K (1 - q(1) - ... - q(m)) / (K - m); the sum is (1 - theta^m) / (1 - theta^K)."""
    share = _CONTEXT.divide(Decimal(classes), Decimal(classes - ranked))
    return tuple(
        _CONTEXT.multiply(share, _CONTEXT.divide(_CONTEXT.subtract(power, last), rest))
        for power, last, rest in zip(_powers(ranked), _powers(classes), _rests(classes), strict=True)
    )


@lru_cache(maxsize=16)
def _rests(classes: int) -> tuple[Decimal, ...]:
    return tuple(_CONTEXT.subtract(_ONE, power) for power in _powers(classes))


@lru_cache(maxsize=4096)
def _powers(exponent: int) -> tuple[Decimal, ...]:
    return tuple(power(_CONTEXT, theta, exponent) for theta in _THETAS)
