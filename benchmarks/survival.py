"""Which method's mark survives what: `python -m benchmarks.survival [--quick] [--seeds N] [--workers N]`.

Every method marks the same network with the same 512 triggers, labels, data, order and schedule, once a seed; then every
attack of the suite is made on it by the code behind `trapstreet survive`, and the share of seeds that a dispute would
confirm at 2^-64 is counted. `plain` is the control: the same network without a mark.

Each (method, seed) is a process of its own that writes down every finished attack, so a run that was ended goes on. The
last line printed is one JSON object: per method and attack the mean `task_accuracy`, mean `match_rate` and `confirmed`.
Results: benchmarks/results/survival.json, the table in docs/benchmarks.md, the picture docs/pictures/survival.svg.
"""

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from app.canonical import sha256
from app.embedding.artifacts import digest_of_file
from app.embedding.attacks.course import Prey
from app.embedding.attacks.descent import Effort
from app.embedding.data import LabelledSet, TrainingData
from app.embedding.networks import build, load_network, save_weights
from app.embedding.precision import multiplies_bf16
from app.embedding.recipe import METHODS, Recipe
from app.embedding.survival.measure import Notebook, Scene, attack_all, score_unattacked
from app.embedding.survival.order import Measured
from app.embedding.survival.report import Terms, survival_of
from app.embedding.train import prepare_torch, train
from app.embedding.trigger_order import FamilyOrder
from app.embedding.triggers.families import generate
from app.embedding.triggers.source import Source
from app.keys.trigger_set import Family
from benchmarks.cifar10 import CACHE, MEAN_MILLIS, SHAPE, STD_MILLIS, draw, load
from benchmarks.cifar10 import CLASSES as NAMES
from benchmarks.results import keep, machine, print_figures, write_section

CLASSES = len(NAMES)
TRIGGERS = 512
PLAIN = "plain"

SUITE = (
    *("ftll-1e-2", "ftal-1e-2", "ftal-3e-2", "rtll-1e-2", "rtal-1e-2", "rtal-3e-2"),
    *("pirate", "prune-50", "prune-70", "prune-90", "prune-90+ftal-1e-2", "int8", "int4"),
    *("jpeg-50", "noise-8", "resize-75"),
    *("ftal-1e-2+prune-70+int8", "rtal-1e-2+prune-50+int4"),
    *("extract-hard", "extract-soft", "distill"),
)
QUICK_SUITE = ("ftal-3e-2", "prune-90", "int4", "jpeg-50", "rtal-1e-2+prune-50+int4", "extract-soft")


@dataclass(frozen=True)
class Scale:
    """How much is trained: the owner's and the thief's pictures (no picture is both), and epochs."""

    name: str
    owner: int
    thief: int
    test: int
    epochs: int
    attack_epochs: int
    student_epochs: int
    triggers: int
    suite: tuple[str, ...]


SCALES = {
    "cpu": Scale("cpu", 10_000, 10_000, 4_000, 20, 5, 10, TRIGGERS, SUITE),
    "quick": Scale("quick", 2_000, 2_000, 1_000, 15, 3, 10, 128, QUICK_SUITE),
}


def recipe_of(method: str, scale: Scale, seed: int) -> Recipe:
    """Give the recipe that all methods share."""
    return Recipe(
        network="resnet_medium",
        method="append" if method == PLAIN else method,
        epochs=scale.epochs,
        batch_size=128,
        triggers_per_batch=16,
        learning_rate_micros=100_000,
        schedule="cosine",
        flip=True,
        crop_padding=4,
        mean_millis=MEAN_MILLIS,
        std_millis=STD_MILLIS,
        seed=10 * seed,  # a run's generators take the numbers behind its seed
        device="cpu",
        threads=1,
    )


def triggers_of(scale: Scale) -> LabelledSet:
    """Draw the triggers and labels: the same for every method and seed."""
    source = Source((SHAPE[1], SHAPE[2], SHAPE[0]))
    images = generate([FamilyOrder("abstract", scale.triggers)], source, 5)
    labels = torch.randint(0, CLASSES, (scale.triggers,), generator=torch.Generator().manual_seed(9))
    return LabelledSet(torch.from_numpy(images).permute(0, 3, 1, 2), labels)


def scene_of(scale: Scale, method: str, seed: int, folder: Path) -> Scene:
    """Train the network of a method, or read the one trained before, and lay out what the attacks need."""
    recipe = recipe_of(method, scale, seed)
    pictures = draw(load("train"), scale.owner + scale.thief, 0)
    owner = LabelledSet(pictures.inputs[: scale.owner], pictures.labels[: scale.owner])
    thief = LabelledSet(pictures.inputs[scale.owner :], pictures.labels[scale.owner :])
    data = TrainingData(owner, draw(load("test"), scale.test, 0), triggers_of(scale))
    weights = folder / f"{method}-{seed}-{sha256(recipe.encode()).hex()[:12]}.safetensors"
    if not weights.exists():
        network = build(
            recipe.network, SHAPE, CLASSES, seed=seed, mean_millis=recipe.mean_millis, std_millis=recipe.std_millis
        )
        started = time.process_time()
        train(recipe, network, data, marked=method != PLAIN, on_progress=lambda progress: tell(method, seed, progress))
        print(f"{method} {seed}: trained in {time.process_time() - started:.0f} CPU seconds", file=sys.stderr)
        save_weights(network, weights, SHAPE, CLASSES)
    return Scene(
        marked=load_network(weights),
        test=data.test,
        other_test=None,
        triggers=data.triggers,
        families=(Family("abstract", 0, scale.triggers),),
        prey=Prey(thief, CLASSES, scale.triggers),
        effort=Effort(
            epochs=scale.attack_epochs,
            student_epochs=scale.student_epochs,
            student_rate=0.1,
            batch_size=128,
            flip=True,
            crop_padding=4,
            half=multiplies_bf16(torch.device("cpu")),
            seed=1_000 + seed,
        ),
    )


def tell(method: str, seed: int, progress: object) -> None:
    """Show how a training goes."""
    print(f"{method} {seed}: {progress}", file=sys.stderr, flush=True)


def run_one(scale: Scale, method: str, seed: int) -> None:
    """Mark one network and attack it; every finished attack is written down."""
    prepare_torch(1)
    folder = folder_of(scale)
    scene = scene_of(scale, method, seed, folder)
    weights = next(folder.glob(f"{method}-{seed}-*.safetensors"))
    notebook = Notebook(notebook_of(scale, method, seed), sha256(digest_of_file(weights) + repr(scale).encode()))
    if "none" not in notebook.done:
        notebook.add(score_unattacked(scene, None)[0])

    def on_progress(attack: str, number: int, attacks: int, epoch: int, epochs: int) -> None:
        if epoch in (0, epochs):
            print(f"{method} {seed}: {number} of {attacks} {attack} {epoch}/{epochs}", file=sys.stderr, flush=True)

    # The control has no mark to attack; what it answers unattacked is the chance level.
    attack_all(scene, () if method == PLAIN else scale.suite, notebook, on_progress, lambda _: None)


def folder_of(scale: Scale) -> Path:
    """Give the folder of a scale's networks and notebooks."""
    folder = CACHE / f"survival-{scale.name}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def notebook_of(scale: Scale, method: str, seed: int) -> Path:
    """Give the file of one network's finished attacks."""
    return folder_of(scale) / f"{method}-{seed}.jsonl"


def read_measured(scale: Scale, method: str, seed: int) -> dict[str, Measured]:
    """Read one network's finished attacks."""
    path = notebook_of(scale, method, seed)
    lines = path.read_text().splitlines()[1:] if path.exists() else []
    return {measured.attack: measured for measured in (Measured.from_json(json.loads(line)) for line in lines)}


def figures(scale: Scale, methods: tuple[str, ...], seeds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Give per method and attack the means over seeds, and the share of seeds that would be CONFIRMED."""
    terms = Terms((Family("abstract", 0, scale.triggers),), CLASSES, "A", bits=64, interface_bits=0)
    told: dict[str, dict[str, dict[str, float]]] = {}
    for method in methods:
        told[method] = {}
        runs = [run for run in (read_measured(scale, method, seed) for seed in range(seeds)) if run]
        for attack in ("none", *scale.suite):
            rows = [(survival_of(run[attack], terms, run["none"]), run["none"]) for run in runs if attack in run]
            if not rows:
                continue
            task = [row.measured.task_correct / row.measured.task_total for row, _ in rows]
            lost = [none.task_correct / none.task_total - now for now, (_, none) in zip(task, rows, strict=True)]
            matched = [sum(row.measured.matches or ()) / scale.triggers for row, _ in rows]
            confirmed = [row.verdict == "CONFIRMED" for row, _ in rows]
            told[method][attack] = {
                "task_accuracy": round(sum(task) / len(task), 4),
                "task_points_lost": round(100 * sum(lost) / len(lost), 2),
                "match_rate": round(sum(matched) / len(matched), 4),
                "confirmed": round(sum(confirmed) / len(confirmed), 4),
                "seeds": len(rows),
            }
    return told


def table(told: dict[str, dict[str, dict[str, float]]], methods: tuple[str, ...]) -> str:
    """Write the table: per attack and method the match rate, whether confirmed, and the task accuracy."""
    lines = ["| attack | " + " | ".join(methods) + " |", "|---|" + "---|" * len(methods)]
    for attack in ("none", *SUITE):
        cells = []
        for method in methods:
            row = told[method].get(attack)
            if row is None:
                cells.append("-")
                continue
            useful = row["task_points_lost"] <= 5
            verdict = "confirmed" if row["confirmed"] == 1 else f"{row['confirmed']:.0%} confirmed"
            cells.append(f"{row['match_rate']:.0%}, {verdict}; task {row['task_accuracy']:.1%}{'' if useful else ' †'}")
        lines.append(f"| `{attack}` | " + " | ".join(cells) + " |")
    seeds = ", ".join(f"{method} {int(told[method]['none']['seeds'])}" for method in methods if told[method])
    notes = f"Seeds: {seeds}. † over five points of task accuracy are lost: by the literature's line no attack."
    return "\n".join([*lines, "", notes])


def start(scale: Scale, method: str, seed: int) -> int:
    """Run one network in a process of its own; give its exit status."""
    command = [sys.executable, "-m", "benchmarks.survival", "--one", method, str(seed), "--scale", scale.name]
    return subprocess.run(command, check=False).returncode


def main() -> None:
    """Run what is missing and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--seeds", type=int, default=0, help="default 3, or 1 with --quick")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--methods", default=f"{PLAIN},{','.join(METHODS)}")
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "SEED"), help="run one network only")
    options = parser.parse_args()
    scale = SCALES["quick" if options.quick else options.scale]
    if options.one:
        run_one(scale, options.one[0], int(options.one[1]))
        return
    for part in ("train", "test"):
        load(part)  # decoded once, before the workers need it
    seeds = options.seeds or (1 if options.quick else 3)
    methods = tuple(options.methods.split(","))
    with ThreadPoolExecutor(options.workers) as pool:
        jobs = [pool.submit(start, scale, method, seed) for seed in range(seeds) for method in methods]
        if any(job.result() for job in jobs):
            sys.exit("a run failed; see above")
    told = figures(scale, methods, seeds)
    setting = {**vars(scale), "recipe": recipe_of("auto", scale, 0).to_json(), **machine(torch.device("cpu"))}
    keep("survival" if scale.name == "cpu" else f"survival-{scale.name}", setting, told)
    if scale.name == "cpu":
        write_section("survival", table(told, methods))
    print_figures(told)


if __name__ == "__main__":
    main()
