"""Disputes for the panels, from registration to verdict, without service, database or network: the suspect is a function.

Everything that decides is the product's own: labels, challenge, questions with look-alikes and repeats, the order in which
blocks are opened or withheld, and the verdict. Left out is what only shows that a record is genuine (signatures, heads,
commitments' openings), for here nobody doubts the record.

Invariants: the same numbers give the same disputes; a suspect sees inputs, never roles or labels.
Source: docs/protocol.md sections 5 to 8.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from app.canonical import sha256, u32, u64
from app.disputes.questions import BlockPlan, plan_questions
from app.disputes.states import (
    ASKING,
    WITHHELD_LIMIT,
    Progress,
    after_deadline,
    after_inputs,
    after_labels,
    after_probe,
)
from app.errors import ProofError
from app.keys.commitment import MarkingKey
from app.keys.labels import draw_labels, salt_of
from app.keys.statement import Statement
from app.keys.trigger_set import Family, ImageInput
from app.protocol.assessment import Assessment, Evidence, Logged, assess, beacon_value, price_of
from app.protocol.beacon import LOCAL, LOCAL_RANDOMNESS
from app.protocol.evidence import Step, can_reach, evidence_path, threshold
from app.protocol.interface import BY_CLAIMANT, Interface
from app.protocol.records import BeaconEntry, Entry, FilingEntry, FilingRecord, Policy, RegistrationEntry
from app.protocol.transcript import AskedQuery, Query
from app.protocol.verdict import is_paper_rule_met

BITS = 64
TIME = "2026-01-01T00:00:00Z"
ENDPOINT = "https://suspect.example/v1"
BY_INDEX = Interface(adapter="kserve_v1", options={"model": "m"}, preprocessing={}, label_map={"by": "index"})
NOBODY = bytes(32)
UNSIGNED = bytes(64)

# Endpoint labels for each canonical input, none where there is no answer.
Suspect = Callable[[Sequence[bytes]], list[tuple[str, ...]]]


@dataclass(frozen=True)
class Registered:
    """A registration with its beacon and everything the claimant holds."""

    key: MarkingKey
    statement: Statement
    entry: Logged
    beacon: Logged

    @cached_property
    def labels(self) -> tuple[int, ...]:
        """Give every trigger's label: drawn by the beacon in class A, the claimant's own in class B."""
        if self.key.labels is not None:
            return self.key.labels
        entry = self.beacon.entry
        assert isinstance(entry, BeaconEntry)
        salt = salt_of(beacon_value(entry), self.statement.root, sha256(self.entry.data))
        return tuple(draw_labels(self.key, salt, len(self.statement.classes)))


@dataclass(frozen=True)
class Claim:
    """One filing; `number` tells filings of one registration apart, and so draws another challenge."""

    family: str
    interface: Interface = BY_INDEX
    ordinal: int = 1
    number: int = 0
    block_size: int = 16
    covers_per_trigger: int = 0


class Claimant:
    """Who opens everything and withdraws nothing; liars do otherwise."""

    def opens_inputs(self, indices: Sequence[int], withheld_in_a_row: int) -> bool:  # noqa: ARG002  # for liars
        """Say whether to open the inputs of a block."""
        return True

    def opens_labels(self, indices: Sequence[int], withheld_in_a_row: int) -> bool:  # noqa: ARG002
        """Say whether to open the labels of a block that was asked."""
        return True

    def withdraws(self, so_far: Assessment) -> bool:  # noqa: ARG002
        """Say whether to withdraw after a block."""
        return False


HONEST = Claimant()


@dataclass(frozen=True)
class Played:
    """A dispute that ended, or a filing that the service refuses; `log2_e_max` is the highest E on the walk."""

    is_refused: bool
    assessment: Assessment
    log2_e_max: float
    log2_t: float
    paper_rule: bool

    @property
    def verdict(self) -> str:
        """Give the verdict, or REFUSED."""
        return "REFUSED" if self.is_refused else self.assessment.decision.verdict


def canonical(images: Tensor) -> list[bytes]:
    """Give the canonical bytes of images (N, C, H, W) uint8."""
    return [ImageInput(*image.shape, image.tobytes()).encode() for image in images.permute(0, 2, 3, 1).numpy()]


def register(
    key: MarkingKey, classes: Sequence[str], families: Sequence[Family], number: int, log: str = "panels"
) -> Registered:
    """Register a key; `number` tells registrations apart, and so draws other labels."""
    statement = Statement(
        log=f"{log}.example",
        vendor_key=NOBODY,
        root=key.root(),
        count=key.count,
        kind=key.kind,
        shape=key.shape,
        classes=tuple(classes),
        families=tuple(families),
        label_source="beacon" if key.labels is None else "vendor",
        beacon=LOCAL,
        covers=None,
        unmarked_model=None,
    )
    nonce = sha256(f"{log} registration".encode() + u64(number))
    entry = _logged(
        2 * number,
        RegistrationEntry(time=TIME, statement=statement, signature=UNSIGNED, nonce_hash=sha256(nonce)),
    )
    return Registered(key, statement, entry, _beacon(entry, nonce))


def _logged(index: int, entry: Entry) -> Logged:
    return Logged(index, entry, entry.encode())


def _beacon(logged: Logged, nonce: bytes) -> Logged:
    entry = BeaconEntry(
        time=TIME,
        entry=logged.index,
        nonce=nonce,
        source=LOCAL,
        round=logged.index,
        randomness=LOCAL_RANDOMNESS,
        signature=b"",
    )
    return _logged(logged.index + 1, entry)


def file_claim(registered: Registered, claim: Claim) -> Evidence:
    """File, and draw the challenge; nothing is asked yet."""
    record = FilingRecord(
        registration=registered.entry.index,
        family=claim.family,
        endpoint=ENDPOINT,
        interface=claim.interface,
        interface_origin=BY_CLAIMANT,
        evidence="label",
        policy=Policy(
            bits=BITS,
            max_triggers=registered.statement.count,
            covers_per_trigger=claim.covers_per_trigger,
            block_size=claim.block_size,
            attempts=1,
            answer="first",
            opening_seconds=3600,
            lookahead=0,
        ),
    )
    nonce = sha256(b"filing" + registered.entry.data + u32(claim.number))
    filing = _logged(
        registered.beacon.index + 1,
        FilingEntry(
            time=TIME,
            registration=registered.entry.index,
            ordinal=claim.ordinal,
            record_hash=record.hidden_hash(NOBODY),
            nonce_hash=sha256(nonce),
        ),
    )
    return Evidence(
        registration=registered.entry,
        registration_beacon=registered.beacon,
        filing=filing,
        filing_beacon=_beacon(filing, nonce),
        blocks=(),
        interface_entry=None,
        record=record,
        signature=UNSIGNED,
        blind=NOBODY,
        blocks_done=0,
        end="exhausted",
        input_openings=(),
        label_openings=(),
        queries=(),
    )


def is_refused(evidence: Evidence) -> bool:
    """Tell whether the service refuses a filing: even if all its triggers matched it could not be confirmed."""
    if evidence.statement.assurance_class == "B":
        return False
    try:
        bits = price_of(evidence)
    except ProofError:
        return True
    return not can_reach(_bound(evidence, bits), len(evidence.order), len(evidence.statement.classes))


def _bound(evidence: Evidence, bits: int) -> int:
    entry = evidence.filing.entry
    assert isinstance(entry, FilingEntry)
    return threshold(evidence.record.policy.bits, bits, len(evidence.statement.families), entry.ordinal)


def play(
    registered: Registered,
    claim: Claim,
    suspect: Suspect,
    covers: Sequence[bytes] = (),
    claimant: Claimant = HONEST,
) -> Played:
    """Play a dispute to its end. A filing that the service refuses is played too, to show what it would have brought.

    Raises: ProofError if the interface is dearer than any evidence.
    """
    evidence = file_claim(registered, claim)
    refused = is_refused(evidence)
    assessment = _play(registered, evidence, suspect, covers, claimant)
    decision, case = assessment.decision, assessment.case
    steps = [trial.step for trial in case.trials]
    return Played(
        is_refused=refused,
        assessment=assessment,
        log2_e_max=highest_log2_e(steps[: decision.walk.asked]) if case.assurance_class == "A" else -math.inf,
        log2_t=math.log2(case.bound),
        paper_rule=is_paper_rule_met(sum(step.is_match for step in steps), len(steps)),
    )


def highest_log2_e(steps: Sequence[Step]) -> float:
    """Give log2 of the highest E that a walk sees."""
    return max((math.log2(above) - math.log2(below) for above, below in evidence_path(steps)), default=0.0)


def _play(
    registered: Registered, evidence: Evidence, suspect: Suspect, covers: Sequence[bytes], claimant: Claimant
) -> Assessment:
    size = evidence.record.policy.block_size
    progress = Progress(state=ASKING, total=-(-len(evidence.order) // size), lookahead=0)
    unasked: set[int] = set()
    while not progress.is_through:
        block = progress.opened
        indices = evidence.order[block * size : (block + 1) * size]
        if claimant.opens_inputs(indices, progress.withheld_in_a_row):
            progress = after_inputs(progress, block)
            evidence = ask_block(evidence, registered.key, block, suspect, covers)
            progress = after_probe(progress, block, unasked)
            if claimant.opens_labels(indices, progress.withheld_in_a_row):
                opened = (*evidence.label_openings, *map(registered.key.open_label, indices))
                evidence = replace(evidence, label_openings=opened)
                progress = after_labels(progress, block, unasked)
            else:
                progress = after_deadline(progress, unasked)
        else:
            unasked.add(block)
            progress = after_deadline(progress, unasked)
        evidence = replace(evidence, blocks_done=progress.labelled)
        so_far = assess(replace(evidence, end="walk"))
        if so_far.decision.walk.end is not None:
            return so_far
        if claimant.withdraws(so_far):
            return assess(replace(evidence, end="withdrawn"))
    return assess(replace(evidence, end="withheld" if progress.withheld_in_a_row >= WITHHELD_LIMIT else "exhausted"))


def ask_block(evidence: Evidence, key: MarkingKey, block: int, suspect: Suspect, covers: Sequence[bytes]) -> Evidence:
    """Ask a block's questions, as `app.disputes.questions` plans them, and add the answers."""
    policy, first_n = evidence.record.policy, len(evidence.queries)
    start = block * policy.block_size
    triggers = [(index, key.inputs[index]) for index in evidence.order[start : start + policy.block_size]]
    planned = plan_questions(
        sha256(evidence.filing.data),
        evidence.seed,
        BlockPlan(block, start, triggers, first_n),
        covers,
        policy.covers_per_trigger,
    )
    answers = suspect([question.input for question in planned])
    asked = [
        AskedQuery(
            block=block,
            record=_query(question.n, labels),
            role=question.role,
            blind=question.blind,
            request=b"",
            response=b"",
        )
        for question, labels in zip(planned, answers, strict=True)
    ]
    return replace(evidence, queries=(*evidence.queries, *asked))


def _query(n: int, labels: tuple[str, ...]) -> Query:
    return Query(
        n=n,
        role_commitment=NOBODY,
        attempt=1,
        sent_at=TIME,
        request_sha256=NOBODY,
        status=200 if labels else None,
        response_sha256=b"",
        labels=labels,
        error="" if labels else "timeout",
        address="",
        certificate_sha256=b"",
    )
