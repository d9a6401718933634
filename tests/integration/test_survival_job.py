"""The worker's side of a survival report: what an attempt leaves to the next, what is written once."""

from pathlib import Path
from typing import Any

import pytest

from app.db.tables import SurvivalReportRow
from app.embedding.survival.job import read_progress, survive
from app.embedding.survival.order import SurvivalSettings
from app.embedding.survival.report_order import ReportOrder
from app.errors import NotFound, TrainingFailed
from app.jobs.queue import Stopped
from tests.conftest import Database
from tests.integration.order_desk import QUEUE, Desk, OneAttempt, open_desk

RUN = "ab" * 32
SETTINGS = SurvivalSettings(attacks=("int8", "int4"))


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk[SurvivalReportRow]:
    order = ReportOrder(QUEUE, SETTINGS, bytes(32), None, bytes(32), None, None, None, ())
    return open_desk(database, tmp_path, SurvivalReportRow, order)


def event_of(attack: str, matches: int = 4) -> dict[str, Any]:
    result = {
        "attack": attack,
        "task_correct": 9,
        "task_total": 10,
        "matches": [matches],
        "owners_head": None,
        "pirate": None,
        "milliseconds": 5,
    }
    return {"event": "attack", "run": RUN, "result": result}


def finish_an_attack(desk: Desk[SurvivalReportRow], attempt: OneAttempt, attack: str) -> bool:
    """Write a finished attack as the job does; say whether the order is still the attempt's."""
    mine = desk.mine(attempt)
    progress = read_progress(mine)

    def write(row: SurvivalReportRow) -> None:
        row.progress, row.notebook = progress.to_json(), progress.to_notebook()

    mine.tell(write, at_once=progress.add(event_of(attack)))
    return not mine.is_lost


def deliver(desk: Desk[SurvivalReportRow], attempt: OneAttempt) -> None:
    def finish(_session: Any, row: SurvivalReportRow) -> None:
        row.report, row.notebook = {"summary": "survives"}, {}

    desk.mine(attempt).deliver(finish)


def test_the_next_attempt_goes_on_behind_what_the_last_one_finished(desk):
    first = desk.attempt()
    assert desk.take(first) is not None
    assert finish_an_attack(desk, first, "int8")
    desk.hand_to_another()
    second = desk.attempt(number=1)
    assert desk.take(second) is not None
    assert desk.row().progress == {}
    assert [result.attack for result in read_progress(desk.mine(second)).results] == ["int8"]
    assert finish_an_attack(desk, second, "int4")
    assert [result["attack"] for result in desk.row().progress["results"]] == ["int8", "int4"]
    assert desk.row().notebook["run"] == RUN


def test_an_attempt_that_lost_its_job_writes_neither_progress_nor_report(desk):
    first = desk.attempt()
    desk.take(first)
    desk.hand_to_another()
    assert not finish_an_attack(desk, first, "int8")
    deliver(desk, first)
    assert (desk.row().state, desk.row().notebook, desk.row().report) == ("running", {}, None)
    second = desk.attempt(number=1)
    desk.take(second)
    deliver(desk, first)
    deliver(desk, second)
    deliver(desk, second)
    row = desk.row()
    assert (row.state, row.attempt, row.report, row.sealed_key) == ("done", 1, {"summary": "survives"}, b"")
    assert desk.take(second) is None


def test_a_report_whose_commit_fails_leaves_the_order_and_its_finished_attacks(desk):
    attempt = desk.attempt()
    desk.take(attempt)
    finish_an_attack(desk, attempt, "int8")
    desk.refuse_at_commit("survival_reports", "UPDATE")
    with pytest.raises(Exception, match="no"):
        deliver(desk, attempt)
    row = desk.row()
    assert (row.state, row.report, row.sealed_key) == ("running", None, b"sealed")
    assert [result["attack"] for result in row.notebook["results"]] == ["int8"]


def test_a_cancelled_order_is_nobodys(desk):
    attempt = desk.attempt()
    desk.take(attempt)
    desk.cancel()
    assert not finish_an_attack(desk, attempt, "int8")
    deliver(desk, attempt)
    row = desk.row()
    assert (row.state, row.report, row.sealed_key) == ("cancelled", None, b"")
    assert desk.take(attempt) is None


def test_an_order_that_cannot_succeed_ends_with_its_reason_and_without_its_key(desk):
    survive(desk.bench, desk.attempt(), {"order_id": str(desk.order_id)})
    row = desk.row()
    assert (row.state, row.error["code"], row.sealed_key) == ("failed", NotFound.code, b"")
    assert list(desk.bench.work_dir.iterdir()) == []


def test_a_child_that_dies_costs_an_attempt_and_no_finished_attack(desk):
    attempt = desk.attempt()
    desk.take(attempt)
    finish_an_attack(desk, attempt, "int8")
    died = TrainingFailed("the training child ended with status -9 and no report")
    with pytest.raises(TrainingFailed):
        desk.mine(attempt).settle(died)
    row = desk.row()
    assert (row.state, row.error["code"], row.sealed_key) == ("queued", "training_failed", b"sealed")
    assert [result["attack"] for result in row.notebook["results"]] == ["int8"]


def test_a_worker_that_stops_leaves_the_order_to_the_next(desk):
    with pytest.raises(Stopped):
        survive(desk.bench, desk.attempt(stopping=True), {"order_id": str(desk.order_id)})
    assert (desk.row().state, desk.row().sealed_key) == ("running", b"sealed")
