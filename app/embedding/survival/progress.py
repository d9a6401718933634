"""How far a survival report is, as the API shows it, and what its next attempt goes on from.

Invariants: everything that comes from a child is parsed as from a stranger before it is kept.
"""

from dataclasses import dataclass, field
from typing import Any

from app.canonical import encode_json, integer, octets
from app.embedding.survival.order import ATTACK, MAX_ATTACKS, Measured
from app.errors import Malformed, TrainingFailed

COUNT = integer(0)
RUN = octets(32)


@dataclass
class SurvivalProgress:
    """What the children of all attempts have told so far; `run` names what they measured, by content."""

    now: dict[str, Any] = field(default_factory=dict)
    run: str = ""
    results: list[Measured] = field(default_factory=list)

    @classmethod
    def of_notebook(cls, notebook: dict[str, Any]) -> "SurvivalProgress":
        """Go on from what earlier attempts finished."""
        results = [Measured.from_json(value) for value in notebook.get("results", [])]
        return cls(run=notebook.get("run", ""), results=results)

    def add(self, event: dict[str, Any]) -> bool:
        """Take an event of the child; say whether an attack is finished by it.

        Raises: TrainingFailed if the event is none of ours.
        """
        try:
            if event["event"] == "progress":
                counts = {name: COUNT.parse(event.get(name), "") for name in ("number", "attacks", "epoch", "epochs")}
                self.now = {"attack": _storable(ATTACK.parse(event.get("attack"), "")), **counts}
            if event["event"] != "attack":
                return False
            RUN.parse(event.get("run"), "")
            result = Measured.from_json(event.get("result"))
            _storable(result.attack)
        except Malformed as error:
            raise TrainingFailed(f"the survival child told what is no progress: {error.message}") from error
        if event["run"] != self.run:
            # Other labels or data than an earlier attempt had: its results are no longer these.
            self.run, self.results = event["run"], []
        self.results = [*self.results[-MAX_ATTACKS:], result]
        return True

    def to_json(self) -> dict[str, Any]:
        """Give what stands in the order's row: where it is now, and what is finished."""
        return {**self.now, "results": [result.to_json() for result in self.results]}

    def to_notebook(self) -> dict[str, Any]:
        """Give what the next attempt goes on from, on whichever machine."""
        return {"run": self.run, "results": [result.to_json() for result in self.results]}

    def notebook_file(self) -> bytes:
        """Write the finished attacks as the child reads them: the run's name, then a line each."""
        lines = [self.run.encode(), *(encode_json(result.to_json()) for result in self.results)]
        return b"\n".join(lines) + b"\n"


def _storable(name: str) -> str:
    # Postgres keeps no NUL and no half of a pair.
    if not name.isprintable():
        raise Malformed("an attack's name has letters and marks only")
    return name
