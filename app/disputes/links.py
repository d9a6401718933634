"""The link under which the accused finds a dispute: given when nothing is asked any more, and never before.

The link is derived from the dispute's own secret, so that its claimant can be shown it again; it is found by its hash. That
it was given stands in the log as a `notice`, which hides from everybody else whom it concerns.

Invariants: until the notice is logged no link leads anywhere; a link leads to its own dispute only; what is unknown, too
early or not a link at all is one and the same answer.
Source: docs/protocol.md section 6.1.
Trust: whoever has the link may read and answer, so it is for claimant and accused to hand on.
"""

import hashlib
import hmac
import re
from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.canonical import lp, sha256, tag
from app.db.engine import transaction
from app.db.lifecycle_tables import DisputeLinkRow, SecondRunRow
from app.db.tables import DisputeRow
from app.disputes.contacts import mail_link
from app.disputes.course import lock_dispute, record_of
from app.disputes.lifecycle import NOTICE, SECOND_RUN_FILED, may_be_named, note_step
from app.errors import NotFound
from app.log.store import LogIdentity, append, entry_time
from app.protocol.records import NoticeEntry, NoticeRecord

_TOKEN = re.compile("[0-9a-f]{64}")


def token_of(dispute: DisputeRow) -> str:
    """Derive a dispute's link, 64 characters that nobody guesses."""
    return _token(dispute).hex()


def find_link(session: Session, dispute: DisputeRow) -> str | None:
    """Give a dispute's link once it leads somewhere."""
    return None if session.get(DisputeLinkRow, dispute.id) is None else token_of(dispute)


def load_linked(session: Session, token: str, *, for_update: bool = False) -> DisputeRow:
    """Read the dispute that a link leads to.

    Raises: NotFound, for whatever reason.
    """
    digest = _hash(bytes.fromhex(token)) if _TOKEN.fullmatch(token) else b""
    link = session.scalar(select(DisputeLinkRow).where(DisputeLinkRow.token_sha256 == digest))
    if link is None:
        raise NotFound
    return lock_dispute(session, link.dispute_id) if for_update else session.get_one(DisputeRow, link.dispute_id)


def load_notice(session: Session, dispute: DisputeRow) -> DisputeLinkRow:
    """Read when and how the accused was given the link."""
    return session.get_one(DisputeLinkRow, dispute.id)


def link_at(origin: str, token: str) -> str:
    """Give the address at which a link is opened."""
    return f"{origin}/d/{token}"


def give_notice(engine: Engine, identity: LogIdentity, dispute_id: UUID, origin: str, now: datetime) -> None:
    """Log that the accused may be told, in a transaction of its own; do nothing if it is logged, or still too early.

    Whoever is to be told by mail finds the link at `origin`.
    """
    with transaction(engine) as session:
        dispute = lock_dispute(session, dispute_id)
        if may_be_named(dispute) and session.get(DisputeLinkRow, dispute_id) is None:
            _log_notice(session, identity, dispute, now)
            mail_link(session, dispute, link_at(origin, token_of(dispute)), now)


def _log_notice(session: Session, identity: LogIdentity, dispute: DisputeRow, now: datetime) -> None:
    # Rows first, the log's lock second, as everybody does who needs both.
    first = _lock_answered(session, dispute)
    record = NoticeRecord(
        filing=dispute.filing_index,
        endpoint=record_of(dispute).endpoint,
        link=_hash(_token(dispute)),
        second_run=None if first is None else first.entry_index,
    )
    time = entry_time(session, now)
    entry = NoticeEntry(time=time, filing=dispute.filing_index, record_hash=record.hidden_hash(dispute.blind))
    index = append(session, identity, entry, now).index
    session.add(
        DisputeLinkRow(
            dispute_id=dispute.id, token_sha256=record.link, record=record.encode(), entry_index=index, created_at=now
        )
    )
    note_step(session, dispute, NOTICE, {}, now, entry_index=index)
    if first is not None:
        # Only now: the accused, who asked for it, must not know while it is asked.
        details = {"dispute": str(dispute.id)}
        asked = session.get_one(DisputeRow, first.dispute_id)
        note_step(session, asked, SECOND_RUN_FILED, details, now, entry_index=index)


def _lock_answered(session: Session, dispute: DisputeRow) -> SecondRunRow | None:
    row = session.scalar(select(SecondRunRow).where(SecondRunRow.filed_dispute_id == dispute.id))
    if row is not None:
        lock_dispute(session, row.dispute_id)
    return row


def _token(dispute: DisputeRow) -> bytes:
    return hmac.digest(dispute.role_blind_seed, lp(tag("dispute-link")), hashlib.sha256)


def _hash(token: bytes) -> bytes:
    return sha256(lp(tag("dispute-link"), token))
