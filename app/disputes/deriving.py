"""Deriving a suspect's interface by the fixed rule: one job, on the lane of those who wait for suspects.

Steps: 1. metadata, once; 2. covers, some at a time, each lot stored in a transaction of its own; 3. in one transaction the
file with everything asked and answered is stored, its digest logged under the service's own key, and the ordinal given.

Invariants: what is asked follows from the rule alone, so a killed worker's successor goes on where it stopped.
Source: docs/protocol.md section 7.1.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.canonical import encode_json, parse_json
from app.db.derivation_tables import DerivationQueryRow, DerivationRow
from app.db.engine import transaction
from app.db.tables import RegistrationRow, SuspectRow
from app.disputes.budgets import DISPUTES, give_back
from app.disputes.credentials import open_credentials
from app.disputes.derivation import ASKING, DONE, FAILED, read_committed_covers
from app.disputes.derivation_report import report_of
from app.disputes.probing import Prober, count_sent, spend
from app.jobs.queue import Attempt, verify_current
from app.keys.statement import Statement
from app.log.store import append, entry_time
from app.protocol.derivation import (
    RULE,
    DerivationHead,
    DerivationQuery,
    MetadataAnswer,
    Pair,
    Rule,
)
from app.protocol.derivation_price import price_derivation
from app.protocol.interface import Interface
from app.protocol.records import ModelEntry
from app.signature import sign
from app.storage.objects import put_bytes
from app.suspects.addresses import parse_endpoint
from app.suspects.candidates import answer_bytes, metadata_paths, rule_of
from app.suspects.credentials import Credentials
from app.suspects.metadata import ask_metadata
from app.suspects.probe import Asked, Question, Suspect, ask

# Questions a transaction, and the time for all of them: an endpoint that is slow is compared on what it answered by then.
LOT: Final = 32
BUDGET_SECONDS: Final = 1800.0
ATTEMPTS: Final = 3


@dataclass(frozen=True)
class _Task:
    rule: Rule
    inputs: Sequence[bytes]
    suspect: Suspect
    host: str
    metadata: tuple[MetadataAnswer, ...]
    answers: dict[Pair, tuple[str, ...]]
    statuses: dict[Pair, int | None]
    taken: timedelta

    def note(self, seen: Iterable[DerivationQuery]) -> None:
        """Remember of what was asked as much as the rule and the price need."""
        for query in seen:
            self.answers[query.pair], self.statuses[query.pair] = query.labels, query.status


def derive_interface(prober: Prober, attempt: Attempt, derivation_id: UUID) -> None:
    """Ask what the rule says, as far as no earlier attempt did, and log what comes of it; do nothing if it is done."""
    task = _open(prober, attempt, derivation_id)
    if task is None:
        return
    taken = task.taken
    while pairs := task.rule.next_pairs(task.answers):
        for lot in _lots(pairs):
            attempt.raise_if_stopping()
            began = prober.now()
            spend(prober, task.host, len(lot) * ATTEMPTS, began)
            asked = _ask(prober, task, lot, BUDGET_SECONDS - taken.total_seconds())
            taken += max(prober.now() - began, timedelta())
            unsent = len(lot) * ATTEMPTS - count_sent(asked)
            seen = [_query(pair, one) for pair, one in zip(lot, asked, strict=True)]
            with transaction(prober.engine) as session:
                verify_current(session, attempt)
                give_back(session, task.host, DISPUTES, unsent, began)
                _store(session, prober, derivation_id, len(task.answers), seen, taken)
            task.note(seen)
    _finish(prober, attempt, derivation_id, task)


def _open(prober: Prober, attempt: Attempt, derivation_id: UUID) -> _Task | None:
    with transaction(prober.engine) as session:
        row = session.get_one(DerivationRow, derivation_id)
        if row.state != ASKING:
            return None
        statement = Statement.parse(session.get_one(RegistrationRow, row.registration_id).statement)
        covers = read_committed_covers(session, prober.store, row.vendor_id, row.covers_sha256, statement)
        stored = session.scalars(
            select(DerivationQueryRow.record)
            .where(DerivationQueryRow.derivation_id == row.id)
            .order_by(DerivationQueryRow.n)
        )
        known = [(query.pair, query.labels, query.status) for query in map(_read, stored)]
        endpoint, at, adapter, metadata = row.endpoint, row.address_options, row.adapter, row.metadata_answers
        credentials = _credentials_of(session, prober, row)
        taken = timedelta(milliseconds=row.asking_milliseconds)
    if metadata is None:
        limits = prober.manner.limits
        metadata = _encode_metadata(
            ask_metadata(endpoint, metadata_paths(at, adapter), prober.rules, limits, credentials)
        )
        with transaction(prober.engine) as session:
            verify_current(session, attempt)
            session.get_one(DerivationRow, derivation_id).metadata_answers = metadata
    said = tuple(MetadataAnswer.from_json(value) for value in parse_json(metadata))
    rule = rule_of(at, adapter, said, statement, covers.table)
    placeholder = Interface("kserve_v1", {}, {}, {"by": "name"})
    suspect = Suspect(endpoint, placeholder, len(statement.classes), credentials)
    host = parse_endpoint(endpoint, prober.rules).host
    answers = {pair: labels for pair, labels, _ in known}
    statuses = {pair: status for pair, _, status in known}
    return _Task(rule, covers.inputs, suspect, host, said, answers, statuses, taken)


def _credentials_of(session: Session, prober: Prober, row: DerivationRow) -> Credentials | None:
    """Read the credentials that the vendor gave for this address, the latest if it named the address more than once."""
    same = (SuspectRow.vendor_id == row.vendor_id) & (SuspectRow.endpoint == row.endpoint)
    for suspect_id in session.scalars(select(SuspectRow.id).where(same).order_by(SuspectRow.id.desc())):
        if (found := open_credentials(session, prober.box, suspect_id, row.endpoint)) is not None:
            return found
    return None


def _encode_metadata(answers: Sequence[MetadataAnswer]) -> bytes:
    return encode_json([answer.to_json() for answer in answers])


def _read(record: bytes) -> DerivationQuery:
    return DerivationQuery.from_json(parse_json(record, max_bytes=1 << 30))


def _lots(pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    """Part questions into lots of one candidate each, since a lot is asked through one interface."""
    for _, group in groupby(pairs, key=lambda pair: pair[0]):
        same = list(group)
        for start in range(0, len(same), LOT):
            yield same[start : start + LOT]


def _ask(prober: Prober, task: _Task, lot: Sequence[Pair], left_seconds: float) -> list[Asked]:
    suspect = replace(task.suspect, interface=task.rule.candidates[lot[0][0]])
    limits = replace(prober.manner.limits, body_bytes=min(prober.manner.limits.body_bytes, answer_bytes(task.rule)))
    manner = replace(prober.manner, limits=limits, attempts=ATTEMPTS, budget_seconds=max(0.0, left_seconds))
    questions = [Question(n, task.inputs[cover]) for n, (_, cover) in enumerate(lot)]
    return ask(questions, suspect, prober.rules, manner, prober.now, prober.traffic_of)


def _query(pair: Pair, asked: Asked) -> DerivationQuery:
    arrived = bool(asked.response_sha256)
    return DerivationQuery(
        candidate=pair[0],
        cover=pair[1],
        sent_at=asked.sent_at,
        status=asked.status,
        labels=asked.labels,
        error=asked.error,
        address=asked.address,
        certificate_sha256=asked.certificate_sha256,
        request=asked.request,
        response=asked.response if arrived else b"",
    )


def _store(
    session: Session,
    prober: Prober,
    derivation_id: UUID,
    first_n: int,
    seen: Sequence[DerivationQuery],
    taken: timedelta,
) -> None:
    row = session.get_one(DerivationRow, derivation_id)
    session.add_all(
        DerivationQueryRow(derivation_id=derivation_id, n=n, record=query.encode())
        for n, query in enumerate(seen, start=first_n)
    )
    row.asked += len(seen)
    row.answered += sum(bool(query.labels) for query in seen)
    row.asking_milliseconds, row.updated_at = taken // timedelta(milliseconds=1), prober.now()


def _finish(prober: Prober, attempt: Attempt, derivation_id: UUID, task: _Task) -> None:
    """Log the derivation; one that not a single cover was answered of is forgotten instead."""
    with transaction(prober.engine) as session:
        row = session.get_one(DerivationRow, derivation_id, with_for_update=True)
        verify_current(session, attempt)
        if row.state != ASKING:
            return
        now = prober.now()
        time = entry_time(session, now)  # takes the log's lock, under which ordinals are given
        row.updated_at = now
        if not row.answered:
            row.state = FAILED
        else:
            ordinal = _next_ordinal(session, row.registration_id)
            price = price_derivation(ordinal, row.adapter, task.metadata, task.rule, task.answers, task.statuses)
            head = DerivationHead(
                registration=session.get_one(RegistrationRow, row.registration_id).entry_index,
                ordinal=ordinal,
                bits=price.bits,
                rule=RULE,
                endpoint=row.endpoint,
                at=row.address_options,
                adapter=row.adapter,
                metadata=task.metadata,
                interface=task.rule.interface(task.answers),
            )
            row.state, row.ordinal, row.head, row.report = (
                DONE,
                head.ordinal,
                head.encode(),
                report_of(task.rule, task.answers, price),
            )
            row.file_sha256 = put_bytes(prober.store, _file(session, row))
            row.entry_index = append(session, prober.identity, _entry(prober, time, row.file_sha256), now).index
        session.execute(delete(DerivationQueryRow).where(DerivationQueryRow.derivation_id == row.id))


def _entry(prober: Prober, time: str, digest: bytes) -> ModelEntry:
    key = prober.identity.public_key
    signature = sign(prober.identity.private_key, ModelEntry.signed_bytes(key, digest))
    return ModelEntry(time=time, owner_key=key, sha256=digest, signature=signature)


def _file(session: Session, row: DerivationRow) -> bytes:
    query = select(DerivationQueryRow.record).where(DerivationQueryRow.derivation_id == row.id)
    lines = [row.head or b"", *session.scalars(query.order_by(DerivationQueryRow.n))]
    return b"".join(line + b"\n" for line in lines)


def _next_ordinal(session: Session, registration_id: UUID) -> int:
    done = (DerivationRow.registration_id == registration_id) & DerivationRow.ordinal.is_not(None)
    return 1 + session.scalars(select(func.count()).where(done)).one()
