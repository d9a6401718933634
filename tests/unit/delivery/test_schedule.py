"""When what did not arrive is sent again."""

from datetime import UTC, datetime, timedelta

from app.delivery.schedule import JITTER, LAST_PAUSE, MAX_ATTEMPTS, WAITS, next_attempt_at, pause_after

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_waits_grow_for_about_a_day_and_then_it_is_given_up() -> None:
    at, moments = NOW, []
    for attempts in range(1, MAX_ATTEMPTS):
        found = next_attempt_at(attempts, b"message", at)
        assert found is not None
        assert WAITS[attempts - 1] <= found - at <= WAITS[attempts - 1] * (1 + JITTER)
        moments.append(found - at)
        at = found
    assert moments == sorted(moments)
    assert timedelta(hours=24) < at - NOW < timedelta(hours=32)
    assert next_attempt_at(MAX_ATTEMPTS, b"message", at) is None


def test_what_failed_together_comes_back_apart() -> None:
    assert len({next_attempt_at(3, bytes([number]), NOW) for number in range(20)}) == 20
    assert next_attempt_at(3, b"same", NOW) == next_attempt_at(3, b"same", NOW)


def test_a_receiver_that_fails_again_is_left_alone_for_longer_but_not_for_ever() -> None:
    pauses = [pause_after(failures) for failures in range(1, 40)]
    assert pauses == sorted(pauses)
    assert pauses[0] < timedelta(seconds=5)
    assert pauses[-1] == LAST_PAUSE
