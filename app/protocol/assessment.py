"""From everything a dispute left behind to its verdict: what the service runs once and an auditor runs again.

`Evidence` holds the log entries, the openings and the transcript. `find_fault` repeats every check that makes a verdict
VOID; `assess` turns the rest into trials, decides, and gives the figures. Nothing here knows where the bytes came from.

The checks of `find_fault`, in order:
  1. the registration's and the filing's beacons follow the rule and open their nonces
  2. the vendor key signed the statement and the filing record; the log's filing entry hides exactly that record
  3. an interface said to be logged or countersigned is
  4. opened inputs and labels fit the registered root
  5. blocks are slices of the challenge order; heads chain over exactly the queries shown
  6. each query's role opens its commitment, its request decodes to the input that role names, its labels are what its
     response says
Source: protocol.md sections 4-6; Adi et al. 2018 section 4 (Verify).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Protocol, TypeVar

from app.canonical import encode_json, sha256
from app.errors import OpeningInvalid, ProofError, Refused
from app.keys.commitment import InputOpening, LabelOpening, verify_input_opening, verify_label_opening
from app.keys.labels import BeaconValue, draw_label, salt_of
from app.keys.statement import Statement
from app.protocol.beacon import verify_beacon
from app.protocol.challenge import challenge_order, is_repeated, look_alike, seed_of
from app.protocol.evidence import Outcome, Step
from app.protocol.interface import Interface, LabelMap, interface_bits
from app.protocol.records import (
    BeaconEntry,
    BlockEntry,
    Entry,
    FilingEntry,
    FilingRecord,
    ModelEntry,
    RegistrationEntry,
)
from app.protocol.transcript import FIRST_HEAD, AskedQuery, Role, block_head
from app.protocol.verdict import Case, Decision, Standing, Trial, decide, figures, placebo_matches
from app.signature import verify_signature

E = TypeVar("E", bound=Entry)


class Codec(Protocol):
    """What reads requests and responses of the adapters; below the line nobody knows which ones there are."""

    def decode_request(self, interface: Interface, body: bytes, statement: Statement) -> bytes:
        """Read the canonical input out of a request."""

    def read_answer(
        self, interface: Interface, status: int, body: bytes, statement: Statement
    ) -> tuple[tuple[str, ...], str]:
        """Read the endpoint labels out of a response that arrived whole, or the word for why there are none."""


@dataclass(frozen=True)
class Logged:
    """An entry with its place in the log and its exact bytes."""

    index: int
    entry: Entry
    data: bytes


@dataclass(frozen=True)
class Evidence:
    """Everything a dispute left behind.

    `blocks_done` blocks of the challenge order were asked and opened, or withheld; `end` says why there is no further one
    (see `verdict.Case`). `spent` are the family's triggers that were spent before the filing.
    """

    registration: Logged
    registration_beacon: Logged
    filing: Logged
    filing_beacon: Logged
    blocks: tuple[Logged, ...]
    interface_entry: Logged | None
    record: FilingRecord
    signature: bytes
    blind: bytes
    spent: tuple[int, ...]
    blocks_done: int
    end: str
    input_openings: tuple[InputOpening, ...]
    label_openings: tuple[LabelOpening, ...]
    queries: tuple[AskedQuery, ...]

    @cached_property
    def statement(self) -> Statement:
        """Give the registered statement."""
        return _as(self.registration, RegistrationEntry).statement

    @cached_property
    def salt(self) -> bytes:
        """Derive the salt from which labels are drawn."""
        return salt_of(
            beacon_value(_as(self.registration_beacon, BeaconEntry)),
            self.statement.root,
            sha256(self.registration.data),
        )

    @cached_property
    def seed(self) -> bytes:
        """Derive the challenge seed."""
        return seed_of(beacon_value(_as(self.filing_beacon, BeaconEntry)), sha256(self.filing.data))

    @cached_property
    def order(self) -> list[int]:
        """Give the challenge: the triggers that may be asked, in order."""
        order = challenge_order(self.seed, self.statement.family(self.record.family), self.spent)
        return order[: self.record.policy.max_triggers]

    @property
    def due(self) -> list[int]:
        """Give the triggers of all finished blocks, in order."""
        return self.order[: self.blocks_done * self.record.policy.block_size]

    def block_of(self, index: int) -> int:
        """Give the block in which a trigger stands."""
        return self.order.index(index) // self.record.policy.block_size


@dataclass(frozen=True)
class Assessment:
    """A verdict with everything it rests on."""

    evidence: Evidence
    case: Case
    decision: Decision
    groups: Mapping[int, frozenset[int]]

    def report(self, standing: Standing) -> bytes:
        """Give the reported figures as canonical JSON."""
        answers, chances = [], []
        label_keys = {opening.index: opening.label_key for opening in self.evidence.label_openings}
        classes = self.case.classes
        for trial in self.case.trials[: self.decision.walk.asked]:
            if trial.step.outcome in (Outcome.MATCH, Outcome.MISMATCH):
                group = self.groups[trial.index]
                answers.append((trial.index, label_keys[trial.index], group))
                chances.append(Fraction(len(group), classes))
        placebos = placebo_matches(self.evidence.salt, classes, answers) if self.case.assurance_class == "A" else []
        return encode_json(figures(self.case, self.decision, standing, placebos, chances))


def beacon_value(entry: BeaconEntry) -> BeaconValue:
    """Give what a beacon entry opens."""
    return BeaconValue(entry.source, entry.round, entry.randomness, entry.nonce)


def assess(evidence: Evidence, fault: str = "") -> Assessment:
    """Decide a dispute from its evidence; `fault` is what `find_fault` said of it."""
    statement, record = evidence.statement, evidence.record
    groups = _groups(evidence)
    labels = _opened_labels(evidence)
    trials = tuple(_trial(evidence, groups, labels, position) for position in range(len(evidence.due)))
    covers = [query for query in evidence.queries if query.role.kind == "cover" and query.block < evidence.blocks_done]
    case = Case(
        assurance_class=statement.assurance_class,
        classes=len(statement.classes),
        bits=record.policy.bits,
        interface_bits=interface_bits(record.interface, record.interface_origin, statement),
        families=len(statement.families),
        ordinal=_as(evidence.filing, FilingEntry).ordinal,
        trials=trials,
        covers_asked=len(covers),
        covers_answered=sum(bool(query.record.labels) for query in covers),
        end=evidence.end,
        void=fault.partition(":")[0],
    )
    by_index = {role.index: group for role, group in groups.items() if role.kind == "trigger" and not role.repeat}
    return Assessment(evidence, case, decide(case), by_index)


def _groups(evidence: Evidence) -> dict[Role, frozenset[int]]:
    """Map each question's role to the classes its answer covers (none: no answer)."""
    label_map = LabelMap(evidence.record.interface, evidence.statement)
    return {
        query.role: label_map.classes_of(query.record.labels)
        for query in evidence.queries
        if query.role.kind != "cover"
    }


def _opened_labels(evidence: Evidence) -> dict[int, int]:
    """Give the label of each trigger whose label key was opened: drawn in class A, chosen in class B."""
    classes = len(evidence.statement.classes)
    return {
        opening.index: draw_label(evidence.salt, opening.label_key, opening.index, classes)
        if opening.label is None
        else opening.label
        for opening in evidence.label_openings
    }


def _trial(
    evidence: Evidence, groups: Mapping[Role, frozenset[int]], labels: Mapping[int, int], position: int
) -> Trial:
    index = evidence.order[position]
    answer = groups.get(Role("trigger", index, 0), frozenset())
    classes = len(evidence.statement.classes)
    if index not in labels:
        step = Step(Outcome.WITHHELD, 1, classes)
    elif not answer:
        step = Step(Outcome.NO_ANSWER, 1, classes)
    else:
        step = Step(Outcome.MATCH if labels[index] in answer else Outcome.MISMATCH, len(answer), classes)
    return Trial(
        index=index,
        step=step,
        look_alike_answered=bool(groups.get(Role("look-alike", index, 0))),
        differs=(_differs(groups, "trigger", index), _differs(groups, "look-alike", index)),
    )


def _differs(groups: Mapping[Role, frozenset[int]], kind: str, index: int) -> bool | None:
    first, second = groups.get(Role(kind, index, 0)), groups.get(Role(kind, index, 1))
    return first != second if first and second else None


def find_fault(evidence: Evidence, codec: Codec, arbiter_keys: Sequence[bytes] = ()) -> str:
    """Repeat every check that makes a verdict VOID; give `reason: what was found`, or "" if nothing was.

    `arbiter_keys` are the keys whose countersignature of an interface is believed.
    """
    try:
        _check_beacons(evidence)
        _check_signatures(evidence)
        _check_interface_origin(evidence, arbiter_keys)
        _check_openings(evidence)
        _check_blocks(evidence)
        for query in evidence.queries:
            _check_query(evidence, query, codec)
    except OpeningInvalid as error:
        return f"opening_invalid: {error.message}"
    except (ProofError, Refused) as error:
        return f"check_failed: {error.message}"
    return ""


def _check_beacons(evidence: Evidence) -> None:
    opened = (
        (evidence.registration, _as(evidence.registration, RegistrationEntry).nonce_hash, evidence.registration_beacon),
        (evidence.filing, _as(evidence.filing, FilingEntry).nonce_hash, evidence.filing_beacon),
    )
    for logged, nonce_hash, beacon in opened:
        entry = _as(beacon, BeaconEntry)
        if entry.entry != logged.index or beacon.index <= logged.index:
            raise ProofError(f"entry {beacon.index} is not the beacon of entry {logged.index}")
        if sha256(entry.nonce) != nonce_hash:
            raise ProofError(f"beacon {beacon.index} does not open the nonce of entry {logged.index}")
        if entry.source != evidence.statement.beacon:
            raise ProofError(f"beacon {beacon.index} is of source {entry.source}, registered is another")
        verify_beacon(
            entry.source,
            entry.round,
            entry.randomness,
            entry.signature,
            entry_index=logged.index,
            entry_time=logged.entry.time,
        )


def _check_signatures(evidence: Evidence) -> None:
    registration = _as(evidence.registration, RegistrationEntry)
    statement = registration.statement
    verify_signature(statement.vendor_key, registration.signature, statement.encode())
    verify_signature(statement.vendor_key, evidence.signature, evidence.record.encode())
    filing = _as(evidence.filing, FilingEntry)
    if filing.record_hash != evidence.record.hidden_hash(evidence.blind):
        raise ProofError("the filing entry hides another record than the one revealed")
    if not filing.registration == evidence.record.registration == evidence.registration.index:
        raise ProofError("the filing is of another registration")
    if evidence.filing.index <= evidence.registration_beacon.index:
        raise ProofError("the filing is older than the registration's beacon")


def _check_interface_origin(evidence: Evidence, arbiter_keys: Sequence[bytes]) -> None:
    interface, origin = evidence.record.interface, evidence.record.interface_origin
    if origin.kind == "countersigned":
        if origin.key not in arbiter_keys:
            raise ProofError(f"the interface is countersigned by {origin.key.hex()}, which is no arbiter's known here")
        verify_signature(origin.key, origin.signature, interface.encode())
    if origin.kind == "logged":
        logged = evidence.interface_entry
        if logged is None or logged.index != origin.entry:
            raise ProofError("the log entry of the interface is missing")
        entry = _as(logged, ModelEntry)
        if entry.sha256 != interface.digest() or logged.index >= evidence.registration_beacon.index:
            raise ProofError("the interface was not logged before the registration's beacon")


def _check_openings(evidence: Evidence) -> None:
    inputs = {opening.index: opening for opening in evidence.input_openings}
    labels = {opening.index: opening for opening in evidence.label_openings}
    if len(inputs) != len(evidence.input_openings) or len(labels) != len(evidence.label_openings):
        raise ProofError("a trigger is opened twice")
    if strangers := (inputs.keys() | labels.keys()) - set(evidence.order):
        raise ProofError(f"trigger {min(strangers)} was opened outside the challenge")
    for opening in evidence.input_openings:
        verify_input_opening(evidence.statement, opening)
    for opening_of_label in evidence.label_openings:
        opened = inputs.get(opening_of_label.index)
        if opened is None:
            raise ProofError(f"trigger {opening_of_label.index}: the label was opened without its input")
        verify_label_opening(evidence.statement, opened.label_commitment, opening_of_label)


def _check_blocks(evidence: Evidence) -> None:
    asked: dict[int, list[AskedQuery]] = {}
    for query in evidence.queries:
        asked.setdefault(query.block, []).append(query)
    if [query.record.n for query in evidence.queries] != list(range(len(evidence.queries))):
        raise ProofError("queries are not numbered from 0 without gaps")
    logged = {_as(block, BlockEntry).block: block for block in evidence.blocks}
    if logged.keys() != asked.keys() or len(logged) != len(evidence.blocks):
        raise ProofError("the blocks in the log are not the blocks that were asked")
    head, index = FIRST_HEAD, evidence.filing_beacon.index
    for number in sorted(asked):
        head = block_head(head, number, (query.record for query in asked[number]))
        block = _as(logged[number], BlockEntry)
        if block.head != head or block.filing != evidence.filing.index or logged[number].index <= index:
            raise ProofError(f"the head of block {number} in the log is not the head of the queries shown")
        index = logged[number].index
        _check_roles(evidence, number, [query.role for query in asked[number]])
    for opening in evidence.label_openings:
        if evidence.block_of(opening.index) not in asked:
            raise ProofError(f"trigger {opening.index}: the label was opened before a head over its block was logged")


def _check_roles(evidence: Evidence, number: int, roles: Sequence[Role]) -> None:
    """Every trigger of the block is asked with its look-alike, as often as the rule says, and nothing else but covers."""
    size = evidence.record.policy.block_size
    expected = set()
    for position, index in list(enumerate(evidence.order))[number * size : (number + 1) * size]:
        for repeat in range(1 + is_repeated(position)):
            expected |= {Role("trigger", index, repeat), Role("look-alike", index, repeat)}
    found = [role for role in roles if role.kind != "cover"]
    if len(found) != len(set(found)) or set(found) != expected:
        raise ProofError(f"block {number} does not ask exactly the triggers of the challenge and their look-alikes")


def _check_query(evidence: Evidence, query: AskedQuery, codec: Codec) -> None:
    record, role = query.record, query.role
    if role.commit(query.blind) != record.role_commitment:
        raise ProofError(f"query {record.n}: the role does not open its commitment")
    if sha256(query.request) != record.request_sha256:
        raise ProofError(f"query {record.n}: the request is not the one recorded")
    sent = codec.decode_request(evidence.record.interface, query.request, evidence.statement)
    if role.kind != "cover" and sent != _expected_input(evidence, role):
        raise ProofError(f"query {record.n}: the request does not hold the input of its role")
    _check_answer(evidence, query, codec)


def _expected_input(evidence: Evidence, role: Role) -> bytes:
    for opening in evidence.input_openings:
        if opening.index == role.index:
            return opening.input if role.kind == "trigger" else look_alike(evidence.seed, role.index, opening.input)
    raise ProofError(f"trigger {role.index} was asked but its input is not opened")


def _check_answer(evidence: Evidence, query: AskedQuery, codec: Codec) -> None:
    record = query.record
    if record.status is None or not record.response_sha256:
        # Nothing arrived whole: there is no response to show, and so no answer.
        if query.response or record.labels or not record.error:
            raise ProofError(f"query {record.n}: an answer is recorded without its response")
        return
    if sha256(query.response) != record.response_sha256:
        raise ProofError(f"query {record.n}: the response is not the one recorded")
    answer = codec.read_answer(evidence.record.interface, record.status, query.response, evidence.statement)
    if answer != (record.labels, record.error):
        raise ProofError(f"query {record.n}: the labels recorded are not what the response says")


def _as(logged: Logged, kind: type[E]) -> E:
    if not isinstance(logged.entry, kind):
        raise ProofError(f"entry {logged.index} is no {kind.__name__}")
    return logged.entry
