"""States and counters of a dispute, without a database."""

from dataclasses import replace

import pytest

from app.disputes.states import (
    ASKING,
    DECIDED,
    DECIDING,
    FILED,
    WITHDRAWN,
    WITHHELD_LIMIT,
    Needs,
    Progress,
    after_deadline,
    after_inputs,
    after_labels,
    after_probe,
    next_state,
)
from app.errors import Conflict

START = Progress(state=ASKING, total=4, lookahead=0)


def deliver(progress: Progress, unasked: frozenset[int] = frozenset()) -> Progress:
    """Deliver, ask and open one block."""
    progress = after_probe(after_inputs(progress, progress.opened), progress.probed, unasked)
    return after_labels(progress, progress.labelled, unasked)


def test_a_dispute_goes_from_filing_to_verdict_and_no_other_way() -> None:
    assert next_state(FILED, "beacon") == ASKING
    assert next_state(ASKING, "end") == DECIDING
    assert next_state(DECIDING, "verdict") == DECIDED
    assert next_state(ASKING, "withdrawal") == WITHDRAWN
    assert next_state(WITHDRAWN, "verdict") == DECIDED


@pytest.mark.parametrize("state", [FILED, ASKING, DECIDING, WITHDRAWN, DECIDED])
@pytest.mark.parametrize("act", ["beacon", "end", "withdrawal", "verdict"])
def test_an_act_out_of_order_names_the_present_state(state: str, act: str) -> None:
    allowed = {
        (FILED, "beacon"),
        (ASKING, "end"),
        (ASKING, "withdrawal"),
        (DECIDING, "verdict"),
        (WITHDRAWN, "verdict"),
    }
    if (state, act) in allowed:
        assert next_state(state, act) != state
        return
    with pytest.raises(Conflict) as refused:
        next_state(state, act)
    assert refused.value.state == state


def test_without_lookahead_the_next_inputs_wait_for_the_labels() -> None:
    assert START.needs == Needs(inputs=0, labels=None)
    opened = after_inputs(START, 0)
    assert opened.needs == Needs(None, None)
    probed = after_probe(opened, 0, set())
    assert probed.needs == Needs(inputs=None, labels=0)
    assert after_labels(probed, 0, set()).needs == Needs(inputs=1, labels=None)


def test_with_lookahead_one_block_may_be_opened_ahead_and_no_more() -> None:
    ahead = after_inputs(replace(START, lookahead=1), 0)
    assert ahead.needs == Needs(inputs=1, labels=None)
    two = after_inputs(ahead, 1)
    assert two.needs == Needs(None, None)
    assert after_probe(two, 0, set()).needs == Needs(inputs=None, labels=0)


def test_labels_are_asked_for_only_once_the_head_is_in_the_log() -> None:
    with pytest.raises(Conflict):
        after_labels(after_inputs(START, 0), 0, set())


@pytest.mark.parametrize("block", [1, 2, 7])
def test_a_block_out_of_turn_is_refused(block: int) -> None:
    for act in (lambda: after_inputs(START, block), lambda: after_probe(after_inputs(START, 0), block, set())):
        with pytest.raises(Conflict):
            act()


def test_nothing_is_needed_or_asked_outside_the_asking_state() -> None:
    for state in (FILED, DECIDING, WITHDRAWN, DECIDED):
        idle = Progress(state=state, total=4, lookahead=1, opened=2, probed=1, labelled=0)
        assert idle.needs == Needs(None, None)
        assert idle.block_to_probe is None


def test_a_dispute_is_through_when_its_last_block_is_labelled() -> None:
    progress = START
    for _ in range(4):
        assert not progress.is_through
        progress = deliver(progress)
    assert progress.is_through
    assert (progress.opened, progress.probed, progress.labelled) == (4, 4, 4)


def test_three_blocks_in_a_row_withheld_end_a_dispute() -> None:
    progress, unasked = START, set()
    for block in range(WITHHELD_LIMIT):
        assert not progress.is_through
        unasked.add(block)
        progress = after_deadline(progress, unasked)
    assert progress.is_through
    assert (progress.labelled, progress.withheld_in_a_row) == (3, 3)


def test_a_delivered_block_starts_the_count_of_withheld_ones_anew() -> None:
    progress = after_deadline(after_deadline(START, {0}), {0, 1})
    assert progress.withheld_in_a_row == 2
    assert deliver(progress, frozenset({0, 1})).withheld_in_a_row == 0


def test_withheld_labels_finish_a_block_that_was_asked() -> None:
    probed = after_probe(after_inputs(START, 0), 0, set())
    withheld = after_deadline(probed, set())
    assert (withheld.labelled, withheld.withheld_in_a_row) == (1, 1)
    assert withheld.needs == Needs(inputs=1, labels=None)


def test_a_block_withheld_ahead_counts_only_when_its_turn_comes() -> None:
    ahead = after_inputs(replace(START, lookahead=1), 0)
    late = after_deadline(ahead, {1})
    assert (late.opened, late.probed, late.labelled, late.withheld_in_a_row) == (2, 0, 0, 0)
    probed = after_probe(late, 0, {1})
    assert (probed.probed, probed.labelled) == (2, 0)
    done = after_labels(probed, 0, {1})
    assert (done.labelled, done.withheld_in_a_row) == (2, 1)
    assert done.needs == Needs(inputs=2, labels=None)


def test_inputs_and_labels_due_at_once_are_withheld_together() -> None:
    both = after_probe(after_inputs(replace(START, lookahead=1), 0), 0, set())
    assert both.needs == Needs(inputs=1, labels=0)
    withheld = after_deadline(both, {1})
    assert (withheld.labelled, withheld.withheld_in_a_row) == (2, 2)
