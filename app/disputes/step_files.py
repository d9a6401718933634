"""The steps of a dispute that no bundle holds, as one file that anyone checks against the log (protocol/steps.py).

Invariants: all receipts are of one checkpoint, the newest of the transaction; only who has the link, or the claim, gets it.
"""

from sqlalchemy.orm import Session

from app.db.lifecycle_tables import SecondRunRow
from app.db.tables import DisputeRow
from app.disputes.answers import list_answers
from app.disputes.cross_tests import list_ended
from app.disputes.links import load_notice
from app.log.store import LogIdentity, latest_checkpoint, load_entry, receipt_for
from app.merkle.checkpoint import parse_checkpoint
from app.protocol.records import AnswerRecord, CrossTestEntry, NoticeRecord, SecondRunEntry
from app.protocol.steps import Revealed, StepList, encode_steps, named_entries
from app.storage.archive import pack


def pack_steps(session: Session, identity: LogIdentity, dispute: DisputeRow) -> bytes:
    """Write notice, answers, request and ended cross-tests of a dispute whose link leads somewhere."""
    notice, second_run = load_notice(session, dispute), session.get(SecondRunRow, dispute.id)
    records: dict[int, NoticeRecord | AnswerRecord] = {notice.entry_index: NoticeRecord.parse(notice.record)}
    blinds = {notice.entry_index: dispute.blind}
    for answer in list_answers(session, dispute):
        records[answer.entry_index], blinds[answer.entry_index] = answer.record, answer.blind
    # A request is made of a verdict, which weights may have voided since.
    verdict = dispute.verdict_index
    if second_run is not None:
        verdict = SecondRunEntry.parse(load_entry(session, second_run.entry_index)).verdict
    found: set[int | None] = {dispute.filing_index, None if second_run is None else second_run.entry_index}
    for row in list_ended(session, dispute):
        entry_index = row.entry_index or 0
        found |= {entry_index, *_named(session, dispute, entry_index)}
        # A test is of a confirmed verdict, which weights may have voided since.
        verdict = row.one_verdict_index if dispute.id == row.one_dispute_id else row.other_verdict_index
    found.add(verdict)
    numbers = sorted({*records, *(number for number in found if number is not None)})
    size = parse_checkpoint(latest_checkpoint(session))[0].size
    listed = StepList(
        log=identity.origin,
        log_key=identity.public_key,
        filing=dispute.filing_index,
        entries=tuple(numbers),
        revealed=tuple(Revealed(number, blinds[number]) for number in sorted(blinds)),
    )
    entries = {number: load_entry(session, number) for number in numbers}
    receipts = {number: receipt_for(session, number, size) for number in numbers}
    return pack(encode_steps(listed, entries, receipts, records))


def _named(session: Session, dispute: DisputeRow, entry_index: int) -> set[int]:
    entry = CrossTestEntry.parse(load_entry(session, entry_index))
    return named_entries(entry, dispute.filing_index)
