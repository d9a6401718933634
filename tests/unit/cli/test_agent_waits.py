"""An agent looks again soon while its dispute is asked, and seldom when nothing happens."""

from app.cli.agent_command import BUSY_WAIT_SECONDS, FIRST_WAIT_SECONDS, IDLE_AFTER_SECONDS, Waits


def test_an_idle_agent_waits_as_long_as_it_was_told():
    waits = Waits(2.0)
    assert [waits.after(0) for _ in range(3)] == [2.0, 2.0, 2.0]


def test_after_an_opening_it_looks_soon_then_less_often_then_seldom():
    waits = Waits(2.0)
    assert waits.after(1) == FIRST_WAIT_SECONDS
    busy = []
    while sum(busy) < IDLE_AFTER_SECONDS - FIRST_WAIT_SECONDS:
        busy.append(waits.after(0))
    assert busy[:3] == [2 * FIRST_WAIT_SECONDS, 4 * FIRST_WAIT_SECONDS, BUSY_WAIT_SECONDS]
    assert set(busy[3:]) == {BUSY_WAIT_SECONDS}
    assert [waits.after(0) for _ in range(4)] == [0.5, 1.0, 2.0, 2.0]


def test_an_agent_told_to_look_often_never_waits_longer():
    waits = Waits(0.1)
    waits.after(2)
    assert {waits.after(0) for _ in range(5)} == {0.1}
