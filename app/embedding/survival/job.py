"""The job `survive`: one attempt of a worker to attack a marked model and report what its mark survives.

  1. fetch networks and data
  2. lay before the child what earlier attempts finished, on whichever machine they ran
  3. attack in a child process, which alone unseals the marking key; every finished attack is written into the row
  4. in one transaction: order done, report in the row

The page is not kept: it follows from the report, and the API makes it.

What a crash leaves behind: a row with all attacks but the one that ran.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.db.engine import transaction
from app.db.tables import SurvivalReportRow
from app.embedding.attempts import Assignment, Bench, OrderAttempt, work_on
from app.embedding.survival.order import MEASURED
from app.embedding.survival.progress import SurvivalProgress
from app.embedding.survival.report_order import ReportOrder
from app.embedding.training_process import run_survival
from app.jobs.queue import Attempt


def survive(bench: Bench, attempt: Attempt, args: dict[str, Any]) -> None:
    """Make one report.

    Raises: Stopped; Unavailable if another attempt may succeed.
    """
    work_on(bench, SurvivalReportRow, attempt, args, attack)


def attack(
    mine: OrderAttempt[SurvivalReportRow], assignment: Assignment, folder: Path
) -> Callable[[Session, SurvivalReportRow], None]:
    """Make every attack that no earlier attempt finished; give what the order becomes by it."""
    wanted = ReportOrder.from_json(assignment.order_json)
    paths = mine.fetch(wanted.artifacts(), folder)
    output = folder / "output"
    order = wanted.child_order(assignment.statement, assignment.salt, paths, str(output))
    order.check("")
    progress = read_progress(mine)
    if progress.run:
        (output / MEASURED).write_bytes(progress.notebook_file())
        (output / MEASURED).chmod(0o644)  # the child may be another user; nobody else reaches the folder

    def write_progress(row: SurvivalReportRow) -> None:
        row.progress, row.notebook = progress.to_json(), progress.to_notebook()

    def on_event(event: dict[str, Any]) -> None:
        mine.tell(write_progress, at_once=progress.add(event))

    environment, limits = mine.bench.child_environment, mine.bench.limits
    report = run_survival(order, assignment.secrets, on_event, mine.should_stop, environment=environment, limits=limits)

    def finish(_session: Session, row: SurvivalReportRow) -> None:
        row.progress, row.notebook, row.report = progress.to_json(), {}, report.to_json()

    return finish


def read_progress(mine: OrderAttempt[SurvivalReportRow]) -> SurvivalProgress:
    """Read what earlier attempts finished."""
    with transaction(mine.bench.engine) as session:
        row = mine.hold(session)
        return SurvivalProgress.of_notebook({} if row is None else row.notebook)
