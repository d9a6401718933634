"""A worker with handlers that do what their arguments say, run as a process of its own by test_queue.py.

Usage: queue_worker.py URL QUEUE... [/ QUEUE...]: a slash begins another lane.
"""

import os
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import procrastinate

from app.db.engine import make_engine, transaction
from app.db.tables import SigningChallengeRow
from app.errors import Malformed, Unavailable
from app.jobs.loop import Every, Handler, Lane, RetryPolicy, Timing, make_app, run_worker
from app.jobs.queue import Attempt, verify_current

URL = sys.argv[1]
LANES = [lane.split() for lane in " ".join(sys.argv[2:]).split("/")]

# More than a process has threads of its own on two cores.
CONCURRENCY = 8
ENGINE = make_engine(URL, pool_size=2)


def note(args: dict[str, Any], word: str) -> None:
    """Add a line to the test's file, so that it sees what happened and in which process."""
    with Path(args["notes"]).open("a") as notes:
        notes.write(f"{word} {os.getpid()}\n")


def record(attempt: Attempt, args: dict[str, Any]) -> None:
    """Say that it ran, and how often it was tried before."""
    note(args, f"ran {attempt.number}")


def wait(attempt: Attempt, args: dict[str, Any]) -> None:
    """Work until the test lets go, and notice when told to stop."""
    note(args, f"started {attempt.number}")
    while not Path(args["release"]).exists():
        if attempt.is_cancelled():
            note(args, "cancelled")
        attempt.raise_if_stopping()
        time.sleep(0.02)
    note(args, f"finished {attempt.number}")


def write(attempt: Attempt, args: dict[str, Any]) -> None:
    """Wait, deaf to everything, then write a row in the database if the job is still ours."""
    note(args, f"started {attempt.number}")
    while not Path(args["release"]).exists():
        time.sleep(0.02)
    with transaction(ENGINE) as session:
        verify_current(session, attempt)
        session.add(
            SigningChallengeRow(nonce=str(attempt.number).encode(), expires_at=datetime.fromisoformat(args["at"]))
        )
    note(args, f"wrote {attempt.number}")


def fail(attempt: Attempt, args: dict[str, Any]) -> None:
    """Raise what the test names, so often."""
    note(args, f"tried {attempt.number}{' last' if attempt.is_last else ''}")
    if attempt.number < args["times"]:
        raise {"Unavailable": Unavailable, "Malformed": Malformed, "ValueError": ValueError}[args["error"]]("as told")


def tick(attempt: Attempt, args: dict[str, Any]) -> None:
    """Say that the clock struck."""
    note({"notes": os.environ["TICKS"]}, "tick")


def lane_app(periodic: dict[str, Every]) -> procrastinate.App:
    """Make the app of one lane."""
    handlers: dict[str, Handler] = {"record": record, "wait": wait, "write": write, "fail": fail}
    return make_app(
        URL,
        handlers | ({"tick": tick} if "TICKS" in os.environ else {}),
        periodic=periodic,
        policy=RetryPolicy(max_attempts=3, first_seconds=1, last_seconds=1),
        stalled_seconds=2.0,
        check_seconds=1,
    )


if __name__ == "__main__":
    timing = Timing(heartbeat_seconds=0.5, stalled_seconds=2.0, poll_seconds=0.2, grace_seconds=0.2)
    lanes = [Lane(lane_app({"tick": Every(1, queues[0])}), queues, CONCURRENCY) for queues in LANES]
    run_worker(lanes, timing=timing)
