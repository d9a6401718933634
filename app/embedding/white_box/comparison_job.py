"""The job `compare_weights`: one attempt of a worker to ask weights that an accused delivered.

What came of it is for the court, which this worker does not sit in: it places the court's job and is done.

What a crash leaves behind: nothing; a comparison is made again, and the court's job is placed again, which then finds
nothing to do.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.canonical import integer
from app.db.engine import transaction
from app.db.lifecycle_tables import WeightDeliveryRow
from app.embedding.attempts import Assignment, Bench, OrderAttempt, work_on
from app.embedding.orders import UNFINISHED
from app.embedding.training_process import run_comparison
from app.embedding.white_box.comparison import ComparisonOrder, DeliveredWeights
from app.errors import Malformed, TrainingFailed
from app.jobs.names import COURT
from app.jobs.queue import CONCLUDE_WEIGHTS_TASK, Attempt, enqueue

COUNT = integer(0)


def compare_weights(bench: Bench, attempt: Attempt, args: dict[str, Any]) -> None:
    """Make one comparison.

    Raises: Stopped; Unavailable if another attempt may succeed.
    """
    work_on(bench, WeightDeliveryRow, attempt, args, compare)
    with transaction(bench.engine) as session:
        row = session.get(WeightDeliveryRow, UUID(args["order_id"]))
        if row is not None and row.state not in UNFINISHED:
            place_conclusion(session, row.id)


def place_conclusion(session: Session, delivery_id: UUID) -> None:
    """Have the court look at what came of a comparison."""
    lock = f"{CONCLUDE_WEIGHTS_TASK} {delivery_id}"
    enqueue(session, CONCLUDE_WEIGHTS_TASK, COURT, {"delivery": str(delivery_id)}, queueing_lock=lock)


def compare(
    mine: OrderAttempt[WeightDeliveryRow], assignment: Assignment, folder: Path
) -> Callable[[Session, WeightDeliveryRow], None]:
    """Count in a child process; give what the delivery becomes by it."""
    wanted = DeliveredWeights.from_json(assignment.order_json)
    paths = mine.fetch(wanted.artifacts(), folder)
    order = ComparisonOrder(
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
    report = run_comparison(order, on_event, mine.should_stop, environment=environment, limits=limits)
    if report.weights_sha256 != wanted.weights:
        raise TrainingFailed("the child compared other weights than those delivered")

    def finish(_session: Session, row: WeightDeliveryRow) -> None:
        row.report = report.to_json()

    return finish


def _count(value: object) -> int:
    try:
        return COUNT.parse(value, "/asked")
    except Malformed as error:
        raise TrainingFailed(f"the child told what is no progress: {error.message}") from error
