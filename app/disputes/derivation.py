"""Deriving a suspect's interface by the fixed rule, on the lane of those who wait for suspects.

Steps: 1. placed: the covers are the committed ones, and the registration has no other derivation at this host; 2. asked, some
questions at a time, each lot stored in a transaction of its own; 3. in one transaction the file with everything asked and
answered is stored, its digest logged under the service's own key, and the ordinal given.

Invariants: a registration has one derivation at a host, and nobody gets a second one because he did not like the first; only
one of which not a single cover was answered may be placed again, for it shows nothing to choose by; what is asked follows
from the rule alone, so a killed worker's successor goes on where it stopped.
Source: docs/protocol.md section 7.1.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from obstore.store import ObjectStore
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.canonical import encode_json, parse_json
from app.db.derivation_tables import DerivationQueryRow, DerivationRow
from app.db.engine import transaction
from app.db.tables import ArtifactRow, RegistrationRow, SuspectRow, new_id
from app.disputes.budgets import DISPUTES, give_back
from app.disputes.credentials import open_credentials
from app.disputes.derivation_report import report_of
from app.disputes.filing import MAX_COVER_SET_BYTES
from app.disputes.probing import Prober, count_sent, spend
from app.errors import Conflict, Malformed, NotFound
from app.jobs.names import PROBE
from app.jobs.queue import Attempt, enqueue, is_alive, verify_current
from app.keys.cover_set import LabelledCoverSet, parse_cover_set
from app.keys.statement import Statement
from app.log.store import append, entry_time
from app.protocol.derivation import (
    MAX_DERIVATIONS,
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
from app.storage.objects import get_bytes, put_bytes
from app.suspects.addresses import NetworkRules, parse_endpoint
from app.suspects.candidates import address_of, answer_bytes, metadata_paths, rule_of, verify_adapter, verify_size
from app.suspects.credentials import Credentials
from app.suspects.metadata import ask_metadata
from app.suspects.probe import Asked, Question, Suspect, ask

# It stands in the database: renaming it orphans waiting jobs.
DERIVE_TASK: Final = "derive_interface"

ASKING, DONE, FAILED = "asking", "done", "failed"

# Questions a transaction, and the time for all of them: an endpoint that is slow is compared on what it answered by then.
LOT: Final = 32
BUDGET_SECONDS: Final = 1800.0
ATTEMPTS: Final = 3


@dataclass(frozen=True)
class WantedDerivation:
    """Whose interface is to be derived, and from which covers; with the suspect's own adapter, or by what metadata says."""

    suspect: SuspectRow
    registration: RegistrationRow
    covers_sha256: bytes
    is_by_name: bool = False


def place_derivation(
    session: Session,
    store: ObjectStore,
    wanted: WantedDerivation,
    rules: NetworkRules,
    randomness: bytes,
    now: datetime,
) -> DerivationRow:
    """Have a suspect's interface derived, or give the derivation that there is at this endpoint.

    Raises: NotFound if the artifact is not the vendor's; OpeningInvalid if it is not the committed set; Malformed if that
    is too small, its inputs too large or the model no name; Conflict if the host has a derivation for this registration at
    another path, model or adapter, or the registration has 1,024.
    """
    suspect, registration, covers_sha256 = wanted.suspect, wanted.registration, wanted.covers_sha256
    statement = Statement.parse(registration.statement)
    covers = read_committed_covers(session, store, suspect.vendor_id, covers_sha256, statement)
    known = Interface.from_json(suspect.interface)
    endpoint, at = suspect.endpoint, address_of(known.options)
    adapter = known.adapter if wanted.is_by_name else None
    verify_adapter(adapter, at, statement)
    # A file that is larger is never read again, and a dispute over it would never end.
    verify_size(statement, covers.table)
    place = parse_endpoint(endpoint, rules)
    host = f"{place.host}:{place.port}"
    # Locked: of two that are placed at once the second finds the first.
    session.get_one(RegistrationRow, registration.id, with_for_update=True, populate_existing=True)
    row = find_at_host(session, registration.id, host)
    if row is None:
        _check_number(session, registration.id)
        row = DerivationRow(
            id=new_id(now, randomness),
            vendor_id=suspect.vendor_id,
            registration_id=registration.id,
            host=host,
            state=ASKING,
            created_at=now,
        )
        session.add(row)
    elif row.state != FAILED:
        return _as_it_stands(session, row, (endpoint, at, adapter))
    row.endpoint, row.address_options, row.adapter, row.covers_sha256 = endpoint, at, adapter, covers_sha256
    row.state, row.asked, row.asking_milliseconds, row.metadata_answers, row.updated_at = ASKING, 0, 0, None, now
    session.flush()
    _enqueue(session, row)
    return row


def _as_it_stands(
    session: Session, row: DerivationRow, wanted: tuple[str, dict[str, Any], str | None]
) -> DerivationRow:
    if (row.endpoint, row.address_options, row.adapter) != wanted:
        how = "as its metadata says" if row.adapter is None else f"as {row.adapter}"
        raise Conflict(f"a registration derives once a host, and did at {row.endpoint}, {how}", state=row.state)
    if row.state == ASKING and not is_alive(session, _job_name(row.id)):
        _enqueue(session, row)
    return row


def read_committed_covers(
    session: Session, store: ObjectStore, vendor_id: UUID, digest: bytes, statement: Statement
) -> LabelledCoverSet:
    """Read an uploaded cover set that is the committed one, large enough to derive from.

    Raises: NotFound; Malformed; OpeningInvalid.
    """
    if session.get(ArtifactRow, (vendor_id, digest)) is None:
        raise NotFound
    covers = parse_cover_set(get_bytes(store, digest, MAX_COVER_SET_BYTES))
    if not isinstance(covers, LabelledCoverSet):
        raise Malformed("these covers have no labels: make them with `trapstreet covers --labels`", pointer="/covers")
    covers.table.verify(statement)
    Rule(statement, covers.table, []).first_part  # noqa: B018  # refuses too few covers of every class
    return covers


def find_at_host(session: Session, registration_id: UUID, host: str) -> DerivationRow | None:
    """Find a registration's derivation at a host."""
    query = select(DerivationRow).where(DerivationRow.registration_id == registration_id, DerivationRow.host == host)
    return session.scalar(query)


def load_derivation(session: Session, suspect: SuspectRow, registration_id: UUID, rules: NetworkRules) -> DerivationRow:
    """Read the derivation that a suspect's endpoint has for a registration.

    Raises: NotFound.
    """
    place = parse_endpoint(suspect.endpoint, rules)
    row = find_at_host(session, registration_id, f"{place.host}:{place.port}")
    if row is None or row.vendor_id != suspect.vendor_id or row.endpoint != suspect.endpoint:
        raise NotFound
    return row


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


def _check_number(session: Session, registration_id: UUID) -> None:
    """Refuse one derivation too many when it is placed: when it is done, everybody has been asked."""
    placed = session.scalars(select(func.count()).where(DerivationRow.registration_id == registration_id)).one()
    if placed >= MAX_DERIVATIONS:
        raise Conflict(f"a registration has {MAX_DERIVATIONS} derivations at most", state=DONE)


def _enqueue(session: Session, row: DerivationRow) -> None:
    enqueue(session, DERIVE_TASK, PROBE, {"derivation": str(row.id)}, queueing_lock=_job_name(row.id))


def _job_name(derivation_id: UUID) -> str:
    return f"derive {derivation_id}"
