"""A dispute while it runs, as its claimant may see it: what was opened so far, and how much was answered.

Of an opened block everything about its triggers is known to the claimant; of covers and look-alikes only counts are shown,
for which question was which stays secret until the verdict.

Invariants: what a look costs is bounded: triggers are walked again, and of everything else a block is counted once and only
its counts are kept; a block counts only when its labels were opened or withheld.
"""

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.tables import BlockRow, DisputeRow, QueryRow
from app.disputes.case_file import load_evidence
from app.protocol.assessment import assess
from app.protocol.evidence import fisher_tail
from app.protocol.flags import FLAG_BITS, KINDS
from app.protocol.transcript import Query, Role
from app.protocol.verdict import Case

KEPT_DISPUTES = 64

# (kind, whether it was answered) of a first question, and how often.
Counts = Counter[tuple[str, bool]]


@dataclass(frozen=True)
class Rate:
    """How many first questions of a kind got an answer."""

    asked: int
    answered: int

    @property
    def unanswered(self) -> int:
        """Count the others."""
        return self.asked - self.answered


@dataclass(frozen=True)
class Live:
    """A running dispute: the case that its opened triggers make, and answers by kind of question."""

    case: Case
    rates: Mapping[str, Rate]

    @property
    def is_silence_odd(self) -> bool:
        """Tell whether triggers are left unanswered more often than look-alikes, beyond what chance shows once in 2^20."""
        trigger, look_alike = self.rates["trigger"], self.rates["look-alike"]
        ways, total = fisher_tail(trigger.unanswered, trigger.asked, look_alike.unanswered, look_alike.asked)
        return ways << FLAG_BITS <= total


class LiveShelf:
    """What blocks of the disputes looked at last came to, in counts."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: OrderedDict[UUID, dict[int, Counts]] = OrderedDict()

    def look(self, session: Session, row: DisputeRow) -> Live | None:
        """Look at a dispute; None until its beacon is drawn."""
        if row.beacon_index is None:
            return None
        case = assess(load_evidence(session, row, "walk", only_triggers=True)).case
        total = sum(self._blocks(session, row).values(), Counts())
        rates = {kind: Rate(total[kind, True] + total[kind, False], total[kind, True]) for kind in KINDS}
        return Live(case, rates)

    def _blocks(self, session: Session, row: DisputeRow) -> dict[int, Counts]:
        with self._lock:
            known = dict(self._known.get(row.id, {}))
        for block in range(row.blocks_labelled):
            if block not in known:
                known[block] = _count(session, row.id, block)
        with self._lock:
            self._known[row.id] = known
            self._known.move_to_end(row.id)
            if len(self._known) > KEPT_DISPUTES:
                self._known.popitem(last=False)
        return known


def _count(session: Session, dispute_id: UUID, block: int) -> Counts:
    query = (
        select(QueryRow.record, QueryRow.role)
        .join(BlockRow, (BlockRow.dispute_id == QueryRow.dispute_id) & (BlockRow.number == QueryRow.block))
        .where(QueryRow.dispute_id == dispute_id, QueryRow.block == block, BlockRow.head.is_not(None))
    )
    counts = Counts()
    for record, role in session.execute(query):
        if not (asked := Role.parse(role)).repeat:
            counts[asked.kind, bool(Query.parse(record).labels)] += 1
    return counts
