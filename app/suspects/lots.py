"""Lots of answers: put together as they come, handed over whole and in order while the next lot is asked.

Invariants: a lot is handed over once, after the lots before it; a lot that was dropped never is.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Answers(Generic[T]):
    """The answers of one lot as they come."""

    def __init__(self, count: int) -> None:
        """Expect so many answers."""
        self._by_place: dict[int, T] = {}
        self._count = count
        self.is_dropped = False
        self.complete, self.kept = asyncio.Event(), asyncio.Event()
        if not count:
            self.complete.set()

    def put(self, place: int, answer: T) -> None:
        """Take the answer to the lot's question of this number."""
        self._by_place[place] = answer
        if len(self._by_place) == self._count:
            self.complete.set()

    def drop(self) -> None:
        """Expect nothing any more: the lot will not be asked."""
        self.is_dropped = True
        self.complete.set()
        self.kept.set()

    @property
    def in_order(self) -> list[T]:
        """Give the answers of a complete lot in the order of its questions."""
        return [self._by_place[place] for place in range(self._count)]


async def keep(lots: Sequence[Answers[T]], end: Callable[[Sequence[T]], None]) -> None:
    """Hand every lot to `end`, in a thread beside the asking, one after the other."""
    for lot in lots:
        await lot.complete.wait()
        if not lot.is_dropped:
            await asyncio.to_thread(end, lot.in_order)
            lot.kept.set()
