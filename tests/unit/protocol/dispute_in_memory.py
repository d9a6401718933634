"""A complete dispute without service, database or network: log, marking key, questions and answers from fixed seeds.

`play(Plan(...))` gives the evidence that such a dispute leaves behind; `bundle_of` closes it with a verdict and writes the
bundle. An endpoint is a function from a question to endpoint labels, or None for no answer. `altered_evidence` breaks it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from app.canonical import encode_json, parse_json, sha256, time_text, u32
from app.errors import Malformed
from app.keys.commitment import MarkingKey
from app.keys.cover_set import CoverTable
from app.keys.labels import draw_label
from app.keys.statement import Statement
from app.keys.trigger_set import Family, TensorInput
from app.merkle.checkpoint import Checkpoint, sign_checkpoint
from app.merkle.receipt import Receipt, encode_receipt
from app.merkle.tree import MemoryTree, leaf_hash
from app.protocol.assessment import Assessment, Evidence, Logged, assess
from app.protocol.beacon import LOCAL, required_round
from app.protocol.bundle import EVIDENCE_FILES, OPTIONAL_FILES, EvidenceList, encode_bundle, encode_evidence
from app.protocol.challenge import is_repeated, look_alike
from app.protocol.derivation import Derivation, DerivationHead, DerivationQuery, MetadataAnswer, Rule
from app.protocol.derivation_price import price_derivation
from app.protocol.faults import find_fault
from app.protocol.figures import Standing
from app.protocol.interface import BY_CLAIMANT, Interface, InterfaceOrigin
from app.protocol.records import (
    BeaconEntry,
    BlockEntry,
    FilingEntry,
    FilingRecord,
    ModelEntry,
    Policy,
    RegistrationEntry,
    VerdictEntry,
    WithdrawalEntry,
)
from app.protocol.transcript import FIRST_HEAD, AskedQuery, Query, Role, block_head
from app.signature import public_key_of, sign

ORIGIN = "log.example/trapstreet"
ENDPOINT = "http://suspect.example:8080"
COVERS = 60
START = datetime(2026, 1, 31, 12, tzinfo=UTC)
# So that the beacons of entries 1 and 3 are rounds of drand that stand among the vectors.
DRAND_START = datetime(2023, 8, 23, 15, 58, 23, tzinfo=UTC)
ROUNDS = Path(__file__).parents[2] / "vectors" / "beacon"


def seed(name):
    """32 bytes that are always the same for a name."""
    return sha256(f"dispute in memory: {name}".encode())


LOG_KEY, VENDOR_KEY, ARBITER_KEY = seed("log key"), seed("vendor key"), seed("arbiter key")
LOG_PUBLIC, ARBITER_PUBLIC = public_key_of(LOG_KEY), public_key_of(ARBITER_KEY)


class MemoryLog:
    """A log whose entries are a list; entry i is dated i seconds after its start."""

    def __init__(self, private_key=LOG_KEY, origin=ORIGIN, start=START):
        self.private_key, self.origin, self.start, self.entries = private_key, origin, start, []

    @property
    def public_key(self):
        return public_key_of(self.private_key)

    @property
    def next_time(self):
        return time_text(self.start + timedelta(seconds=len(self.entries)))

    def append(self, kind, **fields) -> Logged:
        entry = kind(time=self.next_time, **fields)
        self.entries.append(entry.encode())
        return Logged(len(self.entries) - 1, entry, entry.encode())

    def receipt(self, index) -> str:
        tree = MemoryTree([leaf_hash(data) for data in self.entries])
        note = sign_checkpoint(Checkpoint(self.origin, tree.size, tree.root()), self.private_key)
        return encode_receipt(Receipt(index, tuple(tree.path(index)), note)).decode()


class JsonCodec:
    """The smallest served protocol: {"input": hex} is answered by {"labels": [...]}."""

    def decode_request(self, interface, body, statement, expected=None):
        match parse_json(body):
            case {"input": str(text)}:
                return bytes.fromhex(text)
            case _:
                raise Malformed("not a request of this codec")

    def read_answer(self, interface, status, body, statement, *, ranking=False):
        if status != 200:
            return (), f"status_{status}"
        return tuple(parse_json(body)["labels"]), ""

    def metadata_paths(self, at, adapter):
        return [("kserve_v1", "/v1/models")]

    def rule_of(self, at, adapter, metadata, statement, covers):
        """One that is refused, one that is always answered alike, and the right one, last."""
        (model,) = parse_json(metadata[0].response)["models"]
        ways = ({"layout": "flat"}, {"layout": "nested"}, {})
        found = [Interface("kserve_v1", {"model": model}, way, {"by": "name"}) for way in ways]
        return Rule(statement, covers, found)


@dataclass(frozen=True)
class Question:
    """What an endpoint is asked; `label` is the class drawn for the trigger, which only a stolen model knows."""

    role: Role
    input: bytes
    label: int
    classes: int

    @property
    def guess(self) -> int:
        """What an independent model answers: any function of the input."""
        return int.from_bytes(sha256(self.input)[:8], "big") % self.classes


Endpoint = Callable[[Question], tuple[str, ...] | None]


def name_of(index: int) -> tuple[str, ...]:
    return (f"class {index}",)


def stolen(question):
    """Repeat every trigger's label."""
    return name_of(question.label if question.role.kind == "trigger" else question.guess)


def innocent(question):
    return name_of(question.guess)


def silent(question):
    """Answer nothing, not even covers."""


def silent_on_triggers(question):
    return None if question.role.kind == "trigger" else name_of(question.guess)


def stolen_and_forgetful(question):
    """Rank the drawn label of a trigger first or second, the rest by class; answer others as an independent model."""
    first = question.label if question.role.kind == "trigger" else question.guess
    others = [number for number in range(question.classes) if number != first]
    place = question.role.index % 2
    return tuple(f"class {number}" for number in [*others[:place], first, *others[place:]])


def wavering_on_triggers(question):
    """Change the answer whenever a trigger comes again."""
    return name_of((question.guess + question.role.repeat * (question.role.kind == "trigger")) % question.classes)


INTERFACE = Interface(adapter="kserve_v1", options={"model": "m"}, preprocessing={}, label_map={"by": "name"})


@dataclass(frozen=True)
class Plan:
    """How a dispute is to go; `blocks` stops it after so many blocks."""

    endpoint: Endpoint = stolen
    classes: int = 100
    triggers: int = 16
    block_size: int = 8
    max_triggers: int = 65_536
    covers_per_trigger: int = 1
    assurance_class: str = "A"
    origin: str = "logged"
    withheld: frozenset[int] = frozenset()  # blocks whose inputs were never opened
    unlabelled: frozenset[int] = frozenset()  # blocks that were asked, but whose labels were never opened
    blocks: int | None = None
    end: str = "walk"
    labelled: bool = False  # the covers are committed ones
    derivations: int = 1  # which of its registration's derivations this is
    log_key: bytes = LOG_KEY
    registered_for: str = ORIGIN
    evidence: str = "label"
    beacon: str = LOCAL
    interface: bytes = INTERFACE.encode()


@dataclass(frozen=True)
class Played:
    """A dispute that ended."""

    plan: Plan
    log: MemoryLog
    key: MarkingKey
    evidence: Evidence

    @cached_property
    def assessment(self) -> Assessment:
        return assess(self.evidence, find_fault(self.evidence, JsonCodec(), [ARBITER_PUBLIC], log_key=LOG_PUBLIC))


def input_of(number: int, purpose: str = "input") -> bytes:
    """A tensor of 40 values: two blocks that a look-alike moves and a rest that stays."""
    digest = b"".join(sha256(f"{purpose} {number} {part}".encode()) for part in range(2))
    return TensorInput.of((5, 8), [byte / 16 for byte in digest[:40]]).encode()


@cache
def marking_key(triggers: int, classes: int, assurance_class: str) -> MarkingKey:
    labels = tuple(seed(f"chosen label {index}")[0] % classes for index in range(triggers))
    inputs = tuple(input_of(index) for index in range(triggers))
    return MarkingKey(seed("master"), inputs, labels if assurance_class == "B" else None)


@cache
def play(plan: Plan = Plan()) -> Played:
    """Play a dispute from registration to its last block."""
    key = marking_key(plan.triggers, plan.classes, plan.assurance_class)
    log = MemoryLog(plan.log_key, start=START if plan.beacon == LOCAL else DRAND_START)
    interface_entry = _log_interface(plan, log) if plan.origin == "logged" else None
    statement = statement_of(plan, key)
    registration = log.append(
        RegistrationEntry,
        statement=statement,
        signature=sign(VENDOR_KEY, statement.encode()),
        nonce_hash=sha256(seed("registration nonce")),
    )
    registration_beacon = _beacon(plan, log, registration, seed("registration nonce"))
    covers = cover_table(plan) if plan.labelled else None
    derivation = None
    if plan.origin == "derived":
        derivation = derive(plan, statement, registration.index)
        interface_entry = log_derivation(log, derivation)
    record = filing_record(plan, registration.index, interface_entry)
    if derivation is not None and derivation.head.interface is not None:
        record = replace(record, interface=derivation.head.interface)
    filing = log.append(
        FilingEntry,
        registration=registration.index,
        ordinal=1,
        record_hash=record.hidden_hash(seed("blind")),
        nonce_hash=sha256(seed("filing nonce")),
    )
    evidence = Evidence(
        registration=registration,
        registration_beacon=registration_beacon,
        filing=filing,
        filing_beacon=_beacon(plan, log, filing, seed("filing nonce")),
        blocks=(),
        interface_entry=interface_entry,
        record=record,
        signature=sign(VENDOR_KEY, record.encode()),
        blind=seed("blind"),
        blocks_done=0,
        end=plan.end,
        input_openings=(),
        label_openings=(),
        queries=(),
        covers=covers,
        derivation=derivation,
    )
    total = -(-len(evidence.order) // plan.block_size) if plan.blocks is None else plan.blocks
    for number in range(total):
        evidence = _play_block(plan, log, key, evidence, number)
    return Played(plan, log, key, evidence)


def statement_of(plan: Plan, key: MarkingKey) -> Statement:
    return Statement(
        log=plan.registered_for,
        vendor_key=public_key_of(VENDOR_KEY),
        root=key.root(),
        count=key.count,
        kind=key.kind,
        shape=key.shape,
        classes=tuple(f"class {index}" for index in range(plan.classes)),
        families=(Family("all", 0, key.count),),
        label_source="beacon" if plan.assurance_class == "A" else "vendor",
        beacon=plan.beacon,
        covers=cover_table(plan).commitment if plan.labelled else None,
        unmarked_model=None,
    )


def cover_table(plan: Plan) -> CoverTable:
    """Covers whose classes are what the endpoints of this file answer."""
    inputs = [input_of(number, "cover") for number in range(COVERS)]
    labels = [Question(Role("cover", number, 0), data, 0, plan.classes).guess for number, data in enumerate(inputs)]
    return CoverTable(digests=tuple(map(sha256, inputs)), labels=tuple(labels))


def derive(plan: Plan, statement: Statement, registration: int) -> Derivation:
    """Put the covers to the endpoint as the rule says."""
    said = encode_json({"models": ["m"]})
    metadata = (MetadataAnswer("kserve_v1", "/v1/models", 200, said, "192.0.2.1", b""),)
    head = DerivationHead(registration, plan.derivations, 0, 1, ENDPOINT, {}, None, metadata, None)
    rule = JsonCodec().rule_of({}, None, metadata, statement, cover_table(plan))
    queries: list[DerivationQuery] = []
    answers: dict[tuple[int, int], tuple[str, ...]] = {}
    while pairs := rule.next_pairs(answers):
        for candidate, cover in pairs:
            data = input_of(cover, "cover")
            right = plan.endpoint(Question(Role("cover", cover, 0), data, 0, plan.classes))
            labels = (None, ("same",), right)[candidate]
            queries.append(
                DerivationQuery(
                    candidate=candidate,
                    cover=cover,
                    sent_at=time_text(START),
                    status=400 if labels is None else 200,
                    labels=labels or (),
                    error="status_400" if labels is None else "",
                    address="192.0.2.1",
                    certificate_sha256=b"",
                    request=encode_json({"input": data.hex()}),
                    response=b"no" if labels is None else encode_json({"labels": list(labels)}),
                )
            )
            answers[candidate, cover] = labels or ()
    statuses = {query.pair: query.status for query in queries}
    price = price_derivation(plan.derivations, None, metadata, rule, answers, statuses)
    return Derivation(replace(head, bits=price.bits, interface=rule.interface(answers)), tuple(queries))


def log_derivation(log: MemoryLog, derivation: Derivation, key: bytes = LOG_KEY) -> Logged:
    owner, digest = public_key_of(key), sha256(derivation.encode())
    return log.append(
        ModelEntry, owner_key=owner, sha256=digest, signature=sign(key, ModelEntry.signed_bytes(owner, digest))
    )


def filing_record(plan: Plan, registration: int, interface_entry: Logged | None) -> FilingRecord:
    origin = {
        "claimant": BY_CLAIMANT,
        "logged": InterfaceOrigin("logged", 0 if interface_entry is None else interface_entry.index, b"", b""),
        "derived": InterfaceOrigin("derived", 0 if interface_entry is None else interface_entry.index, b"", b""),
        "countersigned": InterfaceOrigin("countersigned", None, ARBITER_PUBLIC, sign(ARBITER_KEY, plan.interface)),
    }[plan.origin]
    policy = Policy(
        bits=64,
        max_triggers=plan.max_triggers,
        covers_per_trigger=plan.covers_per_trigger,
        block_size=plan.block_size,
        attempts=1,
        answer="first",
        opening_seconds=3600,
        lookahead=0,
    )
    return FilingRecord(
        registration=registration,
        family="all",
        endpoint=ENDPOINT,
        interface=Interface.parse(plan.interface),
        interface_origin=origin,
        evidence=plan.evidence,
        policy=policy,
    )


def _log_interface(plan: Plan, log: MemoryLog) -> Logged:
    owner, digest = public_key_of(VENDOR_KEY), sha256(plan.interface)
    signature = sign(VENDOR_KEY, ModelEntry.signed_bytes(owner, digest))
    return log.append(ModelEntry, owner_key=owner, sha256=digest, signature=signature)


def _beacon(plan: Plan, log: MemoryLog, logged: Logged, nonce: bytes) -> Logged:
    number = required_round(plan.beacon, logged.index, logged.entry.time)
    drawn = {"randomness": bytes(32).hex(), "signature": ""}
    if plan.beacon != LOCAL:
        drawn = json.loads((ROUNDS / f"quicknet_{number}.json").read_bytes())
    return log.append(
        BeaconEntry,
        entry=logged.index,
        nonce=nonce,
        source=plan.beacon,
        round=number,
        randomness=bytes.fromhex(drawn["randomness"]),
        signature=bytes.fromhex(drawn["signature"]),
    )


def _play_block(plan: Plan, log: MemoryLog, key: MarkingKey, evidence: Evidence, number: int) -> Evidence:
    if number in plan.withheld:
        return replace(evidence, blocks_done=number + 1)
    start = number * plan.block_size
    indices = evidence.order[start : start + plan.block_size]
    roles = []
    for position, index in enumerate(indices, start=start):
        roles += cover_roles(plan, position)
        for repeat in range(1 + is_repeated(position)):
            roles += (Role("trigger", index, repeat), Role("look-alike", index, repeat))
    roles.sort(key=lambda role: sha256(role.encode()))
    first = len(evidence.queries)
    asked = [ask(plan, key, evidence, number, first + place, role) for place, role in enumerate(roles)]
    queries = (*evidence.queries, *asked)
    head = block_head(last_head(evidence), number, (query.record for query in asked))
    block = log.append(BlockEntry, filing=evidence.filing.index, block=number, head=head)
    opened = [] if number in plan.unlabelled else [key.open_label(index) for index in indices]
    return replace(
        evidence,
        blocks=(*evidence.blocks, block),
        blocks_done=number + 1,
        input_openings=(*evidence.input_openings, *(key.open_input(index) for index in indices)),
        label_openings=(*evidence.label_openings, *opened),
        queries=queries,
    )


def cover_roles(plan: Plan, position: int) -> list[Role]:
    """The covers of one trigger's share; one of them again where the rule says."""
    each = plan.covers_per_trigger
    numbers = [number % COVERS for number in range(position * each, (position + 1) * each)]
    again = is_repeated(position) and each > 1
    roles = [Role("cover", number, 0) for number in numbers[: each - again]]
    return [*roles, Role("cover", numbers[0], 1)] if again else roles


def last_head(evidence: Evidence) -> bytes:
    return evidence.blocks[-1].entry.head if evidence.blocks else FIRST_HEAD


def ask(plan: Plan, key: MarkingKey, evidence: Evidence, block: int, n: int, role: Role) -> AskedQuery:
    """Ask the plan's endpoint one question."""
    if role.kind == "cover":
        sent, label = input_of(role.index, "cover"), 0
    else:
        sent = key.inputs[role.index]
        sent = sent if role.kind == "trigger" else look_alike(evidence.seed, role.index, sent)
        label_key = key.label_key(role.index)
        drawn = draw_label(evidence.salt, label_key, role.index, plan.classes)
        label = drawn if key.labels is None else key.labels[role.index]
    labels = plan.endpoint(Question(role, sent, label, plan.classes))
    blind = sha256(b"role blind" + u32(n))
    request = encode_json({"input": sent.hex()})
    response = b"" if labels is None else encode_json({"labels": list(labels)})
    record = Query(
        n=n,
        role_commitment=role.commit(blind),
        attempt=1,
        sent_at=evidence.filing_beacon.entry.time,
        request_sha256=sha256(request),
        status=None if labels is None else 200,
        response_sha256=b"" if labels is None else sha256(response),
        labels=labels or (),
        error="timeout" if labels is None else "",
        address="192.0.2.1",
        certificate_sha256=b"",
    )
    return AskedQuery(block=block, record=record, role=role, blind=blind, request=request, response=response)


def bundle_of(
    played: Played,
    *,
    files: Mapping[str, bytes] | None = None,
    standing: Standing | None = None,
    entry: type[VerdictEntry] | None = None,
    **stated: Any,
) -> dict[str, bytes]:
    """Log the verdict and write the bundle; the played log stays as it was.

    `files` replaces evidence files and `stated` values of the verdict entry, as a log that lies would.
    """
    log = MemoryLog(played.log.private_key, played.log.origin)
    log.entries = list(played.log.entries)
    decision = played.assessment.decision
    written = encode_evidence(played.evidence, played.assessment.report(standing or Standing(len(log.entries), 1, 1)))
    if files:
        written |= files
        listed = (*EVIDENCE_FILES, *OPTIONAL_FILES)
        digests = tuple((name, sha256(written[name])) for name in listed if name in written)
        written["evidence.json"] = EvidenceList(files=digests).encode()
    fields = {
        "filing": played.evidence.filing.index,
        "blind": played.evidence.blind,
        "record": played.evidence.record,
        "verdict": decision.verdict,
        "reason": decision.reason,
        "asked": decision.walk.asked,
        "matches": decision.walk.matches,
        "bundle": sha256(written["evidence.json"]),
    }
    is_withdrawal = played.evidence.end == "withdrawn" and decision.verdict == "INCONCLUSIVE"
    kind = entry or (WithdrawalEntry if is_withdrawal else VerdictEntry)
    verdict = log.append(kind, **(fields | stated))
    receipts = {index: log.receipt(index) for index in range(len(log.entries))}
    return encode_bundle(played.evidence, written, verdict, receipts, log=log.origin, log_key=log.public_key)
