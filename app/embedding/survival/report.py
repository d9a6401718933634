"""From counts to a survival report: what a dispute over each attacked network would come to, and what breaks the mark.

Invariants: pure, no torch; every number of the report follows from its counts and settings, so it can be computed again.
Source: docs/protocol.md section 8; docs/survival.md; Lukas et al. 2022 (an attack that costs
over five points of accuracy is none).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.embedding.recipe import MICRO
from app.embedding.survival.odds import MAX_PLANNED, Odds, bounds, odds_at_rate, odds_of_network, one_after_another
from app.embedding.survival.order import Chances, Measured, Survival, SurvivalSettings
from app.keys.statement import Statement
from app.keys.trigger_set import Family
from app.protocol.evidence import threshold
from app.protocol.verdict import is_paper_rule_met

# A thief who loses more than this has lost what made the network worth stealing.
WORTHLESS_POINTS = 5

# CONFIRMED and NOT_CONFIRMED are said where chance decides less often than once in a hundred disputes.
SURE_MICROS = 990_000

# How many broken attacks a summary names before it only counts them.
NAMED_IN_SUMMARY = 6

MARKED: Final = "none"
PLAIN: Final = "no mark"

# What a spent family would come to.
NO_CHANCE: Final = Chances(chance_micros=0, power_micros=0, expected_millis=None)


@dataclass(frozen=True)
class Terms:
    """What a dispute would be filed on: the registration's families, which of them are spent, what a claim must reach."""

    families: tuple[Family, ...]
    classes: int
    assurance_class: str
    bits: int
    interface_bits: int
    spent: tuple[str, ...] = ()

    @classmethod
    def of(cls, statement: Statement, settings: SurvivalSettings) -> "Terms":
        """Take them from a registration and a report's settings."""
        return cls(
            statement.families,
            len(statement.classes),
            statement.assurance_class,
            settings.bits,
            settings.interface_bits,
            settings.spent,
        )

    @property
    def next_ordinal(self) -> int:
        """Give the ordinal of the registration's next filing: each one before it spent a family."""
        return len(self.spent) + 1

    def is_left(self, family: Family) -> bool:
        """Tell whether a dispute can still be filed on a family."""
        return family.name not in self.spent

    def bound(self, ordinal: int) -> int:
        """Give T of the registration's filing of this ordinal."""
        return threshold(self.bits, self.interface_bits, len(self.families), ordinal)

    def needed(self) -> tuple[int | None, ...] | None:
        """Give per family the least matches of all its triggers that confirm the next filing; class B knows none."""
        if self.assurance_class != "A":
            return None
        least = []
        for family in self.families:
            asked = min(family.size, MAX_PLANNED)
            matches = bounds(asked, self.classes, self.bound(self.next_ordinal)).confirmed[-1]
            least.append(matches if matches <= asked and self.is_left(family) else None)
        return tuple(least)


def survival_of(measured: Measured, terms: Terms, marked: Measured) -> Survival:
    """Say what a dispute over an attacked network would come to."""
    families = together = None
    if measured.matches is not None and terms.assurance_class == "A":
        families, together = _chances(measured.matches, terms)
    verdict = _verdict(measured, together, terms)
    useful = _is_useful(measured, marked)
    is_attack = measured.attack not in (MARKED, PLAIN)
    return Survival(
        measured=measured,
        families=families,
        together=together,
        verdict=verdict,
        is_useful=useful,
        breaks=is_attack and useful and verdict not in ("CONFIRMED", "INDICATIVE"),
    )


def _chances(matches: Sequence[int], terms: Terms) -> tuple[tuple[Chances, ...], Chances]:
    alone, these, alike = [], [], []
    ordinal = terms.next_ordinal
    for family, count in zip(terms.families, matches, strict=True):
        if not terms.is_left(family):
            alone.append(NO_CHANCE)
            continue
        size, rate = family.size, count / family.size
        bound = terms.bound(terms.next_ordinal)
        alone.append(
            _as_chances(
                odds_of_network(count, size, terms.classes, bound), odds_at_rate(rate, size, terms.classes, bound)
            )
        )
        these.append(odds_of_network(count, size, terms.classes, terms.bound(ordinal)))
        alike.append(odds_at_rate(rate, size, terms.classes, terms.bound(ordinal)))
        ordinal += 1
    return tuple(alone), _as_chances(one_after_another(these), one_after_another(alike))


def _as_chances(this: Odds, alike: Odds) -> Chances:
    power = round(alike.confirmed * MICRO)
    return Chances(
        chance_micros=round(this.confirmed * MICRO),
        power_micros=power,
        expected_millis=round(alike.asked_if_confirmed * 1_000) if power else None,
    )


def _verdict(measured: Measured, together: Chances | None, terms: Terms) -> str:
    if measured.matches is None:
        return "NO_EVIDENCE"
    if together is None:
        left = [pair for pair in zip(terms.families, measured.matches, strict=True) if terms.is_left(pair[0])]
        asked, matched = sum(family.size for family, _ in left), sum(count for _, count in left)
        return "INDICATIVE" if is_paper_rule_met(matched, asked) else "NOT_SUPPORTED"
    if together.chance_micros >= SURE_MICROS:
        return "CONFIRMED"
    return "NOT_CONFIRMED" if together.chance_micros <= MICRO - SURE_MICROS else "UNCERTAIN"


def _is_useful(measured: Measured, marked: Measured) -> bool:
    """Tell whether at most five points of task accuracy were lost; another task is no comparison."""
    if measured.matches is None:
        return False
    lost = marked.task_correct * measured.task_total - measured.task_correct * marked.task_total
    return 100 * lost <= WORTHLESS_POINTS * marked.task_total * measured.task_total


def summary_line(marked: Survival, attacks: Sequence[Survival]) -> str:
    """Say in one line what the mark survives."""
    useful = [row for row in attacks if row.is_useful]
    broken = [row.measured.attack for row in useful if row.breaks]
    named = ", ".join(broken[:NAMED_IN_SUMMARY])
    if len(broken) > NAMED_IN_SUMMARY:
        named += f" and {len(broken) - NAMED_IN_SUMMARY} more"
    told = f"survives {len(useful) - len(broken)} of {len(useful)} attacks that leave the task within 5 points"
    return f"{told}; {f'broken by {named}' if broken else 'broken by none'}; unattacked: {counts_text(marked)}"


def counts_text(row: Survival) -> str:
    """Say a row's counts in words."""
    measured = row.measured
    task = f"task accuracy {percent_text(measured.task_correct, measured.task_total)}"
    if measured.matches is None:
        return task
    return f"{task}, {sum(measured.matches)} triggers match, {row.verdict}"


def percent_text(part: int, whole: int) -> str:
    """Print a share with one decimal."""
    return f"{100 * part / whole:.1f} %"
