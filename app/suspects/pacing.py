"""How fast an endpoint is asked: what the operator allows, and what the endpoint lets us know it can bear.

An endpoint that says 429 (or 503 and when to come back) is left alone for as long as it asks, and asked by half as many
at once from then on; every few answers one more is tried. That is learned for the endpoint, not for a question.

Invariants: nothing here knows what a question is; of the questions that wait, the one with the lowest number in its list
leaves first, whether it is tried for the first time or again; what was learned holds for everybody in this process who
asks the same endpoint, and costs a waiting question time, never an attempt.
Source: RFC 9110 section 10.2.3 (Retry-After); Chiu and Jain 1989 (additive increase, multiplicative decrease).
"""

import asyncio
import heapq
from collections import OrderedDict
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Lock

# Answers in a row after which one more is asked at once.
GOOD_ANSWERS = 8

# How long a question waits for its place before it looks again, in seconds.
LOOK_SECONDS = 0.005

# Endpoints whose bearing is remembered, the latest.
REMEMBERED = 1000

# No wait in seconds has more digits: a day has five.
MAX_SECONDS_DIGITS = 6


class Traffic:
    """What one endpoint is sent at present: how many at once, and nothing before a moment. Threads share it.

    Moments are seconds of the monotonic clock, which is one for all event loops of a process.
    """

    def __init__(self, at_once: int) -> None:
        self._lock = Lock()
        self._most = self._limit = at_once
        self._in_flight = 0
        self._free_at = 0.0
        self._good = 0
        self._halved_at = -1.0

    @property
    def limit(self) -> int:
        """How many requests may be under way at once."""
        return self._limit

    def start(self, moment: float, gap_seconds: float) -> float:
        """Let a request leave now and give 0; or give the seconds after which to look again."""
        with self._lock:
            if moment < self._free_at:
                return self._free_at - moment
            if self._in_flight >= self._limit:
                return LOOK_SECONDS
            self._in_flight += 1
            self._free_at = moment + gap_seconds
            return 0.0

    def end(self, *, good: bool) -> None:
        """Note that a request is through; `good` if the endpoint answered it."""
        with self._lock:
            self._in_flight -= 1
            self._good += good
            if self._good >= GOOD_ANSWERS and self._limit < self._most:
                self._limit += 1
                self._good = 0

    def slow_down(self, left_at: float, moment: float, seconds: float) -> None:
        """Let nobody send for so long, and half as many at once from then on.

        Requests that left before the last halving knew nothing of it, so they do not halve again.
        """
        with self._lock:
            self._free_at = max(self._free_at, moment + seconds)
            self._good = 0
            if left_at >= self._halved_at:
                self._limit = max(1, self._limit // 2)
                self._halved_at = moment


class TrafficOf:
    """The traffic of each endpoint in this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: OrderedDict[str, Traffic] = OrderedDict()

    def endpoint(self, url: str, at_once: int) -> Traffic:
        """Give an endpoint's traffic, new if it was not asked lately."""
        with self._lock:
            traffic = self._known.pop(url, None) or Traffic(at_once)
            self._known[url] = traffic
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
            return traffic


class Turns:
    """Whose turn it is among the questions of one list."""

    def __init__(self, traffic: Traffic, gap_seconds: float) -> None:
        self._traffic = traffic
        self._gap_seconds = gap_seconds
        self._waiting: list[int] = []

    async def take(self, position: int, until: float) -> float | None:
        """Wait for the turn of a question and give the moment at which it left; None if that is not before `until`."""
        clock = asyncio.get_running_loop().time
        heapq.heappush(self._waiting, position)
        try:
            while (moment := clock()) < until:
                first = self._waiting[0] == position
                wait_seconds = self._traffic.start(moment, self._gap_seconds) if first else LOOK_SECONDS
                if not wait_seconds:
                    return moment
                await asyncio.sleep(min(wait_seconds, until - moment))
            return None
        finally:
            self._waiting.remove(position)
            heapq.heapify(self._waiting)


def seconds_asked_for(retry_after: str, now: datetime) -> float | None:
    """Read a Retry-After header, seconds or a date; None if it says nothing that can be read."""
    if retry_after.isascii() and retry_after.isdecimal():
        return float(retry_after[:MAX_SECONDS_DIGITS])
    try:
        moment = parsedate_to_datetime(retry_after)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    # A date without a zone is one in GMT: HTTP knows no other.
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - now).total_seconds())
