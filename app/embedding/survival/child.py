"""The survival child: `python -m app.embedding.survival.child`, started by app.embedding.training_process.

  1. read the order and the secrets from standard input; watch for its end, which means that the parent is gone
  2. unseal the marking key, in this process's memory only; labels as for training
  3. read data and networks, in place; count what the marked network and the control answer
  4. make every attack that an earlier attempt of the same run has not written down
  5. write report and page, each whole or not at all; say `done`

Invariants: nothing secret reaches standard output, files, arguments or environment.
Trust: whoever runs this process sees the marking key; the parent, the API and the database do not.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from app.canonical import encode_json, sha256
from app.embedding.archives import DataForm, load_dataset
from app.embedding.artifacts import digest_of_file, is_program, write_whole
from app.embedding.attacks.course import Prey
from app.embedding.attacks.descent import Effort
from app.embedding.child_order import PlainKey, SealedKey
from app.embedding.child_talk import Say, device_name, leave, speak
from app.embedding.data import LabelledSet, check_fits, labelled_set, split_holdout, trigger_set, without_triggers
from app.embedding.networks import MarkedNetwork, model_shape, open_network, read_header
from app.embedding.opened_key import labels_of_key, open_marking_key
from app.embedding.precision import computes_half
from app.embedding.recipe import MICRO
from app.embedding.survival.measure import Notebook, Scene, attack_all, score_unattacked
from app.embedding.survival.order import (
    MEASURED,
    SURVIVAL_PAGE,
    SURVIVAL_REPORT,
    Measured,
    Skipped,
    SurvivalOrder,
    SurvivalReport,
    SurvivalSettings,
)
from app.embedding.survival.page import render_page
from app.embedding.survival.report import Terms, summary_line, survival_of
from app.embedding.train import choose_device, prepare_torch
from app.errors import Malformed

# Of another task's data a tenth is held out, to measure whether the transfer worked.
OTHER_HOLDOUT_PERCENT = 10


def main() -> int:
    """Make one report; see the module's list of steps."""
    return speak(SurvivalOrder, run_survival_order)


def run_survival_order(order: SurvivalOrder, secrets: PlainKey | SealedKey, say: Say) -> SurvivalReport:
    """Attack the marked network and write report and page.

    Raises: TrapstreetError with what the vendor has to change.
    """
    prepare_torch(order.settings.threads)
    device = choose_device(order.settings.device)
    key = open_marking_key(order.statement, secrets)
    labels = labels_of_key(order.statement, order.salt, key)
    scene = read_scene(order, trigger_set(key.inputs, labels), device)
    plain = None if order.plain_path is None else read_network(order, order.plain_path, device)
    marked, control = score_unattacked(scene, plain)

    run = name_of_run(order, labels, device)

    def on_progress(attack: str, number: int, attacks: int, epoch: int, epochs: int) -> None:
        event = {"attack": attack, "number": number, "attacks": attacks, "epoch": epoch, "epochs": epochs}
        say({"event": "progress", **event})

    def on_measured(measured: Measured) -> None:
        say({"event": "attack", "run": run.hex(), "result": measured.to_json()})

    notebook = Notebook(Path(order.output_path) / MEASURED, run)
    done, skipped = attack_all(scene, order.settings.attacks, notebook, on_progress, on_measured)
    report = report_of(order, marked, control, done, skipped, device)
    write_whole(Path(order.output_path) / SURVIVAL_REPORT, report.encode())
    write_whole(Path(order.output_path) / SURVIVAL_PAGE, render_page(report).encode())
    return report


def report_of(
    order: SurvivalOrder,
    marked: Measured,
    control: Measured | None,
    done: Mapping[str, Measured],
    skipped: list[Skipped],
    device: torch.device,
) -> SurvivalReport:
    """Put a report together from counts; attacks stand in the order in which they were asked for."""
    terms = Terms.of(order.statement, order.settings)
    rows = tuple(survival_of(done[name], terms, marked) for name in order.settings.attacks if name in done)
    unattacked = survival_of(marked, terms, marked)
    return SurvivalReport(
        root=order.statement.root,
        weights_sha256=digest_of_file(Path(order.weights_path)),
        assurance_class=terms.assurance_class,
        classes=terms.classes,
        families=terms.families,
        settings=order.settings,
        marked=unattacked,
        plain=None if control is None else survival_of(control, terms, marked),
        attacks=rows,
        skipped=tuple(skipped),
        needed=terms.needed(),
        summary=summary_line(unattacked, rows),
        device=device_name(device),
        torch_version=str(torch.__version__),
    )


def name_of_run(order: SurvivalOrder, labels: tuple[int, ...], device: torch.device) -> bytes:
    """Name what a run measures, by content: paths may differ and attacks may be added, nothing else."""
    files = (order.weights_path, order.data_path, order.test_path, order.attacker_path, order.transfer_path)
    parts = [
        device.type,
        order.statement.to_json(),
        sha256(encode_json(list(labels))).hex(),
        # Not what a dispute would be filed with, either: it changes no count.
        replace(order.settings, attacks=(), bits=64, interface_bits=0, spent=()).to_json(),
        list(order.transfer_classes),
        [None if path is None else digest_of_file(Path(path)).hex() for path in files],
    ]
    return sha256(encode_json(parts))


def read_scene(order: SurvivalOrder, triggers: LabelledSet, device: torch.device) -> Scene:
    """Read everything that a report works on.

    Raises: Malformed or TooLarge, naming what is at fault.
    """
    statement, settings = order.statement, order.settings
    classes = len(statement.classes)
    check_fits(triggers, statement.kind, statement.shape, classes)
    form = DataForm(statement.kind, statement.shape, statement.classes, settings.resize)
    task = without_triggers(_load(order.data_path, form), triggers)
    if order.test_path is None:
        task, test = split_holdout(task, settings.holdout_percent, settings.seed)
    else:
        test = without_triggers(_load(order.test_path, form), triggers)
    mine = _load(order.attacker_path, form) if order.attacker_path is not None else _share(task, settings)
    other = other_test = None
    if order.transfer_path is not None:
        other_form = replace(form, classes=order.transfer_classes, resize=True)
        other, other_test = split_holdout(_load(order.transfer_path, other_form), OTHER_HOLDOUT_PERCENT, settings.seed)
        other, other_test = other.to(device), other_test.to(device)
    marked = read_network(order, order.weights_path, device)
    return Scene(
        marked=marked,
        test=test.to(device),
        other_test=other_test,
        triggers=triggers.to(device),
        families=statement.families,
        prey=Prey(mine.to(device), classes, triggers.count, other, len(order.transfer_classes)),
        effort=_effort(settings, mine, half=computes_half(settings.precision, device, marked)),
    )


def read_network(order: SurvivalOrder, path: str, device: torch.device) -> MarkedNetwork:
    """Read a network of the registration's shape and classes, from weights or a program.

    Raises: Malformed, TooLarge or UnsupportedMedia.
    """
    shape, classes = model_shape(order.statement.kind, order.statement.shape), len(order.statement.classes)
    if not is_program(Path(path)) and (found := read_header(Path(path)).classes) != classes:
        raise Malformed(f"{Path(path).name} is a network of {found} classes; registered are {classes}")
    program = None if order.program_path is None else Path(order.program_path)
    return open_network(Path(path), shape, classes, program, [Path(order.weights_path)]).to(device)


def _load(path: str, form: DataForm) -> LabelledSet:
    return labelled_set(form.kind, load_dataset(Path(path), form))


def _share(task: LabelledSet, settings: SurvivalSettings) -> LabelledSet:
    """Give the attacker's share of the training data, drawn by the seed."""
    if settings.attacker_percent == 100:
        return task
    _, share = split_holdout(task, settings.attacker_percent, settings.seed + 1)
    return share


def _effort(settings: SurvivalSettings, data: LabelledSet, *, half: bool) -> Effort:
    return Effort(
        epochs=settings.epochs,
        student_epochs=settings.student_epochs,
        student_rate=settings.student_rate_micros / MICRO,
        batch_size=settings.batch_size,
        flip=settings.flip and data.inputs.dim() == 4,
        crop_padding=settings.crop_padding if data.inputs.dim() == 4 else 0,
        half=half,
        seed=settings.seed,
    )


if __name__ == "__main__":
    leave(main())
