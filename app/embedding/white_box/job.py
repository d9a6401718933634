"""The job `check_white_box`: one attempt of a worker to ask a suspect's weights.

What a crash leaves behind: nothing; a check takes seconds and is made again.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.db.tables import WhiteBoxCheckRow
from app.embedding.attempts import Assignment, Bench, OrderAttempt, work_on
from app.embedding.training_process import run_white_box
from app.embedding.white_box.check_order import CheckOrder
from app.jobs.queue import Attempt


def check_white_box(bench: Bench, attempt: Attempt, args: dict[str, Any]) -> None:
    """Make one check.

    Raises: Stopped; Unavailable if another attempt may succeed.
    """
    work_on(bench, WhiteBoxCheckRow, attempt, args, ask)


def ask(
    mine: OrderAttempt[WhiteBoxCheckRow], assignment: Assignment, folder: Path
) -> Callable[[Session, WhiteBoxCheckRow], None]:
    """Count in a child process, which alone unseals the marking key; give what the order becomes by it."""
    wanted = CheckOrder.from_json(assignment.order_json)
    paths = mine.fetch(wanted.artifacts(), folder)
    output = folder / "output"
    order = wanted.child_order(assignment.statement, assignment.salt, paths, str(output))
    order.check("")
    environment, limits = mine.bench.child_environment, mine.bench.limits
    report = run_white_box(order, assignment.secrets, mine.should_stop, environment=environment, limits=limits)

    def finish(_session: Session, row: WhiteBoxCheckRow) -> None:
        row.report = report.to_json()

    return finish
