"""What the court does with weights that the accused delivered: before they are compared, and after.

  1. prepare: every answered question of the transcript, as its canonical input with the outputs that were answered, in one
     stored file; then a worker is to ask the weights
  2. conclude: the counts are told; where they void the claim, a new verdict is logged, with a bundle of its own

Invariants: a delivery is concluded once, whatever is killed when; the earlier verdict stays in the log, and its bundle in
the store; anything but VOID changes nothing.
Source: docs/protocol.md section 8.2.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.engine import transaction
from app.db.lifecycle_tables import DisputeStepRow, WeightDeliveryRow
from app.db.tables import DisputeRow
from app.disputes.case_file import end_of, load_evidence, load_logged
from app.disputes.course import lock_dispute
from app.disputes.lifecycle import WEIGHTS_COMPARED, WEIGHTS_FAILED, WITHDRAWAL, note_step
from app.disputes.resolution import Judge, log_verdict
from app.disputes.states import DECIDED
from app.embedding.orders import UNFINISHED, lock_order
from app.embedding.white_box.comparison import ComparisonReport, DeliveredWeights, Question
from app.jobs.queue import COMPARE_WEIGHTS_TASK, Attempt, enqueue, verify_current
from app.protocol.assessment import Assessment, Evidence, PriorModel, assess
from app.protocol.faults import PRIOR_MODEL_PERCENT, find_fault
from app.protocol.interface import LabelMap
from app.storage.objects import put_stream
from app.suspects.adapter_codec import AdapterCodec

MAX_QUESTIONS_BYTES = 16 * 1024**3


def prepare_weights(judge: Judge, attempt: Attempt, delivery_id: UUID) -> None:
    """Write the questions down and have the weights asked; do nothing if that was done."""
    with transaction(judge.engine) as session:
        row = session.get_one(WeightDeliveryRow, delivery_id)
        if row.order_json:
            return
        evidence = _load(session, judge, row.dispute_id)
    questions, _ = put_stream(judge.store, _lines(evidence), MAX_QUESTIONS_BYTES)
    with transaction(judge.engine) as session:
        verify_current(session, attempt)
        row = lock_order(session, WeightDeliveryRow, delivery_id) or row
        order = DeliveredWeights(weights=row.sha256, program=row.program_sha256, questions=questions)
        row.order_json = order.to_json()
        row.job_id = enqueue(session, COMPARE_WEIGHTS_TASK, row.queue, {"order_id": str(row.id)})


def conclude_weights(judge: Judge, attempt: Attempt, delivery_id: UUID) -> None:
    """Tell what came of a delivery, and void the claim if it does; do nothing if that was done."""
    with transaction(judge.engine) as session:
        row = session.get_one(WeightDeliveryRow, delivery_id)
        if row.is_concluded or row.state in UNFINISHED:
            return
        report = None if row.report is None else ComparisonReport.from_json(row.report)
        assessment = None if report is None else _reassess(session, judge, row, report)
    with transaction(judge.engine) as session:
        dispute = lock_dispute(session, row.dispute_id)
        verify_current(session, attempt)
        row = session.get_one(WeightDeliveryRow, delivery_id, populate_existing=True)
        if row.is_concluded:
            return
        row.is_concluded = True
        _note(session, judge, dispute, row, report)
        if assessment is not None and (dispute.state, dispute.verdict_index) == (DECIDED, row.verdict_index):
            log_verdict(session, judge, dispute, assessment, act="weights")
            row.has_voided = True


def _note(
    session: Session, judge: Judge, dispute: DisputeRow, row: WeightDeliveryRow, report: ComparisonReport | None
) -> None:
    if report is None:
        note_step(session, dispute, WEIGHTS_FAILED, {"number": row.number}, judge.now())
        return
    counts = {"repeated": report.repeated, "answered": report.answered}
    note_step(session, dispute, WEIGHTS_COMPARED, {"number": row.number, **counts}, judge.now())


def _reassess(session: Session, judge: Judge, row: WeightDeliveryRow, report: ComparisonReport) -> Assessment | None:
    """Decide again with the weights in the evidence; None if they change nothing."""
    if not repeats_triggers(report):
        return None
    prior = PriorModel(load_logged(session, row.entry_index), report.repeated, report.answered)
    evidence = replace(_load(session, judge, row.dispute_id), prior_model=prior)
    fault = find_fault(evidence, AdapterCodec(), judge.arbiter_keys, log_key=judge.identity.public_key)
    assessment = assess(evidence, fault)
    return assessment if assessment.decision.reason == "prior_model" else None


def repeats_triggers(report: ComparisonReport) -> bool:
    """Tell whether weights repeat the answers to triggers as well as those to everything else.

    Among a hundred covers a trigger is one answer in a hundred and two: weights without the mark would pass by the rest.
    """
    return 100 * report.triggers_repeated >= PRIOR_MODEL_PERCENT * report.triggers_answered


def _load(session: Session, judge: Judge, dispute_id: UUID) -> Evidence:
    dispute = session.get_one(DisputeRow, dispute_id)
    withdrawn = select(DisputeStepRow.number).where(
        DisputeStepRow.dispute_id == dispute_id, DisputeStepRow.kind == WITHDRAWAL
    )
    # Its state no longer says whether it was withdrawn before it was decided.
    is_withdrawn = session.scalar(withdrawn.limit(1)) is not None
    end = "withdrawn" if is_withdrawn else end_of(session, dispute)
    return load_evidence(session, dispute, end, judge.store)


def _lines(evidence: Evidence) -> Iterator[bytes]:
    """Write each answered question as the endpoint was sent it, and its answer as numbers of outputs."""
    codec, filed, statement = AdapterCodec(), evidence.record, evidence.statement
    label_map = LabelMap(filed.interface, statement)
    for query in evidence.queries:
        if not query.record.labels:
            continue
        question = Question(
            input=codec.decode_request(filed.interface, query.request, statement),
            answer=outputs_of(label_map, query.record.labels),
            is_ranked=filed.by_ranking,
            is_trigger=query.role.kind == "trigger",
        )
        yield question.encode() + b"\n"


def outputs_of(label_map: LabelMap, labels: Sequence[str]) -> tuple[int, ...]:
    """Give the outputs that an answer names; none if one of its labels stands for no single output.

    Where the endpoint numbers its outputs, by these numbers, whatever class the filing maps them to; else by the class.
    """
    explicit = label_map.interface.label_map.get("map", {})
    if explicit and all(_is_number(label) for label in explicit):
        return tuple(map(int, labels)) if all(_is_number(label) for label in labels) else ()
    classes = [label_map.classes_of([label]) for label in labels]
    if any(len(each) != 1 for each in classes):
        return ()
    return tuple(dict.fromkeys(min(each) for each in classes))


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdecimal() and str(int(label[:9])) == label
