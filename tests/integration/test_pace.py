"""How fast a real endpoint is asked: rate limits, dates to come back at, our own addresses."""

import threading
import time
from collections import Counter
from datetime import UTC, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest

from app.suspects.pacing import TrafficOf
from app.suspects.probe import Manner, Question, ask
from app.suspects.transport import Limits
from tests.integration.asking import RULES, now, question, scores, suspect_of
from tests.simulators.suspect import SuspectSimulator


class Busy:
    """Counts how many questions are answered at once."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.now = self.most = 0
        self.lock = threading.Lock()

    def __call__(self, asked):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        with self.lock:
            self.now -= 1
        return scores(asked)


def test_a_limit_of_requests_at_once_is_learned_and_costs_no_answer():
    busy = Busy(0.01)
    with SuspectSimulator(busy, at_once=2, retry_after="0") as simulator:
        traffic_of = TrafficOf()
        manner = Manner(attempts=3, backoff_seconds=0.02)
        results = ask([question(n) for n in range(60)], suspect_of(simulator), RULES, manner, now, traffic_of)
        refused = len(simulator.requests) - 60
        limit = traffic_of.endpoint(simulator.url + "/", 8).limit
    assert [result.labels for result in results] == [(str(n % 10),) for n in range(60)]
    assert busy.most == 2
    assert limit <= 4
    # Eight at once until the end would be refused several times for each answer.
    assert refused < 40


def test_what_was_learned_holds_for_the_next_questions():
    with SuspectSimulator(Busy(0.01), at_once=1, retry_after="0") as simulator:
        traffic_of = TrafficOf()
        manner = Manner(attempts=6, backoff_seconds=0.01)
        for first in (0, 8):
            ask([question(n) for n in range(first, first + 8)], suspect_of(simulator), RULES, manner, now, traffic_of)
            simulator.requests, refused = [], len(simulator.requests) - 8
        assert refused <= 3


@pytest.mark.parametrize("status", [429, 503])
def test_nobody_is_sent_before_the_date_that_the_endpoint_named(status):
    # The clock of the probe stands still here; only the distance between it and the date counts.
    date = format_datetime(now().astimezone(UTC) + timedelta(seconds=1), usegmt=True)
    with SuspectSimulator(scores, rate_limit=(4, 0.5), rate_status=status, retry_after=date) as simulator:
        manner = Manner(attempts=4, backoff_seconds=0.01, limits=Limits(connections=4))
        results = ask([question(n) for n in range(8)], suspect_of(simulator), RULES, manner, now)
        moments = [seen.moment for seen in simulator.requests]
    assert {result.error for result in results} == {""}
    assert max(later - earlier for earlier, later in pairwise(moments)) > 0.9


def test_the_number_of_attempts_is_the_same_for_all_however_often_the_endpoint_refuses():
    with SuspectSimulator(scores, rate_limit=(0, 1), retry_after="0") as simulator:
        manner = Manner(attempts=3, backoff_seconds=0.001)
        results = ask([question(n) for n in range(20)], suspect_of(simulator), RULES, manner, now)
        each = Counter(simulator.question_of(seen.body) for seen in simulator.requests)
    assert {(result.error, result.attempt) for result in results} == {("status_429", 3)}
    assert set(each.values()) == {3}


def test_a_question_leaves_by_the_address_that_it_names():
    questions = [Question(n, question(n).input, egress=n % 3) for n in range(30)]
    with SuspectSimulator(scores) as simulator:
        manner = Manner(attempts=1, egress_addresses=("127.0.0.2", "127.0.0.3"))
        results = ask(questions, suspect_of(simulator), RULES, manner, now)
        seen = {simulator.question_of(request.body)[-1]: request.client[0] for request in simulator.requests}
    assert {result.error for result in results} == {""}
    # There are two: whoever names a third leaves by the last.
    assert seen == {n: "127.0.0.2" if n % 3 == 0 else "127.0.0.3" for n in range(30)}


def test_an_address_that_is_not_ours_is_a_failed_connection():
    with SuspectSimulator(scores) as simulator:
        manner = Manner(attempts=1, egress_addresses=("203.0.113.7",))
        assert ask([question(1)], suspect_of(simulator), RULES, manner, now)[0].error == "connect_failed"
        manner = Manner(attempts=1, egress_addresses=("::1",))
        assert ask([question(1)], suspect_of(simulator), RULES, manner, now)[0].error == "connect_failed"
        assert not simulator.requests
