"""Place, cancel and fence jobs, inside the caller's own transaction.

Invariants: a job exists exactly if the transaction that placed it was committed; of one queueing lock at most one job
waits; a handler that lost its job (stalled, then taken over) cannot write its result.
Source: procrastinate 3.10, whose SQL functions these are; the loop that runs jobs is in loop.py.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.errors import Conflict

# Task names: they stand in the database, so renaming one orphans its waiting jobs.
EMBED_TASK, DEADLINE_TASK = "embed", "pass_deadlines"
SURVIVE_TASK, WHITE_BOX_TASK = "survive", "check_white_box"
# Weights that an accused delivers pass through these three.
PREPARE_WEIGHTS_TASK, COMPARE_WEIGHTS_TASK = "prepare_weights", "compare_weights"
CONCLUDE_WEIGHTS_TASK = "conclude_weights"
# A test of two registrants' models is opened and concluded by the court; each model passes through the two in between.
OPEN_CROSS_TESTS_TASK, CONCLUDE_CROSS_TEST_TASK = "open_cross_tests", "conclude_cross_test"
PREPARE_CROSS_TASK, ASK_CROSS_TASK = "prepare_cross", "ask_cross"
RETRY_STALLED_TASK = "retry_stalled"


class Stopped(Exception):  # a request, not an error
    """The handler must end now: its job was cancelled, or the worker is stopping and another will take it."""


class Attempt(Protocol):
    """One run of one job, as its handler sees it; (job_id, number) is the fencing token."""

    @property
    def job_id(self) -> int:
        """The job."""

    @property
    def number(self) -> int:
        """How often it was tried before."""

    @property
    def queue(self) -> str:
        """Where it waited."""

    @property
    def is_last(self) -> bool:
        """Say whether an Unavailable of this attempt ends the job."""

    def is_cancelled(self) -> bool:
        """Say whether somebody cancelled the job."""

    def is_stopping(self) -> bool:
        """Say whether the job was cancelled or the worker is stopping."""

    def raise_if_stopping(self) -> None:
        """Raise Stopped if the job was cancelled or the worker is stopping; call this often."""


@dataclass(frozen=True)
class JobState:
    """What the queue knows of a job: `todo`, `doing`, `succeeded`, `failed`, `cancelled` or `aborted`."""

    status: str
    attempts: int


_PLACE = text("""
    SELECT unnest(procrastinate_defer_jobs_v1(ARRAY[
        ROW(:queue, :task, 0, NULL, :queueing_lock, CAST(:args AS jsonb), :run_at)
    ]::procrastinate_job_to_defer_v1[]))
""")
_FIND_WAITING = text("""
    SELECT id FROM procrastinate_jobs WHERE queueing_lock = :queueing_lock AND status = 'todo' FOR UPDATE
""")
_IS_ALIVE = text("""
    SELECT EXISTS (SELECT 1 FROM procrastinate_jobs WHERE queueing_lock = :queueing_lock AND status IN ('todo', 'doing'))
""")
_CANCEL = text("SELECT procrastinate_cancel_job_v1(:job_id, true, false)")
_FENCE = text("""
    SELECT 1 FROM procrastinate_jobs
    WHERE id = :job_id AND attempts = :number AND status = 'doing' AND NOT abort_requested FOR UPDATE
""")
_STATE = text("SELECT status::text, attempts FROM procrastinate_jobs WHERE id = :job_id")


def enqueue(
    session: Session,
    task_name: str,
    queue: str,
    args: dict[str, Any],
    *,
    queueing_lock: str | None = None,
    run_at: datetime | None = None,
) -> int:
    """Place a job that runs once this transaction is committed, and give its id.

    Of one `queueing_lock` one waits at most: if there is one already, its id is given, and it starts only after this
    transaction, so that it sees what this one wrote.
    """
    values = {"task": task_name, "queue": queue, "args": json.dumps(args), "run_at": run_at}
    while True:
        if queueing_lock is not None:
            # Locking the row keeps workers off it until we commit; one that is taken already is no longer 'todo'.
            waiting = session.scalar(_FIND_WAITING, {"queueing_lock": queueing_lock})
            if waiting is not None:
                return int(waiting)
        try:
            with session.begin_nested():
                return int(session.scalars(_PLACE, {**values, "queueing_lock": queueing_lock}).one())
        except IntegrityError:
            if queueing_lock is None:
                raise
            # Another transaction placed it between our look and our insert: look again.


def is_alive(session: Session, queueing_lock: str) -> bool:
    """Say whether a job of this queueing lock waits or runs."""
    return bool(session.scalar(_IS_ALIVE, {"queueing_lock": queueing_lock}))


def cancel(session: Session, job_id: int) -> bool:
    """Cancel a waiting job, or ask a running one to stop; say whether there was one."""
    return session.scalar(_CANCEL, {"job_id": job_id}) is not None


def verify_current(session: Session, attempt: Attempt) -> None:
    """Hold the job until this transaction ends, so that its result is written by its present holder only.

    Raises: Conflict if the job was cancelled or another worker has taken it over; write nothing then.
    """
    if session.scalar(_FENCE, {"job_id": attempt.job_id, "number": attempt.number}) is None:
        raise Conflict(f"job {attempt.job_id} is no longer this worker's")


def find_state(session: Session, job_id: int) -> JobState | None:
    """Look a job up."""
    row = session.execute(_STATE, {"job_id": job_id}).one_or_none()
    return None if row is None else JobState(*row)
