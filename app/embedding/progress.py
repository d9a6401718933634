"""How far a training is, as the API shows it: where it stands now, and a curve that stays small.

Invariants: the curve has at most MAX_POINTS points, spread evenly, and holds the newest; values are finite numbers.
"""

from dataclasses import dataclass, field
from typing import Any

# Enough for a plot; a row of the database holds the whole curve and is written twice a second.
MAX_POINTS = 200

MAX_WARNINGS = 20
MAX_WARNING_CHARACTERS = 1_000


@dataclass
class ProgressCurve:
    """What the child has told so far."""

    last: dict[str, Any] = field(default_factory=dict)
    points: list[dict[str, Any]] = field(default_factory=list)
    # One event in so many becomes a point.
    stride: int = 1
    seen: int = 0
    # What the training warned of, in words.
    warnings: list[str] = field(default_factory=list)

    def add(self, event: dict[str, Any]) -> None:
        """Take an event of the child; only progress and warnings count."""
        if event.get("event") == "warning" and len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(str(event.get("message"))[:MAX_WARNING_CHARACTERS])
        if event.get("event") != "progress":
            return
        point = {
            "run": event["run"],
            "epoch": event["epoch"],
            "loss": event["loss"],
            "trigger_accuracy": event["trigger_matches"] / event["trigger_total"],
        }
        self.last = {**point, "epochs": event["epochs"]}
        if self.seen % self.stride == 0:
            self.points.append(point)
        self.seen += 1
        if len(self.points) > MAX_POINTS:
            self.points = self.points[::2]
            self.stride *= 2

    def to_json(self) -> dict[str, Any]:
        """Give what stands in the order's row: the newest figures, and the curve up to them."""
        if not self.last:
            return {}
        newest = {name: value for name, value in self.last.items() if name != "epochs"}
        curve = self.points if self.points[-1] == newest else [*self.points, newest]
        return {**self.last, "curve": curve, "warnings": self.warnings}
