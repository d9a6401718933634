"""Jobs in the caller's transaction: placed, counted, cancelled, fenced."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, text

from app.db.engine import transaction
from app.db.tables import SigningChallengeRow
from app.errors import Conflict
from app.jobs.queue import cancel, enqueue, find_state, is_alive, verify_current
from tests.conftest import Database
from tests.integration.workshop import Workshop, wait_until


def count_jobs(database: Database) -> int:
    with transaction(database.service) as session:
        return int(session.scalar(text("SELECT count(*) FROM procrastinate_jobs")) or 0)


def test_a_job_of_a_transaction_that_is_rolled_back_never_exists(any_database: Database) -> None:
    with pytest.raises(ZeroDivisionError), transaction(any_database.service) as session:  # noqa: PT012
        enqueue(session, "record", "probe", {})
        raise ZeroDivisionError
    assert count_jobs(any_database) == 0


def test_a_job_exists_once_its_transaction_is_committed(any_database: Database) -> None:
    with transaction(any_database.service) as session:
        job_id = enqueue(session, "record", "probe", {"key": [1, "two", None]})
        with transaction(any_database.service) as other:
            assert find_state(other, job_id) is None
    with transaction(any_database.service) as session:
        state = find_state(session, job_id)
        assert state is not None
        assert (state.status, state.attempts) == ("todo", 0)
        args = session.scalar(text("SELECT args FROM procrastinate_jobs"))
        assert args == {"key": [1, "two", None]}


def test_of_one_queueing_lock_one_job_waits(any_database: Database) -> None:
    with transaction(any_database.service) as session:
        first = enqueue(session, "record", "probe", {}, queueing_lock="dispute 1")
        assert enqueue(session, "record", "probe", {}, queueing_lock="dispute 1") == first
        assert enqueue(session, "record", "probe", {}, queueing_lock="dispute 2") != first
    with transaction(any_database.service) as session:
        assert enqueue(session, "record", "probe", {}, queueing_lock="dispute 1") == first
        # The transaction goes on: the refused insert did not spoil it.
        enqueue(session, "record", "probe", {})
    assert count_jobs(any_database) == 3


def test_a_waiting_job_starts_only_after_the_transaction_that_counted_on_it(any_database: Database) -> None:
    with transaction(any_database.service) as session:
        job_id = enqueue(session, "record", "probe", {}, queueing_lock="dispute")
    with transaction(any_database.service) as session:
        assert enqueue(session, "record", "probe", {}, queueing_lock="dispute") == job_id
        with transaction(any_database.service) as worker:
            fetched = worker.scalar(text("SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)"))
            assert fetched is None


def test_many_who_place_the_same_job_at_once_place_one(any_database: Database) -> None:
    def place(_: int) -> int:
        with transaction(any_database.service) as session:
            return enqueue(session, "record", "probe", {}, queueing_lock="dispute")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(place, range(40)))) == 1
    assert count_jobs(any_database) == 1


def test_a_job_lives_while_it_waits_and_while_it_runs(workshop: Workshop) -> None:
    def lives(queueing_lock: str) -> bool:
        with transaction(workshop.database.service) as session:
            return is_alive(session, queueing_lock)

    assert not lives("block")
    with transaction(workshop.database.service) as session:
        job_id = enqueue(session, "wait", "probe", workshop.args, queueing_lock="block")
    assert lives("block")
    assert not lives("another")
    workshop.start_worker()
    wait_until(lambda: workshop.status(job_id) == "doing")
    assert lives("block")
    workshop.release()
    wait_until(lambda: workshop.status(job_id) == "succeeded")
    assert not lives("block")


def test_a_waiting_job_can_be_cancelled(workshop: Workshop) -> None:
    job_id = workshop.place("record")
    with transaction(workshop.database.service) as session:
        assert cancel(session, job_id)
    assert workshop.status(job_id) == "cancelled"
    other = workshop.place("record")
    workshop.start_worker()
    wait_until(lambda: workshop.status(other) == "succeeded")
    assert workshop.words() == ["ran 0"]
    with transaction(workshop.database.service) as session:
        assert not cancel(session, other)
        assert not cancel(session, 10**9)


def test_a_running_job_can_be_cancelled_and_is_not_tried_again(workshop: Workshop) -> None:
    job_id = workshop.place("wait")
    workshop.start_worker()
    wait_until(lambda: workshop.words() == ["started 0"])
    with transaction(workshop.database.service) as session:
        assert cancel(session, job_id)
    wait_until(lambda: workshop.status(job_id) == "aborted")
    assert workshop.words() == ["started 0", "cancelled"]


def test_a_cancel_that_is_rolled_back_cancels_nothing(workshop: Workshop) -> None:
    job_id = workshop.place("record")
    with pytest.raises(ZeroDivisionError), transaction(workshop.database.service) as session:  # noqa: PT012
        cancel(session, job_id)
        raise ZeroDivisionError
    assert workshop.status(job_id) == "todo"


def test_the_result_of_a_cancelled_job_is_refused(workshop: Workshop) -> None:
    job_id = workshop.place("write")
    workshop.start_worker()
    wait_until(lambda: workshop.words() == ["started 0"])
    with transaction(workshop.database.service) as session:
        assert cancel(session, job_id)
    workshop.release()
    wait_until(lambda: workshop.status(job_id) not in ("doing", "todo"))
    assert workshop.words() == ["started 0"]
    with transaction(workshop.database.service) as session:
        assert session.scalar(select(func.count()).select_from(SigningChallengeRow)) == 0


def test_a_job_that_was_never_there_is_nobodys(database: Database) -> None:
    class Stranger:
        job_id, number, queue, is_last = 1, 0, "probe", False

    with transaction(database.service) as session, pytest.raises(Conflict):
        verify_current(session, Stranger())  # type: ignore[arg-type]
