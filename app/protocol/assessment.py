"""From everything a dispute left behind to its verdict: what the service runs once and an auditor runs again.

`Evidence` holds the log entries, the openings and the transcript; `assess` turns them into trials, decides, and gives the
figures. What makes a verdict VOID is found by `faults`. Nothing here knows where the bytes came from.

Source: docs/protocol.md sections 5, 6 and 8; Adi et al. 2018 section 4 (Verify).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeVar

from app.canonical import encode_json, sha256
from app.errors import ProofError
from app.keys.commitment import InputOpening, LabelOpening
from app.keys.cover_set import CoverTable
from app.keys.labels import BeaconValue, draw_label, salt_of
from app.keys.statement import Statement
from app.protocol.challenge import challenge_order, seed_of
from app.protocol.derivation import Derivation
from app.protocol.evidence import Outcome, Step, Walk
from app.protocol.figures import Standing, Trust, figures, placebo_matches
from app.protocol.flags import Said, flags
from app.protocol.interface import MAX_INTERFACE_BITS, LabelMap, interface_bits
from app.protocol.records import (
    BeaconEntry,
    Entry,
    FilingEntry,
    FilingRecord,
    RegistrationEntry,
)
from app.protocol.transcript import AskedQuery, Role
from app.protocol.verdict import Case, Decision, Trial, decide

E = TypeVar("E", bound=Entry)


@dataclass(frozen=True)
class Logged:
    """An entry with its place in the log and its exact bytes."""

    index: int
    entry: Entry
    data: bytes


@dataclass(frozen=True)
class PriorModel:
    """Weights that the accused delivered.

    `entry` is the `model` entry with their digest; run by the service on the transcript's questions, they repeated
    `repeated` of the endpoint's `answered` answers.
    """

    entry: Logged
    repeated: int
    answered: int


@dataclass(frozen=True)
class Evidence:
    """Everything a dispute left behind.

    `blocks_done` blocks of the challenge order were asked and opened, or withheld; `end` says why there is no further one
    (see `verdict.Case`). `covers` is the committed set, if one was used; `derivation` where the interface was derived;
    `egresses` counts the addresses from which the service asked.
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
    blocks_done: int
    end: str
    input_openings: tuple[InputOpening, ...]
    label_openings: tuple[LabelOpening, ...]
    queries: tuple[AskedQuery, ...]
    prior_model: PriorModel | None = None
    covers: CoverTable | None = None
    derivation: Derivation | None = None
    egresses: int = 1

    @cached_property
    def statement(self) -> Statement:
        """Give the registered statement."""
        return expect(self.registration, RegistrationEntry).statement

    @cached_property
    def salt(self) -> bytes:
        """Derive the salt from which labels are drawn."""
        return salt_of(
            beacon_value(expect(self.registration_beacon, BeaconEntry)),
            self.statement.root,
            sha256(self.registration.data),
        )

    @cached_property
    def seed(self) -> bytes:
        """Derive the challenge seed."""
        return seed_of(beacon_value(expect(self.filing_beacon, BeaconEntry)), sha256(self.filing.data))

    @cached_property
    def order(self) -> list[int]:
        """Give the challenge: the triggers that may be asked, in order."""
        order = challenge_order(self.seed, self.statement.family(self.record.family))
        return order[: self.record.policy.max_triggers]

    @cached_property
    def positions(self) -> dict[int, int]:
        """Give the place of each trigger in the challenge."""
        return {index: position for position, index in enumerate(self.order)}

    @cached_property
    def inputs(self) -> dict[int, InputOpening]:
        """Give the opened inputs by trigger."""
        return {opening.index: opening for opening in self.input_openings}

    @property
    def due(self) -> list[int]:
        """Give the triggers of all finished blocks, in order."""
        return self.order[: self.blocks_done * self.record.policy.block_size]

    def block_of(self, index: int) -> int:
        """Give the block in which a trigger stands."""
        return self.positions[index] // self.record.policy.block_size


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
        trust = Trust(
            beacon=self.evidence.statement.beacon,
            # Witness cosignatures and time stamps are not part of a bundle yet.
            time="operator trusted for time",
            interface_origin=self.evidence.record.interface_origin.kind,
            queriers=1,
            egresses=self.evidence.egresses,
        )
        reported = figures(self.case, self.decision, standing, placebos, chances, trust=trust)
        return encode_json(reported | {"flags": _flags_of(self.evidence)})


def _flags_of(evidence: Evidence) -> dict[str, Any]:
    label_map, by_ranking = LabelMap(evidence.record.interface, evidence.statement), evidence.record.by_ranking
    said = []
    for query in evidence.queries:
        if query.block < evidence.blocks_done:
            record = query.record
            labels = record.labels[:1] if by_ranking else record.labels
            classes = label_map.classes_of(labels)
            said.append(Said(query.role, labels, classes, record.address, record.certificate_sha256))
    derived = None if evidence.derivation is None else evidence.derivation.seen_at
    labels_of_covers = None if evidence.covers is None else evidence.covers.labels
    return flags(said, labels_of_covers, evidence.egresses, derived)


def beacon_value(entry: BeaconEntry) -> BeaconValue:
    """Give what a beacon entry opens."""
    return BeaconValue(entry.source, entry.round, entry.randomness, entry.nonce)


def price_of(evidence: Evidence) -> int:
    """Give what interface and address of a filing cost in bits."""
    record = evidence.record
    price = interface_bits(
        record.interface,
        record.interface_origin,
        evidence.statement,
        endpoint=record.endpoint,
        beacon_index=evidence.registration_beacon.index,
        derived_bits=0 if evidence.derivation is None else evidence.derivation.head.bits,
    )
    if price > MAX_INTERFACE_BITS:
        raise ProofError(f"an interface of {price} bits leaves nothing to prove")
    return price


def assess(evidence: Evidence, fault: str = "") -> Assessment:
    """Decide a dispute from its evidence; `fault` is what `find_fault` said of it.

    Raises: ProofError if the interface is dearer than any evidence; such a filing is never accepted.
    """
    statement, record = evidence.statement, evidence.record
    said = {query.role: query.record.labels for query in evidence.queries if query.role.kind != "cover"}
    labels = _opened_labels(evidence)
    label_map = LabelMap(record.interface, statement)
    asked = {role.index: answer for role, answer in said.items() if role.kind == "trigger" and not role.repeat}
    if record.by_ranking:
        rankings = {index: label_map.ranking_of(answer) for index, answer in asked.items()}
        groups = {index: frozenset(ranking[:1]) for index, ranking in rankings.items()}
    else:
        rankings = {}
        groups = {index: label_map.classes_of(answer) for index, answer in asked.items()}
    classes = len(statement.classes)
    steps = {
        index: _step(labels.get(index), groups.get(index, frozenset()), rankings.get(index, ()), classes)
        for index in evidence.due
    }
    # A second asking is held against the first by the highest label: a ranking's tail wavers with the machine.
    answers = {role: answer[:1] if record.by_ranking else answer for role, answer in said.items()}
    trials = tuple(_trial(index, answers, step) for index, step in steps.items())
    covers = [query for query in evidence.queries if query.role.kind == "cover" and query.block < evidence.blocks_done]
    case = Case(
        assurance_class=statement.assurance_class,
        classes=classes,
        bits=record.policy.bits,
        interface_bits=price_of(evidence),
        families=len(statement.families),
        ordinal=expect(evidence.filing, FilingEntry).ordinal,
        trials=trials,
        covers_asked=len(covers),
        covers_answered=sum(bool(query.record.labels) for query in covers),
        end=evidence.end,
        void=fault.partition(":")[0],
        by_ranking=record.by_ranking,
    )
    return Assessment(evidence, case, decide(case), groups)


def walk_as(assessment: Assessment, answers: Mapping[int, tuple[int, ...]]) -> Walk:
    """Walk the same triggers under the same bound as if they had been answered so: classes by trigger, the best first."""
    case, labels = assessment.case, _opened_labels(assessment.evidence)
    trials = tuple(
        replace(trial, step=_step_as(labels.get(trial.index), answers.get(trial.index, ()), case))
        for trial in case.trials
    )
    return replace(case, trials=trials).walk()


def _step_as(label: int | None, answer: tuple[int, ...], case: Case) -> Step:
    return _step(label, frozenset(answer[:1]), answer if case.by_ranking else (), case.classes)


def _opened_labels(evidence: Evidence) -> dict[int, int]:
    """Give the label of each trigger whose label key was opened: drawn in class A, chosen in class B."""
    classes = len(evidence.statement.classes)
    return {
        opening.index: draw_label(evidence.salt, opening.label_key, opening.index, classes)
        if opening.label is None
        else opening.label
        for opening in evidence.label_openings
    }


def _step(label: int | None, answer: frozenset[int], ranking: tuple[int, ...], classes: int) -> Step:
    """Hold an answer, which covers some of the classes and may rank more, against the label that was opened, if it was."""
    if label is None:
        return Step(Outcome.WITHHELD, 1, classes)
    if not answer:
        return Step(Outcome.NO_ANSWER, 1, classes)
    outcome = Outcome.MATCH if label in answer else Outcome.MISMATCH
    rank = ranking.index(label) + 1 if label in ranking else None
    return Step(outcome, len(answer), classes, rank, len(ranking))


def _trial(index: int, said: Mapping[Role, tuple[str, ...]], step: Step) -> Trial:
    trigger = Role("trigger", index, 0)
    return Trial(
        index=index,
        step=step,
        # A pair that the claimant kept back counts for the endpoint: it could have kept back those that speak for it.
        answered=bool(said[trigger]) if trigger in said else True,
        look_alike_answered=bool(said.get(Role("look-alike", index, 0))),
        differs=(_differs(said, "trigger", index), _differs(said, "look-alike", index)),
    )


def _differs(said: Mapping[Role, tuple[str, ...]], kind: str, index: int) -> bool | None:
    first, second = said.get(Role(kind, index, 0)), said.get(Role(kind, index, 1))
    return first != second if first and second else None


def expect(logged: Logged, kind: type[E]) -> E:
    """Give an entry as the kind it must be.

    Raises: ProofError if it is another.
    """
    if not isinstance(logged.entry, kind):
        raise ProofError(f"entry {logged.index} is no {kind.__name__}")
    return logged.entry
