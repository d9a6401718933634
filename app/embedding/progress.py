"""How far a training is, as the API shows it: where it stands now, and a curve that stays small.

Invariants: the curve has at most MAX_POINTS points, spread evenly, and holds the newest; values are finite numbers;
everything that comes from a child is parsed as from a stranger before it is kept.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.canonical import integer, text
from app.errors import Malformed, TrainingFailed

# Enough for a plot; a row of the database holds the whole curve and is written twice a second.
MAX_POINTS = 200

MAX_WARNINGS = 20
MAX_WARNING_CHARACTERS = 1_000

# Far over any loss of which there is something to learn; JSON's numbers have no end.
MAX_LOSS = 1e300

# No forecast goes further than a year; a child may speak of any number of epochs.
MAX_SECONDS = 365 * 24 * 3600

RUN = text(1, 40, pattern=r"[a-z0-9-]+")
COUNT = integer(0)
TOTAL = integer(1)


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
        """Take an event of the child; only progress and warnings count.

        Raises: TrainingFailed if the event is none of ours.
        """
        if event.get("event") == "warning" and len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(_in_words(str(event.get("message"))))
        if event.get("event") != "progress":
            return
        try:
            point = _point_of(event)
            epochs = COUNT.parse(event.get("epochs"), "/epochs")
        except Malformed as error:
            raise TrainingFailed(f"the training child told what is no progress: {error.message}") from error
        self.last = {**point, "epochs": epochs}
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


@dataclass
class Pace:
    """How fast the run that trains now goes, by the worker's clock: waiting and earlier runs do not count."""

    run: str = ""
    first_epoch: int = 0
    since: datetime | None = None
    seconds_left: int | None = None

    def note(self, last: Mapping[str, Any], now: datetime) -> None:
        """Take where the training stands (`ProgressCurve.last`); a run has a pace from its second figure on."""
        if not last:
            return
        if self.since is None or last["run"] != self.run or last["epoch"] < self.first_epoch:
            self.run, self.first_epoch, self.since, self.seconds_left = last["run"], last["epoch"], now, None
            return
        gone = last["epoch"] - self.first_epoch
        if gone:
            taken = max((now - self.since).total_seconds(), 0.0)
            self.seconds_left = min(round(taken * max(last["epochs"] - last["epoch"], 0) / gone), MAX_SECONDS)


def _point_of(event: dict[str, Any]) -> dict[str, Any]:
    matches, total = COUNT.parse(event.get("trigger_matches"), ""), TOTAL.parse(event.get("trigger_total"), "")
    loss = event.get("loss")
    if isinstance(loss, bool) or not isinstance(loss, int | float) or abs(loss) > MAX_LOSS or math.isnan(loss):
        raise Malformed("the loss must be a finite number")
    if matches > total:
        raise Malformed("more triggers match than there are")
    return {
        "run": RUN.parse(event.get("run"), ""),
        "epoch": COUNT.parse(event.get("epoch"), ""),
        "loss": loss,
        "trigger_accuracy": matches / total,
    }


def _in_words(message: str) -> str:
    # Postgres keeps no NUL and no half of a pair, and a terminal may obey other signs.
    return "".join(sign if sign.isprintable() else " " for sign in message[:MAX_WARNING_CHARACTERS])
