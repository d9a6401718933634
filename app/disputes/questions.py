"""What a block asks: its triggers, their look-alikes and covers, in an order that only the service knows.

Everything follows from the dispute's own secret, so whoever takes a killed worker's block over asks exactly the rest of it.

Invariants: pure; numbers `n` run through the dispute without gaps; every trigger stands with its look-alike, both twice
where the rule says; a cover comes again only when all were used.
Source: protocol.md sections 5.4 and 6.
Trust: the secret hides which question is which until the verdict opens the roles.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from app.canonical import lp, tag, u32
from app.protocol.challenge import is_repeated, look_alike
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
    secret: bytes, seed: bytes, block: BlockPlan, covers: Sequence[bytes], covers_per_trigger: int
) -> list[Planned]:
    """List a block's questions in the order in which they are asked."""
    asked = _triggers(seed, block)
    if covers_per_trigger:
        first = block.first_position * covers_per_trigger
        asked += _covers(secret, covers, first, len(block.triggers) * covers_per_trigger)
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


def _covers(secret: bytes, covers: Sequence[bytes], first: int, count: int) -> list[tuple[Role, bytes]]:
    order = sorted(range(len(covers)), key=lambda index: _derive(secret, "cover-order", u32(index)))
    chosen = [order[at % len(order)] for at in range(first, first + count)]
    return [(Role("cover", index, 0), covers[index]) for index in chosen]


def _derive(secret: bytes, purpose: str, *values: bytes) -> bytes:
    return hmac.digest(secret, lp(tag(purpose), *values), hashlib.sha256)
