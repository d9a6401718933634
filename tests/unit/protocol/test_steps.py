"""The accused's steps against the log: what holds, and every way in which it must not."""

from dataclasses import replace

import pytest

from app.canonical import sha256
from app.errors import ProofError
from app.protocol.cross_test import Mark, Party, Repeated
from app.protocol.records import (
    AnswerEntry,
    AnswerRecord,
    BlockEntry,
    CrossTestEntry,
    FilingEntry,
    ModelEntry,
    NoticeEntry,
    NoticeRecord,
    SecondRunEntry,
    VerdictEntry,
)
from app.protocol.steps import Revealed, StepList, check_steps, encode_steps
from tests.unit.protocol.dispute_in_memory import MemoryLog
from tests.unit.protocol.examples import ANSWER, NOTICE, SMALL, VERDICT

BLIND, RECORD = SMALL.evidence.blind, SMALL.evidence.record
TOLD = replace(NOTICE, filing=1, endpoint=RECORD.endpoint)
SAID = tuple(replace(ANSWER, filing=1, number=number, words=f"answer {number}") for number in (1, 2))


def filing(**changes):
    made = {"registration": RECORD.registration, "ordinal": 1, "nonce_hash": bytes(32)}
    return FilingEntry, made | {"record_hash": RECORD.hidden_hash(BLIND)} | changes


def notice(record=TOLD, blind=BLIND, **changes):
    return NoticeEntry, {"filing": 1, "record_hash": record.hidden_hash(blind)} | changes


def answer(record, **changes):
    made = {"filing": 1, "number": record.number, "record_hash": record.hidden_hash(bytes(32))}
    return AnswerEntry, made | changes


def verdict(**changes):
    names = ("blind", "record", "verdict", "reason", "asked", "matches", "bundle")
    return VerdictEntry, {name: getattr(VERDICT, name) for name in names} | {"filing": 1} | changes


def second_run(**changes):
    return SecondRunEntry, {"filing": 1, "verdict": 4} | changes


BLOCK = (BlockEntry, {"filing": 1, "block": 0, "head": bytes(32)})
RECORDS = {2: TOLD, 3: SAID[0], 5: SAID[1]}
STEPS = [filing(), notice(), answer(SAID[0]), verdict(), answer(SAID[1]), second_run()]


def files_of(steps=STEPS, records=RECORDS, revealed=None, log_key=None, **listed):
    """Log the steps behind one other entry and write the files."""
    log = MemoryLog()
    log.append(BlockEntry, **BLOCK[1])
    logged = [log.append(kind, **fields) for kind, fields in steps]
    entries = {each.index: each.data for each in logged}
    blinds = {number: BLIND if isinstance(record, NoticeRecord) else bytes(32) for number, record in records.items()}
    made = {
        "log": log.origin,
        "log_key": log_key or log.public_key,
        "filing": 1,
        "entries": tuple(entries),
        "revealed": tuple(Revealed(number, blind) for number, blind in (revealed or blinds).items()),
    }
    receipts = {number: log.receipt(number) for number in entries}
    return encode_steps(StepList(**(made | listed)), entries, receipts, records)


def refused(files, log_key=None):
    with pytest.raises(ProofError) as caught:
        check_steps(files, log_key=log_key or MemoryLog().public_key)
    return caught.value.message


def test_the_steps_of_a_dispute_hold_and_say_what_was_hidden():
    checked = check_steps(files_of(), log_key=MemoryLog().public_key)
    names = ["filing", "notice", "answer", "verdict", "answer", "second-run"]
    assert [entry.NAME for entry in checked.entries.values()] == names
    assert checked.records == RECORDS
    assert checked.checkpoint.size == 7
    assert checked.is_authenticated
    assert not check_steps(files_of(), log_key=None).is_authenticated


def test_a_dispute_without_answer_and_verdict_holds():
    files = files_of([filing(), notice()], {2: TOLD})
    assert list(check_steps(files, log_key=None).records) == [2]


def test_files_of_another_log_are_refused():
    assert "name the log key" in refused(files_of(), log_key=bytes(32))
    assert "name the log key" in refused(files_of(log_key=bytes(32)))
    assert "entry 1: " in refused(files_of(log="other.example/log"))


@pytest.mark.parametrize("name", sorted(files_of()))
def test_a_file_that_is_missing_or_changed_is_found(name):
    files = files_of()
    assert name in refused({other: data for other, data in files.items() if other != name})
    assert refused(files | {name: files[name].replace(b'"', b"'", 1) + b" "})


def test_what_does_not_belong_here_is_refused():
    assert "more.json does not belong" in refused(files_of() | {"more.json": b"{}"})
    assert "once and in order" in refused(files_of(entries=(2, 1, 3, 4, 5, 6)))
    assert "once and in order" in refused(files_of(filing=9))
    assert "is no filing" in refused(files_of(filing=2))


def test_receipts_of_other_entries_or_several_checkpoints_are_refused():
    files = files_of()
    swapped = files | {"receipts/2.txt": files["receipts/3.txt"]}
    assert "is a receipt for entry 3" in refused(swapped)
    shorter = files_of(STEPS[:-1])
    assert "one checkpoint" in refused(files | {"receipts/1.txt": shorter["receipts/1.txt"]})


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([notice(), *STEPS[1:]], "is no filing"),
        ([*STEPS[:-1], BLOCK], "no step of a dispute"),
        ([*STEPS[:-1], second_run(filing=9)], "of filing 9"),
        ([STEPS[0]], "one notice"),
        ([filing(), answer(SAID[0]), notice()], "one notice"),
        ([filing(), notice(), notice()], "one notice"),
        ([filing(), notice(), verdict(), verdict()], "several verdicts"),
        ([*STEPS, second_run()], "several requests"),
        ([filing(), notice(), answer(SAID[1])], "not numbered"),
        ([filing(), notice(), answer(SAID[0]), verdict(), answer(SAID[0])], "not numbered"),
        ([filing(), notice(), answer(SAID[0]), verdict(), answer(SAID[1]), second_run(verdict=3)], "another verdict"),
        ([filing(), notice(), second_run(verdict=4), verdict()], "before it"),
        ([filing(), notice(), second_run()], "another verdict"),
    ],
)
def test_steps_that_are_not_one_disputes_in_their_order_are_refused(steps, reason):
    assert reason in refused(files_of(steps, {}))


def test_what_is_not_revealed_or_not_what_was_hidden_is_refused():
    assert "not every notice" in refused(files_of(records={2: TOLD, 3: SAID[0]}))
    other = {**RECORDS, 3: replace(SAID[0], words="other")}
    assert "hides another" in refused(files_of(records=other))
    blinds = {2: BLIND, 3: b"\x01" * 32, 5: bytes(32)}
    assert "hides another" in refused(files_of(revealed=blinds))
    elsewhere = replace(TOLD, filing=9)
    assert "differ in 'filing'" in refused(files_of([filing(), notice(elsewhere)], {2: elsewhere}))


def test_a_notice_to_somebody_else_or_a_filing_of_another_record_is_refused():
    moved = replace(TOLD, endpoint="https://other.example.org")
    assert "another endpoint" in refused(files_of([filing(), notice(moved), verdict()], {2: moved}))
    hidden = filing(record_hash=sha256(b"another"))
    assert "hides another 'filing-record'" in refused(files_of([hidden, notice(), verdict()], {2: TOLD}))


def test_a_notice_that_stands_where_an_answer_was_is_refused():
    assert issubclass(AnswerRecord, type(SAID[0]))
    files = files_of()
    assert refused(files | {"records/3.json": files["records/2.json"]})


# A cross-test of filing 3, whose steps these are, with filing 4. The models are logged before all of it.
MODELS = [
    (ModelEntry, {"owner_key": bytes(32), "sha256": sha256(name), "signature": bytes(64)}) for name in (b"own", b"its")
]
OTHER = replace(RECORD, family="other")
ALIKE = (Repeated(10, 10), Repeated(9, 10))
CARRIES, LACKS = Mark(9, 9, is_carried=True), Mark(9, 1, is_carried=False)
ABSENT = {"model": None, "sha256": b"", "covers": (), "marks": ()}
OWN = Party(3, 6, 1, sha256(b"own"), ALIKE, (CARRIES, LACKS), is_first=True)
ITS = Party(4, 7, 2, sha256(b"its"), ALIKE, (CARRIES, CARRIES), is_first=False)
TOLD_OF_3 = replace(NOTICE, filing=3, endpoint=RECORD.endpoint)


def cross_test(own=OWN, its=ITS, result="first", reason="one_carries_both"):
    return CrossTestEntry, {"parties": (own, its), "result": result, "reason": reason}


def crossed(last=None, swap=None):
    """Entries 1 to 8: two models, two filings, notice, two verdicts, the cross-test."""
    steps = [
        *MODELS,
        filing(),
        filing(record_hash=OTHER.hidden_hash(BLIND)),
        notice(TOLD_OF_3, filing=3),
        verdict(filing=3, verdict="CONFIRMED"),
        verdict(filing=4, verdict="CONFIRMED", record=OTHER),
        last or cross_test(),
    ]
    for number, step in (swap or {}).items():
        steps[number - 1] = step
    return steps


def crossed_files(steps, entries=(1, 2, 3, 5, 6, 7, 8), records=None):
    """Write the steps of filing 3; the other filing is no entry of them."""
    files = files_of(steps, {5: TOLD_OF_3} if records is None else records, filing=3, entries=entries)
    listed = {"steps.json"} | {f"{kind}/{number}" for number in entries for kind in ("entries", "receipts", "records")}
    return {name: data for name, data in files.items() if name.rpartition(".")[0] in listed or name == "steps.json"}


def test_a_cross_test_holds_with_everything_that_it_names():
    checked = check_steps(crossed_files(crossed()), log_key=MemoryLog().public_key)
    assert checked.entries[8].parties == (OWN, ITS)
    turned = [replace(each, covers=each.covers[::-1], marks=each.marks[::-1]) for each in (ITS, OWN)]
    assert check_steps(crossed_files(crossed(cross_test(*turned))), log_key=None)


def test_an_undecided_cross_test_names_no_model_that_was_not_delivered():
    absent = replace(ITS, **ABSENT)
    undecided = cross_test(replace(OWN, is_first=False), absent, "not_decided", "not_delivered")
    files = crossed_files(crossed(undecided), (1, 3, 5, 6, 7, 8))
    assert check_steps(files, log_key=None).entries[8].reason == "not_delivered"
    fallen = cross_test(replace(OWN, is_first=False), ITS, "not_decided", "verdict_fell")
    assert check_steps(crossed_files(crossed(fallen)), log_key=None).entries[8].reason == "verdict_fell"


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (cross_test(replace(OWN, is_first=False), replace(ITS, is_first=True)), "give first: one_carries_both"),
        (cross_test(reason="both_carry_both"), "give first: one_carries_both"),
        (cross_test(reason="verdict_fell"), "give first: one_carries_both"),
        (cross_test(replace(OWN, covers=(Repeated(8, 10), Repeated(9, 10)))), "give not_decided: not_repeated"),
        (cross_test(replace(OWN, verdict=7)), "names no confirmed verdict on filing 3"),
        (cross_test(replace(OWN, verdict=3)), "names no confirmed verdict on filing 3"),
        (cross_test(replace(OWN, model=2)), "names no model entry of filing 3's model"),
        (cross_test(replace(OWN, model=6)), "names no model entry of filing 3's model"),
        (cross_test(replace(OWN, filing=1), replace(ITS, filing=2)), "is of other filings"),
    ],
)
def test_a_cross_test_that_its_entries_contradict_is_refused(last, reason):
    assert reason in refused(crossed_files(crossed(last)))


def test_a_cross_test_on_another_verdict_or_before_it_is_refused():
    void = verdict(filing=4, verdict="VOID", record=OTHER)
    assert "no confirmed verdict on filing 4" in refused(crossed_files(crossed(swap={7: void})))
    early = crossed(swap={7: cross_test(OWN, replace(ITS, verdict=8))})
    early[-1] = verdict(filing=4, verdict="CONFIRMED", record=OTHER)
    assert "is older than the verdict" in refused(crossed_files(early))


def test_a_model_that_was_logged_after_the_others_filing_is_refused():
    late = crossed(cross_test(its=replace(ITS, model=4, filing=2)), swap={4: MODELS[1], 2: filing()})
    late[6] = verdict(filing=2, verdict="CONFIRMED", record=OTHER)
    files = crossed_files(late, (1, 3, 4, 5, 6, 7, 8))
    assert "logged after filing 3 was made" in refused(files)


def test_a_notice_from_before_the_filing_is_refused():
    told = replace(NOTICE, filing=2, endpoint=RECORD.endpoint)
    files = files_of([notice(told, filing=2), filing()], {1: told}, filing=2)
    assert "behind the filing" in refused(files)
