"""A verdict as it is told to people: one model, made from the evidence bundle, for the page, the HTML file and the PDF.

Everything told stands in the bundle, and whoever doubts it recomputes it there; the walk of E is computed again from the
opened triggers.

Invariants: telling needs no database, and the same bundle is told in the same words; memory is bounded: one bundle is read
at a time, and none above MAX_READ_BUNDLE_BYTES.
Source: docs/protocol.md section 10 (what a verdict says, and what it does not).
"""

import math
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

from markupsafe import Markup
from obstore.store import ObjectStore

from app.canonical import encode_json, parse_json, sha256
from app.errors import TrapstreetError, Unavailable
from app.merkle.checkpoint import fingerprint
from app.portal.rendering import odds
from app.portal.verdict_plots import evidence_plot, placebo_plot
from app.portal.verdict_words import ENTRY_WORDS, FLAG_WORDS, ORIGIN_WORDS, REASONS, SENTENCES, VERDICT_WORDS
from app.protocol.assessment import Evidence, Logged, assess, expect
from app.protocol.bundle import MAX_FILE_BYTES, Course, Index, evidence_to_walk
from app.protocol.evidence import evidence_path
from app.protocol.ranking import ranking_path
from app.protocol.records import BeaconEntry, BlockEntry, VerdictEntry, parse_entry
from app.protocol.transcript import AskedQuery
from app.protocol.verdict import Case
from app.storage.archive import unpack
from app.storage.objects import get_bytes

# As the API reads a report: whoever has a larger bundle downloads it.
MAX_READ_BUNDLE_BYTES = 64 * 1024 * 1024

KEPT_VERDICTS = 32

# How long somebody waits for a verdict that others read before.
PATIENCE_SECONDS = 20.0

_SENT_AT = re.compile(rb'"sent_at":"([0-9TZ:-]{20})"')


@dataclass(frozen=True)
class Figure:
    """A number with its name, and what it means."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Flag:
    """Something that the report points at: the numbers, what they are of, and whether they stand out."""

    name: str
    is_flagged: bool
    says: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Moment:
    """An entry of the log in the course of the dispute."""

    time: str
    entry: int
    words: str


@dataclass(frozen=True)
class ToldVerdict:
    """A verdict in words and numbers; `walk` is log2 of E after each opened trigger, None in class B."""

    verdict: str
    words: str
    sentence: str
    reason: str
    is_proof: bool
    says: str
    assumes: tuple[str, ...]
    does_not_say: tuple[str, ...]
    holds: tuple[Figure, ...]
    endpoint: str
    family: str
    claimant_key: str
    numbers: tuple[Figure, ...]
    walk: tuple[float, ...] | None
    threshold: float
    placebos: tuple[int, ...]
    matches: int
    timeline: tuple[Moment, ...]
    flags: tuple[Flag, ...]
    interface: str
    interface_words: str
    log: str
    log_fingerprint: str
    filing: int
    entry: int
    decided_at: str
    bundle_sha256: str

    @property
    def evidence_svg(self) -> Markup | None:
        """Draw the walk of E."""
        return None if self.walk is None else evidence_plot(self.walk, self.threshold)

    @property
    def placebo_svg(self) -> Markup | None:
        """Draw what placebo beacons gave."""
        return placebo_plot(self.placebos, self.matches) if self.placebos else None


def tell(data: bytes) -> ToldVerdict:
    """Tell the verdict of an evidence bundle of this service's own, which is believed and not checked."""
    files = unpack(data)
    index = Index.parse(files["bundle.json"])
    entries = {number: _logged(files, number) for number in index.entries()}
    verdict = expect(entries[index.verdict], VerdictEntry)
    report: dict[str, Any] = parse_json(files["report.json"], max_bytes=MAX_FILE_BYTES)
    # Of the questions only the triggers, which are few.
    evidence = evidence_to_walk(files, index, entries, verdict, _triggers(files["queries.jsonl"]))
    record = verdict.record
    found = {"endpoint": record.endpoint, "odds": odds(report["bits"])} | {
        name: report[name] for name in ("matches", "asked")
    }
    return ToldVerdict(
        verdict=verdict.verdict,
        words=VERDICT_WORDS[verdict.verdict],
        sentence=SENTENCES[verdict.verdict].format(**found),
        reason=REASONS.get(verdict.reason, verdict.reason),
        is_proof=verdict.verdict == "CONFIRMED",
        says=report["says"].replace("2^-bits", f"2^-{report['bits']} ({odds(report['bits'])})"),
        assumes=tuple(report["assumes"]),
        does_not_say=tuple(report["does_not_say"]),
        holds=tuple(_holds(report)),
        endpoint=record.endpoint,
        family=record.family,
        claimant_key=fingerprint(evidence.statement.vendor_key),
        numbers=(*_numbers(report), *_delivered(files)),
        walk=_walk_of(evidence, report["asked"]),
        threshold=float(report.get("log2_threshold", "0")),
        placebos=tuple(report["placebos"]["histogram"]) if "placebos" in report else (),
        matches=report["matches"],
        timeline=tuple(_timeline(files, index, entries)),
        flags=tuple(_flags(report["flags"])),
        interface=encode_json(record.interface.to_json()).decode(),
        interface_words=f"{report['interface_bits']} bits: {ORIGIN_WORDS[record.interface_origin.kind]}",
        log=index.log,
        log_fingerprint=fingerprint(index.log_key),
        filing=index.filing,
        entry=index.verdict,
        decided_at=verdict.time,
        bundle_sha256=sha256(data).hex(),
    )


def log2_path(case: Case) -> list[float]:
    """Give log2 of E after each trigger, for a picture."""
    path = ranking_path if case.by_ranking else evidence_path
    steps = [trial.step for trial in case.trials]
    return [math.log2(above) - math.log2(below) if above else -math.inf for above, below in path(steps)]


class VerdictShelf:
    """The verdicts told last, by their bundles' digests; who may read one is asked before it is fetched here.

    Reading waits, for the store and for others: callers end their transaction first, or a few of them would hold every
    connection to the database.
    """

    def __init__(self) -> None:
        self._lock, self._reading = Lock(), Lock()
        self._known: OrderedDict[bytes, ToldVerdict] = OrderedDict()

    def read(self, store: ObjectStore, digest: bytes) -> ToldVerdict:
        """Tell the verdict of a stored bundle.

        Raises: TooLarge if the bundle must be read elsewhere; Unavailable while others are read for long.
        """
        if (known := self._find(digest)) is not None:
            return known
        if not self._reading.acquire(timeout=PATIENCE_SECONDS):
            raise Unavailable("other verdicts are being read: try again in a moment")
        try:
            told = self._find(digest) or tell(get_bytes(store, digest, MAX_READ_BUNDLE_BYTES))
        finally:
            self._reading.release()
        with self._lock:
            self._known[digest] = told
            if len(self._known) > KEPT_VERDICTS:
                self._known.popitem(last=False)
        return told

    def _find(self, digest: bytes) -> ToldVerdict | None:
        with self._lock:
            if digest in self._known:
                self._known.move_to_end(digest)
            return self._known.get(digest)


def _logged(files: Mapping[str, bytes], number: int) -> Logged:
    data = files[f"entries/{number}.json"]
    return Logged(number, parse_entry(data), data)


def _triggers(lines: bytes) -> Iterator[AskedQuery]:
    for line in lines.splitlines():
        # Quotes inside a string are escaped, so this stands in a role or nowhere.
        if b'"kind":"trigger"' in line:
            yield AskedQuery.from_json(parse_json(line, max_bytes=MAX_FILE_BYTES))


def _walk_of(evidence: Evidence, asked: int) -> tuple[float, ...] | None:
    if evidence.statement.assurance_class == "B":
        return None
    try:
        return tuple(log2_path(assess(evidence).case)[:asked])
    except TrapstreetError:
        # A void dispute may hold what cannot be walked.
        return ()


def _holds(report: Mapping[str, Any]) -> Iterator[Figure]:
    trust = report["trust"]
    if trust["beacon"] == "local":
        yield Figure("Randomness", "drawn by this service", "sound while the service is honest")
    else:
        yield Figure("Randomness", "drand, which nobody controls alone", trust["beacon"])
    yield Figure("Time", trust["time"], "no witness has signed the log's dates")
    asked_from = "one address" if trust["egresses"] == 1 else f"{trust['egresses']} addresses"
    yield Figure("Who asked", "one querier", f"from {asked_from}; a second, independent querier would help")
    yield Figure("Interface", ORIGIN_WORDS[trust["interface_origin"]], f"{report['interface_bits']} bits")


def _numbers(report: Mapping[str, Any]) -> Iterator[Figure]:
    asked = report["asked"]
    yield Figure("Matches", f"{report['matches']} of {asked}", "secret inputs answered with the secret label")
    yield Figure("No answer", str(report["no_answer"]), f"withheld by the claimant: {report['withheld']}")
    yield Figure("Ordinary inputs", f"{report['covers_answered']} of {report['covers_asked']} answered", "covers")
    rule = "would accept" if report["paper_rule"]["met"] else "would not accept"
    yield Figure(
        "The paper's rule", rule, "nine matches in ten; that a label differs from the natural one: not checked"
    )
    if report["assurance_class"] == "A":
        yield from _evidence_numbers(report)
    standing = report["standing"]
    counted = f"of {standing['filings']} filings over {standing['registrations']} registrations in the log"
    yield Figure("This filing", f"number {report['ordinal']} of its registration", counted)


def _delivered(files: Mapping[str, bytes]) -> Iterator[Figure]:
    prior = Course.parse(files["course.json"]).prior_model
    if prior is not None:
        note = "the service's word: whoever has the weights asks them again"
        yield Figure("Older weights", f"{prior.repeated} of {prior.answered} answers repeated", note)


def _evidence_numbers(report: Mapping[str, Any]) -> Iterator[Figure]:
    evidence, corrected = float(report["log2_e"]), float(report["log2_e_corrected"])
    chance = f"chance alone ever reaches this: at most {odds(evidence)}" if evidence > 0 else "no better than chance"
    yield Figure("Evidence E", f"2^{evidence:.1f}", chance)
    threshold = float(report["log2_threshold"])
    why = f"2^({report['bits']} + {report['interface_bits']}), times families and filings"
    yield Figure("Threshold T", f"2^{threshold:.1f}", f"{why}: {odds(threshold)}")
    yield Figure("E over all filings", f"2^{corrected:.1f}", "divided by every registration and filing in the log")
    tail = float(report["tail"]["minus_log2"])
    yield Figure("Exact tail", f"2^-{tail:.1f}", f"{odds(tail)}; {report['tail']['note']}")
    yield Figure("Match rate at least", _percent(report["match_rate_lower"]), "at 1 - 10^-6, one-sided")
    placebos = report["placebos"]
    odd = "they lie oddly far from chance" if placebos["is_odd"] else "as chance would have it"
    mean = float(placebos["expected_mean"])
    yield Figure(
        "Placebos", f"{mean:.1f} matches expected", f"1000 beacons that never were, on the same answers: {odd}"
    )


def _timeline(files: Mapping[str, bytes], index: Index, entries: Mapping[int, Logged]) -> list[Moment]:
    placed = [
        (entries[number].entry.time, 2 * number, number, _entry_words(entries[number], index)) for number in entries
    ]
    sent = [times.decode() for times in _SENT_AT.findall(files["queries.jsonl"])]
    if sent and index.blocks:
        # Times are whole seconds: at one second a question comes before the block that seals it.
        placed.append((min(sent), 2 * index.blocks[0] - 1, -1, "The first question was sent."))
        placed.append((max(sent), 2 * index.blocks[-1] - 1, -1, "The last question was sent."))
    return [Moment(time, number, words) for time, _, number, words in sorted(placed)]


def _entry_words(logged: Logged, index: Index) -> str:
    entry = logged.entry
    if isinstance(entry, BlockEntry):
        return f"Block {entry.block + 1} of answers was sealed; only then were its labels opened."
    if isinstance(entry, BeaconEntry):
        drew = "the secret labels" if entry.entry == index.registration else "the order of the questions"
        return f"Public randomness drew {drew}."
    return ENTRY_WORDS.get(entry.NAME, "")


def _flags(flags: Mapping[str, Any]) -> Iterator[Flag]:
    for name, words in FLAG_WORDS.items():
        if (flag := flags.get(name)) is not None:
            yield Flag(words, bool(flag.get("is_flagged")), flag["says"], tuple(_flag_figures(flag)))


def _flag_figures(flag: Mapping[str, Any]) -> Iterator[Figure]:
    for kind, count in flag.get("counts", {}).items():
        yield Figure(f"{kind}s", f"{count['hits']} of {count['of']}")
    p = flag.get("minus_log2_p", {})
    for kind, value in p.items() if isinstance(p, dict) else [("look-alike", p)]:
        yield Figure(f"{kind}s against covers", odds(float(value)), "how often chance alone shows such a difference")
    if "correct" in flag:
        between = f"{_percent(flag['lower'])} to {_percent(flag['upper'])}"
        yield Figure(
            "correct", f"{flag['correct']} of {flag['answered']}", f"{between}, each bound at one in a million"
        )
    for key, words in (("other_address", "from another address"), ("other_certificate", "under another certificate")):
        if key in flag:
            yield Figure(words, f"{flag[key]} of {flag['answered']}")


def _percent(text: str) -> str:
    return f"{100 * float(text):.1f} %"
