"""What the claimant delivers, block by block: inputs first, label keys once the block's head is in the log.

An opening that does not fit its commitment is refused and nothing is stored: the block counts as not delivered until a
fitting one comes or the deadline passes. Delivering the same again changes nothing.

Invariants: a label opening is taken only for a block whose head is in the
log and whose inputs were delivered; a block is delivered whole, in one call.
Source: docs/protocol.md section 6; Adi et al. 2018 section 4 (Verify step 2).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.tables import BlockRow, DisputeRow, OpeningRow
from app.disputes.case_file import input_opening_of, label_opening_of, walk_so_far
from app.disputes.course import finish, indices_of, load_statement, load_unasked, move, progress_of
from app.disputes.states import FILED, Progress, after_deadline, after_inputs, after_labels
from app.errors import Conflict, OpeningInvalid
from app.keys.commitment import InputOpening, LabelOpening, verify_input_opening, verify_label_opening

Opening = TypeVar("Opening", InputOpening, LabelOpening)


def deliver_inputs(
    session: Session, row: DisputeRow, block: int, openings: Sequence[InputOpening], now: datetime
) -> None:
    """Take the inputs of a block of a locked dispute.

    Raises: OpeningInvalid; Conflict with the state if they are not asked for, or differ from those delivered before.
    """
    if block < row.blocks_opened:
        _verify_repeated(row, block, [input_opening_of(row_) for row_ in _load(session, row, block)], openings)
        return
    after = after_inputs(progress_of(row), block)
    statement = load_statement(session, row)
    ordered = _in_order(indices_of(row, block), openings)
    for opening in ordered:
        verify_input_opening(statement, opening)
    _add_block(session, row, block, "opened", now)
    session.add_all(_opening_row(row, block, opening) for opening in ordered)
    move(session, row, after, now)


def deliver_labels(
    session: Session, row: DisputeRow, block: int, openings: Sequence[LabelOpening], now: datetime
) -> None:
    """Take the label keys of a block of a locked dispute, and see how far the evidence has come.

    Raises: OpeningInvalid; Conflict with the state if they are not asked for, or differ from those delivered before.
    """
    rows = _load(session, row, block)
    if block < row.blocks_labelled:
        _verify_repeated(row, block, [label_opening_of(row_) for row_ in rows], openings)
        return
    after = after_labels(progress_of(row), block, load_unasked(session, row))
    statement = load_statement(session, row)
    for opened, opening in zip(rows, _in_order(indices_of(row, block), openings), strict=True):
        verify_label_opening(statement, opened.label_commitment, opening)
        opened.label_key, opened.label = opening.label_key, opening.label
    delivered = session.get_one(BlockRow, (row.id, block))
    delivered.state, delivered.labelled_at = "labelled", now
    _finish_blocks(session, row, after, now)


def note_opener(row: DisputeRow, now: datetime, *, is_person: bool) -> None:
    """Write down who opened a block last, so that its claimant sees who is answering."""
    row.opened_by, row.last_opened_at = "browser" if is_person else "program", now


def pass_deadline(session: Session, row: DisputeRow, now: datetime) -> None:
    """Count what a locked dispute's claimant has not delivered in time as withheld; before the deadline, do nothing."""
    if row.deadline_at is None or row.deadline_at > now:
        return
    progress = progress_of(row)
    unasked = load_unasked(session, row)
    if progress.needs.inputs is not None:
        _add_block(session, row, progress.needs.inputs, "unasked", now)
        unasked.add(progress.needs.inputs)
    if progress.needs.labels is not None:
        session.get_one(BlockRow, (row.id, progress.needs.labels)).state = "unlabelled"
    after = after_deadline(progress, unasked)
    _finish_blocks(session, row, after, now)


def _finish_blocks(session: Session, row: DisputeRow, after: Progress, now: datetime) -> None:
    session.flush()
    walk = walk_so_far(session, row, after.labelled)
    row.asked, row.matches = walk.asked, walk.matches
    move(session, row, after, now, is_walk_over=walk.end is not None)


def withdraw(session: Session, row: DisputeRow, now: datetime) -> None:
    """End a locked dispute at its claimant's wish; it still counts among the registration's filings.

    Raises: Conflict with the state if it is not being asked (any more).
    """
    if row.state == FILED:
        raise Conflict("the filing's beacon is not drawn yet: withdraw in a moment", state=row.state)
    finish(session, row, "withdrawal", now)


def _in_order(indices: Sequence[int], openings: Sequence[Opening]) -> list[Opening]:
    by_index = {opening.index: opening for opening in openings}
    if len(by_index) != len(openings) or by_index.keys() != set(indices):
        raise OpeningInvalid(f"a block is opened whole: exactly the triggers {indices}", pointer="/openings")
    return [by_index[index] for index in indices]


def _load(session: Session, row: DisputeRow, block: int) -> list[OpeningRow]:
    """Read a block's openings in challenge order."""
    query = select(OpeningRow).where(OpeningRow.dispute_id == row.id, OpeningRow.block == block)
    by_index = {opening.trigger_index: opening for opening in session.scalars(query)}
    return [by_index[index] for index in indices_of(row, block) if index in by_index]


def _verify_repeated(
    row: DisputeRow, block: int, stored: Sequence[Opening | None], openings: Sequence[Opening]
) -> None:
    if list(stored) != sorted(openings, key=lambda opening: _place(row, opening.index)):
        raise Conflict(f"block {block} is over, and these are not the openings that were delivered", state=row.state)


def _place(row: DisputeRow, index: int) -> int:
    challenge = row.challenge or []
    return challenge.index(index) if index in challenge else len(challenge)


def _opening_row(row: DisputeRow, block: int, opening: InputOpening) -> OpeningRow:
    return OpeningRow(
        dispute_id=row.id,
        trigger_index=opening.index,
        block=block,
        input_key=opening.input_key,
        input=opening.input,
        label_commitment=opening.label_commitment,
        path=list(opening.path),
    )


def _add_block(session: Session, row: DisputeRow, block: int, state: str, now: datetime) -> None:
    session.add(BlockRow(dispute_id=row.id, number=block, state=state, opened_at=now))
    session.flush()
