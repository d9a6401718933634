from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from app.embedding.progress import MAX_POINTS, MAX_SECONDS, Pace, ProgressCurve
from app.errors import TrainingFailed


def event(epoch: int, run: str = "marked", matches: int = 3) -> dict:
    return {
        "event": "progress",
        "run": run,
        "epoch": epoch,
        "epochs": 10_000,
        "loss": 1 / epoch,
        "trigger_matches": matches,
        "trigger_total": 12,
    }


def curve_of(count: int) -> ProgressCurve:
    curve = ProgressCurve()
    for epoch in range(1, count + 1):
        curve.add(event(epoch))
    return curve


def test_before_the_first_epoch_there_is_nothing_to_show():
    curve = ProgressCurve()
    curve.add({"event": "done", "report": {}})
    assert curve.to_json() == {}


def test_it_shows_where_the_training_stands_and_how_it_came_there():
    shown = curve_of(2).to_json()
    assert (shown["run"], shown["epoch"], shown["epochs"]) == ("marked", 2, 10_000)
    assert [point["loss"] for point in shown["curve"]] == [1.0, 0.5]
    assert shown["trigger_accuracy"] == pytest.approx(0.25)


@pytest.mark.parametrize("count", [1, MAX_POINTS, MAX_POINTS + 1, 777, 5_000])
def test_a_long_training_has_a_short_curve_that_spans_all_of_it(count):
    curve = curve_of(count).to_json()["curve"]
    assert len(curve) <= MAX_POINTS + 1
    assert len(curve) > min(count, MAX_POINTS) / 2
    assert (curve[0]["epoch"], curve[-1]["epoch"]) == (1, count)
    steps = {later["epoch"] - earlier["epoch"] for earlier, later in pairwise(curve[:-1])}
    assert len(steps) <= 1


def test_both_runs_stand_on_one_curve():
    curve = ProgressCurve()
    curve.add(event(1, "plain"))
    curve.add(event(1, "marked"))
    assert [point["run"] for point in curve.to_json()["curve"]] == ["plain", "marked"]


@pytest.mark.parametrize(
    "lie",
    [
        {"run": "x" * 1_000_000},
        {"run": {"of": "no kind"}},
        {"run": None},
        {"epoch": "first"},
        {"epoch": 10**400},
        {"epochs": -1},
        {"loss": "low"},
        {"loss": 10**4_000},
        {"loss": float("inf")},
        {"loss": None},
        {"trigger_total": 0},
        {"trigger_total": "12"},
        {"trigger_matches": 13},
    ],
)
def test_what_a_child_tells_is_parsed_as_from_a_stranger(lie):
    curve = curve_of(1)
    before = curve.to_json()
    with pytest.raises(TrainingFailed, match="no progress"):
        curve.add({**event(2), **lie})
    assert curve.to_json() == before


@pytest.mark.parametrize("name", ["run", "epoch", "epochs", "loss", "trigger_matches", "trigger_total"])
def test_progress_that_lacks_a_figure_is_refused(name):
    told = event(1)
    del told[name]
    with pytest.raises(TrainingFailed, match="no progress"):
        ProgressCurve().add(told)


def test_a_warning_holds_nothing_that_a_database_or_a_terminal_stumbles_over():
    curve = curve_of(1)
    curve.add({"event": "warning", "message": "low\x00 \ud800\x1b[2Jaccuracy" + "x" * 5_000})
    (warning,) = curve.to_json()["warnings"]
    assert warning.startswith("low    [2Jaccuracy")
    assert len(warning) == 1_000


START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def left_after(*seen: tuple[str, int, float], epochs: int = 60) -> int | None:
    """What a worker forecasts that saw these runs at these epochs, so many seconds after it began."""
    pace = Pace()
    for run, epoch, seconds in seen:
        pace.note({"run": run, "epoch": epoch, "epochs": epochs}, START + timedelta(seconds=seconds))
    return pace.seconds_left


def test_no_time_is_forecast_before_two_figures_of_one_run():
    pace = Pace()
    pace.note({}, START)
    assert (pace.since, pace.seconds_left) == (None, None)
    assert left_after(("marked", 1, 3_600)) is None
    assert left_after(("marked", 1, 5), ("marked", 1, 9)) is None


def test_the_time_left_follows_the_pace_of_this_run_whatever_came_before():
    assert left_after(("marked", 10, 7_000), ("marked", 20, 7_010)) == 40
    assert left_after(("plain", 1, 0), ("plain", 60, 59), ("marked", 1, 70)) is None
    assert left_after(("plain", 1, 0), ("plain", 60, 59), ("marked", 1, 70), ("marked", 2, 72)) == 116


def test_a_run_that_begins_again_has_a_new_pace():
    assert left_after(("marked", 30, 0), ("marked", 40, 10), ("marked", 20, 20), ("marked", 30, 40)) == 60


@pytest.mark.parametrize(
    ("seconds", "epochs", "left"), [(-50, 60, 0), (10, 2, 0), (10, 1, 0), (10, 10**15, MAX_SECONDS)]
)
def test_a_forecast_is_neither_negative_nor_without_end(seconds, epochs, left):
    assert left_after(("marked", 1, 0), ("marked", 2, seconds), epochs=epochs) == left
