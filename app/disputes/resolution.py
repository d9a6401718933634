"""Deciding a dispute: the verdict into the log, and beside it a bundle from which anyone comes to the same.

The evidence no longer changes here, so all weighing happens outside the transaction that logs the verdict.

Invariants: one verdict a dispute, whatever is killed when, until delivered weights void it (`weights_judged`); a verdict in
the database has its bundle in the object store (the blob is written first, under its own digest); service and auditor run
the same functions on the same bytes.
Source: docs/protocol.md sections 8 and 9.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from obstore.store import ObjectStore
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.canonical import sha256
from app.db.engine import transaction
from app.db.tables import DisputeRow
from app.disputes.case_file import end_of, load_evidence
from app.disputes.course import lock_dispute
from app.disputes.lifecycle import VERDICT, note_step
from app.disputes.links import give_notice
from app.disputes.states import DECIDING, WITHDRAWN, next_state
from app.jobs.names import COURT
from app.jobs.queue import OPEN_CROSS_TESTS_TASK, Attempt, enqueue, verify_current
from app.log.store import Appended, LogIdentity, append, count_entries, entry_time, receipt_for
from app.protocol.assessment import Assessment, Evidence, Logged, assess
from app.protocol.bundle import encode_bundle, encode_evidence, logged_entries
from app.protocol.faults import find_fault
from app.protocol.figures import Standing
from app.protocol.records import FilingEntry, RegistrationEntry, VerdictEntry, WithdrawalEntry, parse_entry
from app.storage.archive import pack
from app.storage.objects import put_bytes
from app.suspects.adapter_codec import AdapterCodec


@dataclass(frozen=True)
class Judge:
    """What a worker decides with; `arbiter_keys` may countersign interfaces."""

    engine: Engine
    identity: LogIdentity
    store: ObjectStore
    arbiter_keys: Sequence[bytes]
    now: Callable[[], datetime]
    # Where people find the portal: it stands in mails.
    portal_origin: str


def decide_dispute(judge: Judge, attempt: Attempt, dispute_id: UUID) -> None:
    """Decide a dispute in which nothing is asked any more; do nothing if it is decided."""
    give_notice(judge.engine, judge.identity, dispute_id, judge.portal_origin, judge.now())
    evidence = _load(judge, dispute_id)
    if evidence is None:
        return
    fault = find_fault(evidence, AdapterCodec(), judge.arbiter_keys, log_key=judge.identity.public_key)
    assessment = assess(evidence, fault)
    with transaction(judge.engine) as session:
        row = lock_dispute(session, dispute_id)
        verify_current(session, attempt)
        if row.state in (DECIDING, WITHDRAWN):
            log_verdict(session, judge, row, assessment)


def _load(judge: Judge, dispute_id: UUID) -> Evidence | None:
    with transaction(judge.engine) as session:
        row = session.get_one(DisputeRow, dispute_id)
        if row.state not in (DECIDING, WITHDRAWN):
            return None
        return load_evidence(session, row, end_of(session, row), judge.store)


def log_verdict(
    session: Session, judge: Judge, row: DisputeRow, assessment: Assessment, *, act: str = "verdict"
) -> None:
    """Log the verdict on a locked dispute and store its bundle; `act` is what leads to it (`states.TRANSITIONS`)."""
    now, evidence, decision = judge.now(), assessment.evidence, assessment.decision
    time = entry_time(session, now)  # takes the log's lock: nothing comes between the counts and the verdict
    files = encode_evidence(evidence, assessment.report(_standing(session)))
    is_withdrawal = evidence.end == "withdrawn" and decision.verdict == "INCONCLUSIVE"
    entry = (WithdrawalEntry if is_withdrawal else VerdictEntry)(
        time=time,
        filing=evidence.filing.index,
        blind=evidence.blind,
        record=evidence.record,
        verdict=decision.verdict,
        reason=decision.reason,
        asked=decision.walk.asked,
        matches=decision.walk.matches,
        bundle=sha256(files["evidence.json"]),
    )
    appended = append(session, judge.identity, entry, now)
    row.bundle_sha256 = put_bytes(judge.store, _bundle(session, judge, evidence, files, appended))
    row.state = next_state(row.state, act)
    row.verdict, row.reason, row.verdict_index = decision.verdict, decision.reason, appended.index
    row.asked, row.matches, row.updated_at = decision.walk.asked, decision.walk.matches, now
    row.log2_e = decision.walk.log2_e if assessment.case.assurance_class == "A" else None
    said = {"verdict": row.verdict, "reason": row.reason, "asked": row.asked, "matches": row.matches}
    note_step(session, row, VERDICT, said, now, entry_index=appended.index)
    if decision.verdict == "CONFIRMED":
        # Of two that are confirmed at once the later one's job, at the latest, sees both.
        lock = f"{OPEN_CROSS_TESTS_TASK} {row.id}"
        enqueue(session, OPEN_CROSS_TESTS_TASK, COURT, {"dispute": str(row.id)}, queueing_lock=lock)


def _standing(session: Session) -> Standing:
    """Count what the log holds; the verdict that comes next is neither registration nor filing."""
    size = count_entries(session)
    return Standing(
        tree_size=size + 1,
        registrations=count_entries(session, RegistrationEntry.NAME),
        filings=count_entries(session, FilingEntry.NAME),
    )


def _bundle(session: Session, judge: Judge, evidence: Evidence, files: dict[str, bytes], appended: Appended) -> bytes:
    verdict = Logged(appended.index, parse_entry(appended.entry), appended.entry)
    numbers = [*logged_entries(evidence), appended.index]
    receipts = {number: receipt_for(session, number, appended.size) for number in numbers}
    identity = judge.identity
    return pack(encode_bundle(evidence, files, verdict, receipts, log=identity.origin, log_key=identity.public_key))
