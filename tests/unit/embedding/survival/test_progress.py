from typing import Any

import pytest

from app.embedding.survival.order import Measured
from app.embedding.survival.progress import SurvivalProgress
from app.errors import TrainingFailed

RUN, OTHER_RUN = "ab" * 32, "cd" * 32


def result(attack: str) -> dict[str, Any]:
    return Measured(attack, 9, 10, (4, 3), None, None, 5).to_json()


def finished(attack: str, run: str = RUN) -> dict[str, Any]:
    return {"event": "attack", "run": run, "result": result(attack)}


def progress(**changes: Any) -> dict[str, Any]:
    return {"event": "progress", "attack": "int8", "number": 1, "attacks": 2, "epoch": 0, "epochs": 0, **changes}


def test_progress_shows_where_it_is_and_what_is_finished():
    told = SurvivalProgress()
    assert not told.add(progress())
    assert told.add(finished("int8"))
    assert not told.add(progress(attack="int4", number=2))
    assert not told.add({"event": "done", "report": {}})
    assert told.to_json() == {
        "attack": "int4",
        "number": 2,
        "attacks": 2,
        "epoch": 0,
        "epochs": 0,
        "results": [result("int8")],
    }


def test_what_one_attempt_finished_the_next_one_has():
    told = SurvivalProgress()
    told.add(finished("int8"))
    again = SurvivalProgress.of_notebook(told.to_notebook())
    assert again.to_json() == {"results": [result("int8")]}
    again.add(finished("int4"))
    assert again.to_notebook() == {"run": RUN, "results": [result("int8"), result("int4")]}


def test_results_of_another_run_are_not_kept_beside_these():
    told = SurvivalProgress.of_notebook({"run": OTHER_RUN, "results": [result("int8")]})
    told.add(finished("int4"))
    assert told.to_notebook() == {"run": RUN, "results": [result("int4")]}


def test_there_is_nothing_to_go_on_from_before_the_first_attack():
    told = SurvivalProgress.of_notebook({})
    told.add(progress())
    assert told.to_notebook() == {"run": "", "results": []}


@pytest.mark.parametrize(
    "event",
    [
        progress(number=-1),
        progress(epoch="2"),
        progress(attack=None),
        {"event": "attack", "run": RUN, "result": {**result("int8"), "more": 1}},
        {"event": "attack", "run": "", "result": result("int8")},
        {"event": "attack", "result": result("int8")},
        {"event": "attack", "run": RUN},
    ],
)
def test_what_is_no_event_of_ours_ends_the_attempt(event):
    with pytest.raises(TrainingFailed):
        SurvivalProgress().add(event)


@pytest.mark.parametrize("name", ["int8\0", "\ud800", "\x1b[2J"])
def test_a_name_that_a_database_or_a_terminal_stumbles_over_is_refused(name):
    for event in (progress(attack=name), {**finished("int8"), "result": {**result("int8"), "attack": name}}):
        with pytest.raises(TrainingFailed, match="letters and marks"):
            SurvivalProgress().add(event)
