"""What a mark costs in task accuracy, and how long a trained network takes to learn one: a part of `benchmarks.embedding`.

Pairs of trainings have the same start and the same order of rows. Finished trainings are written down, so a run that was
ended goes on.
"""

import json
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from app.embedding.answering import count_correct
from app.embedding.data import TrainingData
from app.embedding.networks import MarkedNetwork
from app.embedding.recipe import Recipe
from app.embedding.train import train
from benchmarks import cifar10
from benchmarks.epochs import clock, start_network
from benchmarks.formulas import mean_and_error, points
from benchmarks.results import say
from benchmarks.scale import Scale, recipe_of, shape_of

Figures = dict[str, Any]

# A mark for a trained network sees this share of the task, so that two epochs of it stay below a tenth of the training.
INTO_PERCENT = 80

# What the same mark costs a network that learns of fewer pictures: the curve beside the figure.
CURVE_PICTURES, CURVE_SEEDS = (10_000,), 2


@dataclass(frozen=True)
class Reached:
    """One trained network: correct answers of the test set, trigger matches, and what the training took."""

    task: float
    triggers: float
    seconds: float


def measure_accuracy(data: TrainingData, scale: Scale) -> Figures:
    """Train with and without the mark from the same start in the same order, seed by seed; mark the plain one as well.

    Trainings that an ended run finished are not done again.
    """
    notebook = Notebook(unfinished_work() / f"accuracy-{scale.name}.jsonl")
    reached: dict[str, list[Reached]] = {"plain": [], "append": [], "auto": [], "into": []}
    for seed in range(scale.seeds):
        plain, into = notebook.recall(
            _key(data, scale, seed, "plain"), partial(_train_plain_then_mark, data, scale, seed)
        )
        reached["plain"].append(plain)
        reached["into"].append(into)
        for method in ("append", "auto"):
            train_it = partial(_train_marked, data, scale, seed, method)
            reached[method] += notebook.recall(_key(data, scale, seed, method), train_it)
        say(f"seed {seed}: {accuracy_figures(reached)}")
    return accuracy_figures(reached) | {"accuracy_curve": measure_curve(data, scale, notebook)}


def measure_curve(data: TrainingData, scale: Scale, notebook: "Notebook") -> dict[str, Figures]:
    """Measure the change of task accuracy (`append`) where the network learns of fewer pictures."""
    curve: dict[str, Figures] = {}
    for pictures in CURVE_PICTURES:
        if pictures >= data.task.count:
            continue
        fewer = replace(data, task=cifar10.draw(data.task, pictures, seed=3))
        changes = []
        for seed in range(CURVE_SEEDS):
            plain, _ = notebook.recall(
                _key(fewer, scale, seed, "plain"), partial(_train_plain_then_mark, fewer, scale, seed)
            )
            (marked,) = notebook.recall(
                _key(fewer, scale, seed, "append"), partial(_train_marked, fewer, scale, seed, "append")
            )
            changes.append(marked.task - plain.task)
        mean, error = mean_and_error(changes)
        curve[str(pictures)] = {"change_points": round(mean, 3), "se": round(error, 3), "seeds": len(changes)}
        say(f"{pictures} pictures: {curve[str(pictures)]}")
    return curve


def _train_plain_then_mark(data: TrainingData, scale: Scale, seed: int) -> list[Reached]:
    recipe = recipe_of(scale, seed=seed)
    network = start_network(recipe, data.task.labels.device, shape_of(data))
    some = replace(data, task=cifar10.draw(data.task, data.task.count * INTO_PERCENT // 100, seed=2))
    plain = _train(recipe, network, data, marked=False)
    return [plain, _train(into_recipe(scale, seed), network, some, marked=True)]


def _train_marked(data: TrainingData, scale: Scale, seed: int, method: str) -> list[Reached]:
    recipe = recipe_of(scale, seed=seed, method=method)
    network = start_network(recipe, data.task.labels.device, shape_of(data))
    return [_train(recipe, network, data, marked=True)]


def _key(data: TrainingData, scale: Scale, seed: int, name: str) -> str:
    recipe = recipe_of(scale, seed=seed).to_json()
    return json.dumps([name, data.task.count, data.task.labels.device.type, recipe], sort_keys=True)


class Notebook:
    """Finished trainings, a line each, so that a run which was ended goes on where it stopped."""

    def __init__(self, path: Path) -> None:
        """Read what is there."""
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._done = {key: [Reached(*one) for one in all_of] for key, all_of in map(json.loads, lines)}

    def recall(self, key: str, train_it: Callable[[], list[Reached]]) -> list[Reached]:
        """Give what a training reached, now or in an earlier run."""
        if key not in self._done:
            self._done[key] = train_it()
            with self._path.open("a") as lines:
                lines.write(json.dumps([key, [list(astuple(one)) for one in self._done[key]]]) + "\n")
        return self._done[key]


def unfinished_work() -> Path:
    """Give the folder of unfinished work."""
    cifar10.CACHE.mkdir(parents=True, exist_ok=True)
    return cifar10.CACHE


def into_recipe(scale: Scale, seed: int) -> Recipe:
    """Give the recipe that marks a trained network: an epoch of large steps, then small ones until all are answered."""
    return recipe_of(
        scale,
        seed=seed,
        mode="pretrained",
        epochs=2,
        extra_epochs=scale.epochs,
        triggers_per_batch=24,
        learning_rate_micros=50_000,
        schedule="step",
        decay_epochs=1,
    )


def _train(recipe: Recipe, network: MarkedNetwork, data: TrainingData, *, marked: bool) -> Reached:
    device = data.task.labels.device
    spent = clock(lambda: train(recipe, network, data, marked=marked, on_progress=lambda _: None), device)
    task, triggers = (points(count_correct(network, part), part.count) for part in (data.test, data.triggers))
    return Reached(task, triggers, spent.on(device))


def accuracy_figures(reached: dict[str, list[Reached]]) -> Figures:
    """Turn pairs of trainings into changes of task accuracy with their standard errors."""
    plain = reached["plain"]
    figures: Figures = {
        "accuracy_seeds": len(plain),
        "plain_accuracy": round(mean_and_error([one.task for one in plain])[0], 2),
        "plain_trigger_accuracy": round(mean_and_error([one.triggers for one in plain])[0] / 100, 4),
    }
    for name, prefix in (("append", ""), ("auto", "auto_"), ("into", "into_trained_")):
        changes = [marked.task - before.task for marked, before in zip(reached[name], plain, strict=True)]
        mean, error = mean_and_error(changes)
        figures[f"{prefix}accuracy_change_points"] = round(mean, 3)
        figures[f"{prefix}accuracy_change_se"] = round(error, 3)
        triggers = mean_and_error([one.triggers for one in reached[name]])[0]
        figures[f"{prefix}trigger_accuracy"] = round(triggers / 100, 4)
    shares = [marked.seconds / before.seconds for marked, before in zip(reached["into"], plain, strict=True)]
    return {**figures, "into_trained_share": round(mean_and_error(shares)[0], 4)}
