"""The peer beside us: `amuletml`, in an environment of its own, on the task that it can do.

Scikit-learn's digits as 64 numbers each, a network of 512-512, 100 random inputs as triggers, the same optimizer, epochs and
batches (64 rows and 32 triggers) for both. Each trains a plain and a marked network from the start, and the peer's own
extraction attack (`ModelExtraction`, mean squared error of logits, on the owner's own data) is run on both marked networks.

Source: github.com/ssg-research/amulet, `WatermarkNN` (Adi et al. 2018), Apache-2.0.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from app.embedding.answering import count_correct
from app.embedding.archives import LabelledArrays
from app.embedding.data import LabelledSet, TrainingData, labelled_set, seeded
from app.embedding.networks import build
from app.embedding.recipe import MICRO, Recipe
from app.embedding.train import train
from benchmarks.cifar10 import CACHE
from benchmarks.epochs import clock
from benchmarks.formulas import mean_and_error
from benchmarks.results import say

VERSION = "0.6.0"
ENVIRONMENT = CACHE / "amulet-venv"
SCRIPT = Path(__file__).with_name("amulet_task.py")

TRIGGERS, EPOCHS, CLASSES, HELD_OUT = 100, 30, 10, 360

# As in amulet_task.py.
BATCH, TRIGGER_BATCH, RATE = 64, 32, 0.05


def measure(seeds: int) -> dict[str, Any]:
    """Train ours here and the peer's there; without the peer, say why."""
    if (reason := install()) is not None:
        return {"amulet": f"skipped: {reason}"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task, test = digits()
        arrays = {"inputs": task.inputs, "labels": task.labels, "test_inputs": test.inputs, "test_labels": test.labels}
        np.savez(folder / "task.npz", **{name: tensor.numpy() for name, tensor in arrays.items()})
        ours = [_train_ours(seed, task, test, folder) for seed in range(seeds)]
        say("amulet: ours are trained")
        options = ["-P", "-W", "ignore"]  # -P: beside the script lies a module of the peer's own name
        command = [str(ENVIRONMENT / "bin" / "python"), *options, str(SCRIPT), str(folder), str(seeds), str(EPOCHS)]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode:
        return {"amulet": "skipped: " + (child.stderr.strip().splitlines() or ["it failed"])[-1][:200]}
    return figures([json.loads(line) for line in child.stdout.splitlines()], ours)


def install() -> str | None:
    """Install the peer into an environment of its own unless it is there; give the reason if that is impossible."""
    done = ENVIRONMENT / f"installed-{VERSION}"
    if done.exists():
        return None
    if sys.version_info[:2] != (3, 11):
        return "amuletml needs Python 3.11"
    say("amulet: installing it into an environment of its own (some minutes)")
    torch_version = str(torch.__version__).partition("+")[0]
    for command in (
        [sys.executable, "-m", "venv", str(ENVIRONMENT)],
        [str(ENVIRONMENT / "bin" / "pip"), "install", "-q", f"amuletml=={VERSION}", f"torch=={torch_version}"],
    ):
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        if child.returncode:
            return (child.stderr.strip().splitlines() or ["pip failed"])[-1][:200]
    done.touch()
    return None


def digits() -> tuple[LabelledSet, LabelledSet]:
    """Give scikit-learn's digits in a drawn order: (N, 64) float32 in [0, 1]."""
    read = load_digits()
    order = torch.randperm(len(read.target), generator=seeded(0)).numpy()
    inputs = (read.data[order] / 16).astype(np.float32)
    labels = read.target[order].astype(np.int64)
    return tuple(  # type: ignore[return-value]
        labelled_set("tensor", LabelledArrays(inputs[part], labels[part]))
        for part in (slice(HELD_OUT, None), slice(HELD_OUT))
    )


def _train_ours(seed: int, task: LabelledSet, test: LabelledSet, folder: Path) -> dict[str, float]:
    draw = seeded(1_000 + seed)
    triggers = LabelledSet(
        torch.rand((TRIGGERS, task.inputs.shape[1]), generator=draw),
        torch.randint(0, CLASSES, (TRIGGERS,), generator=draw),
    )
    recipe = Recipe.from_options(
        {
            "network": "mlp",
            "method": "append",
            "epochs": EPOCHS,
            "batch_size": BATCH,
            "triggers_per_batch": TRIGGER_BATCH,
            "learning_rate_micros": int(RATE * MICRO),
            "schedule": "constant",
            "seed": seed,
        }
    )
    data, cpu, found = TrainingData(task, test, triggers), torch.device("cpu"), {}
    for name, marked in (("plain", False), ("marked", True)):
        network = build("mlp", (task.inputs.shape[1],), CLASSES, seed=seed)
        run = (recipe, network, data)
        spent = clock(lambda run=run, marked=marked: train(*run, marked=marked, on_progress=lambda _: None), cpu)
        found[f"{name}_seconds"] = spent.processor
        found[f"{name}_accuracy"] = count_correct(network, test) / test.count
        found["trigger_accuracy"] = count_correct(network, triggers) / triggers.count
    weights = {name: value.numpy() for name, value in network.body.state_dict().items()}
    np.savez(
        folder / f"ours-{seed}.npz",
        trigger_inputs=triggers.inputs.numpy(),
        trigger_labels=triggers.labels.numpy(),
        **weights,
    )
    return found


def figures(theirs: list[dict[str, float]], ours: list[dict[str, float]]) -> dict[str, Any]:
    """Set the peer's figures beside ours: means over seeds."""
    found: dict[str, Any] = {"amulet": f"amuletml {VERSION}", "amulet_seeds": len(theirs)}
    for prefix, rows in (("amulet", theirs), ("amulet_ours", ours)):
        found[f"{prefix}_marked_over_plain"] = _mean([row["marked_seconds"] / row["plain_seconds"] for row in rows], 3)
        found[f"{prefix}_marked_cpu_seconds"] = _mean([row["marked_seconds"] for row in rows], 2)
        changes = [100 * (row["marked_accuracy"] - row["plain_accuracy"]) for row in rows]
        mean, error = mean_and_error(changes)
        found[f"{prefix}_accuracy_change_points"], found[f"{prefix}_accuracy_change_se"] = (
            round(mean, 2),
            round(error, 2),
        )
        found[f"{prefix}_trigger_accuracy"] = _mean([row["trigger_accuracy"] for row in rows], 3)
    found["amulet_extracted_trigger_accuracy"] = _mean([row["extracted_trigger_accuracy"] for row in theirs], 3)
    found["amulet_ours_extracted_trigger_accuracy"] = _mean(
        [row["ours_extracted_trigger_accuracy"] for row in theirs], 3
    )
    found["amulet_extracted_accuracy"] = _mean([row["extracted_accuracy"] for row in theirs], 3)
    found["amulet_ours_extracted_accuracy"] = _mean([row["ours_extracted_accuracy"] for row in theirs], 3)
    return found


def _mean(values: list[float], digits_kept: int) -> float:
    return round(mean_and_error(values)[0], digits_kept)
