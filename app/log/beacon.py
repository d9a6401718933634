"""The beacon of an entry: a nonce committed with it and opened later, with the public randomness of its round.

Invariants: an entry that holds a nonce's hash has its nonce and the job that opens it in the same transaction, so none
waits for ever; an entry has one beacon, whoever asks how often.
Source: docs/protocol.md section 5.
Trust: nonces stand in the database before they are opened: with a local beacon, who reads them foresees labels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.canonical import sha256
from app.db.tables import EntryNonceRow, LogEntryRow
from app.errors import NotFound, PolicyRefused, ProofError
from app.jobs.names import COURT
from app.jobs.queue import enqueue
from app.log.store import Appended, LogIdentity, append, entry_time, load_entry
from app.protocol.beacon import LOCAL, LOCAL_RANDOMNESS, required_round, verify_beacon
from app.protocol.records import BeaconEntry, Entry, FilingEntry, RegistrationEntry, parse_entry

# Task name: it stands in the database, so renaming it orphans waiting jobs. Its argument is `entry_index`. Jobs wait
# where the light worker alone listens (embedding workers, too, take jobs of SYSTEM, and do not know it), and never behind
# a suspect that is slow to answer.
OPEN_BEACON_TASK = "open_beacon"

NONCE_BYTES = 32


@dataclass(frozen=True)
class Opened:
    """The beacon of an entry, and where it stands."""

    index: int
    entry: BeaconEntry
    data: bytes


def append_with_nonce(
    session: Session, identity: LogIdentity, make_entry: Callable[[bytes, str], Entry], nonce: bytes, now: datetime
) -> Appended:
    """Append the entry that `make_entry` makes of the nonce's hash and a time, and have its beacon opened."""
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes")
    entry = make_entry(sha256(nonce), entry_time(session, now))
    appended = append(session, identity, entry, now)
    session.add(EntryNonceRow(entry_index=appended.index, nonce=nonce))
    args = {"entry_index": appended.index}
    enqueue(session, OPEN_BEACON_TASK, COURT, args, queueing_lock=f"{OPEN_BEACON_TASK} {appended.index}")
    session.flush()
    return appended


def open_beacon(session: Session, identity: LogIdentity, entry_index: int, now: datetime) -> Opened:
    """Append the beacon of an entry, or give the one that it has.

    Raises: NotFound if the entry is none that waits for a beacon.
    """
    time = entry_time(session, now)  # takes the log's lock: of two who look now, the second finds the first one's
    if (existing := find_beacon(session, entry_index)) is not None:
        return existing
    nonce = session.get(EntryNonceRow, entry_index)
    if nonce is None:
        raise NotFound(f"entry {entry_index} waits for no beacon")
    entry = parse_entry(load_entry(session, entry_index))
    source = _source_of(session, entry)
    if source != LOCAL:
        raise PolicyRefused(f"this service fetches no rounds of {source}")
    beacon = BeaconEntry(
        time=time,
        entry=entry_index,
        nonce=nonce.nonce,
        source=source,
        round=required_round(source, entry_index, entry.time),
        randomness=LOCAL_RANDOMNESS,
        signature=b"",
    )
    appended = append(session, identity, beacon, now)
    return Opened(appended.index, beacon, appended.entry)


def find_beacon(session: Session, entry_index: int) -> Opened | None:
    """Find the beacon of an entry."""
    # In a canonical record keys are sorted, so a beacon's bytes begin with the entry that it opens.
    start = f'{{"entry":{entry_index},"nonce":'.encode()
    query = select(LogEntryRow.index, LogEntryRow.data).where(
        LogEntryRow.kind == BeaconEntry.NAME,
        LogEntryRow.index > entry_index,
        func.substr(LogEntryRow.data, 1, len(start)) == start,
    )
    row = session.execute(query).one_or_none()
    if row is None:
        return None
    index, data = row
    return Opened(index, BeaconEntry.parse(data), data)


def check_beacons(session: Session) -> None:
    """Check every beacon of the log against the entry that it opens.

    Raises: ProofError.
    """
    query = select(LogEntryRow.index, LogEntryRow.data).where(LogEntryRow.kind == BeaconEntry.NAME)
    opened: set[int] = set()
    for index, data in session.execute(query):
        beacon = BeaconEntry.parse(data)
        entry = parse_entry(load_entry(session, beacon.entry))
        if beacon.entry in opened or index <= beacon.entry or not isinstance(entry, RegistrationEntry | FilingEntry):
            raise ProofError(f"entry {index} is a second beacon, or of an entry that has none")
        if entry.nonce_hash != sha256(beacon.nonce):
            raise ProofError(f"beacon {index} opens another nonce than that of entry {beacon.entry}")
        if beacon.source != _source_of(session, entry):
            raise ProofError(f"beacon {index} is not of the registered source")
        verify_beacon(
            beacon.source,
            beacon.round,
            beacon.randomness,
            beacon.signature,
            entry_index=beacon.entry,
            entry_time=entry.time,
        )
        opened.add(beacon.entry)


def _source_of(session: Session, entry: Entry) -> str:
    """Give the beacon source that the statement names; a filing has that of its registration."""
    if isinstance(entry, FilingEntry):
        entry = parse_entry(load_entry(session, entry.registration))
    if not isinstance(entry, RegistrationEntry):
        raise NotFound("only registrations and filings have a beacon")
    return entry.statement.beacon
