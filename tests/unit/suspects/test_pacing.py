"""How fast an endpoint is asked, on a clock that the test moves."""

import asyncio
from datetime import UTC, datetime

import pytest

from app.suspects.pacing import GOOD_ANSWERS, LOOK_SECONDS, REMEMBERED, Traffic, TrafficOf, Turns, seconds_asked_for

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def answer(traffic, times):
    for _ in range(times):
        assert not traffic.start(1000.0, 0.0)
        traffic.end(good=True)


def test_no_more_leave_at_once_than_the_limit():
    traffic = Traffic(3)
    assert [traffic.start(1.0, 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, LOOK_SECONDS]
    traffic.end(good=True)
    assert traffic.start(1.0, 0.0) == 0.0


def test_between_two_requests_lies_the_operators_gap():
    traffic = Traffic(8)
    assert traffic.start(1.0, 0.5) == 0.0
    assert traffic.start(1.2, 0.5) == pytest.approx(0.3)
    assert traffic.start(1.5, 0.5) == 0.0


def test_a_refusal_halves_once_for_all_that_left_before_it():
    traffic = Traffic(8)
    for _ in range(3):
        traffic.slow_down(left_at=1.0, moment=2.0, seconds=1.0)
    assert traffic.limit == 4
    traffic.slow_down(left_at=3.0, moment=3.1, seconds=1.0)
    assert traffic.limit == 2


def test_the_limit_never_falls_to_nothing():
    traffic = Traffic(8)
    for moment in range(10):
        traffic.slow_down(moment, moment + 0.5, 0.0)
    assert traffic.limit == 1
    assert traffic.start(100.0, 0.0) == 0.0


def test_good_answers_raise_the_limit_one_by_one_to_where_it_was():
    traffic = Traffic(4)
    traffic.slow_down(1.0, 2.0, 0.0)
    limits = []
    for _ in range(4):
        answer(traffic, GOOD_ANSWERS)
        limits.append(traffic.limit)
    assert limits == [3, 4, 4, 4]


def test_nobody_leaves_before_the_time_that_the_endpoint_named_and_a_shorter_one_changes_nothing():
    traffic = Traffic(8)
    traffic.slow_down(1.0, 2.0, 5.0)
    traffic.slow_down(1.0, 2.0, 1.0)
    assert traffic.start(3.0, 0.0) == pytest.approx(4.0)
    assert traffic.start(7.0, 0.0) == 0.0


def test_what_an_endpoint_can_bear_is_remembered_for_it_alone():
    known = TrafficOf()
    known.endpoint("https://a.example/", 8).slow_down(1.0, 2.0, 0.0)
    assert known.endpoint("https://a.example/", 8).limit == 4
    assert known.endpoint("https://b.example/", 8).limit == 8


def test_the_endpoints_longest_not_asked_are_forgotten():
    known = TrafficOf()
    known.endpoint("first", 8).slow_down(1.0, 2.0, 0.0)
    known.endpoint("second", 8).slow_down(1.0, 2.0, 0.0)
    for number in range(REMEMBERED - 2):
        known.endpoint(str(number), 8)
    known.endpoint("first", 8)
    known.endpoint("another", 8)
    assert (known.endpoint("first", 8).limit, known.endpoint("second", 8).limit) == (4, 8)


def test_of_those_that_wait_the_oldest_question_leaves_first():
    async def race():
        traffic, left = Traffic(1), []
        turns = Turns(traffic, 0.0)

        async def ask(position):
            await turns.take(position, until=float("inf"))
            left.append(position)
            await asyncio.sleep(0.01)
            traffic.end(good=True)

        assert not traffic.start(asyncio.get_running_loop().time(), 0.0)
        waiting = [asyncio.create_task(ask(position)) for position in (5, 3, 4, 0, 9)]
        await asyncio.sleep(0.02)
        traffic.end(good=True)
        await asyncio.gather(*waiting)
        return left

    assert asyncio.run(race()) == [0, 3, 4, 5, 9]


def test_a_turn_that_would_come_too_late_is_none():
    async def late():
        traffic = Traffic(1)
        clock = asyncio.get_running_loop().time
        traffic.slow_down(0.0, clock(), 60.0)
        return await Turns(traffic, 0.0).take(0, until=clock() + 0.03)

    assert asyncio.run(late()) is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("9" * 60, 999_999.0),
        ("Sat, 31 Jan 2026 12:00:30 GMT", 30.0),
        ("Saturday, 31-Jan-26 12:00:30 GMT", 30.0),
        ("Sat Jan 31 12:00:30 2026", 30.0),
        ("Sat, 31 Jan 2026 13:00:30 +0100", 30.0),
        ("Fri, 30 Jan 2026 12:00:00 GMT", 0.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("\u0663", None),
        ("\xb2", None),
        ("soon", None),
        ("Sat, 99 Jan 2026 99:00:30 GMT", None),
        ("Sat, 31 Jan 99999999999999999999 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header, seconds):
    assert seconds_asked_for(header, NOON) == seconds
