"""Liars who know every label and have tried the endpoint in private, against the rules that keep them out."""

from fractions import Fraction

import pytest

from app.canonical import sha256, u32
from app.keys.labels import draw_label
from app.keys.trigger_set import Family
from app.protocol.challenge import challenge_order
from app.protocol.evidence import FUTILITY_BOUND, Outcome, Step, futility_path, threshold, walk

CLASSES = 10
FAMILY = Family("all", 0, 600)


def answer(index: int) -> int:
    """An innocent endpoint: it answers as it likes, and knows no label."""
    return sha256(b"innocent" + u32(index))[0] % CLASSES


def matches(salt: bytes) -> dict[int, bool]:
    """What the liar knows before filing: which of his triggers the endpoint happens to match."""
    return {
        index: draw_label(salt, sha256(b"label key" + u32(index)), index, CLASSES) == answer(index)
        for index in range(FAMILY.start, FAMILY.end)
    }


def walk_over(order: list[int], known: dict[int, bool], ordinal: int) -> str | None:
    steps = [Step(Outcome.MATCH if known[index] else Outcome.MISMATCH, 1, CLASSES) for index in order]
    return walk(steps, threshold(64, 8, 1, ordinal)).end


@pytest.mark.parametrize("ordinal", [1, 10])
def test_a_liar_who_may_choose_what_is_left_to_ask_would_be_confirmed(ordinal: int) -> None:
    known = matches(sha256(b"salt"))
    left = [index for index in challenge_order(sha256(b"seed"), FAMILY) if known[index]]
    assert walk_over(left, known, ordinal) == "CONFIRMED"


def test_a_family_asked_once_and_whole_never_confirms_an_innocent_endpoint() -> None:
    ends = [
        walk_over(challenge_order(sha256(b"seed" + u32(n)), FAMILY), matches(sha256(b"salt" + u32(n))), 1)
        for n in range(40)
    ]
    assert set(ends) == {"NOT_SUPPORTED"}


def undecided(count: int) -> Fraction:
    """The exact chance that an innocent endpoint is not let go within so many triggers."""
    step_up, step_down = (
        Fraction(*next(futility_path([Step(outcome, 1, CLASSES)]))) for outcome in (Outcome.MATCH, Outcome.MISMATCH)
    )
    chances = {0: Fraction(1)}  # by number of matches, of those still walking
    for asked in range(1, count + 1):
        after: dict[int, Fraction] = {}
        for matches, chance in chances.items():
            after[matches + 1] = after.get(matches + 1, Fraction()) + chance / CLASSES
            after[matches] = after.get(matches, Fraction()) + chance * (CLASSES - 1) / CLASSES
        chances = {
            matches: chance
            for matches, chance in after.items()
            if step_up**matches * step_down ** (asked - matches) * FUTILITY_BOUND > 1
        }
    return sum(chances.values(), Fraction())


def test_how_many_innocent_endpoints_are_let_go_in_time() -> None:
    # README and the demonstration say so: one in 35 is undecided after 128 triggers, one in 5,400 after 256.
    assert round(1 / undecided(128)) == 35
    assert round(1 / undecided(256), -2) == 5_400
