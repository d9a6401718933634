"""Measure what a mark costs: time, task accuracy, and how our loop compares with the paper's and with a peer's.

    python -m benchmarks.embedding [--quick] [--parts time,accuracy,reference,amulet,compile] [--device cpu] [--threads 1]

CIFAR-10, the paper's 100 pictures and labels, one network, one schedule, one process, one device. `append` and `auto` are
measured with triggers in the place of as many task rows (`mixing` replace), so that all batches have the same shape. On a
CPU, time is processor time, which neighbours on the machine disturb least; on a GPU the wall's clock, synchronised. A run of
some parts leaves the others' figures as an earlier run found them. docs/benchmarks.md says what each figure means.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

import torch

from app.embedding.answering import count_correct
from app.embedding.data import TrainingData
from app.embedding.train import choose_device, prepare_torch
from benchmarks import accuracy, amulet, cifar10, results, trigger_pictures
from benchmarks.epochs import Spent, Stepwise, start_network, take_turns
from benchmarks.formulas import corrected, mean_and_error, median_of, median_ratio, points
from benchmarks.reference_loop import ReferenceTraining
from benchmarks.results import say
from benchmarks.scale import FULL, QUICK, Scale, recipe_of, shape_of

Figures = dict[str, Any]
PARTS = ("time", "accuracy", "reference", "amulet", "compile")

# How many threads torch takes if nobody says, as in a training of the product: here as many as there are processors.
OWN_THREADS = torch.get_num_threads()

# The loops and torch.compile are compared over so many pictures: what an epoch takes does not depend on how many there are.
COMPARED_PICTURES = 10_000

# Time.


def measure_time(data: TrainingData, scale: Scale) -> Figures:
    """Let plain, plain again, `append` and `auto` take turns, epoch by epoch, through one schedule."""
    device, rounds = data.task.labels.device, scale.rounds
    data = replace(data, task=cifar10.draw(data.task, scale.timed_pictures, seed=1))
    recipe = recipe_of(scale, epochs=rounds)

    def stepwise(*, marked: bool, **changes: object) -> Stepwise:
        chosen = recipe_of(scale, epochs=rounds, **changes)
        return Stepwise(chosen, start_network(recipe, device, shape_of(data)), data, marked=marked)

    warm = stepwise(marked=True)
    warm.train_epoch()  # the first epoch of a process is slower
    runs = {
        "plain": stepwise(marked=False),
        "again": stepwise(marked=False),
        "append": stepwise(marked=True),
        "auto": stepwise(marked=True, method="auto"),
    }
    spent = take_turns(runs, rounds, device)
    took = {name: [one.on(device) for one in all_of] for name, all_of in spent.items()}
    figures = time_figures(took)
    pair = {"auto": stepwise(marked=False), "fp32": stepwise(marked=False, precision="fp32")}
    some = {name: [one.on(device) for one in all_of] for name, all_of in take_turns(pair, 5, device).items()}
    return {**figures, "fp32_over_auto_precision": round(median_ratio(some["fp32"], some["auto"]), 3)}


def time_figures(took: dict[str, list[float]]) -> Figures:
    """Turn seconds an epoch into ratios; `auto` begins after half of the epochs, so its halves are told apart."""
    control = median_ratio(took["again"], took["plain"])
    half = len(took["plain"]) // 2
    first = corrected(median_ratio(took["auto"][:half], took["plain"][:half]), control)
    second = corrected(median_ratio(took["auto"][half:], took["plain"][half:]), control)
    return {
        "epoch_pairs": len(took["plain"]),
        "plain_over_plain": round(control, 4),
        "marked_over_plain": round(corrected(median_ratio(took["append"], took["plain"]), control), 4),
        "auto_over_plain": round((first + second) / 2, 4),
        "auto_over_plain_first_half": round(first, 4),
        "auto_over_plain_second_half": round(second, 4),
    }


# The paper's loop.


def measure_reference(data: TrainingData, scale: Scale) -> Figures:
    """Compare with the reference loop on all processors, as a training of the product runs, and on a CPU on one, too."""
    given = torch.get_num_threads()
    try:
        seeds = range(scale.compared_pairs)
        figures = {"reference_threads": OWN_THREADS, **_compare_loops(data, scale, OWN_THREADS, seeds)}
        if data.task.labels.device.type == "cpu":
            alone = _compare_loops(data, scale, 1, seeds[:1])
            figures |= {f"{name}_one_thread": alone[name] for name in alone if name.startswith("speedup")}
    finally:
        torch.set_num_threads(given)
    return figures


def _compare_loops(data: TrainingData, scale: Scale, threads: int, seeds: Sequence[int]) -> Figures:
    """Train the same network by the reference loop and by ours, taking turns: two triggers beside every hundred."""
    torch.set_num_threads(threads)
    device = data.task.labels.device
    data = replace(data, task=cifar10.draw(data.task, min(COMPARED_PICTURES, data.task.count), seed=0))
    total = {"reference": Spent(0, 0), "ours": Spent(0, 0)}
    accuracies: dict[str, list[float]] = {name: [] for name in total}
    answered: dict[str, list[float]] = {name: [] for name in total}
    waiting = loading = 0.0
    for seed in seeds:
        recipe = recipe_of(scale, batch_size=100, triggers_per_batch=2, mixing="append", seed=seed)
        reference = ReferenceTraining(recipe, start_network(recipe, device, shape_of(data)), data)
        ours = Stepwise(recipe, start_network(recipe, device, shape_of(data)), data, marked=True)
        runs = {"reference": reference, "ours": ours}
        spent = take_turns(runs, recipe.epochs, device)
        waiting, loading = waiting + reference.waiting, loading + reference.loading
        for name, run in runs.items():
            total[name] = sum(spent[name], start=total[name])
            accuracies[name].append(points(count_correct(run.network, data.test), data.test.count))
            answered[name].append(run.matches / data.triggers.count)
    figures = reference_figures(total, waiting, loading)
    change, error = mean_and_error([a - b for a, b in zip(accuracies["ours"], accuracies["reference"], strict=True)])
    figures |= {"ours_less_reference_points": round(change, 2), "ours_less_reference_se": round(error, 2)}
    for name in total:
        figures[f"{name}_accuracy"] = round(mean(accuracies[name]), 2)
        figures[f"{name}_trigger_accuracy"] = round(mean(answered[name]), 4)
    return figures


def reference_figures(total: dict[str, Spent], waiting: float, loading: float) -> Figures:
    """Turn what both loops took into one speedup, the smaller of the wall's and the processor's."""
    theirs, ours = total["reference"], total["ours"]
    by_wall, by_processor = theirs.wall / ours.wall, theirs.processor / ours.processor
    return {
        "speedup_over_reference": round(min(by_wall, by_processor), 2),
        "speedup_over_reference_wall": round(by_wall, 2),
        "speedup_over_reference_cpu_time": round(by_processor, 2),
        "reference_wall_seconds": round(theirs.wall, 1),
        "reference_cpu_seconds": round(theirs.processor, 1),
        "reference_loading_share": round(loading / theirs.processor, 3),
        "reference_computing_share": round(1 - loading / theirs.processor, 3),
        "reference_waiting_share": round(waiting / theirs.wall, 3),
        "ours_wall_seconds": round(ours.wall, 1),
        "ours_cpu_seconds": round(ours.processor, 1),
    }


# torch.compile.


def measure_compile(data: TrainingData, scale: Scale) -> Figures:
    """Let a compiled and a plain run take turns; the first epoch shows what compiling takes."""
    device = data.task.labels.device
    data = replace(data, task=cifar10.draw(data.task, min(COMPARED_PICTURES, data.task.count), seed=0))
    runs = {}
    for name, compiled in (("eager", False), ("compiled", True)):
        recipe = recipe_of(scale, compile=compiled)
        runs[name] = Stepwise(recipe, start_network(recipe, device, shape_of(data)), data, marked=True)
    spent = take_turns(runs, min(8, scale.epochs), device)
    return compile_figures({name: [one.on(device) for one in all_of] for name, all_of in spent.items()}, spent)


def compile_figures(took: dict[str, list[float]], spent: dict[str, list[Spent]]) -> Figures:
    """Leave the first two epochs to the compiler, and say after how many epochs it has paid for itself."""
    eager, compiled = median_of(took["eager"][2:]), median_of(took["compiled"][2:])
    seconds = sum(one.wall for one in spent["compiled"][:2]) - sum(one.wall for one in spent["eager"][:2])
    return {
        "compile_over_eager": round(compiled / eager, 3),
        "compile_seconds": round(seconds, 1),
        "compile_pays_after_epochs": None if compiled >= eager else round(seconds / (eager - compiled)),
    }


# The run.

MEASURE: dict[str, Callable[[TrainingData, Scale], Figures]] = {
    "time": measure_time,
    "accuracy": accuracy.measure_accuracy,
    "reference": measure_reference,
    "amulet": lambda _, scale: amulet.measure(seeds=scale.seeds),
    "compile": measure_compile,
}

# Figure, what it must reach, and how it is set.
TARGETS: tuple[tuple[str, str], ...] = (
    ("marked_over_plain", "≤ 1.03"),
    ("plain_over_plain", ""),
    ("auto_over_plain", "≤ 2.0"),
    ("accuracy_change_points", "+ 2 se ≥ -0.3"),
    ("accuracy_change_se", ""),
    ("trigger_accuracy", ""),
    ("auto_accuracy_change_points", ""),
    ("auto_accuracy_change_se", ""),
    ("auto_trigger_accuracy", ""),
    ("into_trained_share", "≤ 0.10"),
    ("into_trained_accuracy_change_points", ""),
    ("into_trained_accuracy_change_se", ""),
    ("into_trained_trigger_accuracy", ""),
    ("speedup_over_reference", "≥ 2 on a CPU, ≥ 5 on a GPU"),
    ("speedup_over_reference_one_thread", ""),
    ("reference_accuracy", "equal to"),
    ("ours_accuracy", ""),
    ("ours_less_reference_points", "0 within its error"),
    ("ours_less_reference_se", ""),
    ("reference_loading_share", ""),
    ("reference_computing_share", ""),
    ("fp32_over_auto_precision", ""),
    ("compile_over_eager", "< 1 if it is to pay"),
    ("compile_seconds", ""),
)


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a smaller honest run, without compile")
    parser.add_argument(
        "--parts", default="", help="some of " + ",".join(PARTS) + "; default all (compile not if quick)"
    )
    parser.add_argument("--device", default="cpu", choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--threads", type=int, default=1, help="threads of torch, but for the reference loop, which has all processors"
    )
    given = parser.parse_args()
    scale = QUICK if given.quick else FULL
    parts = given.parts.split(",") if given.parts else PARTS[: 4 if given.quick else 5]
    prepare_torch(given.threads)
    device = choose_device(given.device)
    say("reading CIFAR-10 and the paper's pictures")
    data = load_data(scale, device)
    name = "embedding" if scale is FULL else f"embedding-{scale.name}"
    name += "" if device.type == "cpu" else f"-{device.type}"
    for part in parts:
        say(f"measuring {part}")
        found = MEASURE[part](data, scale)
        say(f"{part}: {found}")
        figures = {**results.read(name), **found}
        setting = {**vars(scale), **results.machine(device), "recipe": recipe_of(scale).to_json()}
        results.keep(name, setting, figures, part)
    figures = results.read(name)
    if name == "embedding":
        results.write_section("embedding", table_of(figures))
    results.print_figures(figures)


def load_data(scale: Scale, device: torch.device) -> TrainingData:
    """Draw the task, the test set and the triggers.

    Raises: DataMissing.
    """
    task = cifar10.draw(cifar10.load("train"), scale.pictures, seed=0)
    test = cifar10.draw(cifar10.load("test"), scale.test_pictures, seed=0)
    return TrainingData(task.to(device), test.to(device), trigger_pictures.load().to(device))


def table_of(figures: Figures) -> str:
    """Set the figures beside their targets, then the peer's."""
    known = [name for name, _ in TARGETS]
    rows = [(f"`{name}`", figures[name], target) for name, target in TARGETS if name in figures]
    rows += [(f"`{name}`", _in_words(value), "") for name, value in sorted(figures.items()) if name not in known]
    return results.table(("figure", "measured", "target"), rows)


def _in_words(value: Any) -> str:
    """Write a figure, or a curve of figures by the number of pictures."""
    if not isinstance(value, dict):
        return str(value)
    return "; ".join(f"{key} pictures: {one['change_points']} ± {one['se']}" for key, one in value.items())


if __name__ == "__main__":
    main()
