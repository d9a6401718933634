"""Every entry of the log and the signed filing record.

One class a record, with exactly the keys of docs/protocol.md section 2. Entries point at each other by log index, which a
receipt binds; `H(entry)` is plain SHA-256 of an entry's bytes.

Invariants: `parse_entry(b).encode() == b` or Malformed.
Source: docs/protocol.md sections 2, 5, 6 and 8.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from app.canonical import (
    PROTOCOL,
    Record,
    as_form,
    choice,
    encode_json,
    integer,
    lp,
    nullable,
    octets,
    parse_json,
    sequence,
    sha256,
    tag,
    text,
    timestamp,
)
from app.errors import Malformed, ProofError
from app.keys.statement import BEACON_PATTERN, Statement
from app.keys.trigger_set import MAX_TRIGGERS
from app.protocol.cross_test import FIRST, NOT_DECIDED, Party
from app.protocol.interface import Interface, InterfaceOrigin

QUEUE_PATTERN = r"[a-z][a-z0-9.]{0,39}"

# The two strengths a filing may ask for and no other (docs/protocol.md section 8.1).
BITS: Final = (64, 80)

# A week: longer would let a claimant hold a dispute open for ever.
MAX_OPENING_SECONDS = 7 * 24 * 3600

# Of one dispute; in code points.
MAX_ANSWERS = 10
MAX_ANSWER_CHARACTERS = 10_000

VERDICTS: Final = (
    "VOID",
    "CONFIRMED",
    "NON_COOPERATIVE",
    "NOT_SUPPORTED",
    "INCONCLUSIVE",
    "INDICATIVE",
)


class Entry(Record):
    """Base of everything the log holds."""

    time: str


@dataclass(frozen=True)
class RegistrationEntry(Entry):
    """A statement, signed by its vendor key, with the hash of the nonce that its beacon will open."""

    NAME: ClassVar[str] = "registration"

    time: str = field(metadata=as_form(timestamp()))
    statement: Statement = field(metadata=as_form(Statement.form()))
    signature: bytes = field(metadata=as_form(octets(64)))
    nonce_hash: bytes = field(metadata=as_form(octets(32)))


@dataclass(frozen=True)
class BeaconEntry(Entry):
    """The beacon of an earlier entry: its nonce opened, and the public randomness of the round the rule names."""

    NAME: ClassVar[str] = "beacon"

    time: str = field(metadata=as_form(timestamp()))
    entry: int = field(metadata=as_form(integer(0)))
    nonce: bytes = field(metadata=as_form(octets(32)))
    source: str = field(metadata=as_form(text(1, 100, pattern=BEACON_PATTERN)))
    round: int = field(metadata=as_form(integer(0)))
    randomness: bytes = field(metadata=as_form(octets(32)))
    signature: bytes = field(metadata=as_form(octets(48, or_empty=True)))


@dataclass(frozen=True)
class Policy(Record):
    """What is fixed at filing about how a dispute is run."""

    bits: int = field(metadata=as_form(choice(*BITS)))
    max_triggers: int = field(metadata=as_form(integer(1, MAX_TRIGGERS)))
    covers_per_trigger: int = field(metadata=as_form(integer(0, 100)))
    block_size: int = field(metadata=as_form(integer(1, 256)))
    attempts: int = field(metadata=as_form(integer(1, 5)))
    answer: str = field(metadata=as_form(choice("first")))
    opening_seconds: int = field(metadata=as_form(integer(1, MAX_OPENING_SECONDS)))
    lookahead: int = field(metadata=as_form(integer(0, 1)))


@dataclass(frozen=True)
class FilingRecord(Record):
    """What the claimant signs: which family is held against which endpoint, how it is asked, under which policy."""

    NAME: ClassVar[str] = "filing-record"

    registration: int = field(metadata=as_form(integer(0)))
    family: str = field(metadata=as_form(text(1, 200)))
    endpoint: str = field(metadata=as_form(text(1, 2000)))
    interface: Interface = field(metadata=as_form(Interface.form()))
    interface_origin: InterfaceOrigin = field(metadata=as_form(InterfaceOrigin.form()))
    evidence: str = field(metadata=as_form(choice("label", "ranking")))
    policy: Policy = field(metadata=as_form(Policy.form()))

    @property
    def by_ranking(self) -> bool:
        """Tell whether the endpoint's whole ranking is evidence, and not only what it answers with."""
        return self.evidence == "ranking"

    def hidden_hash(self, blind: bytes) -> bytes:
        """Give the hash that stands in the log until the verdict reveals blind and record."""
        return sha256(lp(tag("filing"), blind, self.encode()))


@dataclass(frozen=True)
class FilingEntry(Entry):
    """That a filing was made, not against whom: the record is hidden until the verdict."""

    NAME: ClassVar[str] = "filing"

    time: str = field(metadata=as_form(timestamp()))
    registration: int = field(metadata=as_form(integer(0)))
    ordinal: int = field(metadata=as_form(integer(1)))
    record_hash: bytes = field(metadata=as_form(octets(32)))
    nonce_hash: bytes = field(metadata=as_form(octets(32)))


@dataclass(frozen=True)
class BlockEntry(Entry):
    """The head over all queries of a block, logged before its labels are opened."""

    NAME: ClassVar[str] = "block"

    time: str = field(metadata=as_form(timestamp()))
    filing: int = field(metadata=as_form(integer(0)))
    block: int = field(metadata=as_form(integer(0, MAX_TRIGGERS)))
    head: bytes = field(metadata=as_form(octets(32)))


@dataclass(frozen=True)
class ModelEntry(Entry):
    """A commitment to something by its SHA-256, dated by the log: a model's weights, or an interface."""

    NAME: ClassVar[str] = "model"

    time: str = field(metadata=as_form(timestamp()))
    owner_key: bytes = field(metadata=as_form(octets(32)))
    sha256: bytes = field(metadata=as_form(octets(32)))
    signature: bytes = field(metadata=as_form(octets(64)))

    @staticmethod
    def signed_bytes(owner_key: bytes, digest: bytes) -> bytes:
        """Give the bytes that the owner signs."""
        return encode_json(
            {"type": f"{PROTOCOL}/model-commitment", "owner_key": owner_key.hex(), "sha256": digest.hex()}
        )


@dataclass(frozen=True)
class WorkerKeyEntry(Entry):
    """The 64 public bytes of a queue's workers; a successor is signed by the key it replaces."""

    NAME: ClassVar[str] = "worker-key"

    time: str = field(metadata=as_form(timestamp()))
    public_key: bytes = field(metadata=as_form(octets(64)))
    queue: str = field(metadata=as_form(text(1, 40, pattern=QUEUE_PATTERN)))
    signature: bytes = field(metadata=as_form(octets(64, or_empty=True)))

    @staticmethod
    def signed_bytes(public_key: bytes, queue: str) -> bytes:
        """Give the bytes that the replaced key signs."""
        return encode_json({"type": f"{PROTOCOL}/worker-key-change", "public_key": public_key.hex(), "queue": queue})


@dataclass(frozen=True)
class VendorKeyEntry(Entry):
    """A vendor's public key; a successor is signed by the key it replaces."""

    NAME: ClassVar[str] = "vendor-key"

    time: str = field(metadata=as_form(timestamp()))
    public_key: bytes = field(metadata=as_form(octets(32)))
    vendor: str = field(metadata=as_form(text(1, 64)))
    signature: bytes = field(metadata=as_form(octets(64, or_empty=True)))

    @staticmethod
    def signed_bytes(public_key: bytes, vendor: str) -> bytes:
        """Give the bytes that the replaced key signs."""
        return encode_json({"type": f"{PROTOCOL}/vendor-key-change", "public_key": public_key.hex(), "vendor": vendor})


@dataclass(frozen=True)
class VerdictEntry(Entry):
    """A verdict, with everything the filing hid; `bundle` is SHA-256 of the evidence list (protocol/bundle.py)."""

    NAME: ClassVar[str] = "verdict"

    time: str = field(metadata=as_form(timestamp()))
    filing: int = field(metadata=as_form(integer(0)))
    blind: bytes = field(metadata=as_form(octets(32)))
    record: FilingRecord = field(metadata=as_form(FilingRecord.form()))
    verdict: str = field(metadata=as_form(choice(*VERDICTS)))
    reason: str = field(metadata=as_form(text(1, 64)))
    asked: int = field(metadata=as_form(integer(0, MAX_TRIGGERS)))
    matches: int = field(metadata=as_form(integer(0, MAX_TRIGGERS)))
    bundle: bytes = field(metadata=as_form(octets(32)))


@dataclass(frozen=True)
class WithdrawalEntry(VerdictEntry):
    """That the claimant withdrew; the same keys as a verdict, which is INCONCLUSIVE."""

    NAME: ClassVar[str] = "withdrawal"


@dataclass(frozen=True)
class NoticeRecord(Record):
    """Where the accused of a filing finds it: SHA-256 of its link's 32 bytes, and the request that the filing answers."""

    NAME: ClassVar[str] = "notice-record"

    filing: int = field(metadata=as_form(integer(0)))
    endpoint: str = field(metadata=as_form(text(1, 2000)))
    link: bytes = field(metadata=as_form(octets(32)))
    second_run: int | None = field(metadata=as_form(nullable(integer(0))))

    def hidden_hash(self, blind: bytes) -> bytes:
        """Give the hash that stands in the log; `blind` is the filing's."""
        return sha256(lp(tag("notice"), blind, self.encode()))


@dataclass(frozen=True)
class NoticeEntry(Entry):
    """That the accused of a filing may be told of it from now on, not who that is."""

    NAME: ClassVar[str] = "notice"

    time: str = field(metadata=as_form(timestamp()))
    filing: int = field(metadata=as_form(integer(0)))
    record_hash: bytes = field(metadata=as_form(octets(32)))


@dataclass(frozen=True)
class AnswerFile(Record):
    """A file that came with an answer, by what it was called."""

    name: str = field(metadata=as_form(text(1, 200)))
    sha256: bytes = field(metadata=as_form(octets(32)))
    size: int = field(metadata=as_form(integer(1)))


@dataclass(frozen=True)
class AnswerRecord(Record):
    """What the accused of a filing says to it, in its own words."""

    NAME: ClassVar[str] = "answer-record"

    filing: int = field(metadata=as_form(integer(0)))
    number: int = field(metadata=as_form(integer(1, MAX_ANSWERS)))
    words: str = field(metadata=as_form(text(1, MAX_ANSWER_CHARACTERS)))
    prior_art: str = field(metadata=as_form(text(0, MAX_ANSWER_CHARACTERS)))
    file: AnswerFile | None = field(metadata=as_form(nullable(AnswerFile.form())))

    def hidden_hash(self, blind: bytes) -> bytes:
        """Give the hash that stands in the log."""
        return sha256(lp(tag("answer"), blind, self.encode()))


@dataclass(frozen=True)
class AnswerEntry(Entry):
    """That somebody with the link answered a filing; the words are not for everybody."""

    NAME: ClassVar[str] = "answer"

    time: str = field(metadata=as_form(timestamp()))
    filing: int = field(metadata=as_form(integer(0)))
    number: int = field(metadata=as_form(integer(1, MAX_ANSWERS)))
    record_hash: bytes = field(metadata=as_form(octets(32)))


@dataclass(frozen=True)
class SecondRunEntry(Entry):
    """That the accused asked for a second run with a fresh challenge; the verdict has named the endpoint by then."""

    NAME: ClassVar[str] = "second-run"

    time: str = field(metadata=as_form(timestamp()))
    filing: int = field(metadata=as_form(integer(0)))
    verdict: int = field(metadata=as_form(integer(0)))


@dataclass(frozen=True)
class CrossTestEntry(Entry):
    """What came of testing two registrants' models with each other's triggers (protocol/cross_test.py)."""

    NAME: ClassVar[str] = "cross-test"

    time: str = field(metadata=as_form(timestamp()))
    parties: tuple[Party, ...] = field(metadata=as_form(sequence(Party.form(), 2, 2)))
    result: str = field(metadata=as_form(choice(FIRST, NOT_DECIDED)))
    reason: str = field(metadata=as_form(text(1, 64)))

    def check(self, pointer: str) -> None:
        """Refuse one party against itself, and a result that no party, or both, would have."""
        if self.parties[0].filing == self.parties[1].filing:
            raise Malformed("two filings are tested with each other", pointer=f"{pointer}/parties")
        if sum(party.is_first for party in self.parties) != (self.result == FIRST):
            raise Malformed("one party is first if the test was decided, and else none", pointer=f"{pointer}/result")


ENTRIES: Mapping[str, type[Entry]] = {
    entry.NAME: entry
    for entry in (
        RegistrationEntry,
        BeaconEntry,
        FilingEntry,
        BlockEntry,
        ModelEntry,
        WorkerKeyEntry,
        VendorKeyEntry,
        VerdictEntry,
        WithdrawalEntry,
        NoticeEntry,
        AnswerEntry,
        SecondRunEntry,
        CrossTestEntry,
    )
}


# Which entry holds the hash of which record.
HIDES: Mapping[type[Record], type[FilingEntry | NoticeEntry | AnswerEntry]] = {
    FilingRecord: FilingEntry,
    NoticeRecord: NoticeEntry,
    AnswerRecord: AnswerEntry,
}


def parse_entry(data: bytes) -> Entry:
    """Read any log entry's one byte string.

    Raises: Malformed if it is none of the known entries in canonical form.
    """
    value: Any = parse_json(data)
    name = value.get("type") if isinstance(value, dict) else None
    if not isinstance(name, str) or name.removeprefix(f"{PROTOCOL}/") not in ENTRIES or "/" not in name:
        raise Malformed("not an entry of this log", pointer="/type")
    return ENTRIES[name.removeprefix(f"{PROTOCOL}/")].from_json(value)


def verify_hidden(entry: Entry, record: FilingRecord | NoticeRecord | AnswerRecord, blind: bytes) -> None:
    """Check that an entry of the log is the one that hides a record.

    Raises: ProofError.
    """
    kind = HIDES[type(record)]
    if not isinstance(entry, kind):
        raise ProofError(f"an entry {entry.NAME!r} hides no {record.NAME!r}")
    if entry.record_hash != record.hidden_hash(blind):
        raise ProofError(f"the log's entry hides another {record.NAME!r}, or under another blind")
    said, hidden = entry.to_json(), record.to_json()
    for name in sorted(said.keys() & hidden.keys() - {"type"}):
        if said[name] != hidden[name]:
            raise ProofError(f"the entry and its {record.NAME!r} differ in {name!r}")
