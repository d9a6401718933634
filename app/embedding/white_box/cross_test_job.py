"""The job `ask_cross`: one attempt of a worker to ask a committed model what both disputes of a cross-test asked.

What came of it is for the court, which this worker does not sit in: it places the court's job and is done.

What a crash leaves behind: nothing; the model is asked again, and the court's job is placed again, which then finds
nothing to do.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.canonical import integer
from app.db.cross_test_tables import CrossDeliveryRow
from app.db.engine import transaction
from app.embedding.attempts import Assignment, Bench, OrderAttempt, work_on
from app.embedding.orders import UNFINISHED
from app.embedding.training_process import run_cross_test
from app.embedding.white_box.cross_test import CrossOrder, DeliveredModel
from app.errors import Malformed, TrainingFailed
from app.jobs.names import COURT
from app.jobs.queue import CONCLUDE_CROSS_TEST_TASK, Attempt, enqueue

COUNT = integer(0)


def ask_cross(bench: Bench, attempt: Attempt, args: dict[str, Any]) -> None:
    """Ask one model.

    Raises: Stopped; Unavailable if another attempt may succeed.
    """
    work_on(bench, CrossDeliveryRow, attempt, args, ask)
    with transaction(bench.engine) as session:
        row = session.get(CrossDeliveryRow, UUID(args["order_id"]))
        if row is not None and row.state not in UNFINISHED:
            place_conclusion(session, row.cross_test_id)


def place_conclusion(session: Session, cross_test_id: UUID) -> None:
    """Have the court look at where a cross-test stands."""
    lock = f"{CONCLUDE_CROSS_TEST_TASK} {cross_test_id}"
    enqueue(session, CONCLUDE_CROSS_TEST_TASK, COURT, {"cross_test": str(cross_test_id)}, queueing_lock=lock)


def ask(
    mine: OrderAttempt[CrossDeliveryRow], assignment: Assignment, folder: Path
) -> Callable[[Session, CrossDeliveryRow], None]:
    """Ask in a child process; give what the delivery becomes by it."""
    wanted = DeliveredModel.from_json(assignment.order_json)
    paths = mine.fetch(wanted.artifacts(), folder)
    order = CrossOrder(
        statement=assignment.statement,
        weights_path=paths["weights"] or "",
        program_path=paths["program"],
        questions_path=paths["questions"] or "",
        device="auto",
        threads=0,
        output_path=str(folder / "output"),
    )

    def on_event(event: dict[str, Any]) -> None:
        if event.get("event") == "progress":
            progress = {"asked": _count(event.get("asked"))}
            mine.tell(lambda row: setattr(row, "progress", progress))

    environment, limits = mine.bench.child_environment, mine.bench.limits
    report = run_cross_test(order, on_event, mine.should_stop, environment=environment, limits=limits)
    if report.weights_sha256 != wanted.weights:
        raise TrainingFailed("the child asked another model than the one delivered")

    def finish(_session: Session, row: CrossDeliveryRow) -> None:
        row.report = report.to_json()

    return finish


def _count(value: object) -> int:
    try:
        return COUNT.parse(value, "/asked")
    except Malformed as error:
        raise TrainingFailed(f"the child told what is no progress: {error.message}") from error
