"""Ask a suspect a list of questions in the order given.

The caller has mixed triggers, look-alikes and covers in a secret order; nothing here knows which is which, let alone
the labels, so retries, pacing and parsing cannot be bent to the result.

Invariants: questions leave in order, each gets the same number of attempts under the same rule, and the first response
that is not a passing failure counts; no attempt begins once the time for asking is spent, so a suspect that is slow ends
later by one exchange at most; whatever the suspect does is an error word in the result and never an exception.
Source: protocol.md sections 5.4 and 5.5.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from http import HTTPStatus

from app.canonical import sha256, time_text
from app.keys.trigger_set import parse_input
from app.protocol.interface import Interface
from app.suspects.adapters import Request, load_adapter, read_answer
from app.suspects.addresses import NetworkRules, parse_endpoint
from app.suspects.transport import Exchange, Limits, SuspectClient

# Failures that may pass by themselves. A wrong answer is final: asking until it pleases would choose among answers.
PASSING_ERRORS = frozenset({"no_such_host", "connect_failed", "tls_failed", "timeout", "connection_lost"})

# In place of an answer to a question that was never sent, because the time for asking was spent before its turn.
OUT_OF_TIME = "out_of_time"

# A response holds a number or a short label for each class, and a little around them.
RESPONSE_BYTES, RESPONSE_BYTES_PER_CLASS = 64 * 1024, 64


@dataclass(frozen=True)
class Question:
    """One input to ask about: its number in the dispute and its canonical bytes."""

    n: int
    input: bytes


@dataclass(frozen=True)
class Suspect:
    """Whom to ask and how; `secret_headers` (an API key, say) go out but never into the transcript.

    `by_ranking`: keep all that it ranks, and not only what it answers with.
    """

    endpoint: str
    interface: Interface
    class_count: int
    secret_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    by_ranking: bool = False


@dataclass(frozen=True)
class Manner:
    """How to ask: attempts a question, the least time from one request to the next, waits between attempts.

    `budget_seconds` is for all questions together: those whose turn comes later are not sent.
    """

    attempts: int = 3
    pace_seconds: float = 0.0
    backoff_seconds: float = 0.5
    max_backoff_seconds: float = 30.0
    budget_seconds: float = math.inf
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Asked:
    """What was sent and seen in the attempt that counts; with the error `out_of_time`, what would have been sent.

    `labels` is empty where `error` is not; `response_sha256` is empty where no response arrived whole.
    """

    n: int
    attempt: int
    sent_at: str
    request: bytes
    request_sha256: bytes
    status: int | None
    response: bytes
    response_sha256: bytes
    labels: tuple[str, ...]
    error: str
    address: str
    certificate_sha256: bytes


def ask(
    questions: Sequence[Question], suspect: Suspect, rules: NetworkRules, manner: Manner, now: Callable[[], datetime]
) -> list[Asked]:
    """Ask all questions, several at a time, and give the results in their order.

    Raises: PolicyRefused or Malformed if endpoint or interface is not one we use; nothing that the suspect does.
    """
    asking = _Asking(suspect, rules, manner, now)
    prepared = [(question.n, asking.request(question)) for question in questions]
    limits = replace(manner.limits, body_bytes=RESPONSE_BYTES + RESPONSE_BYTES_PER_CLASS * suspect.class_count)
    return asyncio.run(_ask_all(prepared, asking, rules, limits))


def ask_once(
    question: Question, suspect: Suspect, rules: NetworkRules, manner: Manner, now: Callable[[], datetime]
) -> Asked:
    """Ask one question once, for the connection test.

    Raises: PolicyRefused or Malformed if endpoint or interface is not one we use.
    """
    return ask([question], suspect, rules, replace(manner, attempts=1), now)[0]


class Pace:
    """When the next request may leave; shared by all that ask, so a suspect's wish to wait holds for each of them."""

    def __init__(self, gap_seconds: float) -> None:
        self._gap_seconds = gap_seconds
        self._free_at = 0.0

    async def turn(self) -> None:
        """Wait for the next free moment and take it."""
        clock = asyncio.get_running_loop().time
        while (wait_seconds := self._free_at - clock()) > 0:
            await asyncio.sleep(wait_seconds)
        self._free_at = max(self._free_at, clock() + self._gap_seconds)

    def hold(self, seconds: float) -> None:
        """Let nobody send for so long."""
        self._free_at = max(self._free_at, asyncio.get_running_loop().time() + seconds)


class _Asking:
    """What all questions of one session share."""

    def __init__(self, suspect: Suspect, rules: NetworkRules, manner: Manner, now: Callable[[], datetime]) -> None:
        self._endpoint = parse_endpoint(suspect.endpoint, rules)
        self._adapter = load_adapter(suspect.interface.adapter)
        self._suspect = suspect
        self._manner = manner
        self._now = now
        self._pace = Pace(manner.pace_seconds)
        self._ends_at = math.inf

    def begin(self) -> None:
        """Start the clock."""
        self._ends_at = asyncio.get_running_loop().time() + self._manner.budget_seconds

    def request(self, question: Question) -> Request:
        interface = self._suspect.interface
        return self._adapter.encode_request(interface.options, interface.preprocessing, parse_input(question.input))

    async def ask(self, client: SuspectClient, n: int, request: Request) -> Asked:
        headers = dict(request.headers) | dict(self._suspect.secret_headers)
        url = self._endpoint.url(request.path)
        asked = self._asked(n, 1, time_text(self._now()), request.body, Exchange(error=OUT_OF_TIME))
        for attempt in range(1, self._manner.attempts + 1):
            await self._pace.turn()
            if self._left_seconds() <= 0:
                break
            sent_at = time_text(self._now())
            exchange = await client.send(request.method, url, headers, request.body)
            asked = self._asked(n, attempt, sent_at, request.body, exchange)
            if not _may_pass(exchange) or attempt == self._manner.attempts:
                break
            await self._wait(attempt, exchange)
        return asked

    def _left_seconds(self) -> float:
        return self._ends_at - asyncio.get_running_loop().time()

    async def _wait(self, attempt: int, exchange: Exchange) -> None:
        wait_seconds = self._manner.backoff_seconds * 2 ** (attempt - 1)
        if exchange.retry_after_seconds is not None:
            wait_seconds = max(wait_seconds, exchange.retry_after_seconds)
        wait_seconds = min(wait_seconds, self._manner.max_backoff_seconds, max(0.0, self._left_seconds()))
        if exchange.status == HTTPStatus.TOO_MANY_REQUESTS:
            self._pace.hold(wait_seconds)
        await asyncio.sleep(wait_seconds)

    def _asked(self, n: int, attempt: int, sent_at: str, request: bytes, exchange: Exchange) -> Asked:
        labels: tuple[str, ...] = ()
        error = exchange.error
        arrived = exchange.status is not None and not error
        if exchange.status is not None and arrived:
            suspect = self._suspect
            labels, error = read_answer(
                suspect.interface, suspect.class_count, exchange.status, exchange.body, ranking=suspect.by_ranking
            )
        return Asked(
            n=n,
            attempt=attempt,
            sent_at=sent_at,
            request=request,
            request_sha256=sha256(request),
            status=exchange.status,
            response=exchange.body,
            response_sha256=sha256(exchange.body) if arrived else b"",
            labels=labels,
            error=error,
            address=exchange.address,
            certificate_sha256=exchange.certificate_sha256,
        )


def _may_pass(exchange: Exchange) -> bool:
    status = exchange.status or 0
    return exchange.error in PASSING_ERRORS or status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500


async def _ask_all(
    prepared: Sequence[tuple[int, Request]], asking: _Asking, rules: NetworkRules, limits: Limits
) -> list[Asked]:
    results: dict[int, Asked] = {}
    # One iterator for all: whoever is free takes the next question, so they leave in the order given.
    waiting = iter(enumerate(prepared))

    async def work(client: SuspectClient) -> None:
        for position, (n, request) in waiting:
            results[position] = await asking.ask(client, n, request)

    asking.begin()
    async with SuspectClient(rules, limits) as client, asyncio.TaskGroup() as group:
        for _ in range(min(limits.connections, len(prepared))):
            group.create_task(work(client))
    return [results[position] for position in range(len(prepared))]
