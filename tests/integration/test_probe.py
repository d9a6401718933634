"""Asking a suspect: order, attempts, time, pace and records, against a real server on loopback."""

import time
from hashlib import sha256

import pytest

from app.errors import Malformed, PolicyRefused, Unavailable
from app.suspects.addresses import NetworkRules
from app.suspects.credentials import HeaderCredentials
from app.suspects.pacing import TrafficOf
from app.suspects.probe import Manner, Question, Session, ask, ask_lots, ask_once
from app.suspects.transport import Limits
from tests.integration.asking import BODY, BRIEF, ONCE, RULES, now, question, scores, suspect_of
from tests.simulators.suspect import SuspectSimulator


def test_a_result_says_what_was_sent_and_seen():
    with SuspectSimulator(scores) as simulator:
        asked = ask_once(question(7), suspect_of(simulator), RULES, ONCE, now)
        assert simulator.requests[0].body == asked.request
    assert asked.request == BODY.replace(b" ", b"")
    assert asked.request_sha256 == sha256(asked.request).digest()
    assert asked.response_sha256 == sha256(asked.response).digest()
    assert (asked.n, asked.attempt, asked.sent_at) == (7, 1, "2026-01-31T12:00:00Z")
    assert (asked.status, asked.labels, asked.error, asked.address) == (200, ("7",), "", "127.0.0.1")


@pytest.mark.parametrize("protocol", ["kserve_v1", "oip_v2", "generic_json"])
def test_every_protocol_is_spoken(protocol):
    with SuspectSimulator(scores, protocol=protocol) as simulator:
        assert ask_once(question(4), suspect_of(simulator), RULES, ONCE, now).labels == ("4",)


def test_questions_leave_in_the_order_given():
    order = [5, 3, 9, 1, 7, 0, 2, 8]
    with SuspectSimulator(scores) as simulator:
        manner = Manner(attempts=1, limits=Limits(connections=1))
        results = ask([question(n) for n in order], suspect_of(simulator), RULES, manner, now)
        seen = [simulator.question_of(request.body)[-1] for request in simulator.requests]
    assert seen == order
    assert [result.n for result in results] == order


def test_a_passing_failure_is_tried_again_and_the_first_answer_counts():
    with SuspectSimulator(scores, fault="status_503", faulty=lambda asked, ordinal: ordinal < 2) as simulator:
        manner = Manner(attempts=3, backoff_seconds=0.01)
        asked = ask([question(2)], suspect_of(simulator), RULES, manner, now)[0]
    assert (asked.attempt, asked.labels, asked.error) == (3, ("2",), "")


def test_attempts_end_at_the_same_number_for_every_question():
    with SuspectSimulator(scores, fault="drop") as simulator:
        manner = Manner(attempts=3, backoff_seconds=0.01)
        results = ask([question(n) for n in range(4)], suspect_of(simulator), RULES, manner, now)
        assert len(simulator.requests) == 12
    assert {(result.attempt, result.error) for result in results} == {(3, "connection_lost")}


def test_a_wrong_answer_is_final():
    with SuspectSimulator(scores, fault="not_json") as simulator:
        ask([question(1)], suspect_of(simulator), RULES, Manner(attempts=5, backoff_seconds=0.01), now)
        assert len(simulator.requests) == 1


def test_a_rate_limit_is_waited_out():
    with SuspectSimulator(scores, rate_limit=(5, 0.3)) as simulator:
        manner = Manner(attempts=5, backoff_seconds=0.05, max_backoff_seconds=0.35)
        results = ask([question(n) for n in range(15)], suspect_of(simulator), RULES, manner, now)
    assert [result.labels for result in results] == [(str(n % 10),) for n in range(15)]


def test_a_wish_to_wait_for_a_week_is_not_granted():
    with SuspectSimulator(scores, rate_limit=(0, 1), retry_after="604800") as simulator:
        started = time.monotonic()
        manner = Manner(attempts=2, backoff_seconds=0.01, max_backoff_seconds=0.05)
        asked = ask([question(1)], suspect_of(simulator), RULES, manner, now)[0]
    assert (asked.error, asked.attempt) == ("status_429", 2)
    assert time.monotonic() - started < 60


def test_questions_whose_turn_comes_too_late_are_not_sent_but_written_down():
    # Half a question's time is left for a busy machine, before the second pair is sent and after.
    with SuspectSimulator(scores, latency_seconds=2.0) as simulator:
        manner = Manner(attempts=3, budget_seconds=3.0, limits=Limits(connections=2))
        results = ask([question(n) for n in range(9)], suspect_of(simulator), RULES, manner, now)
        assert len(simulator.requests) == 4
        sent, unsent = results[:4], results[4:]
        assert [simulator.question_of(result.request) for result in unsent] == [question(n).input for n in range(4, 9)]
    assert [result.labels for result in sent] == [(str(n),) for n in range(4)]
    for result in unsent:
        assert (result.error, result.attempt, result.status, result.labels) == ("out_of_time", 1, None, ())
        assert (result.response, result.response_sha256, result.address) == (b"", b"", "")
        assert result.request_sha256 == sha256(result.request).digest()


def test_no_attempt_begins_once_the_time_is_spent_and_the_last_one_counts():
    with SuspectSimulator(scores, fault="hang") as simulator:
        started = time.monotonic()
        manner = Manner(attempts=5, backoff_seconds=60, max_backoff_seconds=60, budget_seconds=1, limits=BRIEF)
        asked = ask([question(1)], suspect_of(simulator), RULES, manner, now)[0]
        assert (asked.attempt, asked.error) == (1, "timeout")
        assert time.monotonic() - started < 30
        assert len(simulator.requests) == 1


def test_time_that_is_spent_beforehand_lets_nothing_out():
    with SuspectSimulator(scores) as simulator:
        results = ask([question(1)], suspect_of(simulator), RULES, Manner(budget_seconds=0), now)
        assert simulator.requests == []
    assert [result.error for result in results] == ["out_of_time"]


def test_a_response_may_be_as_large_as_its_classes_need():
    with SuspectSimulator(scores) as simulator:
        simulator.response_to = lambda answer: b'{"predictions": ["7"]}' + b" " * 70_000
        for class_count, error in ((10, "too_large"), (100, "")):
            asked = ask_once(question(7), suspect_of(simulator, class_count=class_count), RULES, ONCE, now)
            assert asked.error == error


def test_a_pace_is_kept():
    with SuspectSimulator(scores) as simulator:
        started = time.monotonic()
        ask([question(n) for n in range(6)], suspect_of(simulator), RULES, Manner(pace_seconds=0.05), now)
        assert time.monotonic() - started >= 0.25


def test_a_suspect_that_crashes_half_way_leaves_its_answers():
    with SuspectSimulator(scores, crash_after=5) as simulator:
        manner = Manner(attempts=1, limits=Limits(connections=1))
        results = ask([question(n) for n in range(8)], suspect_of(simulator), RULES, manner, now)
    assert [result.labels for result in results[:5]] == [(str(n),) for n in range(5)]
    assert {result.error for result in results[5:]} == {"connection_lost"}


def test_nobody_at_home_has_a_name():
    with SuspectSimulator(scores) as simulator:
        suspect = suspect_of(simulator)
    assert ask_once(question(1), suspect, RULES, ONCE, now).error == "connect_failed"


KEY = HeaderCredentials(kind="headers", headers={"Authorization": "Bearer hush"})


def test_secret_headers_go_out_and_stay_out_of_every_record():
    with SuspectSimulator(scores) as simulator:
        suspect = suspect_of(simulator, credentials=KEY)
        asked = ask_once(question(1), suspect, RULES, ONCE, now)
        assert simulator.requests[0].headers["authorization"] == "Bearer hush"
    assert "hush" not in repr(asked) + repr(suspect)


def test_an_endpoint_or_input_that_is_not_ours_to_ask_is_refused_before_anything_is_sent():
    with SuspectSimulator(scores) as simulator:
        with pytest.raises(PolicyRefused):
            ask([question(1)], suspect_of(simulator), NetworkRules(), ONCE, now)
        with pytest.raises(Malformed):
            ask([question(1), Question(2, b"junk")], suspect_of(simulator), RULES, ONCE, now)
        assert not simulator.requests


def test_no_questions_give_no_results():
    with SuspectSimulator(scores) as simulator:
        assert ask([], suspect_of(simulator), RULES, ONCE, now) == []


class Refusing:
    """A ledger that lets so many lots be asked."""

    def __init__(self, lots):
        self.lots, self.kept = lots, []

    def begin(self, questions):
        if not self.lots:
            raise Unavailable("no more today")
        self.lots -= 1

    def end(self, asked):
        time.sleep(0.05)  # the lot behind is asked meanwhile
        self.kept.append([one.n for one in asked])


def test_a_ledger_that_refuses_a_lot_still_gets_those_before_it_and_nothing_else_is_asked():
    lots = [[question(n) for n in range(start, start + 8)] for start in range(0, 40, 8)]
    with SuspectSimulator(scores, latency_seconds=0.02) as simulator:
        ledger = Refusing(2)
        session = Session(suspect_of(simulator), RULES, Manner(), now, TrafficOf())
        with pytest.raises(Unavailable, match="no more today"):
            ask_lots(session, lots, ledger)
    assert ledger.kept == [list(range(8)), list(range(8, 16))]
    assert len(simulator.requests) == 16


def test_a_ledger_that_cannot_write_a_lot_down_ends_the_asking():
    class Full(Refusing):
        def end(self, asked):
            raise Unavailable("the disk is full")

    lots = [[question(n) for n in range(start, start + 8)] for start in range(0, 400, 8)]
    with SuspectSimulator(scores, latency_seconds=0.02) as simulator:
        session = Session(suspect_of(simulator), RULES, Manner(), now, TrafficOf())
        with pytest.raises(Unavailable, match="disk is full"):
            ask_lots(session, lots, Full(50))
    assert len(simulator.requests) < 100
