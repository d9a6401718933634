"""The training child: `python -m app.embedding.child`, started by app.embedding.training_process and by nobody else.

  1. read the order and the secrets from standard input; watch for its end, which means that the parent is gone
  2. unseal the marking key, in this process's memory only, and check that it is the registered one
  3. labels: drawn from the salt (class A) or the key's own (class B)
  4. read data and weights, in place
  5. train, without the mark too if the report is to compare, over as many seeds as the recipe says
  6. write weights and report, each whole or not at all; say `done`

Under torchrun there are several of these processes: the first one reads and speaks, the others get order and secrets from
it over the process group, and all train together. Unfinished runs are kept in the output folder until the report is there.

Invariants: nothing secret reaches standard output, files, arguments or environment.
Source: Adi et al. 2018 section 4 (Mark). The protocol on the pipes: app.embedding.child_order.
Trust: whoever runs this process sees the marking key; the parent, the API and the database do not.
"""

import math
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import torch
from torch import distributed as dist

from app.canonical import lp, sha256, u32
from app.embedding.answering import count_correct
from app.embedding.archives import DataForm, load_dataset
from app.embedding.artifacts import MARKED_WEIGHTS, REPORT, UNFINISHED_RUN, digest_of_file, is_program, write_whole
from app.embedding.checkpoint import Checkpoint
from app.embedding.child_order import (
    ChildOrder,
    Comparison,
    NetworkFigures,
    PlainKey,
    SealedKey,
    TrainingReport,
    read_order,
    read_secrets,
)
from app.embedding.child_talk import Say, converse, device_name, leave
from app.embedding.data import (
    LabelledSet,
    TrainingData,
    check_fits,
    labelled_set,
    split_holdout,
    trigger_set,
    without_triggers,
)
from app.embedding.networks import (
    MarkedNetwork,
    build,
    build_exported,
    load_network,
    model_shape,
    read_header,
    save_weights,
)
from app.embedding.opened_key import labels_of_key, open_marking_key
from app.embedding.ranks import ALONE, Ranks
from app.embedding.recipe import EXPORTED, MILLI
from app.embedding.run import Progress
from app.embedding.train import choose_device, prepare_torch, train
from app.errors import Malformed
from app.keys.commitment import MarkingKey


def main() -> int:
    """Train one order; see the module's list of steps."""
    ranks = join_ranks()

    def run(order: ChildOrder, secrets: PlainKey | SealedKey, say: Say) -> TrainingReport:
        return run_order(order, secrets, say, ranks)

    return converse(lambda stream: receive(stream, ranks), run, is_heard=ranks.is_first)


def join_ranks() -> Ranks:
    """Take this process's place among those that torchrun started, or be alone."""
    if not dist.is_torchelastic_launched():
        return ALONE
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return Ranks(dist.get_rank(), dist.get_world_size())


def receive(stream: BinaryIO, ranks: Ranks) -> tuple[ChildOrder, PlainKey | SealedKey]:
    """Read order and secrets from the parent (the first rank) or from the first rank (the others).

    Raises: Malformed.
    """
    if not ranks.is_first:
        order = ChildOrder.parse(ranks.send_bytes(b""))
        frames = BytesIO(ranks.send_bytes(b""))
        return order, read_secrets(frames, order.key_form)
    order = read_order(stream)
    secrets = read_secrets(stream, order.key_form)
    ranks.send_bytes(order.encode())
    ranks.send_bytes(b"".join(u32(len(frame)) + frame for frame in secrets.frames()))
    return order, secrets


def run_order(order: ChildOrder, secrets: PlainKey | SealedKey, say: Say, ranks: Ranks = ALONE) -> TrainingReport:
    """Train one order and write its artifacts.

    Raises: TrapstreetError with what the vendor has to change.
    """
    prepare_torch(order.recipe.threads)
    device = choose_device(order.recipe.device, ranks.rank)
    key = open_marking_key(order.statement, secrets)
    data = read_data(order, key, device)
    runs = Runs(order, data, ranks, say)
    given = None
    if order.weights_path is not None:
        given = figures_of(start_network(order, device), data, epochs=0, milliseconds=0)
    plain = runs.train(0, marked=False).figures if order.recipe.compare_plain else None
    marked = runs.train(0, marked=True)
    sha256 = write_marked(order, marked.network) if ranks.is_first else b""
    comparison = None if plain is None else runs.compare(plain, marked.figures)
    for message in warnings_of(marked.figures, comparison):
        runs.warn(message)
    report = TrainingReport(
        marked=NetworkFigures(**{**vars(marked.figures), "weights_sha256": sha256 or None}),
        plain=plain,
        given=given,
        comparison=comparison,
        warnings=tuple(runs.warnings),
        root=order.statement.root,
        recipe=order.recipe,
        device=device_name(device, ranks.count),
        torch_version=str(torch.__version__),
    )
    if ranks.is_first:
        write_whole(Path(order.output_path) / REPORT, report.encode())
        runs.forget()
    return report


def read_data(order: ChildOrder, key: MarkingKey, device: torch.device) -> TrainingData:
    """Read task data and triggers onto the device.

    Raises: Malformed or TooLarge, naming what is at fault.
    """
    statement = order.statement
    classes = len(statement.classes)
    form = DataForm(statement.kind, statement.shape, statement.classes, order.recipe.resize)
    triggers = trigger_set(key.inputs, labels_of_key(order.statement, order.salt, key))
    check_fits(triggers, statement.kind, statement.shape, classes)
    task = without_triggers(_load(order.data_path, form), triggers)
    if order.test_path is None:
        task, test = split_holdout(task, order.recipe.holdout_percent, order.recipe.seed)
    else:
        test = without_triggers(_load(order.test_path, form), triggers)
    return TrainingData(task.to(device), test.to(device), triggers.to(device))


def _load(path: str, form: DataForm) -> LabelledSet:
    return labelled_set(form.kind, load_dataset(Path(path), form))


def start_network(order: ChildOrder, device: torch.device) -> MarkedNetwork:
    """Give the network before its first step: fresh, with the vendor's weights, or the vendor's own program.

    Raises: Malformed if the weights are of another network, shape or number of classes; TooLarge; UnsupportedMedia.
    """
    recipe, classes = order.recipe, len(order.statement.classes)
    shape = model_shape(order.statement.kind, order.statement.shape)
    if order.weights_path is None:
        network = build(
            recipe.network,
            shape,
            classes,
            seed=recipe.seed,
            mean_millis=recipe.mean_millis,
            std_millis=recipe.std_millis,
        )
        return network.to(device)
    path = Path(order.weights_path)
    if (recipe.network == EXPORTED) != is_program(path):
        raise Malformed(
            "an exported program (.pt2) goes with the network `exported`, and only with it", pointer="/network"
        )
    if recipe.network == EXPORTED:
        program = build_exported(path, shape, classes, mean_millis=recipe.mean_millis, std_millis=recipe.std_millis)
        return program.to(device)
    header = read_header(path)
    if (header.network, header.shape, header.classes) != (recipe.network, shape, classes):
        raise Malformed(
            f"the weights are a {header.network} of {header.classes} classes for {header.shape}; "
            f"recipe and registration need a {recipe.network} of {classes} for {shape}"
        )
    return load_network(path).to(device)


@dataclass(frozen=True)
class Trained:
    """A trained network and what it reaches."""

    network: MarkedNetwork
    figures: NetworkFigures


class Runs:
    """The training runs of one order: with the mark, without it, and over several seeds."""

    def __init__(self, order: ChildOrder, data: TrainingData, ranks: Ranks, say: Say) -> None:
        """Keep what every run needs."""
        self.order, self.data, self.ranks, self.say = order, data, ranks, say
        self.warnings: list[str] = []
        self._folder = Path(order.output_path)
        self._owner = owner_of(order, ranks)

    def train(self, seed: int, *, marked: bool) -> Trained:
        """Train one network; `seed` counts from 0 and is added to the recipe's."""
        name = ("marked" if marked else "plain") + (f"-{seed}" if seed else "")
        order = replace(self.order, recipe=replace(self.order.recipe, seed=self.order.recipe.seed + seed))

        def on_progress(progress: Progress) -> None:
            self.say({"event": "progress", "run": name, **vars(progress)})

        network = start_network(order, self.data.task.labels.device)
        run = train(
            order.recipe,
            network,
            self.data,
            marked=marked,
            on_progress=on_progress,
            on_warning=self.warn,
            checkpoint=self._checkpoint(name),
            ranks=self.ranks,
        )
        return Trained(network, figures_of(network, self.data, epochs=run.epoch, milliseconds=run.milliseconds))

    def warn(self, message: str) -> None:
        """Tell the parent what the vendor should know, and keep it for the report."""
        self.warnings.append(message)
        self.say({"event": "warning", "message": message})

    def compare(self, plain: NetworkFigures, marked: NetworkFigures) -> Comparison:
        """Train the remaining pairs and sum up what the mark costs."""
        more = range(1, self.order.recipe.compare_seeds)
        pairs = [
            (plain, marked),
            *((self.train(s, marked=False).figures, self.train(s, marked=True).figures) for s in more),
        ]
        return Comparison(
            seeds=len(pairs),
            plain_correct=sum(pair[0].task_correct for pair in pairs),
            marked_correct=sum(pair[1].task_correct for pair in pairs),
            asked=sum(pair[0].task_total for pair in pairs),
        )

    def forget(self) -> None:
        """Remove what was kept: the order's results are written."""
        for path in self._folder.glob(f"{UNFINISHED_RUN}*"):
            path.unlink()

    def _checkpoint(self, name: str) -> Checkpoint:
        every_seconds = self.order.checkpoint_millis / MILLI
        return Checkpoint(self._folder / f"{UNFINISHED_RUN}{name}.safetensors", f"{name} {self._owner}", every_seconds)


def owner_of(order: ChildOrder, ranks: Ranks) -> str:
    """Name what a run depends on, wherever its files lie: a checkpoint of anything else is not gone on from."""
    paths = (order.data_path, order.test_path, order.weights_path)
    parts = [order.statement.encode(), order.salt, order.recipe.encode(), str(torch.__version__).encode()]
    parts += [b"" if path is None else digest_of_file(Path(path)) for path in paths]
    return f"{sha256(lp(*parts)).hex()} of {ranks.count}"


def figures_of(network: MarkedNetwork, data: TrainingData, *, epochs: int, milliseconds: int) -> NetworkFigures:
    """Count what a network reaches on task and triggers."""
    return NetworkFigures(
        task_correct=count_correct(network, data.test),
        task_total=data.test.count,
        trigger_matches=count_correct(network, data.triggers),
        trigger_total=data.triggers.count,
        epochs=epochs,
        milliseconds=milliseconds,
        weights_sha256=None,
    )


def warnings_of(marked: NetworkFigures, comparison: Comparison | None) -> list[str]:
    """Say what the vendor should know: triggers that did not take, and task accuracy lost beyond chance."""
    warnings = []
    if marked.trigger_matches < marked.trigger_total:
        warnings.append(
            f"{marked.trigger_total - marked.trigger_matches} of {marked.trigger_total} triggers are not answered with "
            "their labels: allow extra_epochs, more triggers_per_batch, a larger network or fewer triggers"
        )
    if comparison is not None:
        plain, with_mark = comparison.plain_correct / comparison.asked, comparison.marked_correct / comparison.asked
        # Two standard errors of a difference of shares, as if the two columns were independent: cautious, they are paired.
        noise = 2 * math.sqrt((plain * (1 - plain) + with_mark * (1 - with_mark)) / comparison.asked)
        if plain - with_mark > noise:
            warnings.append(
                f"the mark costs {100 * (plain - with_mark):.1f} points of task accuracy ({100 * plain:.1f} % to "
                f"{100 * with_mark:.1f} %, seeds: {comparison.seeds}): fewer triggers, or a larger network, cost less"
            )
    return warnings


def write_marked(order: ChildOrder, network: MarkedNetwork) -> bytes:
    """Write the marked weights and give their SHA-256."""
    path = Path(order.output_path) / MARKED_WEIGHTS
    save_weights(network, path, model_shape(order.statement.kind, order.statement.shape), len(order.statement.classes))
    return digest_of_file(path)


if __name__ == "__main__":
    leave(main())
