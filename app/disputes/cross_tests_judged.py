"""What the court does in a test of two registrants' models: opens it, writes the questions, decides.

  1. open: when a dispute was confirmed, a test with each other vendor's confirmed dispute about the address
  2. prepare: every answered cover and every opened trigger of both disputes, for one party's model, in one stored file;
     then a worker is to ask the model
  3. conclude: once both models were asked, or the time is over, or a verdict fell: the evidence of each dispute is walked
     with each model's answers, and what came of it is logged

Invariants: a test is concluded once, whatever is killed when; verdicts stay what they are; what is weighed outside the locks
is weighed again if another model came meanwhile.
Source: docs/protocol.md section 10.1.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.cross_test_tables import CrossDeliveryRow, CrossTestRow
from app.db.engine import transaction
from app.db.tables import ID_RANDOM_BYTES, DisputeRow
from app.disputes.case_file import load_evidence
from app.disputes.course import load_statement
from app.disputes.cross_tests import (
    WAIT_DAYS,
    find_opponents,
    is_standing,
    lock_pair,
    open_cross_test,
    place_conclusion,
)
from app.disputes.lifecycle import CROSS_TEST_ENDED, CROSS_TEST_FAILED, note_step
from app.disputes.resolution import Judge
from app.embedding.orders import UNFINISHED, lock_order
from app.embedding.white_box.cross_test import CrossQuestion, CrossReport, DeliveredModel, depth_of
from app.errors import Malformed
from app.jobs.queue import ASK_CROSS_TASK, Attempt, enqueue, verify_current
from app.keys.statement import Statement
from app.log.store import append, entry_time
from app.protocol.assessment import Assessment, Evidence, assess, walk_as
from app.protocol.cross_test import (
    NOT_COMPARABLE,
    NOT_DELIVERED,
    VERDICT_FELL,
    CrossOutcome,
    Mark,
    Party,
    decide_cross_test,
    namesakes,
)
from app.protocol.interface import LabelMap
from app.protocol.records import CrossTestEntry
from app.storage.objects import put_stream
from app.suspects.adapter_codec import AdapterCodec

MAX_QUESTIONS_BYTES = 32 * 1024**3


def open_cross_tests(judge: Judge, attempt: Attempt, dispute_id: UUID) -> None:
    """Open a test with each other vendor's confirmed dispute about a confirmed dispute's address, one transaction each."""
    with transaction(judge.engine) as session:
        opponents = find_opponents(session, session.get_one(DisputeRow, dispute_id))
    for opponent in opponents:
        with transaction(judge.engine) as session:
            lock_pair(session, (dispute_id, opponent))
            verify_current(session, attempt)
            randomness = secrets.token_bytes(ID_RANDOM_BYTES)
            row = open_cross_test(session, (dispute_id, opponent), judge.now(), randomness)
            if row is not None:
                session.flush()
                # Two marks whose models cannot be asked alike are told so at once.
                place_conclusion(session, row.id)


def prepare_model(judge: Judge, attempt: Attempt, delivery_id: UUID) -> None:
    """Write the questions for a model down and have it asked; do nothing if that was done."""
    with transaction(judge.engine) as session:
        delivery = session.get_one(CrossDeliveryRow, delivery_id)
        row = session.get_one(CrossTestRow, delivery.cross_test_id)
        if delivery.order_json or row.entry_index is not None:
            return
        pair = [session.get_one(DisputeRow, key) for key in (row.one_dispute_id, row.other_dispute_id)]
        own = load_statement(session, session.get_one(DisputeRow, delivery.dispute_id))
        lines = _lines(own, [load_evidence(session, dispute, "walk", judge.store) for dispute in pair])
    questions, _ = put_stream(judge.store, lines, MAX_QUESTIONS_BYTES)
    with transaction(judge.engine) as session:
        verify_current(session, attempt)
        locked = lock_order(session, CrossDeliveryRow, delivery_id) or delivery
        order = DeliveredModel(weights=locked.sha256, program=locked.program_sha256, questions=questions)
        locked.order_json = order.to_json()
        locked.job_id = enqueue(session, ASK_CROSS_TASK, locked.queue, {"order_id": str(locked.id)})


@dataclass(frozen=True)
class Weighed:
    """What a delivered model came to: its own counts, on both transcripts."""

    delivery: CrossDeliveryRow
    report: CrossReport
    marks: tuple[Mark, ...]


def conclude_cross_test(judge: Judge, attempt: Attempt, cross_test_id: UUID) -> None:
    """Log what came of a test whose end has come, and tell a party of a file that could not be asked."""
    with transaction(judge.engine) as session:
        row = session.get_one(CrossTestRow, cross_test_id)
        if row.entry_index is not None:
            return
        weighed = _weigh(session, row)
    with transaction(judge.engine) as session:
        row = session.get_one(CrossTestRow, cross_test_id)
        pair = lock_pair(session, (row.one_dispute_id, row.other_dispute_id))
        verify_current(session, attempt)
        session.refresh(row)
        if row.entry_index is not None:
            return
        _tell_of_failures(session, row, judge.now())
        if {delivery.id for delivery in _deliveries(session, row, "done")} - weighed.keys():
            return  # its own job comes
        parties = _parties(row, pair, list(weighed.values()))
        outcome = _outcome(session, row, pair, parties, judge.now())
        if outcome is not None:
            _log(session, judge, row, pair, parties, outcome)


def _weigh(session: Session, row: CrossTestRow) -> dict[UUID, Weighed]:
    """Walk both disputes' evidence with the answers of every model that was asked."""
    found: dict[UUID, Weighed] = {}
    if not (done := _deliveries(session, row, "done")):
        return found
    pair = [session.get_one(DisputeRow, key) for key in (row.one_dispute_id, row.other_dispute_id)]
    assessments = [assess(load_evidence(session, dispute, "walk", only_triggers=True)) for dispute in pair]
    for delivery in done:
        report = CrossReport.from_json(delivery.report)
        own = assessments[delivery.dispute_id != row.one_dispute_id].evidence.statement
        marks = tuple(
            mark_of(assessment, own_classes(own, assessment.evidence), answers)
            for assessment, answers in zip(assessments, report.triggers, strict=True)
        )
        found[delivery.id] = Weighed(delivery, report, marks)
    return found


def mark_of(assessment: Assessment, classes: Sequence[int], answers: Sequence[tuple[int, ...]]) -> Mark:
    """Walk a dispute's evidence with a model's answers to its opened triggers; `classes` are what its outputs stand for."""
    triggers = opened_triggers(assessment.evidence)
    ranked = {
        index: tuple(classes[output] for output in outputs if output < len(classes))
        for index, outputs in zip(triggers, answers, strict=False)
    }
    ended = walk_as(assessment, ranked)
    return Mark(asked=ended.asked, matches=ended.matches, is_carried=ended.end == "CONFIRMED")


def opened_triggers(evidence: Evidence) -> list[int]:
    """Give the triggers of finished blocks whose inputs were opened, in the order in which a model is asked them."""
    return [index for index in evidence.due if index in evidence.inputs]


def own_classes(own: Statement, evidence: Evidence) -> tuple[int, ...]:
    """Give for each output of a party's model the class of a dispute's registration that it stands for.

    Raises: Malformed if there is none; then no model is taken.
    """
    found = namesakes(own, evidence.statement)
    if found is None:
        raise Malformed("the two registrations are of models with other inputs or classes")
    return found


def _parties(row: CrossTestRow, pair: Sequence[DisputeRow], weighed: Sequence[Weighed]) -> tuple[Party, ...]:
    verdicts = (row.one_verdict_index, row.other_verdict_index)
    parties = []
    for dispute, verdict in zip(pair, verdicts, strict=True):
        mine = next((found for found in weighed if found.delivery.dispute_id == dispute.id), None)
        parties.append(
            Party(
                filing=dispute.filing_index,
                verdict=verdict,
                model=None if mine is None else mine.delivery.model_index,
                sha256=b"" if mine is None else mine.delivery.sha256,
                covers=() if mine is None else mine.report.covers,
                marks=() if mine is None else mine.marks,
                is_first=False,
            )
        )
    return tuple(parties)


def _outcome(
    session: Session, row: CrossTestRow, pair: Sequence[DisputeRow], parties: Sequence[Party], now: datetime
) -> CrossOutcome | None:
    """Give what a test came to, None if its end has not come."""
    one, other = pair
    if not (is_standing(one, row.one_verdict_index) and is_standing(other, row.other_verdict_index)):
        return CrossOutcome(None, VERDICT_FELL)
    if namesakes(load_statement(session, one), load_statement(session, other)) is None:
        return CrossOutcome(None, NOT_COMPARABLE)
    outcome = decide_cross_test(parties)
    if outcome.reason != NOT_DELIVERED:
        return outcome
    is_awaited = bool(_deliveries(session, row, *UNFINISHED)) and now <= row.until + timedelta(days=WAIT_DAYS)
    return None if is_awaited or now <= row.until else outcome


def _log(
    session: Session,
    judge: Judge,
    row: CrossTestRow,
    pair: Sequence[DisputeRow],
    parties: Sequence[Party],
    outcome: CrossOutcome,
) -> None:
    now = judge.now()
    entry = CrossTestEntry(
        time=entry_time(session, now),
        parties=tuple(replace(party, is_first=place == outcome.first) for place, party in enumerate(parties)),
        result=outcome.result,
        reason=outcome.reason,
    )
    row.entry_index = append(session, judge.identity, entry, now).index
    row.result, row.reason = outcome.result, outcome.reason
    row.first_dispute_id = None if outcome.first is None else pair[outcome.first].id
    details: dict[str, Any] = {"cross_test": str(row.id), "result": outcome.result, "reason": outcome.reason}
    for place, dispute in enumerate(pair):
        its = {"is_first": place == outcome.first, "other_verdict": parties[1 - place].verdict}
        note_step(session, dispute, CROSS_TEST_ENDED, details | its, now, entry_index=row.entry_index)


def _tell_of_failures(session: Session, row: CrossTestRow, now: datetime) -> None:
    for delivery in _deliveries(session, row, "failed"):
        if not delivery.is_told:
            delivery.is_told = True
            details: dict[str, Any] = {"cross_test": str(row.id), "number": delivery.number}
            note_step(session, session.get_one(DisputeRow, delivery.dispute_id), CROSS_TEST_FAILED, details, now)


def _deliveries(session: Session, row: CrossTestRow, *states: str) -> Sequence[CrossDeliveryRow]:
    mine = (CrossDeliveryRow.cross_test_id == row.id) & CrossDeliveryRow.state.in_(states)
    return session.scalars(select(CrossDeliveryRow).where(mine).order_by(CrossDeliveryRow.id)).all()


def _lines(own: Statement, transcripts: Sequence[Evidence]) -> Iterator[bytes]:
    """Write the questions of both transcripts for a party's model: covers with the outputs answered, then triggers."""
    for number, evidence in enumerate(transcripts):
        outputs = {there: here for here, there in enumerate(own_classes(own, evidence))}
        for data, classes in answered_covers(evidence):
            answer = tuple(sorted(outputs[each] for each in classes))
            yield CrossQuestion(data, number, 0, answer).encode() + b"\n"
        triggers, by_ranking = opened_triggers(evidence), evidence.record.by_ranking
        depth = depth_of(len(triggers), len(outputs)) if by_ranking else 1
        for index in triggers:
            yield CrossQuestion(evidence.inputs[index].input, number, depth, ()).encode() + b"\n"


def answered_covers(evidence: Evidence) -> Iterator[tuple[bytes, frozenset[int]]]:
    """Give each cover that was answered, as the endpoint was sent it, with the classes that the answer covers."""
    codec, filed, statement = AdapterCodec(), evidence.record, evidence.statement
    label_map = LabelMap(filed.interface, statement)
    for query in evidence.queries:
        labels = query.record.labels
        if query.role.kind == "cover" and query.block < evidence.blocks_done and labels:
            data = codec.decode_request(filed.interface, query.request, statement)
            yield data, label_map.classes_of(labels[:1] if filed.by_ranking else labels)
