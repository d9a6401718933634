"""The evidence bundle: named files from which anyone recomputes a verdict without the service.

    bundle.json              which log entries belong to the dispute, and the log's own key (believed by nobody)
    entries/<index>.json     each entry's exact bytes
    receipts/<index>.txt     proof that the entry is in the log
    evidence.json            the evidence list: SHA-256 of every file below; its own SHA-256 stands in the verdict entry
    course.json              filing record's signature, how many blocks were finished and why no more
    openings.json            opened inputs and labels
    queries.jsonl            every question with request, response and role
    report.json              the reported figures
    covers.json              if committed covers were used: the digest of each input, and its label
    derivation.jsonl         if the interface was derived: what was asked and answered, cover by cover

Invariants: `check_bundle` believes the log key that it is given and nothing else; no file is unaccounted for, so one byte
flipped anywhere is found; with no key it says so (`is_authenticated` false).
Source: docs/protocol.md section 9.
Trust: nothing in a bundle is trusted but what the log's key signed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from app.canonical import Form, Record, as_form, choice, integer, nullable, octets, parse_json, sequence, sha256, text
from app.errors import Malformed, ProofError, Refused
from app.keys.commitment import InputOpening, LabelOpening
from app.keys.cover_set import CoverTable
from app.keys.trigger_set import MAX_TRIGGERS
from app.merkle.checkpoint import ORIGIN_PATTERN, Checkpoint, fingerprint, parse_checkpoint
from app.merkle.receipt import parse_receipt, verify_receipt
from app.protocol.assessment import Assessment, Evidence, Logged, PriorModel, assess
from app.protocol.derivation import parse_derivation
from app.protocol.evidence import Outcome
from app.protocol.faults import Codec, find_fault
from app.protocol.figures import Standing
from app.protocol.records import VerdictEntry, WithdrawalEntry, parse_entry
from app.protocol.transcript import AskedQuery
from app.protocol.verdict import Decision

EVIDENCE_FILES = ("course.json", "openings.json", "queries.jsonl", "report.json")
OPTIONAL_FILES = ("covers.json", "derivation.jsonl")

# Requests hold inputs, 16 MiB each at most; real bundles are some megabytes.
MAX_FILE_BYTES = 1024 * 1024 * 1024

_MAX_QUERIES = 10_000_000

# Addresses from which a service asks: one, or a second one for what is asked twice.
MAX_EGRESSES = 16


@dataclass(frozen=True)
class Index(Record):
    """`bundle.json`: where everything stands in the log."""

    NAME: ClassVar[str] = "bundle"

    log: str = field(metadata=as_form(text(1, 200, pattern=ORIGIN_PATTERN)))
    log_key: bytes = field(metadata=as_form(octets(32)))
    registration: int = field(metadata=as_form(integer(0)))
    registration_beacon: int = field(metadata=as_form(integer(0)))
    filing: int = field(metadata=as_form(integer(0)))
    filing_beacon: int = field(metadata=as_form(integer(0)))
    interface: int | None = field(metadata=as_form(nullable(integer(0))))
    prior_model: int | None = field(metadata=as_form(nullable(integer(0))))
    blocks: tuple[int, ...] = field(metadata=as_form(sequence(integer(0), 0, MAX_TRIGGERS)))
    verdict: int = field(metadata=as_form(integer(0)))

    def entries(self) -> list[int]:
        """List every entry's index, each once, in the order of the log."""
        named = [
            self.registration,
            self.registration_beacon,
            self.filing,
            self.filing_beacon,
            *self.blocks,
            self.verdict,
        ]
        extra = [number for number in (self.interface, self.prior_model) if number is not None]
        return sorted({*extra, *named})


@dataclass(frozen=True)
class Comparison(Record):
    """How often delivered weights repeated the endpoint's answers."""

    repeated: int = field(metadata=as_form(integer(0)))
    answered: int = field(metadata=as_form(integer(0)))


@dataclass(frozen=True)
class Course(Record):
    """`course.json`: what only the service knew of how the dispute went."""

    NAME: ClassVar[str] = "course"

    signature: bytes = field(metadata=as_form(octets(64)))
    blocks_done: int = field(metadata=as_form(integer(0, MAX_TRIGGERS)))
    end: str = field(metadata=as_form(choice("walk", "exhausted", "budget", "withheld", "withdrawn")))
    prior_model: Comparison | None = field(metadata=as_form(nullable(Comparison.form())))
    egresses: int = field(metadata=as_form(integer(1, MAX_EGRESSES)))


@dataclass(frozen=True)
class Openings(Record):
    """`openings.json`: what the claimant opened."""

    NAME: ClassVar[str] = "openings"

    inputs: tuple[InputOpening, ...] = field(metadata=as_form(sequence(InputOpening.form(), 0, MAX_TRIGGERS)))
    labels: tuple[LabelOpening, ...] = field(metadata=as_form(sequence(LabelOpening.form(), 0, MAX_TRIGGERS)))


@dataclass(frozen=True)
class EvidenceList(Record):
    """`evidence.json`: the digest of every evidence file."""

    NAME: ClassVar[str] = "evidence-list"

    files: tuple[tuple[str, bytes], ...] = field(
        metadata=as_form(
            Form(
                lambda value, pointer: _parse_digests(value, pointer),
                lambda files: {name: digest.hex() for name, digest in files},
            )
        )
    )


def _parse_digests(value: object, pointer: str) -> tuple[tuple[str, bytes], ...]:
    known = (*EVIDENCE_FILES, *OPTIONAL_FILES)
    if not isinstance(value, dict) or not set(EVIDENCE_FILES) <= set(value) <= set(known):
        needed, may = ", ".join(EVIDENCE_FILES), ", ".join(OPTIONAL_FILES)
        raise Malformed(f"must name {needed} and may name {may}", pointer=pointer)
    return tuple((name, octets(32).parse(value[name], f"{pointer}/{name}")) for name in known if name in value)


@dataclass(frozen=True)
class Checked:
    """What a bundle says once everything in it was recomputed; `checkpoint` is the log it was checked against."""

    decision: Decision
    assessment: Assessment
    entry: VerdictEntry
    report: Mapping[str, object]
    checkpoint: Checkpoint
    log_key: bytes
    is_authenticated: bool

    @property
    def log_fingerprint(self) -> str:
        """Give the fingerprint of the log key that was used, to compare with one known from elsewhere."""
        return fingerprint(self.log_key)


def encode_evidence(evidence: Evidence, report: bytes) -> dict[str, bytes]:
    """Write the evidence files and their list; SHA-256 of `evidence.json` is the verdict entry's `bundle`."""
    prior = evidence.prior_model
    files = {
        "course.json": Course(
            signature=evidence.signature,
            blocks_done=evidence.blocks_done,
            end=evidence.end,
            prior_model=None if prior is None else Comparison(repeated=prior.repeated, answered=prior.answered),
            egresses=evidence.egresses,
        ).encode(),
        "openings.json": Openings(inputs=evidence.input_openings, labels=evidence.label_openings).encode(),
        "queries.jsonl": b"".join(query.encode() + b"\n" for query in evidence.queries),
        "report.json": report,
    }
    if evidence.covers is not None:
        files["covers.json"] = evidence.covers.encode()
    if evidence.derivation is not None:
        files["derivation.jsonl"] = evidence.derivation.encode()
    digests = tuple((name, sha256(data)) for name, data in files.items())
    return files | {"evidence.json": EvidenceList(files=digests).encode()}


def encode_bundle(
    evidence: Evidence,
    files: Mapping[str, bytes],
    verdict: Logged,
    receipts: Mapping[int, str],
    *,
    log: str,
    log_key: bytes,
) -> dict[str, bytes]:
    """Join evidence files, log entries and their receipts into a bundle."""
    index = Index(
        log=log,
        log_key=log_key,
        registration=evidence.registration.index,
        registration_beacon=evidence.registration_beacon.index,
        filing=evidence.filing.index,
        filing_beacon=evidence.filing_beacon.index,
        interface=None if evidence.interface_entry is None else evidence.interface_entry.index,
        prior_model=None if evidence.prior_model is None else evidence.prior_model.entry.index,
        blocks=tuple(block.index for block in evidence.blocks),
        verdict=verdict.index,
    )
    entries = logged_entries(evidence) | {verdict.index: verdict.data}
    return {
        **files,
        "bundle.json": index.encode(),
        **{f"entries/{number}.json": data for number, data in entries.items()},
        **{f"receipts/{number}.txt": receipts[number].encode() for number in entries},
    }


def logged_entries(evidence: Evidence) -> dict[int, bytes]:
    """Give the bytes of every log entry that the evidence rests on, by index."""
    named = [evidence.registration, evidence.registration_beacon, evidence.filing, evidence.filing_beacon]
    extra = [] if evidence.interface_entry is None else [evidence.interface_entry]
    extra += [] if evidence.prior_model is None else [evidence.prior_model.entry]
    return {logged.index: logged.data for logged in [*named, *evidence.blocks, *extra]}


def check_bundle(
    files: Mapping[str, bytes], codec: Codec, *, log_key: bytes | None, arbiter_keys: Sequence[bytes] = ()
) -> Checked:
    """Recompute a verdict from its bundle.

    Steps: 1. nothing is missing or extra; 2. every entry is in the log; 3. the evidence list is the one the verdict entry
    names, and every file is the one it lists; 4. all checks of `faults.find_fault`; 5. the verdict and every figure
    come out the same.

    Raises: ProofError with the reason.
    """
    try:
        index = Index.parse(_file(files, "bundle.json"))
        _check_names(files, index)
        key = index.log_key if log_key is None else log_key
        if index.log_key != key:
            raise ProofError(f"the bundle names the log key {fingerprint(index.log_key)}, not {fingerprint(key)}")
        entries, checkpoint = _check_entries(files, index, key)
        verdict = entries[index.verdict].entry
        if not isinstance(verdict, VerdictEntry):
            raise ProofError(f"entry {index.verdict} is no verdict")
        _check_digests(files, verdict)
        evidence = _read_evidence(files, index, entries, verdict)
        if evidence.statement.log != index.log:
            raise ProofError(f"the statement is for the log {evidence.statement.log}, not {index.log}")
        assessment = _check_verdict(evidence, index, verdict, codec, arbiter_keys)
        report = _check_report(files["report.json"], assessment)
    except Refused as error:
        raise ProofError(error.message) from error
    return Checked(assessment.decision, assessment, verdict, report, checkpoint, key, log_key is not None)


def _file(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise ProofError(f"the bundle lacks {name}")
    return files[name]


def _check_names(files: Mapping[str, bytes], index: Index) -> None:
    listed = EvidenceList.parse(_file(files, "evidence.json")).files
    expected = {"bundle.json", "evidence.json", *(name for name, _ in listed)}
    expected |= {f"entries/{number}.json" for number in index.entries()}
    expected |= {f"receipts/{number}.txt" for number in index.entries()}
    for name in sorted(expected ^ files.keys()):
        raise ProofError(f"the bundle lacks {name}" if name in expected else f"{name} does not belong in this bundle")


def _check_entries(files: Mapping[str, bytes], index: Index, log_key: bytes) -> tuple[dict[int, Logged], Checkpoint]:
    entries: dict[int, Logged] = {}
    checkpoints, notes = [], []
    for number in index.entries():
        data = files[f"entries/{number}.json"]
        receipt = parse_receipt(files[f"receipts/{number}.txt"])
        notes.append(receipt.checkpoint_note)
        if receipt.index != number:
            raise ProofError(f"receipts/{number}.txt is a receipt for entry {receipt.index}")
        try:
            checkpoints.append(verify_receipt(receipt, data, log_key, index.log))
        except ProofError as error:
            raise ProofError(f"entry {number}: {error.message}") from error
        entries[number] = Logged(number, parse_entry(data), data)
    if len(set(notes)) != 1 or len(parse_checkpoint(notes[0])[1]) != 1:
        raise ProofError("the receipts are not all of one checkpoint with the log's own signature alone")
    times = [entries[number].entry.time for number in sorted(entries)]
    if times != sorted(times):
        raise ProofError("the entries' times go back")
    if checkpoints[0].size != index.verdict + 1:
        raise ProofError("the checkpoint is not the first that holds the verdict")
    return entries, checkpoints[0]


def _check_digests(files: Mapping[str, bytes], verdict: VerdictEntry) -> None:
    if sha256(files["evidence.json"]) != verdict.bundle:
        raise ProofError("evidence.json is not the evidence list that the verdict entry names")
    for name, digest in EvidenceList.parse(files["evidence.json"]).files:
        if sha256(files[name]) != digest:
            raise ProofError(f"{name} was changed: its SHA-256 is not the one in evidence.json")


def _read_evidence(
    files: Mapping[str, bytes], index: Index, entries: Mapping[int, Logged], verdict: VerdictEntry
) -> Evidence:
    course = Course.parse(files["course.json"])
    lines = files["queries.jsonl"].split(b"\n")
    if lines.pop() != b"" or len(lines) > _MAX_QUERIES:
        raise ProofError("queries.jsonl does not end with a newline")
    if index.interface != verdict.record.interface_origin.entry:
        raise ProofError("the bundle names the entry of the interface that the filing record names, or none")
    if ("derivation.jsonl" in files) != (verdict.record.interface_origin.kind == "derived"):
        raise ProofError("the bundle holds a derivation exactly if the interface was derived")
    if (course.prior_model is None) != (index.prior_model is None):
        raise ProofError("delivered weights need both their log entry and their comparison")
    queries = [
        AskedQuery.from_json(parse_json(line, max_bytes=MAX_FILE_BYTES), f"/queries/{number}")
        for number, line in enumerate(lines)
    ]
    prior_model = None
    if course.prior_model is not None and index.prior_model is not None:
        answers = course.prior_model
        prior_model = PriorModel(entries[index.prior_model], answers.repeated, answers.answered)
    # A table of many covers is longer than a record may be.
    covers, derivation = files.get("covers.json"), files.get("derivation.jsonl")
    return replace(
        evidence_to_walk(files, index, entries, verdict, queries),
        prior_model=prior_model,
        covers=None if covers is None else CoverTable.from_json(parse_json(covers, max_bytes=MAX_FILE_BYTES)),
        derivation=None if derivation is None else parse_derivation(derivation, max_bytes=MAX_FILE_BYTES),
    )


def evidence_to_walk(
    files: Mapping[str, bytes],
    index: Index,
    entries: Mapping[int, Logged],
    verdict: VerdictEntry,
    queries: Iterable[AskedQuery],
) -> Evidence:
    """Put together what the walk needs, and no covers, derivation or delivered weights; nothing is checked by it."""
    course = Course.parse(files["course.json"])
    openings = Openings.from_json(parse_json(files["openings.json"], max_bytes=MAX_FILE_BYTES))
    return Evidence(
        registration=entries[index.registration],
        registration_beacon=entries[index.registration_beacon],
        filing=entries[index.filing],
        filing_beacon=entries[index.filing_beacon],
        blocks=tuple(entries[number] for number in index.blocks),
        interface_entry=None if index.interface is None else entries[index.interface],
        record=verdict.record,
        signature=course.signature,
        blind=verdict.blind,
        blocks_done=course.blocks_done,
        end=course.end,
        input_openings=openings.inputs,
        label_openings=openings.labels,
        queries=tuple(queries),
        egresses=course.egresses,
    )


def _check_verdict(
    evidence: Evidence, index: Index, verdict: VerdictEntry, codec: Codec, arbiter_keys: Sequence[bytes]
) -> Assessment:
    fault = find_fault(evidence, codec, arbiter_keys, log_key=index.log_key)
    if fault and verdict.verdict != "VOID":
        raise ProofError(fault.partition(": ")[2])
    if verdict.filing != index.filing or any(
        number >= index.verdict for number in index.entries() if number != index.verdict
    ):
        raise ProofError("the verdict is of another filing, or older than what it rests on")
    assessment = assess(evidence, fault)
    decision = assessment.decision
    found = (decision.verdict, decision.reason, decision.walk.asked, decision.walk.matches)
    stated = (verdict.verdict, verdict.reason, verdict.asked, verdict.matches)
    if found != stated:
        raise ProofError(f"recomputed {found}, but the log says {stated}")
    if isinstance(verdict, WithdrawalEntry) != (evidence.end == "withdrawn" and decision.verdict == "INCONCLUSIVE"):
        raise ProofError("a withdrawal is logged as one, and nothing else is")
    if not fault and not _is_end_true(assessment):
        raise ProofError(f"the course says that the dispute ended: {evidence.end}, but the evidence does not")
    return assessment


def _is_end_true(assessment: Assessment) -> bool:
    """Tell whether the evidence shows the reason for which no further block was asked."""
    evidence, trials = assessment.evidence, assessment.case.trials
    family = evidence.statement.family(evidence.record.family)
    is_done, is_cut = len(trials) == len(evidence.order), len(evidence.order) < family.size
    return {
        "walk": assessment.decision.walk.end is not None,
        "exhausted": is_done and not is_cut,
        "budget": is_done and is_cut,
        "withheld": bool(trials) and trials[-1].step.outcome is Outcome.WITHHELD,
        "withdrawn": True,
    }[evidence.end]


def _check_report(data: bytes, assessment: Assessment) -> Mapping[str, object]:
    # The two counts over the whole log are the service's word: whoever doubts them reads the log to that size.
    report: dict[str, object] = parse_json(data)
    standing = Standing.from_json(report.get("standing") if isinstance(report, dict) else None, "/standing")
    if assessment.report(standing) != data:
        raise ProofError("report.json does not hold the figures that come out of the evidence")
    return report
