"""From a transcript and its openings to a verdict with its reason, and to the figures that are reported with it.

The order in which verdicts apply is the protocol's: VOID, CONFIRMED, NON_COOPERATIVE, NOT_SUPPORTED, INCONCLUSIVE; class B
knows neither CONFIRMED nor evidence and says INDICATIVE at most. Service and auditor call `decide` on the same values.

Invariants: pure; exact integers; the figures never change the verdict.
Source: docs/protocol.md sections 8.2 and 10; Adi et al. 2018 section 4 (Verify step 3, the paper's rule).
"""

from dataclasses import dataclass

from app.protocol.evidence import (
    Step,
    Walk,
    evidence_path,
    fisher_tail,
    threshold,
    walk,
)
from app.protocol.ranking import ranking_path

# Both tests of cooperation decide at one in 2^20, one-sided.
COOPERATION_BITS = 20

# The paper's tolerance: at most one answer in ten may differ.
PAPER_RULE = (9, 10)


@dataclass(frozen=True)
class Trial:
    """One trigger: its step, and whether it, its look-alike and the repeated questions were answered at all.

    An answer that maps to no class is an answer here: it is no evidence, but it is no silence either. `differs`: whether
    the two answers of trigger and look-alike differ, None where there are not two.
    """

    index: int
    step: Step
    answered: bool
    look_alike_answered: bool
    differs: tuple[bool | None, bool | None] = (None, None)


@dataclass(frozen=True)
class Case:
    """Everything a verdict depends on, trials in challenge order.

    `end`: why no further block was asked: `walk` (the walk ended), `exhausted`, `budget`, `withheld` or `withdrawn`.
    `void`: the reason code of a failed check, or "".
    """

    assurance_class: str
    classes: int
    bits: int
    interface_bits: int
    families: int
    ordinal: int
    trials: tuple[Trial, ...]
    covers_asked: int
    covers_answered: int
    end: str
    void: str = ""
    by_ranking: bool = False

    @property
    def bound(self) -> int:
        """Give T."""
        return threshold(self.bits, self.interface_bits, self.families, self.ordinal, ranking=self.by_ranking)

    def walk(self) -> Walk:
        """Walk the evidence; class B has no bounds and is walked to its last trigger."""
        steps = [trial.step for trial in self.trials]
        if self.assurance_class == "A":
            return walk(steps, self.bound, ranking_path if self.by_ranking else evidence_path)
        matches = sum(step.is_match for step in steps)
        return Walk(None, len(steps), matches, (1, 1), (1, 1))


@dataclass(frozen=True)
class Decision:
    """A verdict, its reason code, and the walk it rests on."""

    verdict: str
    reason: str
    walk: Walk

    @property
    def paper_rule(self) -> bool:
        """Tell whether the paper's own rule would accept."""
        return is_paper_rule_met(self.walk.matches, self.walk.asked)


def is_paper_rule_met(matches: int, asked: int) -> bool:
    """Tell whether at most one answer in ten differs (and something was asked)."""
    return asked > 0 and PAPER_RULE[1] * matches >= PAPER_RULE[0] * asked


def decide(case: Case) -> Decision:
    """Decide a dispute: the first verdict that applies, with its reason code."""
    ended = case.walk()
    if case.void:
        return Decision("VOID", case.void, ended)
    if ended.end == "CONFIRMED":
        return Decision("CONFIRMED", "evidence", ended)
    if reason := _uncooperative(case):
        return Decision("NON_COOPERATIVE", reason, ended)
    if ended.end == "NOT_SUPPORTED":
        return Decision("NOT_SUPPORTED", "futile", ended)
    if reason := _inconclusive(case):
        return Decision("INCONCLUSIVE", reason, ended)
    met = is_paper_rule_met(ended.matches, ended.asked)
    return Decision("INDICATIVE" if met else "NOT_SUPPORTED", "paper_rule", ended)


def _inconclusive(case: Case) -> str:
    if 2 * case.covers_answered < case.covers_asked:
        return "unreachable"
    # Class B asks every trigger, so being exhausted is its ordinary end.
    return case.end if case.assurance_class == "A" or case.end in ("withheld", "withdrawn") else ""


def _uncooperative(case: Case) -> str:
    for reason, (ways, total) in cooperation_tests(case).items():
        if ways << COOPERATION_BITS <= total:
            return reason
    return ""


def cooperation_tests(case: Case) -> dict[str, tuple[int, int]]:
    """Give the p-values of both tests: triggers less often answered, or less steadily, than their look-alikes."""
    asked = case.trials
    unanswered = sum(not trial.answered for trial in asked)
    look_alikes_unanswered = sum(not trial.look_alike_answered for trial in asked)
    twice = [trial.differs[0] for trial in asked if trial.differs[0] is not None]
    look_alikes_twice = [trial.differs[1] for trial in asked if trial.differs[1] is not None]
    return {
        "selective_silence": fisher_tail(unanswered, len(asked), look_alikes_unanswered, len(asked)),
        "selective_wavering": fisher_tail(sum(twice), len(twice), sum(look_alikes_twice), len(look_alikes_twice)),
    }
