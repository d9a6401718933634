"""The worker's side of an order: who holds it, what is tried again, what is written once."""

from pathlib import Path

import pytest

from app.canonical import sha256
from app.db.engine import transaction
from app.db.tables import EmbeddingRow
from app.embedding.artifacts import UNFINISHED_RUN
from app.embedding.attempts import attempt_folder
from app.embedding.child_order import NetworkFigures, TrainingReport
from app.embedding.embedding_order import EmbeddingOrder
from app.embedding.job import embed, record_result
from app.embedding.recipe import Recipe
from app.errors import DatabaseAway, Malformed, NotFound, TrainingFailed, Unavailable
from app.jobs.queue import Stopped
from app.keys.labels import salt_of
from app.protocol.assessment import beacon_value
from tests.conftest import Database
from tests.integration.order_desk import KEY, QUEUE, Desk, OneAttempt, open_desk


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk[EmbeddingRow]:
    order = EmbeddingOrder(QUEUE, Recipe(network="mlp"), bytes(32), None, None)
    return open_desk(database, tmp_path, EmbeddingRow, order)


def finish(desk: Desk[EmbeddingRow], attempt: OneAttempt) -> None:
    figures = NetworkFigures(9, 10, 4, 4, 3, 100, bytes(32))
    report = TrainingReport(figures, None, None, None, (), KEY.root(), Recipe(network="mlp"), "cpu", "2")
    mine = desk.mine(attempt)
    mine.deliver(lambda session, row: record_result(mine, session, row, (b"\x07" * 32, 1), report))


def test_an_attempt_takes_statement_and_salt_from_the_log(desk):
    taken = desk.take(desk.attempt())
    assert taken is not None
    assert taken.statement == desk.registration.statement
    assert taken.salt == salt_of(beacon_value(desk.beacon), KEY.root(), sha256(desk.registration_data))
    assert taken.secrets.sealed == b"sealed"
    assert b"sealed" not in repr(taken).encode()
    assert desk.row().state == "running"


def test_an_attempt_that_lost_its_job_takes_holds_and_writes_nothing(desk):
    first = desk.attempt()
    assert desk.take(first) is not None
    desk.hand_to_another()
    assert desk.take(first) is None
    with transaction(desk.database.service) as session:
        assert desk.mine(first).hold(session) is None
    finish(desk, first)
    assert (desk.row().state, desk.models_in_log()) == ("running", 0)
    second = desk.attempt(number=1)
    assert desk.take(second) is not None
    finish(desk, first)
    finish(desk, second)
    assert (desk.row().state, desk.row().attempt, desk.models_in_log()) == ("done", 1, 1)


def test_a_result_is_written_once_even_if_the_answer_to_the_commit_was_lost(desk):
    attempt = desk.attempt()
    desk.take(attempt)
    finish(desk, attempt)
    finish(desk, attempt)
    assert (desk.row().state, desk.models_in_log(), desk.row().sealed_key) == ("done", 1, b"")
    assert desk.told() == ["embedding.done"]
    assert desk.take(attempt) is None


def test_a_result_whose_commit_fails_leaves_the_order_as_it_was(desk):
    attempt = desk.attempt()
    desk.take(attempt)
    desk.refuse_at_commit("artifacts", "INSERT")
    with pytest.raises(Exception, match="no"):
        finish(desk, attempt)
    assert (desk.row().state, desk.row().artifact_sha256, desk.models_in_log()) == ("running", None, 0)
    assert desk.told() == []


def test_a_cancelled_order_is_nobodys(desk):
    attempt = desk.attempt()
    desk.take(attempt)
    desk.cancel()
    finish(desk, attempt)
    assert (desk.row().state, desk.models_in_log()) == ("cancelled", 0)
    assert desk.told() == ["embedding.cancelled"]
    assert desk.take(attempt) is None


def test_an_order_that_cannot_succeed_ends_with_its_reason_and_without_its_key(desk):
    embed(desk.bench, desk.attempt(), {"order_id": str(desk.order_id)})
    row = desk.row()
    assert (row.state, row.error["code"], row.sealed_key) == ("failed", NotFound.code, b"")


def test_what_may_pass_goes_back_to_the_queue_until_the_last_attempt(desk):
    attempt = desk.attempt()
    desk.take(attempt)
    with pytest.raises(Unavailable):
        desk.mine(attempt).settle(Unavailable("the object store failed"))
    assert (desk.row().state, desk.row().error["code"], desk.row().sealed_key) == ("queued", "unavailable", b"sealed")
    last = desk.attempt(is_last=True)
    desk.take(last)
    desk.mine(last).settle(TrainingFailed("the training child ended with status -9"))
    assert (desk.row().state, desk.row().error["code"]) == ("failed", "training_failed")


def test_what_the_child_says_is_final_and_keeps_its_code(desk):
    attempt = desk.attempt()
    desk.take(attempt)
    error = TrainingFailed("no channel 4", state=Malformed.code, pointer="/recipe")
    desk.mine(attempt).settle(error)
    assert desk.row().error == {"code": "malformed", "message": "no channel 4", "pointer": "/recipe"}


def test_a_worker_that_stops_leaves_the_order_to_the_next(desk):
    attempt = desk.attempt(stopping=True)
    with pytest.raises(Stopped):
        embed(desk.bench, attempt, {"order_id": str(desk.order_id)})
    assert desk.row().state == "running"
    desk.hand_to_another()
    assert desk.take(desk.attempt(number=1)) is not None


def test_the_absence_of_the_database_is_no_reason_to_fail(desk):
    attempt = desk.attempt(is_last=True)
    desk.take(attempt)
    with pytest.raises(DatabaseAway):
        desk.mine(attempt).settle(DatabaseAway("away"))
    assert desk.row().state == "running"


def test_folders_of_dead_attempts_are_removed(desk):
    dead = desk.bench.work_dir / f"job-{desk.job_id}-0"
    dead.mkdir(parents=True)
    (dead / "train_data").write_bytes(b"x")
    desk.hand_to_another()
    embed(desk.bench, desk.attempt(number=1), {"order_id": str(desk.order_id)})
    assert list(desk.bench.work_dir.iterdir()) == []


def test_the_next_attempt_finds_what_a_dead_one_left_unfinished_and_nothing_else(desk, tmp_path):
    dead = desk.bench.work_dir / f"job-{desk.job_id}-0" / "output"
    dead.mkdir(parents=True)
    (dead / f"{UNFINISHED_RUN}marked.safetensors").write_bytes(b"half")
    (dead / f"{UNFINISHED_RUN}link").symlink_to(tmp_path)
    (dead / "other").write_bytes(b"x")
    desk.hand_to_another()
    for number in (1, 2):
        with attempt_folder(desk.bench.work_dir, desk.attempt(number=number)) as folder:
            assert [path.name for path in (folder / "output").iterdir()] == [f"{UNFINISHED_RUN}marked.safetensors"]
            assert (folder / "output" / f"{UNFINISHED_RUN}marked.safetensors").read_bytes() == b"half"
    desk.hand_to_another()
    embed(desk.bench, desk.attempt(number=2), {"order_id": str(desk.order_id)})
    assert list(desk.bench.work_dir.iterdir()) == []
