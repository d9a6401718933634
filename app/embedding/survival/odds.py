"""What a dispute would come to, computed beforehand and exactly, from how many of a family's triggers match.

The protocol's evidence depends on two numbers alone while every answer is one class: how many triggers were asked and how
many matched. So a dispute is a walk of that pair between two bounds, and its odds follow step by step, with no simulation.

Invariants: the bounds are the protocol's own, in exact integers; only probabilities are floats, and none decides a dispute.
Source: docs/protocol.md section 8.1; docs/survival.md for the two questions (this network; one like it).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from app.protocol.evidence import BET_DENOMINATOR, BETS, FUTILITY_BOUND

# Triggers of one family that are planned with; exact bounds beyond take seconds, and a mark that needs more is nearly gone.
MAX_PLANNED = 2_048


@dataclass(frozen=True)
class Bounds:
    """After n triggers (from 1, at index n - 1): confirmed from so many matches on, futile up to so many.

    Beyond reach: n + 1 to be confirmed, -1 to be futile.
    """

    confirmed: tuple[int, ...]
    futile: tuple[int, ...]


@dataclass(frozen=True)
class Odds:
    """Probability of CONFIRMED; mean triggers asked given that it is (0 if it cannot be), and given that it is not."""

    confirmed: float
    asked_if_confirmed: float
    asked_otherwise: float


@lru_cache(maxsize=256)
def bounds(triggers: int, classes: int, bound: int) -> Bounds:
    """Give the walk's bounds for T = `bound`, up to MAX_PLANNED triggers."""
    most = min(triggers, MAX_PLANNED)
    return Bounds(tuple(_confirmed_from(most, classes, bound)), tuple(_futile_up_to(most, classes)))


def _confirmed_from(triggers: int, classes: int, bound: int) -> list[int]:
    # A miss lowers E, so the least number of matches never falls; a match in a miss's place is one factor for another.
    misses = [BET_DENOMINATOR - t for t in BETS]
    hits = [BET_DENOMINATOR - t + t * classes for t in BETS]
    products, goal, matches, least = [1] * len(BETS), bound * len(BETS), 0, []
    for asked in range(1, triggers + 1):
        products = [product * miss for product, miss in zip(products, misses, strict=True)]
        goal *= BET_DENOMINATOR
        while matches <= asked and sum(products) < goal:
            matches += 1
            if matches <= asked:
                products = [p // miss * hit for p, miss, hit in zip(products, misses, hits, strict=True)]
        if matches > asked:  # not even all of them: start the next step from all matches
            least.append(asked + 1)
            matches = asked
        else:
            least.append(matches)
    return least


def _futile_up_to(triggers: int, classes: int) -> list[int]:
    hit, limit, matches, most = 7 + 2 * classes, 1, -1, []
    for asked in range(1, triggers + 1):
        limit *= 9
        while matches < asked and FUTILITY_BOUND * hit ** (matches + 1) * 7 ** (asked - matches - 1) <= limit:
            matches += 1
        most.append(matches)
    return most


def odds_of_network(matches: int, triggers: int, classes: int, bound: int) -> Odds:
    """Give the odds for one network that matches on `matches` of the family's triggers, over the challenge's order."""
    if triggers > MAX_PLANNED:  # the first of many triggers in random order are nearly independent
        return odds_at_rate(matches / triggers, triggers, classes, bound)
    return _walk(bounds(triggers, classes, bound), lambda asked, seen: (matches - seen) / (triggers - asked))


def odds_at_rate(rate: float, triggers: int, classes: int, bound: int) -> Odds:
    """Give the odds for a network whose triggers match independently with probability `rate`."""
    return _walk(bounds(triggers, classes, bound), lambda _asked, _seen: rate)


def _walk(limits: Bounds, chance: Callable[[int, int], float]) -> Odds:
    """Carry the probability of every (asked, matches) still undecided; `chance` is that the next trigger matches."""
    alive = {0: 1.0}
    confirmed = asked_confirmed = asked_otherwise = 0.0
    for asked, (enough, too_few) in enumerate(zip(limits.confirmed, limits.futile, strict=True), start=1):
        after: dict[int, float] = {}
        for seen, probability in alive.items():
            hit = min(max(chance(asked - 1, seen), 0.0), 1.0)
            for matches, share in ((seen + 1, probability * hit), (seen, probability * (1 - hit))):
                if share > 0:
                    after[matches] = after.get(matches, 0.0) + share
        alive = {}
        for matches, probability in after.items():
            if matches >= enough:
                confirmed += probability
                asked_confirmed += asked * probability
            elif matches <= too_few:
                asked_otherwise += asked * probability
            else:
                alive[matches] = probability
    undecided = sum(alive.values())
    asked_otherwise += len(limits.confirmed) * undecided
    rest = 1.0 - confirmed
    return Odds(
        confirmed=min(confirmed, 1.0),
        asked_if_confirmed=asked_confirmed / confirmed if confirmed else 0.0,
        asked_otherwise=asked_otherwise / rest if rest > 1e-12 else 0.0,
    )


def one_after_another(filings: Sequence[Odds]) -> Odds:
    """Give the odds of filing for one family after the other until one is confirmed."""
    reached, confirmed, asked_confirmed, asked_before = 1.0, 0.0, 0.0, 0.0
    for odds in filings:
        confirmed += reached * odds.confirmed
        asked_confirmed += reached * odds.confirmed * (asked_before + odds.asked_if_confirmed)
        asked_before += odds.asked_otherwise
        reached *= 1.0 - odds.confirmed
    return Odds(
        confirmed=min(confirmed, 1.0),
        asked_if_confirmed=asked_confirmed / confirmed if confirmed else 0.0,
        asked_otherwise=asked_before,
    )


def evidence_after(asked: int, matches: int, classes: int) -> tuple[int, int]:
    """Give E as a fraction after so many triggers, each answered with one class, in whatever order."""
    products = [
        (BET_DENOMINATOR - t + t * classes) ** matches * (BET_DENOMINATOR - t) ** (asked - matches) for t in BETS
    ]
    return sum(products), len(BETS) * BET_DENOMINATOR**asked
