"""What was told to the accused, what it answered and asked for, as files that anyone checks against the log.

No verdict reads any of it. The files are `steps.json`, `entries/<index>.json` and `receipts/<index>.txt` of the filing, its
notice, answers, request and verdict, and `records/<index>.json`, what notice and answers hide. With a test of two
registrants' models come its entry and those that it names: verdict and model of each party.

Invariants: pure; nothing is missing, extra or free: what cannot be held against the log is refused.
Source: docs/protocol.md sections 6.1 and 10.1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from app.canonical import Record, as_form, integer, octets, sequence, text
from app.errors import ProofError, Refused
from app.merkle.checkpoint import Checkpoint, fingerprint
from app.merkle.receipt import parse_receipt, verify_receipt
from app.protocol.cross_test import MAX_CROSS_TESTS, UNWEIGHED, CrossOutcome, Party, decide_cross_test
from app.protocol.records import (
    MAX_ANSWERS,
    AnswerEntry,
    AnswerRecord,
    CrossTestEntry,
    Entry,
    FilingEntry,
    ModelEntry,
    NoticeEntry,
    NoticeRecord,
    SecondRunEntry,
    VerdictEntry,
    parse_entry,
    verify_hidden,
)

# Filing, notice, request and verdict beside the answers; of a cross-test its entry, and of each party two at most.
_MAX_ENTRIES = MAX_ANSWERS + 4 + 5 * MAX_CROSS_TESTS


@dataclass(frozen=True)
class Revealed(Record):
    """The blind under which an entry hides its record."""

    entry: int = field(metadata=as_form(integer(0)))
    blind: bytes = field(metadata=as_form(octets(32)))


@dataclass(frozen=True)
class StepList(Record):
    """Which entries belong to a dispute besides its bundle's, and whose log they stand in."""

    NAME: ClassVar[str] = "step-list"

    log: str = field(metadata=as_form(text(1, 200)))
    log_key: bytes = field(metadata=as_form(octets(32)))
    filing: int = field(metadata=as_form(integer(0)))
    entries: tuple[int, ...] = field(metadata=as_form(sequence(integer(0), 1, _MAX_ENTRIES)))
    revealed: tuple[Revealed, ...] = field(metadata=as_form(sequence(Revealed.form(), 0, _MAX_ENTRIES)))


@dataclass(frozen=True)
class CheckedSteps:
    """What holds: the entries by index, and what they hide."""

    entries: Mapping[int, Entry]
    records: Mapping[int, NoticeRecord | AnswerRecord]
    checkpoint: Checkpoint
    is_authenticated: bool


def encode_steps(
    listed: StepList,
    entries: Mapping[int, bytes],
    receipts: Mapping[int, str],
    records: Mapping[int, NoticeRecord | AnswerRecord],
) -> dict[str, bytes]:
    """Write the files."""
    return {
        "steps.json": listed.encode(),
        **{f"entries/{number}.json": data for number, data in entries.items()},
        **{f"receipts/{number}.txt": receipts[number].encode() for number in entries},
        **{f"records/{number}.json": record.encode() for number, record in records.items()},
    }


def check_steps(files: Mapping[str, bytes], *, log_key: bytes | None) -> CheckedSteps:
    """Hold the files against the log.

    Steps: 1. nothing is missing or extra; 2. every entry is in the log; 3. all are of one filing and in their order;
    4. what is revealed is what they hide.

    Raises: ProofError with the reason.
    """
    try:
        if "steps.json" not in files:
            raise ProofError("steps.json is missing")
        listed = StepList.parse(files["steps.json"])
        _check_names(files, listed)
        key = listed.log_key if log_key is None else log_key
        if listed.log_key != key:
            raise ProofError(f"the files name the log key {fingerprint(listed.log_key)}, not {fingerprint(key)}")
        entries, checkpoint = _check_entries(files, listed, key)
        _check_order(listed, entries)
        records = _check_records(files, listed, entries)
    except Refused as error:
        raise ProofError(error.message) from error
    return CheckedSteps(entries, records, checkpoint, log_key is not None)


def _check_names(files: Mapping[str, bytes], listed: StepList) -> None:
    if list(listed.entries) != sorted(set(listed.entries)) or listed.filing not in listed.entries:
        raise ProofError("the entries are not listed once and in order, the filing among them")
    expected = {"steps.json"}
    for number in listed.entries:
        expected |= {f"entries/{number}.json", f"receipts/{number}.txt"}
    expected |= {f"records/{revealed.entry}.json" for revealed in listed.revealed}
    for name in sorted(expected ^ files.keys()):
        raise ProofError(f"{name} is missing" if name in expected else f"{name} does not belong here")


def _check_entries(files: Mapping[str, bytes], listed: StepList, key: bytes) -> tuple[dict[int, Entry], Checkpoint]:
    entries: dict[int, Entry] = {}
    checkpoints: list[Checkpoint] = []
    for number in listed.entries:
        data = files[f"entries/{number}.json"]
        receipt = parse_receipt(files[f"receipts/{number}.txt"])
        if receipt.index != number:
            raise ProofError(f"receipts/{number}.txt is a receipt for entry {receipt.index}")
        try:
            checkpoints.append(verify_receipt(receipt, data, key, listed.log))
        except ProofError as error:
            raise ProofError(f"entry {number}: {error.message}") from error
        entries[number] = parse_entry(data)
    if len(set(checkpoints)) != 1:
        raise ProofError("the receipts are not all of one checkpoint")
    return entries, checkpoints[0]


def _check_order(listed: StepList, entries: Mapping[int, Entry]) -> None:
    if not isinstance(entries[listed.filing], FilingEntry):
        raise ProofError(f"entry {listed.filing} is no filing")
    named = _check_cross_tests(listed.filing, entries)
    steps = {number: entry for number, entry in entries.items() if number not in {listed.filing, *named}}
    for number, entry in steps.items():
        if not isinstance(entry, NoticeEntry | AnswerEntry | SecondRunEntry | VerdictEntry):
            raise ProofError(f"entry {number} is no step of a dispute")
        if entry.filing != listed.filing:
            raise ProofError(f"entry {number} is of filing {entry.filing}")
    found = {
        kind: [(number, entry) for number, entry in steps.items() if isinstance(entry, kind)]
        for kind in (NoticeEntry, AnswerEntry, SecondRunEntry, VerdictEntry)
    }
    if len(found[NoticeEntry]) != 1 or found[NoticeEntry][0][0] != min(steps) or min(steps) < listed.filing:
        raise ProofError("there is one notice, and it comes first behind the filing")
    if len(found[VerdictEntry]) > 1 or len(found[SecondRunEntry]) > 1:
        raise ProofError("there are several verdicts, or several requests for a second run")
    numbers = [entry.number for _, entry in found[AnswerEntry] if isinstance(entry, AnswerEntry)]
    if numbers != list(range(1, len(numbers) + 1)):
        raise ProofError("the answers are not numbered in their order")
    verdicts = [number for number, _ in found[VerdictEntry]]
    for number, entry in found[SecondRunEntry]:
        if isinstance(entry, SecondRunEntry) and (verdicts != [entry.verdict] or number < entry.verdict):
            raise ProofError("the second run was asked for of another verdict, or before it")


def named_entries(entry: CrossTestEntry, filing: int) -> set[int]:
    """Give what must stand beside a cross-test, seen from one of its filings, whose own verdict is a step of its own."""
    named = {number for party in entry.parties for number in (party.verdict, party.model)}
    return {number for number in named if number is not None} - {
        party.verdict for party in entry.parties if party.filing == filing
    }


def _check_cross_tests(filing: int, entries: Mapping[int, Entry]) -> set[int]:
    """Hold cross-tests against what they name; give them and all of that."""
    found: set[int] = set()
    for number, entry in entries.items():
        if not isinstance(entry, CrossTestEntry):
            continue
        if all(party.filing != filing for party in entry.parties):
            raise ProofError(f"the cross-test in entry {number} is of other filings")
        for party, other in zip(entry.parties, reversed(entry.parties), strict=True):
            _check_party(number, party, other, entries)
        if entry.reason not in UNWEIGHED or any(party.is_first for party in entry.parties):
            _check_outcome(number, entry)
        found |= {number, *named_entries(entry, filing)}
    return found


def _check_party(number: int, party: Party, other: Party, entries: Mapping[int, Entry]) -> None:
    verdict = entries.get(party.verdict)
    if not isinstance(verdict, VerdictEntry) or (verdict.filing, verdict.verdict) != (party.filing, "CONFIRMED"):
        raise ProofError(f"the cross-test in entry {number} names no confirmed verdict on filing {party.filing}")
    if number < party.verdict:
        raise ProofError(f"the cross-test in entry {number} is older than the verdict in entry {party.verdict}")
    if party.model is None:
        return
    model = entries.get(party.model)
    if not isinstance(model, ModelEntry) or model.sha256 != party.sha256:
        raise ProofError(f"the cross-test in entry {number} names no model entry of filing {party.filing}'s model")
    if party.model >= other.filing:
        raise ProofError(f"the model in entry {party.model} was logged after filing {other.filing} was made")


def _check_outcome(number: int, entry: CrossTestEntry) -> None:
    by_rule = decide_cross_test(entry.parties)
    places = [place for place, party in enumerate(entry.parties) if party.is_first]
    if by_rule != CrossOutcome(places[0] if places else None, entry.reason):
        raise ProofError(f"the counts of the cross-test in entry {number} give {by_rule.result}: {by_rule.reason}")


def _check_records(
    files: Mapping[str, bytes], listed: StepList, entries: Mapping[int, Entry]
) -> dict[int, NoticeRecord | AnswerRecord]:
    hiding = [number for number, entry in entries.items() if isinstance(entry, NoticeEntry | AnswerEntry)]
    if [revealed.entry for revealed in listed.revealed] != hiding:
        raise ProofError("not every notice and answer is revealed, once and in order")
    records: dict[int, NoticeRecord | AnswerRecord] = {}
    for revealed in listed.revealed:
        entry, data = entries[revealed.entry], files[f"records/{revealed.entry}.json"]
        record = NoticeRecord.parse(data) if isinstance(entry, NoticeEntry) else AnswerRecord.parse(data)
        verify_hidden(entry, record, revealed.blind)
        records[revealed.entry] = record
    own = [entry for entry in entries.values() if isinstance(entry, VerdictEntry) and entry.filing == listed.filing]
    _check_verdict(entries[listed.filing], own, [*records.values()])
    return records


def _check_verdict(
    filing: Entry, verdicts: Sequence[VerdictEntry], records: Sequence[NoticeRecord | AnswerRecord]
) -> None:
    for entry in verdicts:
        verify_hidden(filing, entry.record, entry.blind)
        notice = next(record for record in records if isinstance(record, NoticeRecord))
        if notice.endpoint != entry.record.endpoint:
            raise ProofError("the notice was given for another endpoint")
