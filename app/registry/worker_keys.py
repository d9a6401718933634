"""Worker keys: the public keys of queues, to which vendors seal marking keys.

Invariants: a queue has one present key, the last one announced; a successor is signed by the key it replaces; every key
that a queue ever had stands in the log.
Source: docs/protocol.md section 2 (worker-key entries).
Trust: only public bytes stand here; a vendor seals to a key after verifying its entry, not because the API names it.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.db.tables import WorkerKeyRow, new_id
from app.errors import Conflict, PolicyRefused
from app.keys.sealing import QueueKey
from app.log.store import LogIdentity, append, entry_time
from app.protocol.records import WorkerKeyEntry


def announce_worker_key(
    session: Session,
    identity: LogIdentity,
    queue_key: QueueKey,
    queue: str,
    replaced: QueueKey | None,
    now: datetime,
) -> WorkerKeyRow:
    """Log a queue's key, signed by the one it replaces; announcing the present one again changes nothing.

    Raises: Conflict if the queue has another key than `replaced`; PolicyRefused if the key serves another queue.
    """
    time = entry_time(session, now)  # takes the log's lock: workers that start at once announce one after the other
    public_key = queue_key.public
    present = _find_present(session, queue)
    if present is not None and present.public_key == public_key:
        return present
    if session.scalar(select(WorkerKeyRow.id).where(WorkerKeyRow.public_key == public_key)) is not None:
        raise PolicyRefused("this key was announced before, for another queue or before its successor")
    if (None if present is None else present.public_key) != (None if replaced is None else replaced.public):
        raise Conflict(f"{queue} has another key: bring the one that is replaced", state="another_key")
    signature = b"" if replaced is None else replaced.sign(WorkerKeyEntry.signed_bytes(public_key, queue))
    entry = WorkerKeyEntry(time=time, public_key=public_key, queue=queue, signature=signature)
    row = WorkerKeyRow(
        # A public key is as unique as random bytes.
        id=new_id(now, public_key),
        queue=queue,
        public_key=public_key,
        entry_index=append(session, identity, entry, now).index,
        created_at=now,
    )
    session.add(row)
    session.flush()
    return row


def list_worker_keys(session: Session) -> Sequence[WorkerKeyRow]:
    """Read the present key of every queue."""
    query = select(WorkerKeyRow).ext(distinct_on(WorkerKeyRow.queue))
    return session.scalars(query.order_by(WorkerKeyRow.queue, WorkerKeyRow.entry_index.desc())).all()


def _find_present(session: Session, queue: str) -> WorkerKeyRow | None:
    query = select(WorkerKeyRow).where(WorkerKeyRow.queue == queue)
    return session.scalar(query.order_by(WorkerKeyRow.entry_index.desc()).limit(1))
