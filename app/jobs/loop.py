"""Run jobs: handlers in threads, one loop a worker, which survives the death of anything around it.

Invariants: a job of a worker that died is handed out again (its worker's heartbeat is old or gone); a job whose worker
stops goes back at once; an outage of the database ends neither the worker nor the job it is running; Unavailable is
tried again with growing waits, anything else is dead at once.
A job may run twice at the same time (a worker that only seemed dead), so handlers write results under
`queue.verify_current`. A job is handed out again however often its worker died: a handler gives up by
`attempt.is_last`. Arguments of jobs are printed in diagnostics: no secrets in them.
Queue `system` holds only what every worker can do; a task with a handler of its own waits where those listen who have it.
A process may run several lanes: jobs of one never wait for those of another, though they share a process.
Source: procrastinate 3.10; its issues 1408 (no `lock` on the task that retries stalled jobs) and 1518.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import procrastinate
import psycopg
from procrastinate.exceptions import ConnectorException, JobAborted
from procrastinate.job_context import AbortReason
from procrastinate.jobs import Job

from app.db.engine import is_database_away
from app.errors import Unavailable
from app.jobs.connector import (
    FIRST_WAIT_SECONDS,
    LAST_WAIT_SECONDS,
    FencedJobManager,
    PatientConnector,
    hand_out_stalled,
    is_orphaned,
)
from app.jobs.names import SYSTEM
from app.jobs.queue import RETRY_STALLED_TASK, Attempt, Stopped

logger = logging.getLogger(__name__)

# Threads beyond those of running jobs: names are looked up in them, of the database's host for one.
SPARE_THREADS = 4

Handler = Callable[[Attempt, dict[str, Any]], None]


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how slowly Unavailable is tried again: waits double from the first to the last."""

    max_attempts: int = 8
    first_seconds: int = 2
    last_seconds: int = 300


@dataclass(frozen=True)
class Every:
    """A task that is due every so many seconds (a divisor of 60) on a queue."""

    seconds: int
    queue: str

    def cron(self) -> str:
        """Write the interval as a cron line with a sixth field for seconds."""
        if 60 % self.seconds != 0:
            raise ValueError("an interval divides 60 seconds")
        return "* * * * * *" if self.seconds == 1 else f"* * * * * */{self.seconds}"


@dataclass(frozen=True)
class Timing:
    """How fast a worker notices things, in seconds; tests make it quick."""

    heartbeat_seconds: float = 10.0
    stalled_seconds: float = 30.0
    poll_seconds: float = 1.0
    # Running handlers may finish for this long after SIGTERM before they are told to stop.
    grace_seconds: float = 5.0


@dataclass(frozen=True)
class Run:
    """The attempt that a handler is given."""

    context: procrastinate.JobContext
    policy: RetryPolicy

    @property
    def job_id(self) -> int:
        """The job."""
        if self.context.job.id is None:
            raise AssertionError("a job that runs has an id")
        return self.context.job.id

    @property
    def number(self) -> int:
        """How often it was tried before."""
        return self.context.job.attempts

    @property
    def queue(self) -> str:
        """Where it waited."""
        return self.context.job.queue

    @property
    def is_last(self) -> bool:
        """Say whether an Unavailable of this attempt ends the job."""
        return self.number + 1 >= self.policy.max_attempts

    def is_cancelled(self) -> bool:
        """Say whether somebody cancelled the job."""
        return self.context.abort_reason() == AbortReason.USER_REQUEST

    def is_stopping(self) -> bool:
        """Say whether the job was cancelled or the worker is stopping."""
        return self.context.should_abort()

    def raise_if_stopping(self) -> None:
        """Raise Stopped if the job was cancelled or the worker is stopping."""
        if self.is_stopping():
            raise Stopped


@dataclass
class Retries(procrastinate.BaseRetryStrategy):
    """What becomes of a job whose handler raised."""

    policy: RetryPolicy

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> procrastinate.RetryDecision | None:
        """Choose: back at once if the worker stops, later if something is unavailable, else dead."""
        if isinstance(exception, JobAborted):  # asked only on shutdown: a cancelled job never comes here
            return procrastinate.RetryDecision(retry_in={"seconds": 0})
        away = is_database_away(exception)
        if not away and not isinstance(exception, Unavailable):
            return None
        # The database's absence is not the job's fault and never ends it.
        if not away and job.attempts + 1 >= self.policy.max_attempts:
            return None
        wait_seconds = min(self.policy.first_seconds * 2 ** min(job.attempts, 20), self.policy.last_seconds)
        return procrastinate.RetryDecision(retry_in={"seconds": wait_seconds})


def make_app(
    url: str,
    handlers: Mapping[str, Handler],
    *,
    periodic: Mapping[str, Every] | None = None,
    policy: RetryPolicy | None = None,
    stalled_seconds: float = Timing.stalled_seconds,
    check_seconds: int = 10,
) -> procrastinate.App:
    """Make the worker's app from handlers by task name; those named in `periodic` also run by the clock."""
    app = procrastinate.App(connector=PatientConnector(url))
    app.job_manager = FencedJobManager(app.connector)
    policy = policy or RetryPolicy()
    for name, handler in handlers.items():
        _add_handler(app, name, handler, policy, (periodic or {}).get(name))

    # A queueing lock, so that runs do not pile up, but no lock: a stalled run would then block its own rescue.
    async def retry_stalled(timestamp: int) -> None:  # noqa: ARG001  # every periodic task is given its time
        await hand_out_stalled(app, RETRY_STALLED_TASK, stalled_seconds)

    task = app.task(name=RETRY_STALLED_TASK, queue=SYSTEM, queueing_lock=RETRY_STALLED_TASK)(retry_stalled)
    app.periodic(cron=Every(check_seconds, SYSTEM).cron())(task)
    return app


def _add_handler(app: procrastinate.App, name: str, handler: Handler, policy: RetryPolicy, every: Every | None) -> None:
    def run(context: procrastinate.JobContext, /, **args: Any) -> None:
        try:
            handler(Run(context, policy), args)
        except Stopped as stopped:
            raise JobAborted from stopped

    # A task of the clock never overlaps itself.
    own_lock = None if every is None else name
    task: Any = app.task(
        name=name,
        queue=SYSTEM if every is None else every.queue,
        pass_context=True,
        retry=Retries(policy),
        lock=own_lock,
        queueing_lock=own_lock,
    )(run)
    if every is not None:
        app.periodic(cron=every.cron())(task)


@dataclass(frozen=True)
class Lane:
    """Queues that are worked on together, so many jobs at once; an app belongs to one lane."""

    app: procrastinate.App
    queues: Sequence[str]
    concurrency: int = 1


def run_worker(lanes: Sequence[Lane], *, name: str = "worker", timing: Timing | None = None) -> None:
    """Run the jobs of all lanes until SIGTERM or SIGINT; a second signal ends the process at once."""
    asyncio.run(_run_lanes([_Loop(lane, name, timing or Timing()) for lane in lanes]))


async def _run_lanes(loops: Sequence["_Loop"]) -> None:
    here = asyncio.get_running_loop()
    # By default a process has few threads on few cores: a lane that takes all of them would hold up the others.
    threads = sum(loop.lane.concurrency for loop in loops) + SPARE_THREADS
    here.set_default_executor(ThreadPoolExecutor(threads, thread_name_prefix="job"))

    def stop() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            here.remove_signal_handler(number)
        for loop in loops:
            loop.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        here.add_signal_handler(number, stop)
    async with asyncio.TaskGroup() as group:
        for loop in loops:
            group.create_task(loop.run())


@dataclass
class _Loop:
    """A lane at work: its worker starts again whenever it lost the database."""

    lane: Lane
    name: str
    timing: Timing
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    worker: "asyncio.Task[None] | None" = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        wait_seconds = FIRST_WAIT_SECONDS
        while not self.stopping.is_set():
            self.worker = asyncio.create_task(self._run_worker())
            started = loop.time()
            try:
                await self.worker
            except asyncio.CancelledError:
                if not self.stopping.is_set():
                    raise
            except (ConnectorException, psycopg.Error) as error:
                if not (is_database_away(error) or is_orphaned(error)):
                    raise
                logger.warning("the worker lost the database and starts again in %.1f s", wait_seconds)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), wait_seconds)
            lasted = loop.time() - started > 10 * LAST_WAIT_SECONDS
            wait_seconds = FIRST_WAIT_SECONDS if lasted else min(2 * wait_seconds, LAST_WAIT_SECONDS)

    async def _run_worker(self) -> None:
        app = self.lane.app
        async with app.open_async():
            await app.run_worker_async(
                queues=[*self.lane.queues],
                name=self.name,
                concurrency=self.lane.concurrency,
                update_heartbeat_interval=self.timing.heartbeat_seconds,
                stalled_worker_timeout=self.timing.stalled_seconds,
                shutdown_graceful_timeout=self.timing.grace_seconds,
                fetch_job_polling_interval=self.timing.poll_seconds,
                abort_job_polling_interval=self.timing.poll_seconds,
                install_signal_handlers=False,
            )

    def stop(self) -> None:
        self.stopping.set()
        if isinstance(self.lane.app.connector, PatientConnector):
            self.lane.app.connector.is_patient = False
        if self.worker is not None:
            self.worker.cancel()
