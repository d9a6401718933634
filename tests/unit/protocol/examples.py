"""One valid value of every record of the protocol."""

from dataclasses import fields

from app.canonical import sha256
from app.protocol.cross_test import Mark, Party, Repeated
from app.protocol.records import (
    AnswerEntry,
    AnswerFile,
    AnswerRecord,
    BeaconEntry,
    BlockEntry,
    CrossTestEntry,
    FilingEntry,
    ModelEntry,
    NoticeEntry,
    NoticeRecord,
    RegistrationEntry,
    SecondRunEntry,
    VendorKeyEntry,
    VerdictEntry,
    WithdrawalEntry,
    WorkerKeyEntry,
    parse_entry,
)
from app.protocol.steps import Revealed, StepList
from tests.unit.protocol.dispute_in_memory import Plan, bundle_of, play

TIME = "2026-01-31T12:00:00Z"

# Few questions, so that what is parsed a thousand times is short.
SMALL = play(Plan(classes=2, triggers=3, block_size=3, end="exhausted"))
FILES = bundle_of(SMALL)

VERDICT = parse_entry(FILES[f"entries/{len(SMALL.log.entries)}.json"])
CROSS_TEST = CrossTestEntry(
    time=TIME,
    parties=(
        Party(
            filing=2,
            verdict=7,
            model=1,
            sha256=sha256(b"the owner's model"),
            covers=(Repeated(50, 50), Repeated(48, 50)),
            marks=(Mark(24, 24, is_carried=True), Mark(60, 6, is_carried=False)),
            is_first=True,
        ),
        Party(
            filing=9,
            verdict=14,
            model=4,
            sha256=sha256(b"the thief's model"),
            covers=(Repeated(49, 50), Repeated(50, 50)),
            marks=(Mark(25, 24, is_carried=True), Mark(24, 24, is_carried=True)),
            is_first=False,
        ),
    ),
    result="first",
    reason="one_carries_both",
)
ENTRY_EXAMPLES = [
    next(entry for entry in map(parse_entry, SMALL.log.entries) if isinstance(entry, kind))
    for kind in (RegistrationEntry, BeaconEntry, FilingEntry, BlockEntry, ModelEntry)
] + [
    VERDICT,
    WithdrawalEntry(**{each.name: getattr(VERDICT, each.name) for each in fields(VerdictEntry)}),
    WorkerKeyEntry(time=TIME, public_key=bytes(64), queue="gpu", signature=b""),
    VendorKeyEntry(time=TIME, public_key=bytes(32), vendor="vendor", signature=bytes(64)),
    NoticeEntry(time=TIME, filing=2, record_hash=bytes(32)),
    AnswerEntry(time=TIME, filing=2, number=1, record_hash=bytes(32)),
    SecondRunEntry(time=TIME, filing=2, verdict=7),
    CROSS_TEST,
]

NOTICE = NoticeRecord(filing=2, endpoint="https://models.example.org/v1", link=sha256(b"link"), second_run=None)
ANSWER = AnswerRecord(
    filing=2,
    number=1,
    words="We trained this model ourselves, in 2024.",
    prior_art="",
    file=AnswerFile(name="training log.txt", sha256=sha256(b"log"), size=3),
)
STEP_LIST = StepList(
    log="log.example.org",
    log_key=bytes(32),
    filing=2,
    entries=(2, 5, 6),
    revealed=(Revealed(5, bytes(32)), Revealed(6, bytes(32))),
)
