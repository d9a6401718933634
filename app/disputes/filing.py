"""Filing a dispute: everything about how it is run is fixed, signed and hidden in the log before anything is asked.

Invariants: the log learns that a filing was made, not against whom; `ordinal` counts all filings of a registration in the
order of the log; a family has one open dispute at most, so that no trigger is asked twice; a filing that could not be
confirmed even if every trigger matched is refused.
Source: docs/protocol.md sections 6, 7 and 8.1.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from uuid import UUID

from obstore.store import ObjectStore
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.derivation_tables import DerivationRow
from app.db.tables import ArtifactRow, DisputeRow, RegistrationRow, SuspectRow, new_id
from app.disputes import lifecycle
from app.disputes.lifecycle import note_step
from app.disputes.second_runs import answer_request
from app.disputes.states import DECIDED, FILED
from app.disputes.suspects import load_suspect, price_in_bits
from app.errors import Conflict, Malformed, NotFound, PolicyRefused
from app.keys.cover_set import CoverSet, LabelledCoverSet, parse_cover_set
from app.keys.statement import Statement
from app.log.beacon import append_with_nonce
from app.log.store import LogIdentity, entry_time, load_entry
from app.protocol.derivation import DerivationHead, Rule
from app.protocol.evidence import can_reach, threshold
from app.protocol.interface import MAX_INTERFACE_BITS, LabelMap, interface_bits
from app.protocol.ranking import can_rank_reach
from app.protocol.records import FilingEntry, FilingRecord, ModelEntry, parse_entry
from app.signature import verify_signature
from app.storage.objects import get_bytes

# A cover set is read whole, by the API once and by the worker for every block: some hundred photographs.
MAX_COVER_SET_BYTES = 64 * 1024 * 1024
KEPT_COVER_SETS = 2

# What one dispute may ask, so that it ends and its evidence fits in memory: triggers, and all questions with covers.
MAX_ASKED = 2048
MAX_QUESTIONS = 50_000


@dataclass(frozen=True)
class FilingRequest:
    """What a claimant sends."""

    suspect_id: UUID
    record: FilingRecord
    signature: bytes
    covers_sha256: bytes | None


@dataclass(frozen=True)
class Draws:
    """The randomness of one filing: 10 bytes for its id; nonce, blind and role secret of 32 bytes each."""

    identity: bytes
    nonce: bytes = field(repr=False)
    blind: bytes = field(repr=False)
    role_blind_seed: bytes = field(repr=False)


@dataclass(frozen=True)
class CheckedFiling:
    """A filing that fits its registration and its suspect."""

    registration: RegistrationRow
    suspect: SuspectRow
    statement: Statement
    request: FilingRequest
    # What the derivation that gave the interface costs; 0 where none did.
    derived_bits: int = 0

    @property
    def record(self) -> FilingRecord:
        """Give the record that the claimant signed."""
        return self.request.record

    @property
    def covers_needed(self) -> bool:
        """Tell whether the policy hides triggers among covers."""
        return self.record.policy.covers_per_trigger > 0


def check_filing(
    session: Session,
    vendor_id: UUID,
    request: FilingRequest,
    arbiter_keys: Collection[bytes],
    *,
    is_signed: bool = True,
) -> CheckedFiling:
    """Check everything about a filing but its covers, which are dear to read.

    A claimant may have a filing looked at before it signs: then `is_signed` is false, and nothing may be filed from it.
    Raises: Refused in any of its forms.
    """
    record = request.record
    registration = _load_registration(session, vendor_id, record.registration)
    suspect = load_suspect(session, vendor_id, request.suspect_id)
    statement = Statement.parse(registration.statement)
    if is_signed:
        verify_signature(statement.vendor_key, request.signature, record.encode())
    if record.endpoint != suspect.endpoint:
        raise Malformed("not the endpoint of this suspect", pointer="/record/endpoint")
    is_derived = record.interface_origin.kind == "derived"
    if not is_derived and record.interface.to_json() != suspect.interface:
        raise Malformed("not the interface of this suspect", pointer="/record/interface")
    with _pointing_into_the_record():
        statement.family(record.family)
        price_in_bits(record.interface, statement, record.endpoint)
        if record.by_ranking:
            LabelMap(record.interface, statement).verify_rankable()
    _check_origin(session, record, registration, arbiter_keys)
    derived_bits = _derived_bits(session, record, registration) if is_derived else 0
    filing = CheckedFiling(registration, suspect, statement, request, derived_bits)
    # A first look: what counts is the one under the log's lock.
    _check_turn(session, filing)
    return filing


@contextmanager
def _pointing_into_the_record() -> Iterator[None]:
    try:
        yield
    except Malformed as error:
        raise Malformed(error.message, pointer=f"/record{error.pointer}") from error


def load_covers(session: Session, store: ObjectStore, filing: CheckedFiling) -> CoverSet | LabelledCoverSet | None:
    """Read the cover set of a filing, if its policy needs one; labelled covers must be the committed ones.

    Raises: NotFound if the artifact is not the vendor's; Malformed if it is missing, or not a cover set of this shape;
    OpeningInvalid if its labels were not committed before the beacon.
    """
    digest = filing.request.covers_sha256
    if not filing.covers_needed:
        if digest is not None:
            raise Malformed("covers_per_trigger is 0: there is no use for a cover set", pointer="/covers")
        return None
    if digest is None:
        raise Malformed("upload a cover set as an artifact and name its sha256", pointer="/covers")
    if session.get(ArtifactRow, (filing.suspect.vendor_id, digest)) is None:
        raise NotFound
    covers = parse_cover_set(get_bytes(store, digest, MAX_COVER_SET_BYTES))
    if (covers.kind, covers.shape) != (filing.statement.kind, filing.statement.shape):
        raise Malformed("kind or shape of the covers is not the registered one", pointer="/covers")
    if isinstance(covers, LabelledCoverSet):
        covers.table.verify(filing.statement)
    elif filing.record.interface_origin.kind == "derived":
        raise Malformed("a derived interface is asked among the committed covers: upload those", pointer="/covers")
    return covers


def file_dispute(
    session: Session, identity: LogIdentity, filing: CheckedFiling, draws: Draws, now: datetime
) -> DisputeRow:
    """Log a checked filing and open the dispute.

    Raises: Conflict if the family has an open dispute; PolicyRefused if it had one, or cannot reach its threshold.
    """
    entry_time(session, now)  # takes the log's lock: filings of one registration are counted one after the other
    ordinal = _check_turn(session, filing)

    def entry(nonce_hash: bytes, time: str) -> FilingEntry:
        return FilingEntry(
            time=time,
            registration=filing.registration.entry_index,
            ordinal=ordinal,
            record_hash=filing.record.hidden_hash(draws.blind),
            nonce_hash=nonce_hash,
        )

    appended = append_with_nonce(session, identity, entry, draws.nonce, now)
    row = DisputeRow(
        id=new_id(now, draws.identity),
        vendor_id=filing.registration.vendor_id,
        registration_id=filing.registration.id,
        suspect_id=filing.suspect.id,
        family=filing.record.family,
        ordinal=ordinal,
        filing_record=filing.record.encode(),
        signature=filing.request.signature,
        blind=draws.blind,
        role_blind_seed=draws.role_blind_seed,
        covers_sha256=filing.request.covers_sha256,
        filing_index=appended.index,
        state=FILED,
        created_at=now,
        updated_at=now,
    )
    session.add(row)
    details = {"family": row.family, "ordinal": ordinal}
    note_step(session, row, lifecycle.FILED, details, now, entry_index=appended.index)
    answer_request(session, row, now)
    return row


def _load_registration(session: Session, vendor_id: UUID, entry_index: int) -> RegistrationRow:
    row = session.scalar(select(RegistrationRow).where(RegistrationRow.entry_index == entry_index))
    if row is None or row.vendor_id != vendor_id:
        raise NotFound
    if row.beacon_index is None:
        raise Conflict("the registration's beacon is not drawn yet", state="awaiting_beacon")
    return row


def _check_origin(
    session: Session, record: FilingRecord, registration: RegistrationRow, arbiter_keys: Collection[bytes]
) -> None:
    """Check that the interface was fixed by whom the record says: whoever did it without being asked pays for it."""
    origin, pointer = record.interface_origin, "/record/interface_origin"
    if origin.kind == "countersigned":
        if origin.key not in arbiter_keys:
            raise PolicyRefused("this service knows no arbiter with that key", pointer=f"{pointer}/key")
        verify_signature(origin.key, origin.signature, record.interface.encode())
    if origin.kind == "logged" and origin.entry is not None:
        beacon_index = registration.beacon_index or 0
        if origin.entry >= beacon_index:
            raise PolicyRefused("the interface was not logged before the registration's beacon", pointer=pointer)
        entry = parse_entry(load_entry(session, origin.entry))
        if not isinstance(entry, ModelEntry) or entry.sha256 != record.interface.digest():
            raise Malformed("that entry is no commitment to this interface", pointer=f"{pointer}/entry")


def _derived_bits(session: Session, record: FilingRecord, registration: RegistrationRow) -> int:
    query = select(DerivationRow).where(
        DerivationRow.registration_id == registration.id, DerivationRow.entry_index == record.interface_origin.entry
    )
    row, pointer = session.scalar(query), "/record/interface_origin/entry"
    if row is None or row.head is None:
        raise Malformed("that entry is no derivation for this registration", pointer=pointer)
    head = DerivationHead.parse(row.head)
    if (head.endpoint, head.interface) != (record.endpoint, record.interface):
        raise Malformed("that derivation is of another endpoint, or gave another interface", pointer=pointer)
    return head.bits


def _check_turn(session: Session, filing: CheckedFiling) -> int:
    """Check a filing against the earlier ones of its registration, and give its ordinal."""
    _check_family_is_free(session, filing)
    ordinal = 1 + count_filings(session, filing.registration)
    _check_reach(filing, ordinal)
    return ordinal


def _check_family_is_free(session: Session, filing: CheckedFiling) -> None:
    query = select(DisputeRow).where(
        DisputeRow.registration_id == filing.registration.id, DisputeRow.family == filing.record.family
    )
    earlier = session.scalar(query)
    if earlier is None:
        return
    if earlier.state != DECIDED:
        raise Conflict(f"this family has an open dispute, {earlier.id}", state=earlier.state)
    raise PolicyRefused(
        f"dispute {earlier.id} spent this family, for a family is asked once: use another, or register more triggers",
        pointer="/record/family",
    )


def count_filings(session: Session, registration: RegistrationRow) -> int:
    """Count the filings of a registration, whatever became of them."""
    query = select(func.count()).where(DisputeRow.registration_id == registration.id)
    return session.scalars(query).one()


def _check_reach(filing: CheckedFiling, ordinal: int) -> None:
    statement, record = filing.statement, filing.record
    family = statement.family(record.family)
    triggers = min(family.size, record.policy.max_triggers)
    _check_size(record, triggers)
    if statement.assurance_class == "B":
        return
    price = price_of_filing(filing)
    if price > MAX_INTERFACE_BITS:
        raise PolicyRefused(f"an interface of {price} bits leaves nothing to prove", pointer="/record/interface")
    bound = threshold(record.policy.bits, price, len(statement.families), ordinal, ranking=record.by_ranking)
    reaches = can_rank_reach if record.by_ranking else can_reach
    if not reaches(bound, triggers, len(statement.classes)):
        raise PolicyRefused(
            f"{triggers} triggers cannot reach the threshold of this {ordinal}. filing even if all match: use "
            "another family, a cheaper interface or 64 bits",
            pointer="/record/policy",
        )


def price_of_filing(filing: CheckedFiling) -> int:
    """Give what interface and address of a filing cost in bits."""
    return interface_bits(
        filing.record.interface,
        filing.record.interface_origin,
        filing.statement,
        endpoint=filing.record.endpoint,
        beacon_index=filing.registration.beacon_index or 0,
        derived_bits=filing.derived_bits,
    )


def _check_size(record: FilingRecord, triggers: int) -> None:
    if triggers > MAX_ASKED:
        raise PolicyRefused(f"this service asks {MAX_ASKED} triggers at most", pointer="/record/policy/max_triggers")
    questions = triggers * (2 + record.policy.covers_per_trigger)
    if questions > MAX_QUESTIONS:
        raise PolicyRefused(
            f"{questions} questions are more than the {MAX_QUESTIONS} of one dispute: take fewer covers or triggers",
            pointer="/record/policy",
        )


@dataclass(frozen=True)
class DisputeCovers:
    """The covers that a dispute hides its triggers among; those at `seen` were put to the endpoint before."""

    inputs: tuple[bytes, ...] = ()
    seen: frozenset[int] = frozenset()


class CoverShelf:
    """The cover sets read last: each block needs the whole set, and parsing it takes as long as many questions."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: OrderedDict[bytes, CoverSet | LabelledCoverSet] = OrderedDict()

    def read(self, store: ObjectStore, digest: bytes) -> CoverSet | LabelledCoverSet:
        """Read a cover set by its digest."""
        with self._lock:
            if digest in self._known:
                self._known.move_to_end(digest)
                return self._known[digest]
        covers = parse_cover_set(get_bytes(store, digest, MAX_COVER_SET_BYTES))
        with self._lock:
            self._known[digest] = covers
            if len(self._known) > KEPT_COVER_SETS:
                self._known.popitem(last=False)
        return covers


def dispute_covers(
    store: ObjectStore, shelf: CoverShelf, row: DisputeRow, record: FilingRecord, statement: Statement
) -> DisputeCovers:
    """Read the covers of a dispute."""
    if row.covers_sha256 is None:
        return DisputeCovers()
    covers = shelf.read(store, row.covers_sha256)
    if covers.table is None or record.interface_origin.kind != "derived":
        return DisputeCovers(covers.inputs)
    return DisputeCovers(covers.inputs, frozenset(Rule(statement, covers.table, ()).asked_of_best))
