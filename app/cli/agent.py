"""The agent: answers every opening of a vendor's disputes from a key file, until stopped.

It believes the service nothing that the log does not prove. Before an input is opened: the vendor's own key signed the
filing record, the filing in the log hides exactly that record, registration, filing and the filing's beacon are in the log,
the beacon follows the rule, and the triggers asked for are exactly the block of the challenge that the service names.
Before a label key is opened: the head of its block is in the log, after the beacon.

Invariants: what was proven of a filing holds for exactly what was shown then, and anything shown otherwise is proven anew;
openings are derived, so a killed agent resumes by looking again, and one sent twice is the same bytes.
Source: docs/protocol.md section 6.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from app.canonical import Record, as_form, integer, octets, sequence, sha256, text
from app.cli.client import ApiClient, ApiProblem
from app.errors import ProofError, Refused
from app.keys.commitment import MarkingKey
from app.keys.statement import Statement
from app.protocol.assessment import beacon_value, expect
from app.protocol.challenge import challenge_order, seed_of
from app.protocol.faults import verify_beacon_of, verify_filing
from app.protocol.records import BeaconEntry, BlockEntry, FilingEntry, FilingRecord, RegistrationEntry

OnEvent = Callable[[dict[str, Any]], None]
R = TypeVar("R", bound=Record)

# As the service's own limits: a block's number, and its triggers.
MAX_BLOCK = 65_536
MAX_BLOCK_SIZE = 256
MAX_RECORD_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class ShownFiling(Record):
    """A filing as the service shows it: the part of a dispute that the log must prove."""

    record: str = field(metadata=as_form(text(1, MAX_RECORD_CHARACTERS)))
    signature: bytes = field(metadata=as_form(octets(64)))
    blind: bytes = field(metadata=as_form(octets(32)))
    filing_index: int = field(metadata=as_form(integer(0)))
    beacon_index: int = field(metadata=as_form(integer(0)))


@dataclass(frozen=True)
class Need(Record):
    """A block that the service wants opened."""

    block: int = field(metadata=as_form(integer(0, MAX_BLOCK)))
    indices: tuple[int, ...] = field(metadata=as_form(sequence(integer(0), 1, MAX_BLOCK_SIZE)))


@dataclass(frozen=True)
class LabelNeed(Need):
    """A block whose label keys the service wants, and where it says that the block's head is in the log."""

    entry_index: int = field(metadata=as_form(integer(0)))


@dataclass(frozen=True)
class ProvenFiling:
    """What the log proves of a filing: its entry, its beacon's, and the triggers asked in order, in blocks of `size`."""

    filing: int
    beacon: int
    order: tuple[int, ...]
    size: int

    def check_block(self, need: Need) -> None:
        """Refuse triggers that are not this block of the challenge."""
        if need.indices != self.order[need.block * self.size : (need.block + 1) * self.size]:
            raise ProofError(f"the triggers asked for are not block {need.block} of the challenge")


class Agent:
    """One marking key and the disputes of its registration."""

    def __init__(
        self, client: ApiClient, key: MarkingKey, on_event: OnEvent, *, registration: int | None = None
    ) -> None:
        """Answer for `key` through `client`, telling `on_event` what was done or refused.

        A root is public and may be registered again by anyone: `registration` is the one entry to answer for, if given.
        """
        self._client = client
        self._registration = registration
        self._key = key
        self._root = key.root()
        self._on_event = on_event
        self._proven: dict[ShownFiling, ProvenFiling | None] = {}
        self._refused: set[tuple[str, str]] = set()

    def answer_all(self) -> int:
        """Answer what is asked for now; give the number of blocks opened.

        Raises: ApiProblem if the API key does not open disputes; Unavailable.
        """
        opened = 0
        for dispute in self._client.items("/v1/disputes", needs_opening="true"):
            try:
                opened += self._answer(dispute["id"], self._client.get(f"/v1/disputes/{dispute['id']}"))
            except (ProofError, Refused) as error:
                self._refuse(dispute["id"], error.message)
            except ApiProblem as problem:
                if problem.status in (401, 403):
                    raise
                # 409: the dispute moved on between our two calls, for instance because another agent answers too.
                if problem.status != 409:
                    self._refuse(dispute["id"], problem.message)
        return opened

    def registrations(self) -> list[int]:
        """Find the entries in which this vendor registered the key, of those that are answered for.

        Raises: ProofError; ApiProblem; Unavailable.
        """
        found = [self._client.log.entry(item["entry_index"]) for item in self._client.items("/v1/registrations")]
        ours = [logged.index for logged in found if self._is_ours(expect(logged, RegistrationEntry).statement)]
        return [index for index in ours if self._registration in (None, index)]

    def _is_ours(self, statement: Statement) -> bool:
        return (statement.root, statement.count) == (self._root, self._key.count)

    def _answer(self, dispute_id: str, dispute: dict[str, Any]) -> int:
        needs = dispute["needs"]
        labels = _read(LabelNeed, needs["labels"]) if needs["labels"] else None
        inputs = _read(Need, needs["inputs"]) if needs["inputs"] else None
        proven = self._proven_of(_read(ShownFiling, dispute)) if labels or inputs else None
        if proven is None:
            return 0
        opened = 0
        if labels:
            proven.check_block(labels)
            self._check_head(proven, labels)
            self._send(dispute_id, "label", labels, [self._key.open_label(index).to_json() for index in labels.indices])
            opened += 1
        if inputs:
            proven.check_block(inputs)
            self._send(dispute_id, "input", inputs, [self._key.open_input(index).to_json() for index in inputs.indices])
            opened += 1
        return opened

    def _proven_of(self, shown: ShownFiling) -> ProvenFiling | None:
        if shown not in self._proven:
            self._proven[shown] = self._prove(shown)
        return self._proven[shown]

    def _prove(self, shown: ShownFiling) -> ProvenFiling | None:
        """Derive the challenge from the log, or give None if the filing is not of this key's registration."""
        log = self._client.log
        record = FilingRecord.parse(shown.record.encode(errors="surrogatepass"))
        registration = log.entry(record.registration)
        statement = expect(registration, RegistrationEntry).statement
        if not self._is_ours(statement):
            return None
        if self._registration not in (None, registration.index):
            raise ProofError(f"the filing is of registration {registration.index}, not of {self._registration}")
        filing, beacon = log.entry(shown.filing_index), log.entry(shown.beacon_index)
        verify_filing(registration, filing, record, shown.signature, shown.blind)
        verify_beacon_of(filing, expect(filing, FilingEntry).nonce_hash, beacon, statement.beacon)
        seed = seed_of(beacon_value(expect(beacon, BeaconEntry)), sha256(filing.data))
        order = challenge_order(seed, statement.family(record.family))[: record.policy.max_triggers]
        return ProvenFiling(filing.index, beacon.index, tuple(order), record.policy.block_size)

    def _check_head(self, proven: ProvenFiling, need: LabelNeed) -> None:
        logged = self._client.log.entry(need.entry_index)
        head = expect(logged, BlockEntry)
        if (head.filing, head.block) != (proven.filing, need.block) or logged.index <= proven.beacon:
            raise ProofError(f"entry {logged.index} is not the head of block {need.block}")

    def _send(self, dispute_id: str, what: str, need: Need, openings: list[dict[str, Any]]) -> None:
        body = {"block": need.block, "openings": openings}
        self._client.post(f"/v1/disputes/{dispute_id}/{what}-openings", body)
        self._on_event(
            {"event": "opened", "dispute": dispute_id, "what": what, "block": need.block, "count": len(openings)}
        )

    def _refuse(self, dispute_id: str, reason: str) -> None:
        if (dispute_id, reason) not in self._refused:
            self._refused.add((dispute_id, reason))
            self._on_event({"event": "refused", "dispute": dispute_id, "reason": reason})


def _read(kind: type[R], value: dict[str, Any]) -> R:
    """Read what the agent needs of an answer, which may hold more.

    Raises: Malformed.
    """
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]  # subclasses are dataclasses
    return kind.from_json({name: item for name, item in value.items() if name in known})
