"""Asking an endpoint outside any dispute: one ordinary input to see whether it answers, or a look at what it speaks.

Invariants: what may be sent is counted against the vendor's tests of that host before it leaves, and what was not sent is
given back; few trials run at once, each for seconds, for a request waits; no transaction is open meanwhile; a key goes by
plain http only to this machine, unless that was said.
Trust: of an answer a vendor sees labels, size, digest and its first bytes, escaped, its own keys struck out where they
stand in them as they were sent.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from threading import BoundedSemaphore
from typing import Final
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.db.engine import transaction
from app.db.tables import SuspectRow
from app.disputes.budgets import TESTS_A_DAY, count_spent, give_back, may_spend, scope_of_tests
from app.disputes.suspects import price_in_bits
from app.errors import Malformed, SuspectUnreachable, TooMany, Unavailable
from app.keys.statement import Statement
from app.keys.trigger_set import ImageInput, TensorInput, parse_input
from app.protocol.interface import Interface
from app.suspects.addresses import NetworkRules, parse_endpoint
from app.suspects.credentials import Credentials, secrets_of, verify_way
from app.suspects.detect import Seen, candidates, escaped
from app.suspects.looking import UNKNOWN, Tried, look, most_requests, sample, try_candidates
from app.suspects.probe import Asked, Manner, Question, Suspect, ask_once
from app.suspects.transport import Limits

# Somebody waits for the answer to a test: shorter than in a dispute.
TEST_LIMITS: Final = Limits(connect_seconds=5.0, read_seconds=10.0, total_seconds=15.0)

# A detection's two parts together take as long as one test may.
LOOK_SECONDS: Final = 9.0
TRY_SECONDS: Final = 6.0

# Each holds a thread for as long as the suspect keeps it waiting: so many at once leave threads for everybody else.
TESTS_AT_ONCE: Final = 4
_trials = BoundedSemaphore(TESTS_AT_ONCE)


@dataclass(frozen=True)
class Detected:
    """What a detection saw, and what it proposes; `unreachable` says why nothing more was seen."""

    seen: Sequence[Seen]
    tried: Sequence[Tried]
    unreachable: str = ""

    @property
    def proposed(self) -> Interface | None:
        """Give the interface that was answered: by name where the labels are no numbers."""
        if not self.tried or self.tried[-1].asked.error:
            return None
        found, labels = self.tried[-1].interface, self.tried[-1].asked.labels
        by = "index" if all(label.isascii() and label.isdecimal() for label in labels) else "name"
        return Interface(found.adapter, found.options, found.preprocessing, {"by": by})


def count_tests(session: Session, vendor_id: UUID, host: str, requests: int, now: datetime) -> None:
    """Count tests of a host.

    Raises: TooMany if its vendor has tested this host often enough today.
    """
    if not may_spend(session, host, scope_of_tests(vendor_id), requests, TESTS_A_DAY, now):
        raise TooMany(f"{TESTS_A_DAY} tests of one host a day are enough to find an interface: go on tomorrow (UTC)")


def count_test(session: Session, row: SuspectRow, rules: NetworkRules, now: datetime) -> None:
    """Count a test of a suspect.

    Raises: TooMany if its vendor has tested this host often enough today.
    """
    count_tests(session, row.vendor_id, parse_endpoint(row.endpoint, rules).host, 1, now)


def tests_today(session: Session, row: SuspectRow, rules: NetworkRules, now: datetime) -> int:
    """Say how many tests of a suspect's host its vendor made today; of what disputes asked nobody is told."""
    return count_spent(session, parse_endpoint(row.endpoint, rules).host, scope_of_tests(row.vendor_id), now)


@contextmanager
def one_of_few() -> Iterator[None]:
    """Take a place among the trials that may run at once.

    Raises: Unavailable if there is none.
    """
    if not _trials.acquire(blocking=False):
        raise Unavailable("too many suspects are tested at once: try again in a moment")
    try:
        yield
    finally:
        _trials.release()


def try_suspect(
    row: SuspectRow,
    credentials: Credentials | None,
    statement: Statement,
    question: bytes,
    rules: NetworkRules,
    now: Callable[[], datetime],
    *,
    allow_http: bool = False,
) -> Asked:
    """Ask a suspect once about an ordinary input and give what was sent and seen.

    Raises: Malformed if the input is not of the registered shape; PolicyRefused; Unavailable if too many are asked at once.
    """
    interface = Interface.from_json(row.interface)
    price_in_bits(interface, statement, row.endpoint)
    opened = parse_input(question)
    if (opened.kind, opened.shape) != (statement.kind, statement.shape):
        raise Malformed("kind or shape of the input is not the registered one", pointer="/input")
    verify_way(parse_endpoint(row.endpoint, rules), credentials, allow_http=allow_http, told_by="allow_http")
    suspect = Suspect(row.endpoint, interface, len(statement.classes), credentials)
    with one_of_few():
        return ask_once(Question(0, question), suspect, rules, Manner(limits=TEST_LIMITS), now)


def ordinary_input(statement: Statement) -> ImageInput | TensorInput:
    """Give an input of noise that is the same for everybody, so that no trigger is spent on a test."""
    return sample(statement.kind, statement.shape)


def shown_start(data: bytes, credentials: Credentials | None) -> str:
    """Give the first bytes of an answer for its vendor's screen."""
    for secret in secrets_of(credentials):
        data = data.replace(secret, b"(your key)")
    return escaped(data)


@dataclass(frozen=True)
class Wanted:
    """What is to be looked at, and for whom; `model` is None where the server is to list its models."""

    vendor_id: UUID
    endpoint: str
    statement: Statement
    model: str | None = None
    credentials: Credentials | None = None
    allow_http: bool = False


def detect_interface(engine: Engine, wanted: Wanted, rules: NetworkRules, now: Callable[[], datetime]) -> Detected:
    """Look at an endpoint's well-known routes, and ask about one ordinary input with each candidate that follows.

    Raises: PolicyRefused; TooMany; Unavailable if too many are asked at once.
    """
    place = parse_endpoint(wanted.endpoint, rules)
    verify_way(place, wanted.credentials, allow_http=wanted.allow_http, told_by="allow_http")
    began, most = now(), most_requests()
    with one_of_few():
        with transaction(engine) as session:
            count_tests(session, wanted.vendor_id, place.host, most, began)
        # A crash in here leaves the count too high, never too low.
        detected = _detect(wanted, rules, now)
        # A look may be sent twice.
        unsent = most - 2 * (len(detected.seen) + bool(detected.unreachable)) - len(detected.tried)
        with transaction(engine) as session:
            give_back(session, place.host, scope_of_tests(wanted.vendor_id), max(0, unsent), began)
    return detected


def _detect(wanted: Wanted, rules: NetworkRules, now: Callable[[], datetime]) -> Detected:
    question, seen = ordinary_input(wanted.statement), list[Seen]()
    try:
        look(wanted.endpoint, rules, wanted.credentials, wanted.model, seconds=LOOK_SECONDS, seen=seen)
    except SuspectUnreachable as error:
        return Detected(seen, [], error.message)
    found = candidates(seen, question.kind, question.shape, wanted.model)
    suspect = Suspect(wanted.endpoint, UNKNOWN, len(wanted.statement.classes), wanted.credentials)
    return Detected(seen, try_candidates(suspect, found, question, rules, now, seconds=TRY_SECONDS))
