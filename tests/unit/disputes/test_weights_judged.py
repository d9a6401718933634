"""Which outputs an answer names, and which counts void nothing; no database."""

import pytest

from app.disputes.weights_judged import outputs_of, repeats_triggers
from app.embedding.white_box.comparison import ComparisonReport
from app.protocol.interface import Interface, LabelMap
from tests.unit.protocol.dispute_in_memory import Plan, marking_key, statement_of

STATEMENT = statement_of(Plan(classes=4), marking_key(16, 4, "A"))
FIRST, SECOND, THIRD, FOURTH = STATEMENT.classes
NUMBERED = {"by": "explicit", "map": {"0": [FOURTH], "1": [THIRD], "2": [SECOND], "3": [FIRST]}}
NAMED = {"by": "explicit", "map": {"cat": [FOURTH], "dog": [THIRD], "pet": [FIRST, SECOND]}}


@pytest.mark.parametrize(
    ("label_map", "labels", "outputs"),
    [
        ({"by": "index"}, ("2",), (2,)),
        ({"by": "index"}, ("3", "1"), (3, 1)),
        ({"by": "index"}, ("4",), ()),
        ({"by": "name"}, (THIRD,), (2,)),
        ({"by": "name"}, (THIRD, "nothing registered"), ()),
        # The endpoint's own numbers are the network's, whatever class the filing maps them to.
        (NUMBERED, ("0",), (0,)),
        (NUMBERED, ("0", "background"), ()),
        (NAMED, ("cat", "dog"), (3, 2)),
        (NAMED, ("pet",), ()),
    ],
)
def test_an_answer_names_outputs_in_its_own_order_or_none_at_all(label_map, labels, outputs):
    interface = Interface(adapter="kserve_v1", options={}, preprocessing={}, label_map=label_map)
    assert outputs_of(LabelMap(interface, STATEMENT), labels) == outputs


def test_weights_that_pass_by_the_covers_alone_void_nothing():
    """A hundred covers for each trigger: 99 in 100 answers are those of any good network."""
    report = ComparisonReport(bytes(32), bytes(32), 10_100, 10_200, triggers_repeated=0, triggers_answered=100)
    assert not repeats_triggers(report)
    assert repeats_triggers(ComparisonReport(bytes(32), bytes(32), 10_200, 10_200, 99, 100))
