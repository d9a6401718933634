"""Everything stored about a dispute, read back as the pure part's `Evidence`.

Invariants: a block enters the evidence with its head in the log or not at all, so a block that was being asked when the
dispute ended leaves nothing; openings stand in challenge order, queries in the order of `n`.
"""

from collections.abc import Sequence
from dataclasses import replace

from obstore.store import ObjectStore
from sqlalchemy import LargeBinary, literal, select
from sqlalchemy.orm import Session

from app.db.derivation_tables import DerivationRow
from app.db.tables import BlockRow, DisputeRow, OpeningRow, QueryRow, RegistrationRow
from app.disputes.course import load_statement, record_of
from app.disputes.filing import MAX_COVER_SET_BYTES
from app.disputes.states import WITHDRAWN, WITHHELD_LIMIT
from app.keys.commitment import InputOpening, LabelOpening
from app.keys.cover_set import CoverTable, ShownCover, parse_cover_set
from app.log.store import load_entry
from app.protocol.assessment import Evidence, Logged, assess
from app.protocol.bundle import MAX_FILE_BYTES
from app.protocol.derivation import Derivation, DerivationHead, parse_derivation
from app.protocol.evidence import Walk
from app.protocol.records import FilingRecord, parse_entry
from app.protocol.transcript import AskedQuery, Query, Role
from app.storage.objects import get_bytes
from app.suspects.adapters import load_adapter


def load_evidence(
    session: Session, row: DisputeRow, end: str, store: ObjectStore | None = None, *, only_triggers: bool = False
) -> Evidence:
    """Read a dispute's evidence; without the store, and so without requests and responses, it is enough to assess.

    With `only_triggers` it is enough to walk: covers and look-alikes, most of what was asked, stay where they are.

    Raises: NotFound if the filing's beacon is not drawn.
    """
    record = record_of(row)
    registration = session.get_one(RegistrationRow, row.registration_id)
    blocks = session.scalars(
        select(BlockRow).where(BlockRow.dispute_id == row.id, BlockRow.head.is_not(None)).order_by(BlockRow.number)
    ).all()
    inputs, labels = _load_openings(session, row, {block.number for block in blocks})
    origin = record.interface_origin.entry
    queries = tuple(_load_queries(session, row, with_bytes=store is not None, only_triggers=only_triggers))
    derivation = _find_derivation(session, row, record) if record.interface_origin.kind == "derived" else None
    return Evidence(
        registration=load_logged(session, registration.entry_index),
        registration_beacon=load_logged(session, _drawn(registration.beacon_index)),
        filing=load_logged(session, row.filing_index),
        filing_beacon=load_logged(session, _drawn(row.beacon_index)),
        blocks=tuple(load_logged(session, _drawn(block.entry_index)) for block in blocks),
        interface_entry=None if origin is None else load_logged(session, origin),
        record=record,
        signature=row.signature,
        blind=row.blind,
        blocks_done=row.blocks_labelled,
        end=end,
        input_openings=tuple(inputs),
        label_openings=tuple(labels),
        queries=queries,
        covers=None if store is None else _load_covers(store, row, derivation, record, queries),
        derivation=None if derivation is None else _load_derivation(store, derivation),
        egresses=row.egresses,
    )


def walk_so_far(session: Session, row: DisputeRow, blocks_done: int) -> Walk:
    """Walk the evidence of so many finished blocks."""
    evidence = load_evidence(session, row, "walk")
    return assess(replace(evidence, blocks_done=blocks_done)).decision.walk


def end_of(session: Session, row: DisputeRow) -> str:
    """Say why a dispute that is no longer being asked ended."""
    if row.state == WITHDRAWN:
        return "withdrawn"
    if walk_so_far(session, row, row.blocks_labelled).end is not None:
        return "walk"
    if row.withheld_in_a_row >= WITHHELD_LIMIT:
        return "withheld"
    statement = load_statement(session, row)
    size = statement.family(row.family).size
    return "budget" if len(row.challenge or ()) < size else "exhausted"


def load_logged(session: Session, index: int) -> Logged:
    """Read a log entry with its place and its bytes."""
    data = load_entry(session, index)
    return Logged(index, parse_entry(data), data)


def input_opening_of(row: OpeningRow) -> InputOpening:
    """Give the input that was opened."""
    return InputOpening(row.trigger_index, row.input_key, row.input, row.label_commitment, tuple(row.path))


def label_opening_of(row: OpeningRow) -> LabelOpening | None:
    """Give the label key that was opened, if it was."""
    return None if row.label_key is None else LabelOpening(row.trigger_index, row.label_key, row.label)


def _find_derivation(session: Session, row: DisputeRow, record: FilingRecord) -> DerivationRow:
    query = select(DerivationRow).where(
        DerivationRow.registration_id == row.registration_id,
        DerivationRow.entry_index == record.interface_origin.entry,
    )
    return session.scalars(query).one()


def _load_derivation(store: ObjectStore | None, row: DerivationRow) -> Derivation:
    if store is None:
        return Derivation(DerivationHead.parse(row.head or b""), ())
    return parse_derivation(get_bytes(store, row.file_sha256 or b"", MAX_FILE_BYTES), max_bytes=MAX_FILE_BYTES)


def _load_covers(
    store: ObjectStore,
    row: DisputeRow,
    derivation: DerivationRow | None,
    record: FilingRecord,
    queries: Sequence[AskedQuery],
) -> CoverTable | None:
    """Read the table of the committed covers, if those were asked or the interface was derived from them."""
    digest = row.covers_sha256 or (None if derivation is None else derivation.covers_sha256)
    covers = None if digest is None else parse_cover_set(get_bytes(store, digest, MAX_COVER_SET_BYTES))
    if covers is None or covers.table is None:
        return None
    if not load_adapter(record.interface.adapter).tolerance(record.interface.options):
        return covers.table
    asked = sorted({query.role.index for query in queries if query.role.kind == "cover"})
    return replace(covers.table, shown=tuple(ShownCover(index, covers.inputs[index]) for index in asked))


def _drawn(index: int | None) -> int:
    if index is None:
        raise AssertionError("evidence is read only after its beacons and heads are in the log")
    return index


def _load_openings(
    session: Session, row: DisputeRow, blocks: set[int]
) -> tuple[list[InputOpening], list[LabelOpening]]:
    query = select(OpeningRow).where(OpeningRow.dispute_id == row.id, OpeningRow.block.in_(blocks))
    by_index = {opening.trigger_index: opening for opening in session.scalars(query)}
    inputs, labels = [], []
    for index in row.challenge or ():
        if (opened := by_index.get(index)) is None:
            continue
        inputs.append(input_opening_of(opened))
        if (label := label_opening_of(opened)) is not None:
            labels.append(label)
    return inputs, labels


def _load_queries(
    session: Session, row: DisputeRow, *, with_bytes: bool, only_triggers: bool = False
) -> list[AskedQuery]:
    nothing = literal(b"", LargeBinary())
    request = QueryRow.request if with_bytes else nothing.label("request")
    response = QueryRow.response if with_bytes else nothing.label("response")
    query = (
        select(QueryRow.block, QueryRow.record, QueryRow.role, QueryRow.blind, request, response)
        .join(BlockRow, (BlockRow.dispute_id == QueryRow.dispute_id) & (BlockRow.number == QueryRow.block))
        .where(QueryRow.dispute_id == row.id, BlockRow.head.is_not(None))
        .order_by(QueryRow.n)
    )
    if only_triggers:
        # A role holds numbers and its kind, nothing of a stranger's.
        query = query.where(QueryRow.role.like(b'%"trigger"%'))
    return [
        AskedQuery(block, Query.parse(record), Role.parse(role), blind, sent, seen or b"")
        for block, record, role, blind, sent, seen in session.execute(query)
    ]
