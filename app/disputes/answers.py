"""What the accused says to a dispute, in its own words: kept, shown to both sides, dated by the log.

Invariants: an answer changes no verdict and is never changed itself; its words stay off the log, which holds a hash; there
are MAX_ANSWERS at most, and each file is small, because whoever has the link may answer.
Source: docs/protocol.md section 6.1.
Trust: words and files are a stranger's: pages escape the words and hand files out as downloads only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from obstore.store import ObjectStore
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.lifecycle_tables import DisputeAnswerRow
from app.db.tables import DisputeRow
from app.disputes.lifecycle import ANSWER, decided_at, may_be_named, note_step
from app.errors import Conflict, Malformed, NotFound, TooLarge
from app.log.store import LogIdentity, append, entry_time
from app.protocol.records import (
    MAX_ANSWER_CHARACTERS,
    MAX_ANSWERS,
    AnswerEntry,
    AnswerFile,
    AnswerRecord,
)
from app.storage.objects import put_bytes

# As long as it takes to find old papers and have a lawyer read them.
ANSWER_DAYS: Final = 90

MAX_FILE_BYTES: Final = 2 * 1024 * 1024


@dataclass(frozen=True)
class Said:
    """What somebody with the link sent: words, prior art, and a file's name and bytes or none."""

    words: str
    prior_art: str = ""
    file: tuple[str, bytes] | None = None


@dataclass(frozen=True)
class Answer:
    """An answer as it is shown."""

    record: AnswerRecord
    entry_index: int
    blind: bytes
    created_at: datetime


def answers_until(session: Session, dispute: DisputeRow) -> datetime | None:
    """Say until when a dispute may be answered; None while there is no verdict to count from."""
    at = decided_at(session, dispute)
    return None if at is None else at + timedelta(days=ANSWER_DAYS)


def list_answers(session: Session, dispute: DisputeRow) -> Sequence[Answer]:
    """Read a dispute's answers, the first one first."""
    query = select(DisputeAnswerRow).where(DisputeAnswerRow.dispute_id == dispute.id).order_by(DisputeAnswerRow.number)
    return [
        Answer(AnswerRecord.parse(row.record), row.entry_index, row.blind, row.created_at)
        for row in session.scalars(query)
    ]


def load_file(session: Session, dispute: DisputeRow, number: int) -> AnswerFile:
    """Say which file came with an answer.

    Raises: NotFound if there is no such answer, or none with a file.
    """
    row = session.get(DisputeAnswerRow, (dispute.id, number))
    file = None if row is None else AnswerRecord.parse(row.record).file
    if file is None:
        raise NotFound
    return file


def add_answer(
    session: Session,
    identity: LogIdentity,
    store: ObjectStore,
    dispute: DisputeRow,
    said: Said,
    blind: bytes,
    now: datetime,
) -> AnswerRecord:
    """Keep an answer to a locked dispute and log its hash; `blind` is 32 random bytes.

    Raises: Malformed, TooLarge; Conflict if it comes too late or there are too many; NotFound if nobody may know of it.
    """
    if not may_be_named(dispute):
        raise NotFound
    until = answers_until(session, dispute)
    if until is not None and now > until:
        raise Conflict(f"answers were taken until {until:%Y-%m-%d}", state=dispute.state)
    earlier = list_answers(session, dispute)
    if len(earlier) == MAX_ANSWERS:
        raise Conflict(f"a dispute has {MAX_ANSWERS} answers at most, and this one has them", state=dispute.state)
    record = AnswerRecord(
        filing=dispute.filing_index,
        number=len(earlier) + 1,
        words=_checked(said.words, "words", least=1),
        prior_art=_checked(said.prior_art, "prior_art"),
        file=None if said.file is None else _keep(store, *said.file),
    )
    # What a form cannot hold is found here, before anything is logged.
    AnswerRecord.parse(record.encode())
    _log(session, identity, dispute, record, blind, now)
    return record


def _log(
    session: Session, identity: LogIdentity, dispute: DisputeRow, record: AnswerRecord, blind: bytes, now: datetime
) -> None:
    entry = AnswerEntry(
        time=entry_time(session, now),
        filing=dispute.filing_index,
        number=record.number,
        record_hash=record.hidden_hash(blind),
    )
    index = append(session, identity, entry, now).index
    session.add(
        DisputeAnswerRow(
            dispute_id=dispute.id,
            number=record.number,
            record=record.encode(),
            blind=blind,
            entry_index=index,
            created_at=now,
        )
    )
    details = {"number": record.number, "has_file": record.file is not None}
    note_step(session, dispute, ANSWER, details, now, entry_index=index)


def _checked(words: str, name: str, *, least: int = 0) -> str:
    # Browsers send CR LF, and PostgreSQL's text and our pages have no use for the other controls.
    kept = words.replace("\r\n", "\n").strip()
    if any(ord(each) < 32 and each not in "\n\t" for each in kept):
        raise Malformed("control characters are not kept: leave them out", pointer=f"/{name}")
    if not least <= len(kept) <= MAX_ANSWER_CHARACTERS:
        few = "say something" if not kept else f"{len(kept)} characters"
        raise Malformed(f"{few}: {least} to {MAX_ANSWER_CHARACTERS} characters", pointer=f"/{name}")
    return kept


def _keep(store: ObjectStore, name: str, data: bytes) -> AnswerFile:
    if len(data) > MAX_FILE_BYTES:
        raise TooLarge(
            f"{len(data)} bytes, over the limit of {MAX_FILE_BYTES}: give the file's SHA-256 in your answer and keep it",
            pointer="/file",
        )
    if not data:
        raise Malformed("an empty file says nothing: choose another, or none", pointer="/file")
    shown = "".join(each for each in name.replace("\\", "/").rpartition("/")[2] if each.isprintable()).strip()
    return AnswerFile(name=shown[-200:] or "file", sha256=put_bytes(store, data), size=len(data))
