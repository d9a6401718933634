"""The accused's steps against the log: what holds, and every way in which it must not."""

from dataclasses import replace

import pytest

from app.canonical import sha256
from app.errors import ProofError
from app.protocol.records import (
    AnswerEntry,
    AnswerRecord,
    BlockEntry,
    FilingEntry,
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
    assert "once and in order" in refused(files_of(filing=2))


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
