"""The queue's way to the database, for workers: patient, and fair to jobs whose worker died.

Invariants: while the database is away every question but one waits for it, so a running job outlives the outage; a
stalled job is handed out again once, however many workers notice it; only the attempt that holds a job ends it.
Source: procrastinate 3.10, whose queries and SQL functions these are.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any, LiteralString, TypeVar

import procrastinate
import psycopg
from procrastinate.exceptions import ConnectorException, UniqueViolation
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.sql import queries
from procrastinate.utils import utcnow

from app.db.engine import CONNECT_SECONDS, is_database_away, libpq_url

logger = logging.getLogger(__name__)

T = TypeVar("T")

# How long to wait between looks at a database that is away, first and longest.
FIRST_WAIT_SECONDS, LAST_WAIT_SECONDS = 0.2, 5.0
# How long one question waits for a connection before it counts as an outage; short, so that a worker that is told to
# stop during one ends soon.
POOL_SECONDS = 2.0
# A worker that froze (stopped, swapped out) between taking a job and committing that holds the job's row, which others
# skip as locked: the server ends its transaction after this, and the worker reconnects if it wakes.
IDLE_MILLISECONDS = 5_000


def is_orphaned(error: BaseException) -> bool:
    """Say whether the worker's own row is gone: it seemed dead for so long that another worker removed it."""
    return isinstance(error.__cause__, psycopg.errors.ForeignKeyViolation)


class PatientConnector(procrastinate.PsycopgConnector):
    """A connector that waits while the database is away, so that a running job outlives the outage.

    Fetching is not repeated: if its answer was lost, the job already counts as this worker's, and only giving up the
    worker's identity brings it back.
    """

    def __init__(self, url: str) -> None:
        super().__init__(
            conninfo=libpq_url(url),
            min_size=1,
            max_size=4,
            timeout=POOL_SECONDS,
            kwargs={
                "connect_timeout": CONNECT_SECONDS,
                "application_name": "trapstreet worker",
                "options": f"-c idle_in_transaction_session_timeout={IDLE_MILLISECONDS}",
            },
        )
        self.is_patient = True

    async def _persist(self, call: Callable[[], Awaitable[T]]) -> T:
        wait_seconds = FIRST_WAIT_SECONDS
        while True:
            try:
                return await call()
            except (ConnectorException, psycopg.Error) as error:
                if not (self.is_patient and is_database_away(error)):
                    raise
                logger.warning("the database is away; looking again in %.1f s", wait_seconds)
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, LAST_WAIT_SECONDS)

    async def execute_query_async(self, query: LiteralString, **arguments: Any) -> None:
        """Run a statement."""
        ask = super().execute_query_async
        await self._persist(lambda: ask(query, **arguments))

    async def execute_query_one_async(self, query: LiteralString, **arguments: Any) -> dict[str, Any]:
        """Run a query for one row."""
        ask = super().execute_query_one_async
        if query == queries["fetch_job"]:
            row: dict[str, Any] = await ask(query, **arguments)
            return row
        return await self._persist(lambda: ask(query, **arguments))

    async def execute_query_all_async(self, query: LiteralString, **arguments: Any) -> list[dict[str, Any]]:
        """Run a query for all rows."""
        ask = super().execute_query_all_async
        return await self._persist(lambda: ask(query, **arguments))

    async def listen_notify(self, on_notification: Any, channels: Iterable[str]) -> None:
        """Listen until cancelled."""
        listen, names = super().listen_notify, list(channels)
        await self._persist(lambda: listen(on_notification, names))


# A job is taken only if it is still the attempt that stalled: two workers may look at the same moment.
_RETRY: LiteralString = """
    WITH held AS MATERIALIZED (
        SELECT id FROM procrastinate_jobs
        WHERE id = %(id)s AND attempts = %(attempts)s AND status = 'doing' FOR UPDATE SKIP LOCKED
    )
    SELECT procrastinate_retry_job_v2(id, now(), NULL, NULL, NULL) FROM held
"""
_FAIL: LiteralString = """
    WITH held AS MATERIALIZED (
        SELECT id FROM procrastinate_jobs
        WHERE id = %(id)s AND attempts = %(attempts)s AND status = 'doing' FOR UPDATE SKIP LOCKED
    )
    SELECT procrastinate_finish_job_v1(id, 'failed', false) FROM held
"""
_FORGET: LiteralString = """
    DELETE FROM procrastinate_jobs WHERE task_name = ANY(%(tasks)s) AND status IN ('succeeded', 'failed')
"""
_FINISH: LiteralString = """
    WITH held AS MATERIALIZED (
        SELECT id FROM procrastinate_jobs
        WHERE id = %(job_id)s AND attempts = %(attempts)s AND status = 'doing' FOR UPDATE
    )
    SELECT procrastinate_finish_job_v1(id, %(status)s, %(delete_job)s) FROM held
"""
_TRY_AGAIN: LiteralString = """
    WITH held AS MATERIALIZED (
        SELECT id FROM procrastinate_jobs
        WHERE id = %(job_id)s AND attempts = %(attempts)s AND status = 'doing' FOR UPDATE
    )
    SELECT procrastinate_retry_job_v2(id, %(retry_at)s, %(priority)s, %(queue)s, %(lock)s) FROM held
"""


class FencedJobManager(JobManager):
    """Ends a job only as the attempt that holds it: a worker that only seemed dead cannot end its successor's run."""

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:  # noqa: FBT001  # the base's signature
        """Set a job to its final state, if it is still this attempt's."""
        await self.connector.execute_query_async(
            _FINISH, job_id=job.id, attempts=job.attempts, status=status.value, delete_job=delete_job
        )

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """Put a job back, if it is still this attempt's."""
        await self.connector.execute_query_async(
            _TRY_AGAIN,
            job_id=job.id,
            attempts=job.attempts,
            retry_at=retry_at or utcnow(),
            priority=priority,
            queue=queue,
            lock=lock,
        )


async def hand_out_stalled(app: procrastinate.App, own_task: str, stalled_seconds: float) -> None:
    """Hand out again the jobs of workers that died; give up those whose successor waits, and `own_task`'s own runs."""
    for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=stalled_seconds):
        logger.warning("job %s (%s) stalled in attempt %s", job.id, job.task_name, job.attempts)
        await _take_back(app.connector, job, is_own=job.task_name == own_task)
    # Tasks of the clock leave one more run of no interest every few seconds.
    tasks = [name for name, _ in app.periodic_registry.periodic_tasks]
    await app.connector.execute_query_async(_FORGET, tasks=tasks)


async def _take_back(connector: procrastinate.BaseConnector, job: Job, *, is_own: bool) -> None:
    values = {"id": job.id, "attempts": job.attempts}
    if not is_own:
        with suppress(UniqueViolation):
            await connector.execute_query_async(_RETRY, **values)
            return
    await connector.execute_query_async(_FAIL, **values)
