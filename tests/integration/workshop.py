"""Workers as real processes before a database, and notes of what their jobs did."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.db.engine import transaction
from app.jobs.queue import enqueue, find_state
from tests.conftest import Database
from tests.forked import Forked

WORKER = Path(__file__).with_name("queue_worker.py")
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@dataclass
class Workshop:
    """A database, a folder for notes, and workers."""

    database: Database
    folder: Path
    processes: list[Forked]

    @property
    def args(self) -> dict[str, Any]:
        return {"notes": str(self.folder / "notes"), "release": str(self.folder / "release"), "at": NOW.isoformat()}

    def notes(self) -> list[str]:
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def words(self) -> list[str]:
        return [line.rpartition(" ")[0] for line in self.notes()]

    def release(self) -> None:
        (self.folder / "release").touch()

    def place(self, task: str, queue: str = "probe", **args: Any) -> int:
        with transaction(self.database.service) as session:
            return enqueue(session, task, queue, {**self.args, **args})

    def status(self, job_id: int) -> str:
        with transaction(self.database.service) as session:
            state = find_state(session, job_id)
        assert state is not None
        return state.status

    def start_worker(self, *queues: str, **environment: str) -> Forked:
        process = Forked(
            [str(WORKER), self.database.service_url, *(queues or ("probe", "system"))],
            {**os.environ, **environment},
            self.folder / f"worker{len(self.processes)}.log",
        )
        self.processes.append(process)
        return process
