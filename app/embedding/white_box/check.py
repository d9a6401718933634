"""The white-box check: the suspect's weights are at hand, and are asked without an endpoint. No torch here.

With the suspect's own head the answers are the suspect's, and the evidence of docs/protocol.md section 8.1 applies. With a
vendor's head there is no chance of 1/K: whoever may choose a head can fit one to an innocent network. So that count stands
apart as no evidence, beside the same count on controls, and is refused unless the head was committed to before the suspect.

Invariants: the count with a vendor's head has no E, tail or verdict anywhere; without a dated head and a dated suspect, and
without a control, it is not made at all.
Source: docs/survival.md, "What is no evidence"; Adi et al. 2018 section 5.3 (the owner's output layer put back).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from app.canonical import (
    Record,
    as_form,
    choice,
    flag,
    integer,
    nullable,
    octets,
    seconds_of,
    sequence,
    text,
    timestamp,
)
from app.embedding.child_order import PATH
from app.embedding.survival.odds import evidence_after
from app.embedding.survival.order import COUNTS, USUAL_INTERFACE_BITS
from app.errors import Malformed, PolicyRefused
from app.keys.statement import Statement
from app.keys.trigger_set import MAX_FAMILIES
from app.protocol.assessment import Logged
from app.protocol.evidence import log2_text, threshold
from app.protocol.records import ModelEntry

WHITE_BOX_REPORT = "white-box.json"
MAX_CONTROLS = 16
TIME = timestamp()

NOT_EVIDENCE = (
    "With the vendor's head in place of the suspect's own this many triggers match. This is not evidence: a head can be "
    "fitted to make a network that never saw the mark match as well. Compare with the controls."
)


@dataclass(frozen=True)
class Admission(Record):
    """Why a vendor's head may be tried: when it was committed to, and since when the suspect is known.

    `suspect_source`: `log` if a model entry dates the suspect's weights, `given` if only the date that was stated does.
    """

    head_sha256: bytes = field(metadata=as_form(octets(32)))
    head_entry: int = field(metadata=as_form(integer(0)))
    head_time: str = field(metadata=as_form(TIME))
    suspect_since: str = field(metadata=as_form(TIME))
    suspect_source: str = field(metadata=as_form(choice("log", "given")))


def admit_head(
    head: Logged,
    head_sha256: bytes,
    suspect_sha256: bytes,
    suspect_entries: Sequence[Logged] = (),
    suspect_since: str | None = None,
) -> Admission:
    """Admit a head that was committed to before the suspect's weights existed, as far as log and given date show.

    Entries must be proven to be in the log by the caller.
    Raises: PolicyRefused with what is missing; Malformed if an entry is of something else.
    """
    logged = _model_entry(head, head_sha256, "the head's entry")
    dated = [(entry.index, _model_entry(entry, suspect_sha256, "a suspect's entry").time) for entry in suspect_entries]
    if any(index <= head.index for index, _ in dated):
        raise PolicyRefused(
            f"the suspect's weights stand in the log before the head (entry {min(dated)[0]}, the head {head.index}): "
            "a head fitted to them afterwards would match too"
        )
    if suspect_since is not None and seconds_of(suspect_since) <= seconds_of(logged.time):
        raise PolicyRefused(
            f"the suspect's weights existed at {suspect_since}, when the head was not yet committed to ({logged.time})"
        )
    if not dated and suspect_since is None:
        raise PolicyRefused(
            "nothing shows that the head is older than the suspect's weights: name a model entry of the weights, or since "
            "when they are known"
        )
    times = [time for _, time in dated] + ([suspect_since] if suspect_since is not None else [])
    return Admission(
        head_sha256=head_sha256,
        head_entry=head.index,
        head_time=logged.time,
        suspect_since=min(times, key=seconds_of),
        suspect_source="log" if dated else "given",
    )


def _model_entry(logged: Logged, digest: bytes, what: str) -> ModelEntry:
    if not isinstance(logged.entry, ModelEntry):
        raise Malformed(f"{what} ({logged.index}) is no model entry")
    if logged.entry.sha256 != digest:
        raise Malformed(f"{what} ({logged.index}) commits to another SHA-256 than the file's")
    return logged.entry


@dataclass(frozen=True)
class Control(Record):
    """A network that never saw the mark: the unmarked model, or a public backbone that either party names."""

    name: str = field(metadata=as_form(text(1, 200)))
    path: str = field(metadata=as_form(PATH))


@dataclass(frozen=True)
class WhiteBoxOrder(Record):
    """One check: the suspect's weights and, if it was admitted, a vendor's head with its controls."""

    NAME: ClassVar[str] = "white-box-order"
    # The program that takes this order.
    MODULE: ClassVar[str] = "app.embedding.white_box.child"

    statement: Statement = field(metadata=as_form(Statement.form()))
    salt: bytes = field(metadata=as_form(octets(32, or_empty=True)))
    suspect_path: str = field(metadata=as_form(PATH))
    # A weights file whose last linear layer is the head, or a safetensors file with `weight` (K, D) and `bias` (K,).
    head_path: str | None = field(metadata=as_form(nullable(PATH)))
    admission: Admission | None = field(metadata=as_form(nullable(Admission.form())))
    controls: tuple[Control, ...] = field(metadata=as_form(sequence(Control.form(), 0, MAX_CONTROLS)))
    bits: int = field(metadata=as_form(choice(64, 80)))
    device: str = field(metadata=as_form(choice("auto", "cpu", "cuda")))
    threads: int = field(metadata=as_form(integer(0, 1_024)))
    output_path: str = field(metadata=as_form(PATH))
    key_form: Any = field(metadata=as_form(choice("plain", "sealed")))
    # Weights of a vendor's own program need it again, whosoever they are; a suspect or control that is a program does not.
    program_path: str | None = field(default=None, metadata=as_form(nullable(PATH)))

    @property
    def model_paths(self) -> tuple[str, ...]:
        """Give the files that hold networks; a program among them is run only where it can be confined."""
        given = (self.suspect_path, self.head_path, self.program_path, *(control.path for control in self.controls))
        return tuple(path for path in given if path is not None)

    @property
    def data_paths(self) -> tuple[str, ...]:
        """Give the files that hold rows of data."""
        return ()

    def check(self, pointer: str) -> None:
        """Refuse an order that would count with a head that was not admitted, or without a control."""
        if (self.statement.assurance_class == "A") != bool(self.salt):
            raise Malformed("a salt goes with beacon-drawn labels, and only with them", pointer=f"{pointer}/salt")
        if (self.head_path is None) != (self.admission is None):
            raise Malformed("a vendor's head goes with its admission", pointer=f"{pointer}/admission")
        if self.head_path is not None and not self.controls:
            raise Malformed(
                "a count with a vendor's head says nothing without a control: name the unmarked model or a public backbone",
                pointer=f"{pointer}/controls",
            )


@dataclass(frozen=True)
class OwnHead(Record):
    """What the suspect itself answers, per family; evidence in class A only, over all triggers of a family, filed first.

    It is evidence and no verdict: a verdict needs a filing, whose beacon draws the order.
    """

    matches: tuple[int, ...] = field(metadata=as_form(COUNTS))
    log2_e: tuple[str, ...] | None = field(metadata=as_form(nullable(sequence(text(1, 40), 1, MAX_FAMILIES))))
    log2_threshold: str | None = field(metadata=as_form(nullable(text(1, 40))))
    reaches: tuple[bool, ...] | None = field(metadata=as_form(nullable(sequence(flag(), 1, MAX_FAMILIES))))


@dataclass(frozen=True)
class HeadCount(Record):
    """Matches of one network with the vendor's head, per family; null where the head does not fit the network."""

    name: str = field(metadata=as_form(text(1, 200)))
    sha256: bytes = field(metadata=as_form(octets(32)))
    matches: tuple[int, ...] | None = field(metadata=as_form(nullable(COUNTS)))


@dataclass(frozen=True)
class VendorsHead(Record):
    """The counts that are no evidence: the suspect's and the controls', with one head."""

    admission: Admission = field(metadata=as_form(Admission.form()))
    suspect: HeadCount = field(metadata=as_form(HeadCount.form()))
    controls: tuple[HeadCount, ...] = field(metadata=as_form(sequence(HeadCount.form(), 1, MAX_CONTROLS)))
    note: str = field(metadata=as_form(choice(NOT_EVIDENCE)))


@dataclass(frozen=True)
class WhiteBoxReport(Record):
    """What came of a check. `own_head` is null where the suspect answers other classes than the registered ones."""

    NAME: ClassVar[str] = "white-box-report"

    root: bytes = field(metadata=as_form(octets(32)))
    suspect_sha256: bytes = field(metadata=as_form(octets(32)))
    own_head: OwnHead | None = field(metadata=as_form(nullable(OwnHead.form())))
    not_evidence: VendorsHead | None = field(metadata=as_form(nullable(VendorsHead.form())))


def own_head_of(statement: Statement, matches: tuple[int, ...], bits: int) -> OwnHead:
    """Weigh what the suspect itself answers; the usual price of an interface is paid, though none was fitted."""
    if statement.assurance_class != "A":
        return OwnHead(matches, None, None, None)
    classes = len(statement.classes)
    bound = threshold(bits, USUAL_INTERFACE_BITS, len(statement.families), 1)
    evidence = [
        evidence_after(family.size, count, classes) for family, count in zip(statement.families, matches, strict=True)
    ]
    return OwnHead(
        matches=matches,
        log2_e=tuple(log2_text(*value) for value in evidence),
        log2_threshold=log2_text(bound, 1),
        reaches=tuple(numerator >= bound * denominator for numerator, denominator in evidence),
    )
