"""What may happen in a dispute, and when: one table, and counters that only grow.

    filed -- beacon --> asking -- end --> deciding -- verdict --> decided
                          |                                         ^
                          +-- withdrawal --> withdrawn -- verdict --+

Weights of the accused that void a decided claim change the verdict of a decided dispute, and not its state (`weights`).

While asking, three counters follow each other through the blocks of the challenge: `opened` (inputs delivered or withheld),
`probed` (head in the log, or nothing to probe), `labelled` (label keys delivered or withheld: the block is finished).

Invariants: labelled <= probed <= opened <= total; inputs of a block are asked for only if it lies at most `lookahead` beyond
the finished ones, its labels only once its head is in the log; pure.
Source: docs/protocol.md section 6.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from app.errors import Conflict

FILED, ASKING, DECIDING, WITHDRAWN, DECIDED = "filed", "asking", "deciding", "withdrawn", "decided"

TRANSITIONS: Final = {
    (FILED, "beacon"): ASKING,
    (ASKING, "end"): DECIDING,
    (ASKING, "withdrawal"): WITHDRAWN,
    (DECIDING, "verdict"): DECIDED,
    (WITHDRAWN, "verdict"): DECIDED,
    (DECIDED, "weights"): DECIDED,
}

# So many blocks in a row not opened in time end a dispute (docs/protocol.md section 6).
WITHHELD_LIMIT = 3


def next_state(state: str, act: str) -> str:
    """Give the state after an act.

    Raises: Conflict with the present state if the act does not belong there.
    """
    if (state, act) not in TRANSITIONS:
        raise Conflict(f"the dispute is {state}: there is no {act} now", state=state)
    return TRANSITIONS[state, act]


class Needs(NamedTuple):
    """The blocks whose inputs and whose labels the claimant is asked for now."""

    inputs: int | None
    labels: int | None


@dataclass(frozen=True)
class Progress:
    """Where a dispute stands; `total` blocks are in its challenge."""

    state: str
    total: int
    lookahead: int
    opened: int = 0
    probed: int = 0
    labelled: int = 0
    withheld_in_a_row: int = 0

    @property
    def needs(self) -> Needs:
        """Say what the claimant is to deliver now."""
        if self.state != ASKING:
            return Needs(None, None)
        wants_inputs = self.opened < self.total and self.opened <= self.labelled + self.lookahead
        return Needs(self.opened if wants_inputs else None, self.labelled if self.labelled < self.probed else None)

    @property
    def block_to_probe(self) -> int | None:
        """Say which block is to be asked now."""
        return self.probed if self.state == ASKING and self.probed < self.opened else None

    @property
    def is_through(self) -> bool:
        """Tell whether no further block will be asked, whatever the evidence says."""
        return self.labelled == self.total or self.withheld_in_a_row >= WITHHELD_LIMIT


def after_inputs(progress: Progress, block: int) -> Progress:
    """Count a block's inputs as delivered.

    Raises: Conflict if they are not asked for.
    """
    _verify_turn(progress, block, progress.needs.inputs, "inputs")
    return replace(progress, opened=block + 1)


def after_probe(progress: Progress, block: int, unasked: Collection[int]) -> Progress:
    """Count a block as asked; `unasked` are the blocks whose inputs were withheld.

    Raises: Conflict if it is not this block's turn.
    """
    if progress.block_to_probe != block:
        raise Conflict(f"block {block} is not to be asked now", state=progress.state)
    return _settle(replace(progress, probed=block + 1), unasked)


def after_labels(progress: Progress, block: int, unasked: Collection[int]) -> Progress:
    """Count a block's labels as delivered, and so the block as finished.

    Raises: Conflict if they are not asked for.
    """
    _verify_turn(progress, block, progress.needs.labels, "labels")
    return _settle(replace(progress, labelled=block + 1, withheld_in_a_row=0), unasked)


def after_deadline(progress: Progress, unasked: Collection[int]) -> Progress:
    """Count everything that is asked for now as withheld; `unasked` names the block whose inputs are among it, too."""
    needs = progress.needs
    if needs.labels is not None:
        withheld = progress.withheld_in_a_row + 1
        progress = replace(progress, labelled=needs.labels + 1, withheld_in_a_row=withheld)
    if needs.inputs is not None:
        progress = replace(progress, opened=needs.inputs + 1)
    return _settle(progress, unasked)


def _settle(progress: Progress, unasked: Collection[int]) -> Progress:
    """Step over blocks that were withheld before they could be asked, as far as it is their turn."""
    while progress.probed < progress.opened and progress.probed in unasked:
        progress = replace(progress, probed=progress.probed + 1)
    while progress.labelled < progress.probed and progress.labelled in unasked:
        withheld = progress.withheld_in_a_row + 1
        progress = replace(progress, labelled=progress.labelled + 1, withheld_in_a_row=withheld)
    return progress


def _verify_turn(progress: Progress, block: int, needed: int | None, what: str) -> None:
    if needed != block:
        wanted = f"those of block {needed}" if needed is not None else "none"
        raise Conflict(f"{what} of block {block} are not asked for now, but {wanted}", state=progress.state)
