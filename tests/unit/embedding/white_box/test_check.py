from dataclasses import replace

import pytest

from app.embedding.white_box.check import Control, WhiteBoxOrder, admit_head, own_head_of
from app.errors import Malformed, PolicyRefused
from app.protocol.assessment import Logged
from app.protocol.records import ModelEntry, WorkerKeyEntry
from tests.unit.embedding.survival.test_report import statement

HEAD, SUSPECT = bytes([1]) * 32, bytes([2]) * 32
HEAD_TIME = "2026-03-01T12:00:00Z"


def logged(index, digest, time=HEAD_TIME):
    entry = ModelEntry(time=time, owner_key=bytes(32), sha256=digest, signature=bytes(64))
    return Logged(index, entry, entry.encode())


def test_a_head_that_was_logged_before_the_suspect_is_admitted():
    admission = admit_head(logged(5, HEAD), HEAD, SUSPECT, [logged(9, SUSPECT, "2026-04-01T00:00:00Z")])
    assert (admission.head_entry, admission.head_time) == (5, HEAD_TIME)
    assert (admission.suspect_since, admission.suspect_source) == ("2026-04-01T00:00:00Z", "log")


def test_a_stated_date_of_the_suspect_admits_too_and_is_called_so():
    admission = admit_head(logged(5, HEAD), HEAD, SUSPECT, suspect_since="2026-03-01T12:00:01Z")
    assert admission.suspect_source == "given"


def test_the_earliest_date_of_the_suspect_is_reported():
    admission = admit_head(
        logged(5, HEAD), HEAD, SUSPECT, [logged(9, SUSPECT, "2026-04-01T00:00:00Z")], "2026-03-15T00:00:00Z"
    )
    assert admission.suspect_since == "2026-03-15T00:00:00Z"


def test_a_suspect_that_stands_in_the_log_before_the_head_is_refused():
    entries = [logged(9, SUSPECT), logged(4, SUSPECT)]
    with pytest.raises(PolicyRefused, match="before the head"):
        admit_head(logged(5, HEAD), HEAD, SUSPECT, entries, "2026-12-01T00:00:00Z")


def test_a_suspect_known_since_before_the_head_is_refused():
    for since in ("2026-02-28T00:00:00Z", HEAD_TIME):
        with pytest.raises(PolicyRefused, match="not yet committed"):
            admit_head(logged(5, HEAD), HEAD, SUSPECT, [logged(9, SUSPECT)], since)


def test_a_suspect_that_nothing_dates_is_refused():
    with pytest.raises(PolicyRefused, match="nothing shows"):
        admit_head(logged(5, HEAD), HEAD, SUSPECT)


def test_entries_of_something_else_are_refused():
    key = WorkerKeyEntry(time=HEAD_TIME, public_key=bytes(64), queue="embed", signature=b"")
    with pytest.raises(Malformed, match="no model entry"):
        admit_head(Logged(5, key, key.encode()), HEAD, SUSPECT, suspect_since="2026-12-01T00:00:00Z")
    with pytest.raises(Malformed, match="another SHA-256"):
        admit_head(logged(5, SUSPECT), HEAD, SUSPECT, suspect_since="2026-12-01T00:00:00Z")
    with pytest.raises(Malformed, match="another SHA-256"):
        admit_head(logged(5, HEAD), HEAD, SUSPECT, [logged(9, HEAD)])


def order(**changes):
    whole = WhiteBoxOrder(
        statement=statement(),
        salt=bytes(32),
        suspect_path="s",
        head_path="h",
        admission=admit_head(logged(5, HEAD), HEAD, SUSPECT, [logged(9, SUSPECT)]),
        controls=(Control("unmarked", "p"),),
        bits=64,
        device="cpu",
        threads=1,
        output_path="o",
        key_form="plain",
    )
    return replace(whole, **changes)


def test_an_order_reads_back_as_itself():
    assert WhiteBoxOrder.parse(order().encode()) == order()


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"admission": None}, "/admission"),
        ({"head_path": None}, "/admission"),
        ({"controls": ()}, "/controls"),
        ({"salt": b""}, "/salt"),
    ],
)
def test_a_head_without_admission_or_control_is_refused(changes, pointer):
    with pytest.raises(Malformed) as refused:
        WhiteBoxOrder.parse(order(**changes).encode())
    assert refused.value.pointer == pointer


def test_the_suspects_own_answers_are_weighed_family_by_family():
    own = own_head_of(statement(), (64, 12), 64)
    assert own.reaches == (True, False)
    assert own.log2_threshold == "74"
    assert float(own.log2_e[0]) > 200 > 74 > float(own.log2_e[1])


def test_labels_of_the_vendors_own_carry_no_evidence():
    own = own_head_of(replace(statement(), label_source="vendor"), (64, 12), 64)
    assert (own.log2_e, own.log2_threshold, own.reaches) == (None, None, None)
