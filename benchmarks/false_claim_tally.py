"""What an accuser reached, counted: claims, verdicts, the highest E, and what the paper's rule says beside it."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from app.protocol.verdict import is_paper_rule_met
from benchmarks.panel_disputes import Played


@dataclass
class Tally:
    """What one accuser reached against the networks of one kind."""

    claims: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    log2_e_max: float = -math.inf
    # Of the claim that came nearest to its threshold.
    nearest: float = -math.inf
    log2_t: float = math.nan
    # The most matches that a family of so many triggers had, as the accuser knew in private.
    most: tuple[int, int] = (0, 0)
    paper_claims: int = 0
    paper_accepts: int = 0
    drawn_accepts: int = 0
    unpaid: int = 0

    def add(self, played: Played) -> None:
        """Count a claim of class A."""
        self.claims += 1
        self.verdicts[played.verdict] += 1
        self.log2_e_max = max(self.log2_e_max, played.log2_e_max)
        if played.log2_e_max - played.log2_t > self.nearest:
            self.nearest, self.log2_t = played.log2_e_max - played.log2_t, played.log2_t

    def add_refused(self) -> None:
        """Count a filing that is refused and was not played."""
        self.claims += 1
        self.verdicts["REFUSED"] += 1

    def add_paper(self, *, accepts: bool) -> None:
        """Count a claim under the paper's rule, with labels as the paper leaves them to the accuser."""
        self.paper_claims += 1
        self.paper_accepts += accepts

    def note(self, matches: int, triggers: int) -> bool:
        """Note what the accuser knows of a family before he files; tell whether the paper's rule would accept it."""
        self.most = max(self.most, (matches, triggers))
        accepts = is_paper_rule_met(matches, triggers)
        self.drawn_accepts += accepts
        return accepts

    def merge(self, other: "Tally") -> None:
        """Take in the tally of another network of the kind."""
        for name in ("claims", "paper_claims", "paper_accepts", "drawn_accepts", "unpaid"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.verdicts += other.verdicts
        self.log2_e_max = max(self.log2_e_max, other.log2_e_max)
        if other.nearest > self.nearest:
            self.nearest, self.log2_t = other.nearest, other.log2_t
        self.most = max(self.most, other.most)

    def figures(self) -> dict[str, Any]:
        """Give the figures."""
        return {
            "claims": self.claims,
            "class_a_confirmed": self.verdicts["CONFIRMED"],
            "class_a_verdicts": dict(sorted(self.verdicts.items())),
            "log2_e_max": _rounded(self.log2_e_max),
            "log2_t": _rounded(self.log2_t),
            "log2_e_over_t_max": _rounded(self.nearest),
            "most_matches": list(self.most),
            "paper_rule_claims": self.paper_claims,
            "paper_rule_accepts": self.paper_accepts,
            "paper_rule_accepts_drawn_labels": self.drawn_accepts,
            "confirmed_without_rule": self.unpaid,
        }


def _rounded(value: float) -> float | None:
    return round(value, 1) if math.isfinite(value) else None
