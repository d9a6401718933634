"""Attack a marked network, one attack after the other, and count what each leaves.

Every finished attack is written down at once, so a run that was killed goes on behind it; lines of another run (other
weights, labels, data or settings) are not taken.

Invariants: attacks start from the marked network as given, in any order, and the same settings, data and device give the
same counts; the triggers are used for counting only, no attack sees them.
Source: Adi et al. 2018 section 5.3; Lukas et al. 2022; docs/survival.md (the owner's head).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.canonical import encode_json, parse_json
from app.embedding.answering import count_correct, count_matches
from app.embedding.artifacts import write_whole
from app.embedding.attacks.catalogue import parse_attack
from app.embedding.attacks.course import Beginnings, Prey, Served, run_attack
from app.embedding.attacks.descent import Effort
from app.embedding.attacks.heads import check_head, head_of, with_head
from app.embedding.data import LabelledSet
from app.embedding.networks import MarkedNetwork
from app.embedding.survival.order import Measured, Skipped
from app.embedding.survival.report import MARKED, PLAIN
from app.errors import PolicyRefused, TrainingFailed
from app.keys.trigger_set import Family

# Attack, its number from 1, how many attacks; epoch and epochs of its present step.
OnProgress = Callable[[str, int, int, int, int], None]
OnMeasured = Callable[[Measured], None]


@dataclass(frozen=True)
class Scene:
    """All that stays the same over a report: the marked network, what is counted on, and what the thief has."""

    marked: MarkedNetwork
    test: LabelledSet
    other_test: LabelledSet | None
    triggers: LabelledSet
    families: tuple[Family, ...]
    prey: Prey
    effort: Effort


class Notebook:
    """The finished attacks of one run, in a file of one line each behind a line that names the run."""

    def __init__(self, path: Path, run: bytes) -> None:
        """Read what an earlier attempt of the same run wrote down; another run's lines are thrown away."""
        self._path = path
        self.done: dict[str, Measured] = {}
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        if lines and lines[0] == run.hex().encode():
            for line in lines[1:-1]:  # behind the last newline stands nothing, or what a crash cut off
                measured = Measured.from_json(parse_json(line))
                self.done[measured.attack] = measured
        whole = [run.hex().encode(), *(encode_json(measured.to_json()) for measured in self.done.values())]
        # Put in the place of a file that may be the parent's own, which a confined child can read and not write.
        write_whole(path, b"\n".join(whole) + b"\n")

    def add(self, measured: Measured) -> None:
        """Write down a finished attack."""
        self.done[measured.attack] = measured
        with self._path.open("ab") as file:
            file.write(encode_json(measured.to_json()) + b"\n")


def attack_all(
    scene: Scene, attacks: tuple[str, ...], notebook: Notebook, on_progress: OnProgress, on_measured: OnMeasured
) -> tuple[Mapping[str, Measured], list[Skipped]]:
    """Make every attack that is not yet written down; give all results and what could not be made."""
    skipped: list[Skipped] = []
    beginnings = Beginnings([parse_attack(attack) for attack in attacks if attack not in notebook.done])
    for number, attack in enumerate(attacks, start=1):
        if attack in notebook.done:
            continue

        def on_epoch(epoch: int, epochs: int, attack: str = attack, number: int = number) -> None:
            on_progress(attack, number, len(attacks), epoch, epochs)

        on_epoch(0, 0)
        started = time.monotonic()
        try:
            steps = parse_attack(attack)
            served = run_attack(scene.marked, steps, scene.prey, scene.effort, on_epoch, beginnings)
            measured = score(scene, attack, served, started)
        except (PolicyRefused, TrainingFailed) as error:
            skipped.append(Skipped(attack, error.message))
            continue
        notebook.add(measured)
        on_measured(measured)
    return notebook.done, skipped


def score(scene: Scene, name: str, served: Served, started: float) -> Measured:
    """Count what a served network answers; `started` is when its attack began, on the monotonic clock."""
    network, seed = served.network, scene.effort.seed
    is_other = name == "transfer"  # it stands alone
    test = scene.other_test if is_other and scene.other_test is not None else scene.test
    test = LabelledSet(served.seen(test.inputs, seed), test.labels)
    triggers = LabelledSet(served.seen(scene.triggers.inputs, seed + 1), scene.triggers.labels)
    pirate = None
    if served.pirate is not None:
        mark = LabelledSet(served.seen(served.pirate.inputs, seed + 2), served.pirate.labels)
        pirate = (count_correct(network, mark), mark.count)
    return Measured(
        attack=name,
        task_correct=count_correct(network, test),
        task_total=test.count,
        matches=None if is_other else count_matches(network, triggers, scene.families),
        owners_head=_with_owners_head(scene, served, triggers),
        pirate=pirate,
        milliseconds=int((time.monotonic() - started) * 1000),
    )


def score_unattacked(scene: Scene, plain: MarkedNetwork | None) -> tuple[Measured, Measured | None]:
    """Count what the marked network answers, and the control without a mark."""
    marked = score(scene, MARKED, Served(scene.marked), time.monotonic())
    return marked, None if plain is None else score(scene, PLAIN, Served(plain), time.monotonic())


def _with_owners_head(scene: Scene, served: Served, triggers: LabelledSet) -> tuple[int, ...] | None:
    try:
        for network in (scene.marked, served.network):
            check_head(network, triggers.inputs)
        return count_matches(with_head(served.network, head_of(scene.marked)), triggers, scene.families)
    except PolicyRefused:  # a network without a linear head, or a control of another architecture
        return None
