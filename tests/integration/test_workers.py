"""Workers that stop, die, freeze or lose their database: real processes, real signals."""

import asyncio
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest
from procrastinate.jobs import Status
from sqlalchemy import select, text

from app.db.engine import transaction
from app.db.tables import SigningChallengeRow
from app.errors import DatabaseAway
from app.jobs.connector import _take_back
from app.jobs.loop import Every, make_app
from app.jobs.queue import enqueue, find_state
from tests.integration.workshop import Workshop, wait_until


def test_a_job_runs(any_workshop: Workshop) -> None:
    job_id = any_workshop.place("record")
    any_workshop.start_worker()
    wait_until(lambda: any_workshop.status(job_id) == "succeeded")
    assert any_workshop.words() == ["ran 0"]


def test_a_worker_leaves_other_queues_alone_and_later_jobs_for_later(workshop: Workshop) -> None:
    other = workshop.place("record", queue="embed.gpu")
    with transaction(workshop.database.service) as session:
        later = enqueue(session, "record", "probe", workshop.args, run_at=datetime.now(UTC) + timedelta(hours=1))
    mine = workshop.place("record")
    workshop.start_worker()
    wait_until(lambda: workshop.status(mine) == "succeeded")
    assert workshop.status(other) == workshop.status(later) == "todo"


def test_a_job_whose_worker_was_killed_is_finished_by_another(any_workshop: Workshop) -> None:
    job_id = any_workshop.place("wait")
    victim = any_workshop.start_worker()
    wait_until(lambda: any_workshop.words() == ["started 0"])
    victim.kill()
    any_workshop.start_worker()
    wait_until(lambda: any_workshop.words() == ["started 0", "started 1"])
    any_workshop.release()
    wait_until(lambda: any_workshop.status(job_id) == "succeeded")
    assert any_workshop.words() == ["started 0", "started 1", "finished 1"]


def test_a_worker_that_only_seemed_dead_cannot_write_its_result(workshop: Workshop) -> None:
    job_id = workshop.place("write")
    sleeper = workshop.start_worker()
    wait_until(lambda: workshop.words() == ["started 0"])
    sleeper.send_signal(signal.SIGSTOP)
    workshop.start_worker()
    wait_until(lambda: workshop.words() == ["started 0", "started 1"])
    workshop.release()
    wait_until(lambda: workshop.status(job_id) == "succeeded")
    sleeper.send_signal(signal.SIGCONT)
    log = workshop.folder / "worker0.log"
    wait_until(lambda: b"no longer this worker's" in log.read_bytes())
    with transaction(workshop.database.service) as session:
        assert session.scalars(select(SigningChallengeRow.nonce)).all() == [b"1"]


def test_a_lane_that_is_full_holds_up_no_other(workshop: Workshop) -> None:
    slow = [workshop.place("wait") for _ in range(20)]
    workshop.start_worker("probe", "/", "court", "system")
    wait_until(lambda: len(workshop.words()) == 8)
    quick = [workshop.place("record", queue="court") for _ in range(20)]
    wait_until(lambda: {workshop.status(job_id) for job_id in quick} == {"succeeded"})
    assert [workshop.status(job_id) for job_id in slow] == ["doing"] * 8 + ["todo"] * 12
    workshop.release()
    wait_until(lambda: {workshop.status(job_id) for job_id in slow} == {"succeeded"})


def test_a_worker_that_is_told_to_stop_gives_back_the_jobs_of_every_lane(workshop: Workshop) -> None:
    jobs = [workshop.place("wait", queue=queue) for queue in ("probe", "court")]
    worker = workshop.start_worker("probe", "/", "court", "system")
    wait_until(lambda: workshop.words() == ["started 0"] * 2)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert [workshop.status(job_id) for job_id in jobs] == ["todo", "todo"]


def test_every_lane_outlives_the_loss_of_the_database(workshop: Workshop) -> None:
    jobs = [workshop.place("wait", queue=queue) for queue in ("probe", "court")]
    worker = workshop.start_worker("probe", "/", "court", "system")
    wait_until(lambda: workshop.words() == ["started 0"] * 2)
    workshop.database.server.kill()
    workshop.release()
    workshop.database.service.dispose()

    def is_done(job_ids: list[int]) -> bool:
        try:
            return {workshop.status(job_id) for job_id in job_ids} == {"succeeded"}
        except DatabaseAway:
            return False

    wait_until(lambda: is_done(jobs))
    again = [workshop.place("record", queue=queue) for queue in ("probe", "court")]
    wait_until(lambda: is_done(again))
    assert worker.poll() is None


def test_a_worker_that_is_told_to_stop_gives_its_job_back_at_once(any_workshop: Workshop) -> None:
    job_id = any_workshop.place("wait")
    worker = any_workshop.start_worker()
    wait_until(lambda: any_workshop.words() == ["started 0"])
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert any_workshop.status(job_id) == "todo"
    any_workshop.release()
    any_workshop.start_worker()
    wait_until(lambda: any_workshop.status(job_id) == "succeeded")
    assert any_workshop.words() == ["started 0", "started 1", "finished 1"]


def test_what_is_unavailable_is_tried_again(workshop: Workshop) -> None:
    job_id = workshop.place("fail", error="Unavailable", times=2)
    workshop.start_worker()
    wait_until(lambda: workshop.status(job_id) == "succeeded")
    assert workshop.words() == ["tried 0", "tried 1", "tried 2 last"]


def test_what_stays_unavailable_is_given_up_at_last(workshop: Workshop) -> None:
    job_id = workshop.place("fail", error="Unavailable", times=99)
    workshop.start_worker()
    wait_until(lambda: workshop.status(job_id) == "failed")
    assert workshop.words() == ["tried 0", "tried 1", "tried 2 last"]


@pytest.mark.parametrize("error", ["Malformed", "ValueError"])
def test_what_is_refused_or_a_bug_is_not_tried_again(workshop: Workshop, error: str) -> None:
    job_id = workshop.place("fail", error=error, times=99)
    workshop.start_worker()
    wait_until(lambda: workshop.status(job_id) == "failed")
    assert workshop.words() == ["tried 0"]


def test_a_killed_database_ends_neither_the_worker_nor_its_job(any_workshop: Workshop) -> None:
    job_id = any_workshop.place("wait")
    worker = any_workshop.start_worker()
    wait_until(lambda: any_workshop.words() == ["started 0"])
    any_workshop.database.server.kill()
    time.sleep(0.5)
    any_workshop.release()
    any_workshop.database.service.dispose()
    wait_until(lambda: any_workshop.words()[-1].startswith("finished"))

    def succeeded() -> bool:
        try:
            return any_workshop.status(job_id) == "succeeded"
        except DatabaseAway:
            return False

    wait_until(succeeded)
    another = any_workshop.place("record")
    wait_until(lambda: any_workshop.status(another) == "succeeded")
    assert worker.poll() is None


def test_a_worker_outlives_an_outage_while_idle_and_can_be_stopped_during_one(workshop: Workshop) -> None:
    server, name = workshop.database.server, workshop.database.service.url.database
    first = workshop.place("record")
    worker = workshop.start_worker()
    wait_until(lambda: workshop.status(first) == "succeeded")
    workshop.database.service.dispose()
    server.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    server.run(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'")
    time.sleep(3)
    assert worker.poll() is None
    server.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    second = workshop.place("record")
    wait_until(lambda: workshop.status(second) == "succeeded")
    workshop.database.service.dispose()
    server.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    server.run(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'")
    time.sleep(1)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    server.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_a_worker_that_was_taken_for_dead_goes_on_under_another_name(workshop: Workshop) -> None:
    first = workshop.place("record")
    worker = workshop.start_worker()
    wait_until(lambda: workshop.status(first) == "succeeded")
    with transaction(workshop.database.service) as session:
        session.execute(text("DELETE FROM procrastinate_workers"))
    second = workshop.place("record")
    wait_until(lambda: workshop.status(second) == "succeeded")
    assert worker.poll() is None


def test_a_task_of_the_clock_runs_once_an_interval_however_many_workers_there_are(workshop: Workshop) -> None:
    ticks = workshop.folder / "ticks"
    for _ in range(2):
        workshop.start_worker(TICKS=str(ticks))
    wait_until(lambda: ticks.exists() and len(ticks.read_text().splitlines()) >= 2)
    started, before = time.monotonic(), len(ticks.read_text().splitlines())
    time.sleep(3)
    after = len(ticks.read_text().splitlines())
    assert after - before <= time.monotonic() - started + 2


def test_the_runs_of_the_stalled_job_task_do_not_pile_up(workshop: Workshop) -> None:
    workshop.start_worker()
    seen = text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'retry_stalled'")
    deadline, highest = time.monotonic() + 6, 0
    while time.monotonic() < deadline:
        with transaction(workshop.database.service) as session:
            highest = max(highest, int(session.scalar(seen) or 0))
        time.sleep(0.1)
    assert 1 <= highest <= 3


def test_an_interval_that_does_not_divide_a_minute_is_refused() -> None:
    with pytest.raises(ValueError, match="60"):
        Every(7, "system").cron()


def test_a_worker_that_only_seemed_dead_cannot_end_its_successors_run(workshop: Workshop) -> None:
    job_id = workshop.place("note")

    async def story() -> list[str]:
        app = make_app(workshop.database.service_url, {"note": lambda _attempt, _args: None})
        seen = []
        async with app.open_async():
            manager = app.job_manager
            first_worker, second_worker = await manager.register_worker(), await manager.register_worker()
            slow = await manager.fetch_job(["probe"], worker_id=first_worker)
            assert slow is not None
            await _take_back(app.connector, slow, is_own=False)
            successor = await manager.fetch_job(["probe"], worker_id=second_worker)
            assert successor is not None
            assert successor.attempts == slow.attempts + 1
            for job in (slow, successor):
                await manager.finish_job(job, Status.SUCCEEDED, delete_job=False)
                with transaction(workshop.database.service) as session:
                    state = find_state(session, job_id)
                    seen.append(state.status if state else "")
        return seen

    assert asyncio.run(story()) == ["doing", "succeeded"]
