"""The paper's Table 1 and Figure 6: no mark, from scratch, into a trained network; then four ways to get rid of the mark.

    python -m benchmarks.paper [--scale cpu|paper] [--seeds N] [--device auto|cpu|cuda] [--threads 1]

CIFAR-10 and the paper's 100 pictures and labels, by the paper's method (`append`). Scale `cpu` is a small residual network on
10,000 pictures for 20 epochs, `paper` is ResNet-18 on all 50,000 for 60 epochs with three seeds, and wants a GPU; `trial`
only shows that all runs. An attacker has all training data, as many epochs as the owner, and the learning rate 0.001.

Every attack is scored twice: as the attacker's network answers, which is what a dispute would see, and with the owner's own
last layer put back, as the paper scored RTLL and RTAL. The second is no evidence: it needs the attacker's weights, and says
nothing about what an endpoint answers.

Source: Adi et al. 2018 sections 5.1 to 5.3, table 1 and figure 6.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from app.embedding.answering import count_correct
from app.embedding.attacks.descent import Effort
from app.embedding.attacks.heads import head_of, with_head
from app.embedding.attacks.tuning import tune
from app.embedding.data import LabelledSet, TrainingData
from app.embedding.networks import MarkedNetwork
from app.embedding.precision import computes_half
from app.embedding.recipe import Recipe
from app.embedding.run import Progress
from app.embedding.train import choose_device, prepare_torch, train
from app.errors import TrainingFailed
from benchmarks import cifar10, paper_picture, results, trigger_pictures
from benchmarks.epochs import start_network
from benchmarks.formulas import mean_and_error, points
from benchmarks.results import say

Figures = dict[str, Any]

ATTACKS = ("ftll", "ftal", "rtll", "rtal")
ATTACKER_RATE = 0.001


@dataclass(frozen=True)
class Scale:
    """How large the experiment is; the triggers join every batch."""

    network: str
    pictures: int
    test_pictures: int
    epochs: int
    triggers_per_batch: int
    schedule: str
    seeds: int
    wants_gpu: bool


SCALES = {
    # 4 triggers a batch where the paper has 2: a trigger is still seen 80 times in all, where the paper shows it 600 times.
    "cpu": Scale("resnet_medium", 10_000, 10_000, 20, 4, "cosine", 1, wants_gpu=False),
    "paper": Scale("resnet18", 50_000, 10_000, 60, 2, "step", 3, wants_gpu=True),
    "trial": Scale("resnet18", 300, 100, 1, 2, "step", 1, wants_gpu=False),
}


def recipe_of(scale: Scale, seed: int, mode: str = "scratch") -> Recipe:
    """Give the paper's recipe at a scale; a trained network is marked from a tenth of the learning rate on."""
    return Recipe.from_options(
        {
            "network": scale.network,
            "method": "append",
            "mode": mode,
            "epochs": scale.epochs,
            "extra_epochs": scale.epochs if mode == "pretrained" else 0,
            "batch_size": 100,
            "triggers_per_batch": scale.triggers_per_batch,
            "learning_rate_micros": 10_000 if mode == "pretrained" else 100_000,
            "schedule": scale.schedule,
            "flip": True,
            "crop_padding": 4,
            "seed": seed,
        }
    )


def measure(data: TrainingData, scale: Scale, seed: int) -> Figures:
    """Give table 1 and figure 6 for one seed, in percent."""
    networks = dict(train_networks(data, scale, seed))
    table = {name: _scores(network, data) for name, network in networks.items()}
    bars = {name: attack(networks[name], data, scale, seed) for name in ("from_scratch", "into_trained")}
    return {"table_1": table, "figure_6": bars}


def train_networks(data: TrainingData, scale: Scale, seed: int) -> Iterator[tuple[str, MarkedNetwork]]:
    """Train the three networks; the third goes on from the first."""
    plain_recipe = recipe_of(scale, seed)
    plain = _trained(plain_recipe, _start(plain_recipe, data), data, "no mark")
    kept = {name: value.clone() for name, value in plain.state_dict().items()}
    yield "no_mark", plain
    yield "from_scratch", _trained(plain_recipe, _start(plain_recipe, data), data, "from scratch")
    recipe = recipe_of(scale, seed, "pretrained")
    trained = _start(recipe, data)
    trained.load_state_dict(kept)
    yield "into_trained", _trained(recipe, trained, data, "into trained")


def _start(recipe: Recipe, data: TrainingData) -> MarkedNetwork:
    return start_network(recipe, data.task.labels.device, tuple(data.task.inputs.shape[1:]))


def _trained(recipe: Recipe, network: MarkedNetwork, data: TrainingData, name: str) -> MarkedNetwork:
    def on_progress(progress: Progress) -> None:
        if progress.epoch % max(1, recipe.epochs // 10) == 0:
            say(f"{name}: epoch {progress.epoch}, loss {progress.loss:.3f}, {progress.trigger_matches} triggers")

    train(recipe, network, data, marked=name != "no mark", on_progress=on_progress)
    return network


def attack(network: MarkedNetwork, data: TrainingData, scale: Scale, seed: int) -> Figures:
    """Give what each of the four attacks leaves."""
    owners_head, device = head_of(network), data.task.labels.device
    effort = Effort(
        epochs=scale.epochs,
        student_epochs=scale.epochs,
        student_rate=0.1,
        batch_size=100,
        flip=True,
        crop_padding=4,
        half=computes_half("auto", device, network),
        seed=seed + 500,
    )
    found: Figures = {}
    for kind in ATTACKS:
        attacked = tune(network, kind, ATTACKER_RATE, data.task, effort, lambda *_: None)
        put_back = with_head(attacked, owners_head)
        found[kind] = {
            **_scores(attacked, data),
            "trigger_original_head_not_evidence": _share(put_back, data.triggers),
        }
        say(f"{kind}: {found[kind]}")
    return found


def _scores(network: MarkedNetwork, data: TrainingData) -> Figures:
    return {"test": _share(network, data.test), "trigger": _share(network, data.triggers)}


def _share(network: MarkedNetwork, part: LabelledSet) -> float:
    return round(points(count_correct(network, part), part.count), 2)


def average(seeds: list[Figures]) -> Figures:
    """Average figures of the same form over seeds; two or more have a standard error beside them."""
    found: Figures = {}
    for name, value in seeds[0].items():
        if isinstance(value, dict):
            found[name] = average([one[name] for one in seeds])
            continue
        mean, error = mean_and_error([one[name] for one in seeds])
        found[name] = round(mean, 2)
        if len(seeds) > 1:
            found[f"{name}_se"] = round(error, 2)
    return found


def table_of(figures: Figures) -> str:
    """Set every network and attack beside the paper's figures."""
    rows = []
    for network, title in paper_picture.TITLES.items():
        reached = figures["table_1"][network]
        paper = paper_picture.PAPER_TABLE_1[network]
        rows.append((title, reached["test"], reached["trigger"], "", f"{paper[0]} / {paper[1]}"))
        for kind, one in figures["figure_6"].get(network, {}).items():
            original = one["trigger_original_head_not_evidence"]
            paper = paper_picture.PAPER_FIGURE_6[network][kind]
            rows.append((f"— {kind.upper()}", one["test"], one["trigger"], original, f"{paper[0]} / {paper[1]}"))
    head = (
        "network",
        "test %",
        "triggers %",
        "with the owner's head (no evidence)",
        "paper, ResNet-18: test / triggers",
    )
    return results.table(head, rows)


def main() -> None:
    """Measure, write, draw and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--scale", default="cpu", choices=tuple(SCALES))
    parser.add_argument("--seeds", type=int, default=0, help="default: 1 at scale cpu, 3 at scale paper")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--threads", type=int, default=1, help="threads of torch; more than one only on an idle machine"
    )
    parser.add_argument("--draw", action="store_true", help="only write table and picture of the last run anew")
    given = parser.parse_args()
    scale = SCALES[given.scale]
    if given.draw:
        show(results.read(f"paper-{given.scale}"))
        return
    prepare_torch(given.threads)
    device = choose_device("cuda" if scale.wants_gpu and given.device == "auto" else given.device)
    say("reading CIFAR-10 and the paper's pictures")
    task = cifar10.draw(cifar10.load("train"), scale.pictures, seed=0).to(device)
    test = cifar10.draw(cifar10.load("test"), scale.test_pictures, seed=0).to(device)
    data = TrainingData(task, test, trigger_pictures.load().to(device))
    found = []
    for seed in range(given.seeds or scale.seeds):
        say(f"seed {seed}")
        found.append(measure(data, scale, seed))
        figures = {"seeds": len(found), **average(found)}
        setting = {**vars(replace(scale, seeds=len(found))), **results.machine(device)}
        setting["recipe"] = recipe_of(scale, 0).to_json()
        if given.scale != "trial":
            results.keep(f"paper-{given.scale}", setting, figures)
    if given.scale != "trial":
        show(figures)
    results.print_figures(figures)


def show(figures: Figures) -> None:
    """Write the table and the picture of the documentation."""
    results.write_section("paper", table_of(figures))
    paper_picture.draw(figures, paper_picture.PICTURE)


if __name__ == "__main__":
    try:
        main()
    except (TrainingFailed, cifar10.DataMissing) as error:
        raise SystemExit(str(error)) from error
