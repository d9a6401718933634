"""The stored log: append under one lock, prove, and re-derive everything.

Invariants: an index is given once and in order, because whoever appends holds the log's lock until its transaction
ends; entry, nodes and checkpoint appear together or not at all; every size has one checkpoint, signed once; times never
go back. Nothing here commits: what a caller gets may leave the service only after COMMIT.
Source: RFC 9162 section 2.1; c2sp.org/tlog-checkpoint; docs/protocol.md section 4.
Trust: the private key signs whatever this database says, so who writes the database and holds the key writes the log's
future, but cannot change its past unseen by anyone who kept a checkpoint.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, defer

from app.canonical import seconds_of, time_text
from app.db.tables import LogCheckpointRow, LogEntryRow, LogNodeRow
from app.errors import Malformed, NotFound, PolicyRefused, ProofError
from app.merkle.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint, verify_checkpoint
from app.merkle.receipt import Receipt, encode_receipt
from app.merkle.tree import (
    consistency_path,
    inclusion_path,
    leaf_hash,
    nodes_completed_by,
    root_at,
)
from app.protocol.records import Entry, parse_entry
from app.signature import public_key_of

# Any number, the same in every version: the name of the lock that whoever appends holds.
APPEND_LOCK = 0x7472_6170_0002

# So many entries are held in memory at once by whoever reads the whole log.
READ_ROWS = 200


@dataclass(frozen=True)
class LogIdentity:
    """Who the log is: its origin, and the private key (32 bytes) under which it signs."""

    origin: str
    private_key: bytes = field(repr=False)

    @property
    def public_key(self) -> bytes:
        """Give the public key, 32 bytes."""
        return public_key_of(self.private_key)


@dataclass(frozen=True)
class Appended:
    """Where an entry stands, its bytes, and the size of the log with it."""

    index: int
    entry: bytes
    size: int


class StoredNodes:
    """Reads hashes of complete subtrees from the database, each once."""

    def __init__(self, session: Session) -> None:
        """Read through this session's transaction."""
        self._session = session
        self._known: dict[tuple[int, int], bytes] = {}

    def read(self, level: int, index: int) -> bytes:
        """Give the hash over the 2^level leaves that start at leaf index * 2^level."""
        if (level, index) not in self._known:
            self._known[level, index] = self._session.get_one(LogNodeRow, (level, index)).hash
        return self._known[level, index]

    def add(self, nodes: Iterable[tuple[int, int, bytes]]) -> None:
        """Store new nodes."""
        for level, index, value in nodes:
            self._known[level, index] = value
            self._session.add(LogNodeRow(level=level, index=index, hash=value))


def append(session: Session, identity: LogIdentity, entry: Entry, now: datetime) -> Appended:
    """Append an entry whose time came from `entry_time` in this same transaction."""
    last = _lock_and_read_last(session)
    if last is not None and entry.time < time_text(last.created_at):
        raise ValueError(f"an entry of {entry.time} cannot follow one of {time_text(last.created_at)}")
    index = 0 if last is None else last.index + 1
    data, nodes = entry.encode(), StoredNodes(session)
    leaf = leaf_hash(data)
    created_at = datetime.fromtimestamp(seconds_of(entry.time), UTC)
    session.add(LogEntryRow(index=index, kind=entry.NAME, data=data, leaf_hash=leaf, created_at=created_at))
    nodes.add(nodes_completed_by(index, leaf, nodes))
    checkpoint = Checkpoint(identity.origin, index + 1, root_at(index + 1, nodes))
    note = sign_checkpoint(checkpoint, identity.private_key)
    session.add(LogCheckpointRow(size=checkpoint.size, note=note, created_at=now))
    session.flush()
    return Appended(index, data, checkpoint.size)


def entry_time(session: Session, now: datetime) -> str:
    """Take the log's lock until this transaction ends, and give the time of the next entry: now, or the last one's."""
    last = _lock_and_read_last(session)
    return time_text(now if last is None else max(now, last.created_at))


def load_entry(session: Session, index: int) -> bytes:
    """Read an entry's bytes.

    Raises: NotFound.
    """
    data = session.scalar(select(LogEntryRow.data).where(LogEntryRow.index == index))
    if data is None:
        raise NotFound(f"the log has no entry {index}")
    return data


def list_entries(session: Session, start: int, limit: int, *, with_data: bool = True) -> Sequence[LogEntryRow]:
    """Read entries from `start` on, in order, with their bytes or without."""
    query = select(LogEntryRow).where(LogEntryRow.index >= start).order_by(LogEntryRow.index).limit(limit)
    return session.scalars(query if with_data else query.options(defer(LogEntryRow.data))).all()


def receipt_for(session: Session, index: int, size: int | None = None) -> str:
    """Write the receipt of an entry against the checkpoint of `size`, by default the newest.

    Raises: NotFound if the log has no such entry or never had that size; Malformed if it was not yet in it.
    """
    load_entry(session, index)
    note = latest_checkpoint(session) if size is None else load_checkpoint(session, size)
    size = parse_checkpoint(note)[0].size
    if index >= size:
        raise Malformed(f"entry {index} is not in the log of {size} entries: ask for a greater size", pointer="/size")
    path = inclusion_path(index, size, StoredNodes(session))
    return encode_receipt(Receipt(index, tuple(path), note)).decode()


def latest_checkpoint(session: Session) -> str:
    """Read the newest checkpoint.

    Raises: NotFound while the log is empty.
    """
    note = session.scalar(select(LogCheckpointRow.note).order_by(LogCheckpointRow.size.desc()).limit(1))
    if note is None:
        raise NotFound("the log has no entry yet")
    return note


def load_checkpoint(session: Session, size: int) -> str:
    """Read the one checkpoint of a size.

    Raises: NotFound.
    """
    note = session.scalar(select(LogCheckpointRow.note).where(LogCheckpointRow.size == size))
    if note is None:
        raise NotFound(f"the log never had {size} entries, or not yet")
    return note


def consistency(session: Session, old_size: int, new_size: int) -> list[bytes]:
    """Prove that the log of `old_size` entries is a prefix of the log of `new_size`.

    Raises: Malformed unless 0 <= old_size <= new_size <= size of the log.
    """
    size = count_entries(session)
    if new_size > size:
        raise Malformed(f"the log has {size} entries", pointer="/to")
    return consistency_path(old_size, new_size, StoredNodes(session))


def count_entries(session: Session, kind: str | None = None, before_index: int | None = None) -> int:
    """Count entries, all or of one kind, all or before an index."""
    query = select(func.count()).select_from(LogEntryRow)
    if kind is not None:
        query = query.where(LogEntryRow.kind == kind)
    if before_index is not None:
        query = query.where(LogEntryRow.index < before_index)
    return session.scalars(query).one()


def verify_identity(session: Session, identity: LogIdentity) -> None:
    """Check that the log of this database is the one that `identity` signs; an empty log is anybody's.

    Raises: PolicyRefused: going on would fork the log.
    """
    try:
        verify_checkpoint(latest_checkpoint(session), identity.public_key, identity.origin)
    except NotFound:
        return
    except ProofError as error:
        raise PolicyRefused(f"this database holds another log: {error.message}; mend log_origin or log_key") from error


def check_log(session: Session, public_key: bytes, origin: str) -> int:
    """Re-derive every hash, node and checkpoint from the entries' bytes, and give the number of entries.

    Raises: ProofError, Malformed: the log is not what it says.
    """
    nodes, time, size = _MemoryNodes(), "", 0
    for row in _read_all(session):
        entry = parse_entry(row.data)
        if row.index != size or (row.kind, time_text(row.created_at)) != (entry.NAME, entry.time):
            raise ProofError(f"row {row.index} is not entry {size} of this kind and time")
        if row.leaf_hash != leaf_hash(row.data) or entry.time < time:
            raise ProofError(f"entry {size} has another hash, or comes before its predecessor")
        nodes.add(nodes_completed_by(size, row.leaf_hash, nodes))
        time, size = entry.time, size + 1
        note = load_checkpoint(session, size)
        if verify_checkpoint(note, public_key, origin) != Checkpoint(origin, size, root_at(size, nodes)):
            raise ProofError(f"the checkpoint of size {size} is of another tree")
    _check_counts(session, nodes, size)
    return size


def _read_all(session: Session) -> Iterator[LogEntryRow]:
    start: int | None = 0
    while start is not None:
        rows = list_entries(session, start, READ_ROWS)
        yield from rows
        start = rows[-1].index + 1 if rows else None
        for row in rows:
            session.expunge(row)


class _MemoryNodes:
    def __init__(self) -> None:
        self.known: dict[tuple[int, int], bytes] = {}

    def read(self, level: int, index: int) -> bytes:
        return self.known[level, index]

    def add(self, nodes: Iterable[tuple[int, int, bytes]]) -> None:
        self.known.update({(level, index): value for level, index, value in nodes})


def _check_counts(session: Session, nodes: _MemoryNodes, size: int) -> None:
    rows = session.execute(select(LogNodeRow.level, LogNodeRow.index, LogNodeRow.hash))
    stored = {(level, index): value for level, index, value in rows}
    if stored != nodes.known:
        raise ProofError("the stored nodes are not those of the entries")
    if session.scalars(select(func.count()).select_from(LogCheckpointRow)).one() != size:
        raise ProofError("there are checkpoints of sizes that the log never had")


def _lock_and_read_last(session: Session) -> LogEntryRow | None:
    session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": APPEND_LOCK})
    # Asked only now: under READ COMMITTED each statement sees what was committed before it began.
    return session.scalar(select(LogEntryRow).order_by(LogEntryRow.index.desc()).limit(1))
