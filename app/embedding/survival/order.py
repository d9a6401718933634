"""What a parent tells the survival child, and what comes back. No torch here.

The pipes work as app.embedding.child_order says: the order, the secrets, then events. Events: {"event": "progress",
"attack", "number", "attacks", "epoch", "epochs"}; {"event": "attack", "run", "result": a Measured}, with the name of what
is measured, by content; {"event": "done", "report": a SurvivalReport} or {"event": "error", "code", "message", "pointer"}.
In the output folder: `measured.jsonl` (every finished attack, from which a killed run goes on), `survival.json` (the
report), `survival.html` (the same as a page).

Invariants: records hold counts and settings, no fractions: shares stand in thousandths (`_millis`), probabilities and rates
in millionths (`_micros`).
Source: docs/protocol.md section 8; docs/survival.md.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from app.canonical import MAX_INTEGER, Record, as_form, choice, flag, integer, nullable, octets, sequence, text
from app.embedding.attacks.catalogue import fits, parse_attack
from app.embedding.child_order import PATH
from app.embedding.recipe import MICRO
from app.errors import Malformed
from app.keys.statement import MAX_CLASSES, MIN_CLASSES, Statement
from app.keys.trigger_set import MAX_FAMILIES, MAX_TRIGGERS, Family

MEASURED = "measured.jsonl"
SURVIVAL_REPORT = "survival.json"
SURVIVAL_PAGE = "survival.html"

# A report of so many attacks over 64 families stays well below the longest line a child may print.
MAX_ATTACKS = 100
ATTACK = text(1, 200)
COUNTS = sequence(integer(0, MAX_TRIGGERS), 1, MAX_FAMILIES)

# A built-in adapter with default options costs so many bits of evidence (docs/protocol.md section 7).
USUAL_INTERFACE_BITS = 8

# What a quick report changes, besides the suite: enough to see where a mark is weak, not how weak.
QUICK_SETTINGS = {"epochs": 5, "student_epochs": 15}


@dataclass(frozen=True)
class SurvivalSettings(Record):
    """Which attacks, and how strong the attacker is."""

    NAME: ClassVar[str] = "survival-settings"

    # Names as app.embedding.attacks.catalogue reads them.
    attacks: tuple[str, ...] = field(metadata=as_form(sequence(ATTACK, 1, MAX_ATTACKS)))
    # The paper's attacker has all training data and as many epochs as the owner.
    attacker_percent: int = field(default=100, metadata=as_form(integer(1, 100)))
    epochs: int = field(default=20, metadata=as_form(integer(1, 10_000)))
    # A student learns from nothing, which takes longer than tuning.
    student_epochs: int = field(default=40, metadata=as_form(integer(1, 10_000)))
    student_rate_micros: int = field(default=50_000, metadata=as_form(integer(1, 10 * MICRO)))
    batch_size: int = field(default=100, metadata=as_form(integer(2, 65_536)))
    # The attacker's augmentation, where all layers are trained.
    flip: bool = field(default=False, metadata=as_form(flag()))
    crop_padding: int = field(default=0, metadata=as_form(integer(0, 64)))
    resize: bool = field(default=False, metadata=as_form(flag()))
    # Where no test set is given: the share held out, which must be the training's own, or its test rows are known rows.
    holdout_percent: int = field(default=10, metadata=as_form(integer(1, 50)))
    seed: int = field(default=0, metadata=as_form(integer(0, 2**31 - 1)))
    device: str = field(default="auto", metadata=as_form(choice("auto", "cpu", "cuda")))
    threads: int = field(default=0, metadata=as_form(integer(0, 1_024)))
    # The attacker's training; answers are always counted in fp32. `auto`: bf16 where the device computes it natively.
    precision: str = field(default="auto", metadata=as_form(choice("auto", "fp32", "bf16")))
    # What a dispute would be filed with.
    bits: int = field(default=64, metadata=as_form(choice(64, 80)))
    interface_bits: int = field(default=USUAL_INTERFACE_BITS, metadata=as_form(integer(0, 4_096)))
    # Families that earlier disputes have spent: nobody can be asked with them again, and each filing raised the threshold.
    spent: tuple[str, ...] = field(default=(), metadata=as_form(sequence(text(1, 200), 0, MAX_FAMILIES - 1)))

    @classmethod
    def from_options(cls, options: dict[str, Any], pointer: str = "") -> "SurvivalSettings":
        """Read what a caller chose, with defaults for the rest (`attacks` is required, `type` is not).

        Raises: Malformed with a pointer to the option at fault.
        """
        if "attacks" not in options:
            raise Malformed("name the attacks", pointer=f"{pointer}/attacks")
        return cls.from_json({**cls(attacks=("int8",)).to_json(), **options}, pointer)

    def check(self, pointer: str) -> None:
        """Refuse attacks that nobody knows, and one named twice."""
        for index, name in enumerate(self.attacks):
            parse_attack(name, f"{pointer}/attacks/{index}")
        if len(set(self.attacks)) != len(self.attacks):
            raise Malformed("an attack is named twice", pointer=f"{pointer}/attacks")
        if len(set(self.spent)) != len(self.spent):
            raise Malformed("a family is named twice", pointer=f"{pointer}/spent")


@dataclass(frozen=True)
class SurvivalOrder(Record):
    """One survival report: where its files are, how the labels were drawn, which attacks."""

    NAME: ClassVar[str] = "survival-order"
    # The program that takes this order.
    MODULE: ClassVar[str] = "app.embedding.survival.child"

    statement: Statement = field(metadata=as_form(Statement.form()))
    # Class A: the registration's salt. Class B: empty, the key holds the labels.
    salt: bytes = field(metadata=as_form(octets(32, or_empty=True)))
    settings: SurvivalSettings = field(metadata=as_form(SurvivalSettings.form()))
    # The marked network that is attacked.
    weights_path: str = field(metadata=as_form(PATH))
    # The owner's training data, of which the attacker has a share; and what task accuracy is measured on.
    data_path: str = field(metadata=as_form(PATH))
    test_path: str | None = field(metadata=as_form(nullable(PATH)))
    # None: the attacker has a share of the training data; else data of its own, with the task's labels.
    attacker_path: str | None = field(metadata=as_form(nullable(PATH)))
    # The control: the same network without the mark.
    plain_path: str | None = field(metadata=as_form(nullable(PATH)))
    # Attack `transfer`: another task's data and the names of its classes; a tenth is held out.
    transfer_path: str | None = field(metadata=as_form(nullable(PATH)))
    transfer_classes: tuple[str, ...] = field(metadata=as_form(sequence(text(1, 200), 0, MAX_CLASSES)))
    output_path: str = field(metadata=as_form(PATH))
    key_form: Any = field(metadata=as_form(choice("plain", "sealed")))
    # Weights of a vendor's own program need it again.
    program_path: str | None = field(default=None, metadata=as_form(nullable(PATH)))

    @property
    def model_paths(self) -> tuple[str, ...]:
        """Give the files that hold networks; a program among them is run only where it can be confined."""
        return tuple(path for path in (self.weights_path, self.plain_path, self.program_path) if path is not None)

    @property
    def data_paths(self) -> tuple[str, ...]:
        """Give the files that hold rows of data."""
        return tuple(
            p for p in (self.data_path, self.test_path, self.attacker_path, self.transfer_path) if p is not None
        )

    def check(self, pointer: str) -> None:
        """Refuse an order whose parts do not fit each other."""
        if (self.statement.assurance_class == "A") != bool(self.salt):
            raise Malformed("a salt goes with beacon-drawn labels, and only with them", pointer=f"{pointer}/salt")
        if (self.transfer_path is not None) != (len(self.transfer_classes) >= MIN_CLASSES):
            raise Malformed(
                "transfer data goes with the names of its classes, at least two", pointer=f"{pointer}/transfer_classes"
            )
        left = {family.name for family in self.statement.families}
        if not set(self.settings.spent) < left:
            raise Malformed(
                f"name families of the registration ({', '.join(sorted(left))}), and leave one to be filed",
                pointer=f"{pointer}/settings/spent",
            )
        for index, name in enumerate(self.settings.attacks):
            at = f"{pointer}/settings/attacks/{index}"
            if name == "transfer" and self.transfer_path is None:
                raise Malformed("the attack transfer needs another task's data", pointer=at)
            if not fits(name, self.statement.kind):
                raise Malformed(f"{name} works on images; these inputs are tensors", pointer=at)


@dataclass(frozen=True)
class Measured(Record):
    """What one attack left, as exact counts; matches are per family, in the registration's order.

    `matches` is null where the network no longer answers the task (transfer). `owners_head` is the count with the owner's
    original head put back: no evidence (docs/survival.md), null where that head does not fit.
    """

    attack: str = field(metadata=as_form(ATTACK))
    task_correct: int = field(metadata=as_form(integer(0)))
    task_total: int = field(metadata=as_form(integer(1)))
    matches: tuple[int, ...] | None = field(metadata=as_form(nullable(COUNTS)))
    owners_head: tuple[int, ...] | None = field(metadata=as_form(nullable(COUNTS)))
    # The pirate's own mark, where the attack plants one: matches, triggers.
    pirate: tuple[int, ...] | None = field(metadata=as_form(nullable(sequence(integer(0, MAX_TRIGGERS), 2, 2))))
    milliseconds: int = field(metadata=as_form(integer(0)))


@dataclass(frozen=True)
class Skipped(Record):
    """An attack that could not be made, and why."""

    attack: str = field(metadata=as_form(ATTACK))
    reason: str = field(metadata=as_form(text(1, 2_000)))


@dataclass(frozen=True)
class Chances(Record):
    """What a dispute would come to: exact, over the order that its beacon draws.

    `chance_micros`: that this very network is CONFIRMED. `power_micros`: that a network is whose triggers match
    independently at the same rate, as another thief's after the same attack. `expected_millis`: the mean number of triggers
    asked until CONFIRMED, given that it is, at that rate; null where the power rounds to nothing.
    """

    chance_micros: int = field(metadata=as_form(integer(0, MICRO)))
    power_micros: int = field(metadata=as_form(integer(0, MICRO)))
    expected_millis: int | None = field(metadata=as_form(nullable(integer(0, MAX_INTEGER))))


VERDICTS = ("CONFIRMED", "UNCERTAIN", "NOT_CONFIRMED", "INDICATIVE", "NOT_SUPPORTED", "NO_EVIDENCE")


@dataclass(frozen=True)
class Survival(Record):
    """One attack's row: what was measured, and what a dispute over it would come to.

    `verdict`, class A: CONFIRMED (at least 99 in 100), NOT_CONFIRMED (at most 1 in 100), UNCERTAIN between; class B, by the
    paper's rule: INDICATIVE or NOT_SUPPORTED; NO_EVIDENCE where there is no count with the network's own head.
    """

    measured: Measured = field(metadata=as_form(Measured.form()))
    # Class A with an own head only: each family filed alone and next; and all that are left, one after the other, as one.
    families: tuple[Chances, ...] | None = field(metadata=as_form(nullable(sequence(Chances.form(), 1, MAX_FAMILIES))))
    together: Chances | None = field(metadata=as_form(nullable(Chances.form())))
    verdict: str = field(metadata=as_form(choice(*VERDICTS)))
    # Task accuracy is at most 5 points below the marked network's: the thief has something worth having.
    is_useful: bool = field(metadata=as_form(flag()))
    # Useful, and a dispute over it is not CONFIRMED: this attack breaks this mark.
    breaks: bool = field(metadata=as_form(flag()))


@dataclass(frozen=True)
class SurvivalReport(Record):
    """What a mark survives: the marked network, the control without a mark, and every attack."""

    NAME: ClassVar[str] = "survival-report"

    root: bytes = field(metadata=as_form(octets(32)))
    weights_sha256: bytes = field(metadata=as_form(octets(32)))
    assurance_class: Any = field(metadata=as_form(choice("A", "B")))
    classes: int = field(metadata=as_form(integer(MIN_CLASSES, MAX_CLASSES)))
    families: tuple[Family, ...] = field(metadata=as_form(sequence(Family.form(), 1, MAX_FAMILIES)))
    settings: SurvivalSettings = field(metadata=as_form(SurvivalSettings.form()))
    marked: Survival = field(metadata=as_form(Survival.form()))
    # The same network without the mark, if given; its `owners_head` is the control of the white-box counts.
    plain: Survival | None = field(metadata=as_form(nullable(Survival.form())))
    attacks: tuple[Survival, ...] = field(metadata=as_form(sequence(Survival.form(), 0, MAX_ATTACKS)))
    skipped: tuple[Skipped, ...] = field(metadata=as_form(sequence(Skipped.form(), 0, MAX_ATTACKS)))
    # Class A: per family, the least matches of all its triggers that reach the threshold when filed next; null: none do, or
    # it is spent.
    needed: tuple[int | None, ...] | None = field(
        metadata=as_form(nullable(sequence(nullable(integer(0, MAX_TRIGGERS)), 1, MAX_FAMILIES)))
    )
    summary: str = field(metadata=as_form(text(1, 2_000)))
    device: str = field(metadata=as_form(text(1, 200)))
    torch_version: str = field(metadata=as_form(text(1, 100)))
