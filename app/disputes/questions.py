"""What a block asks: its triggers, their look-alikes and covers, in an order that only the service knows.

Everything follows from the dispute's own secret, so whoever takes a killed worker's block over asks exactly the rest of it.

Where a trigger is asked twice, a cover of its share is too, in place of another cover: so triggers, look-alikes and covers
can be compared in how steadily they are answered, and nothing is asked more for it.

Invariants: pure; numbers `n` run through the dispute without gaps; every trigger stands with its look-alike, both twice
where the rule says; but for that, a cover comes again only when all were used, and then all in the same order; covers that
the endpoint saw when its interface was derived come after all others.
Source: docs/protocol.md section 6.
Trust: the secret hides which question is which until the verdict opens the roles.
"""

import hashlib
import hmac
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from app.canonical import lp, tag, u32
from app.protocol.challenge import REPEAT_EVERY, is_repeated, look_alike
from app.protocol.transcript import Role


@dataclass(frozen=True)
class Planned:
    """One question to be asked: its number, why it is asked and the blind that hides this, and its canonical input."""

    n: int
    role: Role
    blind: bytes
    input: bytes


@dataclass(frozen=True)
class BlockPlan:
    """A block: its number, the position of its first trigger in the challenge, its triggers and its first `n`."""

    number: int
    first_position: int
    triggers: Sequence[tuple[int, bytes]]
    first_n: int


def plan_questions(
    secret: bytes,
    seed: bytes,
    block: BlockPlan,
    covers: Sequence[bytes],
    covers_per_trigger: int,
    *,
    seen: Collection[int] = (),
) -> list[Planned]:
    """List a block's questions in the order in which they are asked; covers `seen` before the dispute come last."""
    asked = _triggers(seed, block)
    if covers_per_trigger:
        asked += _covers(_cover_order(secret, len(covers), seen), covers, block, covers_per_trigger)
    order = sorted(range(len(asked)), key=lambda at: _derive(secret, "question-order", u32(block.number), u32(at)))
    return [
        Planned(n, asked[at][0], _derive(secret, "role-blind", u32(n)), asked[at][1])
        for n, at in enumerate(order, start=block.first_n)
    ]


def _triggers(seed: bytes, block: BlockPlan) -> list[tuple[Role, bytes]]:
    asked: list[tuple[Role, bytes]] = []
    for position, (index, opened) in enumerate(block.triggers, start=block.first_position):
        shuffled = look_alike(seed, index, opened)
        for repeat in range(1 + is_repeated(position)):
            asked += ((Role("trigger", index, repeat), opened), (Role("look-alike", index, repeat), shuffled))
    return asked


def _cover_order(secret: bytes, count: int, seen: Collection[int]) -> list[int]:
    """Order the covers: an endpoint that remembers what it was asked would know the ones it saw from triggers."""
    return sorted(range(count), key=lambda index: (index in seen, _derive(secret, "cover-order", u32(index))))


def _covers(order: Sequence[int], covers: Sequence[bytes], block: BlockPlan, each: int) -> list[tuple[Role, bytes]]:
    asked: list[tuple[Role, bytes]] = []
    for position in range(block.first_position, block.first_position + len(block.triggers)):
        again = is_repeated(position) and each > 1
        # What earlier shares asked: each one cover less where one was asked twice.
        first = position * each - (-(-position // REPEAT_EVERY) if each > 1 else 0)
        share = [order[at % len(order)] for at in range(first, first + each - again)]
        asked += ((Role("cover", index, 0), covers[index]) for index in share)
        if again:
            asked.append((Role("cover", share[0], 1), covers[share[0]]))
    return asked


def _derive(secret: bytes, purpose: str, *values: bytes) -> bytes:
    return hmac.digest(secret, lp(tag(purpose), *values), hashlib.sha256)
