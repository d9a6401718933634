"""Ask a suspect a list of questions in the order given.

The caller has mixed triggers, look-alikes and covers in a secret order; nothing here knows which is which, let alone
the labels, so retries, pacing and parsing cannot be bent to the result.

Invariants: questions leave in order, each gets the same number of attempts under the same rule, and the first response
that is not a passing failure counts, at an endpoint that answers later the last one of that conversation, which goes to
paths of ours alone; no attempt begins once the time for asking is spent, so a suspect that is slow ends
later by one exchange at most; whatever the suspect does is an error word in the result and never an exception.
Source: docs/protocol.md section 6.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from http import HTTPStatus
from typing import Protocol

from app.canonical import sha256, time_text
from app.errors import SuspectMisbehaved
from app.keys.trigger_set import parse_input
from app.protocol.interface import Interface
from app.suspects.adapters import Request, load_adapter, read_answer
from app.suspects.addresses import NetworkRules, parse_endpoint
from app.suspects.credentials import Credentials, signer_of
from app.suspects.lots import Answers, keep
from app.suspects.pacing import TrafficOf, Turns, seconds_asked_for
from app.suspects.transport import Exchange, Limits, Lookup, SuspectClient

# Failures that may pass by themselves. A wrong answer is final: asking until it pleases would choose among answers.
PASSING_ERRORS = frozenset({"no_such_host", "connect_failed", "tls_failed", "timeout", "connection_lost"})

# In place of an answer to a question that was never sent, because the time for asking was spent before its turn.
OUT_OF_TIME = "out_of_time"

# Waits before the first and the later looks at an endpoint that answers later; they double.
FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS = 0.05, 2.0

# A response holds a number or a short label for each class, and a little around them.
RESPONSE_BYTES, RESPONSE_BYTES_PER_CLASS = 64 * 1024, 64


@dataclass(frozen=True)
class Question:
    """One input to ask about: its number in the dispute, its canonical bytes, and by which of our addresses it leaves."""

    n: int
    input: bytes
    egress: int = 0


@dataclass(frozen=True)
class Suspect:
    """Whom to ask and how; `credentials` go out with each request but never into the transcript.

    `by_ranking`: keep all that it ranks, and not only what it answers with.
    """

    endpoint: str
    interface: Interface
    class_count: int
    credentials: Credentials | None = field(default=None, repr=False)
    by_ranking: bool = False


@dataclass(frozen=True)
class Manner:
    """How to ask: attempts a question, the least time from one request to the next, waits between attempts.

    `budget_seconds` is for all questions together: those whose turn comes later are not sent. `follow_ups` is how often an
    endpoint that answers later is looked at again. `egress_addresses` are our own, by a question's `egress` (the last one
    for all that lie beyond it); without any the system chooses.
    """

    attempts: int = 3
    follow_ups: int = 60
    pace_seconds: float = 0.0
    backoff_seconds: float = 0.5
    max_backoff_seconds: float = 30.0
    budget_seconds: float = math.inf
    egress_addresses: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def local_address(self, egress: int) -> str | None:
        """Give the address by which a question leaves; None is the system's choice."""
        return self.egress_addresses[min(egress, len(self.egress_addresses) - 1)] if self.egress_addresses else None


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


class Ledger(Protocol):
    """Who is told of every lot of questions before it is asked, and of its answers, in the order of the lots.

    Both run in a thread beside the asking, and `ask_lots` raises what they raise.
    """

    def begin(self, questions: int) -> None:
        """Note that so many questions are about to be asked; if it raises, the lots before are still finished."""

    def end(self, asked: Sequence[Asked]) -> None:
        """Note a lot's answers, in the order of its questions; if it raises, nothing more is asked."""


def ask(
    questions: Sequence[Question],
    suspect: Suspect,
    rules: NetworkRules,
    manner: Manner,
    now: Callable[[], datetime],
    traffic_of: TrafficOf | None = None,
) -> list[Asked]:
    """Ask all questions, several at a time, and give the results in their order.

    With `traffic_of`, what endpoints can bear is remembered from one call to the next.
    Raises: PolicyRefused or Malformed if endpoint, interface or credentials are not ones we use; nothing that the suspect
    does.
    """
    session = Session(suspect, rules, manner, now, traffic_of or TrafficOf())
    return session.run([questions], None)


def ask_lots(session: "Session", lots: Sequence[Sequence[Question]], ledger: Ledger) -> None:
    """Ask lots of questions, over the same connections and without a pause between them, and tell the ledger of each.

    Raises: as `ask`, and whatever the ledger raises.
    """
    session.run(lots, ledger)


def ask_once(
    question: Question, suspect: Suspect, rules: NetworkRules, manner: Manner, now: Callable[[], datetime]
) -> Asked:
    """Ask one question once, for the connection test.

    Raises: PolicyRefused or Malformed if endpoint or interface is not one we use.
    """
    return ask([question], suspect, rules, replace(manner, attempts=1), now)[0]


class Session:
    """What all questions of one session share."""

    def __init__(
        self,
        suspect: Suspect,
        rules: NetworkRules,
        manner: Manner,
        now: Callable[[], datetime],
        traffic_of: TrafficOf,
    ) -> None:
        """Prepare to ask a suspect.

        Raises: PolicyRefused or Malformed if endpoint, adapter or credentials are not ones we use.
        """
        self._endpoint = parse_endpoint(suspect.endpoint, rules)
        self._adapter = load_adapter(suspect.interface.adapter)
        self._sign = signer_of(suspect.credentials)
        self._rules = rules
        self._suspect = suspect
        self._manner = manner
        self._now = now
        self._traffic = traffic_of.endpoint(self._endpoint.url(""), manner.limits.connections)
        self._turns = Turns(self._traffic, manner.pace_seconds)
        self._ends_at = math.inf

    def run(self, lots: Sequence[Sequence[Question]], ledger: Ledger | None) -> list[Asked]:
        """Ask, and give all results in order."""
        try:
            return asyncio.run(self._ask_all(lots, ledger))
        except BaseExceptionGroup as group:
            # The first thing that went wrong ended all the rest.
            raise group.exceptions[0] from group.exceptions[0].__cause__

    def _request(self, question: Question) -> Request:
        interface = self._suspect.interface
        return self._adapter.encode_request(interface.options, interface.preprocessing, parse_input(question.input))

    def _limits(self, questions: Sequence[Question]) -> Limits:
        body_bytes = RESPONSE_BYTES + RESPONSE_BYTES_PER_CLASS * self._suspect.class_count
        if self._adapter.is_question_repeated:
            body_bytes += max((len(self._request(question).body) for question in questions), default=0)
        return replace(self._manner.limits, body_bytes=body_bytes)

    async def _ask_all(self, lots: Sequence[Sequence[Question]], ledger: Ledger | None) -> list[Asked]:
        questions = [question for lot in lots for question in lot]
        limits = self._limits(questions)
        lookup = Lookup(self._rules)
        self._ends_at = _clock() + self._manner.budget_seconds
        workers = min(limits.connections, len(questions))
        # Encoded a little ahead: an endpoint that is slow leaves time for it, and it never adds to an endpoint's time.
        ready: asyncio.Queue[_Ready | None] = asyncio.Queue(workers or 1)
        answers = [Answers[Asked](len(lot)) for lot in lots]
        async with AsyncExitStack() as stack:
            addresses = {self._manner.local_address(question.egress) for question in questions}
            clients = {
                address: await stack.enter_async_context(SuspectClient(lookup, limits, local_address=address))
                for address in addresses
            }

            async def work() -> None:
                # One queue for all: whoever is free takes the next question, so they leave in the order given.
                while (next_one := await ready.get()) is not None:
                    client = clients[self._manner.local_address(next_one.question.egress)]
                    asked = await self._ask(client, next_one.position, next_one.question.n, next_one.request)
                    answers[next_one.lot].put(next_one.place, asked)

            async with asyncio.TaskGroup() as group:
                group.create_task(self._prepare(lots, answers, ready, ledger, workers))
                for _ in range(workers):
                    group.create_task(work())
                if ledger is not None:
                    group.create_task(keep(answers, ledger.end))
        return [asked for lot in answers for asked in lot.in_order]

    async def _prepare(
        self,
        lots: Sequence[Sequence[Question]],
        answers: Sequence[Answers[Asked]],
        ready: "asyncio.Queue[_Ready | None]",
        ledger: Ledger | None,
        workers: int,
    ) -> None:
        position = 0
        refusal: Exception | None = None
        for number, lot in enumerate(lots):
            try:
                if ledger is not None:
                    await asyncio.to_thread(ledger.begin, len(lot))
            except Exception as error:  # noqa: BLE001  # raised below, once what is under way has been written down
                refusal = error
                for dropped in answers[number:]:
                    dropped.drop()
                break
            for place, question in enumerate(lot):
                await ready.put(_Ready(number, place, position, question, self._request(question)))
                position += 1
        for _ in range(workers):
            await ready.put(None)
        if refusal is not None:
            await asyncio.gather(*(lot.kept.wait() for lot in answers))
            raise refusal

    async def _ask(self, client: SuspectClient, position: int, n: int, request: Request) -> Asked:
        asked = self._asked(n, 1, time_text(self._now()), request.body, Exchange(error=OUT_OF_TIME))
        for attempt in range(1, self._manner.attempts + 1):
            left_at = await self._turns.take(position, self._ends_at)
            if left_at is None:
                break
            sent_at = time_text(self._now())
            exchange = Exchange()
            try:
                exchange = await self._converse(client, request)
            finally:
                self._turns.end(good=exchange.status is not None and not _may_pass(exchange))
            asked = self._asked(n, attempt, sent_at, request.body, exchange)
            wait_seconds = self._wait_seconds(attempt, exchange)
            if is_refusal := _is_refusal(exchange):
                # It waits with all the others, and the oldest leaves first.
                self._traffic.slow_down(left_at, _clock(), wait_seconds)
            if not _may_pass(exchange) or attempt == self._manner.attempts:
                break
            if not is_refusal:
                await asyncio.sleep(min(wait_seconds, max(0.0, self._ends_at - _clock())))
        return asked

    async def _converse(self, client: SuspectClient, request: Request) -> Exchange:
        """Send a request, and at an endpoint that answers later ask for the answer until there is one."""
        ends_at = _clock() + self._manner.limits.total_seconds
        exchange = await self._send(client, request, ends_at)
        following = self._following(exchange)
        wait_seconds = FIRST_LOOK_SECONDS
        for _ in range(self._manner.follow_ups):
            if following is None or _clock() + wait_seconds >= ends_at:
                break
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, LAST_LOOK_SECONDS)
            exchange = await self._send(client, following, ends_at)
            # A look that failed in passing says nothing of the answer: look again.
            following = following if _may_pass(exchange) else self._following(exchange)
        return exchange

    async def _send(self, client: SuspectClient, request: Request, ends_at: float) -> Exchange:
        url = self._endpoint.url(request.path)
        headers = self._sign(request.method, url, dict(request.headers), request.body)
        return await client.send(request.method, url, headers, request.body, within_seconds=ends_at - _clock())

    def _following(self, exchange: Exchange) -> Request | None:
        if exchange.status is None or exchange.error or _may_pass(exchange):
            return None
        try:
            return self._adapter.next_request(self._suspect.interface.options, exchange.status, exchange.body)
        except SuspectMisbehaved:
            return None  # reading the answer names what is wrong with it

    def _wait_seconds(self, attempt: int, exchange: Exchange) -> float:
        asked_for = seconds_asked_for(exchange.retry_after, self._now())
        wait_seconds: float = max(self._manner.backoff_seconds * 2 ** (attempt - 1), asked_for or 0.0)
        return min(wait_seconds, self._manner.max_backoff_seconds)

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


@dataclass(frozen=True)
class _Ready:
    """A question with its request: the `place`-th of a lot, the `position`-th of all."""

    lot: int
    place: int
    position: int
    question: Question
    request: Request


def _may_pass(exchange: Exchange) -> bool:
    status = exchange.status or 0
    return exchange.error in PASSING_ERRORS or status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500


def _is_refusal(exchange: Exchange) -> bool:
    """Tell whether the endpoint asks us to slow down: 429, or 503 with a time at which to come back."""
    unavailable = exchange.status == HTTPStatus.SERVICE_UNAVAILABLE and bool(exchange.retry_after)
    return exchange.status == HTTPStatus.TOO_MANY_REQUESTS or unavailable


def _clock() -> float:
    return asyncio.get_running_loop().time()
