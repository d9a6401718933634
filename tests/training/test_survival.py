import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from app.embedding.attacks.catalogue import QUICK_SUITE, parse_attack
from app.embedding.attacks.course import Beginnings, run_attack
from app.embedding.child_order import PlainKey, SealedKey
from app.embedding.networks import build, build_exported, save_weights
from app.embedding.survival.child import run_survival_order
from app.embedding.survival.measure import Notebook, Scene, attack_all, score_unattacked
from app.embedding.survival.order import (
    MEASURED,
    SURVIVAL_PAGE,
    SURVIVAL_REPORT,
    Measured,
    SurvivalOrder,
    SurvivalReport,
    SurvivalSettings,
)
from app.embedding.training_process import STOPPED, run_survival
from app.errors import Malformed, TrainingFailed
from app.keys.key_file import encode_key_file
from app.keys.sealing import QueueKey, seal
from app.keys.trigger_set import Family
from tests.training.examples import CLASSES, image_key, shapes_to_learn, write_tensors
from tests.training.programs import Residual, export, settled
from tests.training.runs import image_data
from tests.training.thieves import (
    CONTROL,
    MARKED,
    TRIGGERS,
    differing,
    effort,
    marked,
    other_task,
    prey,
    state,
    write_marked,
)

FAMILIES = (Family("first", 0, 5), Family("second", 5, 12))
RUN = bytes(32)


def scene(**changes):
    data = image_data()
    whole = Scene(marked(), data.test, other_task(), data.triggers, FAMILIES, prey(), effort(epochs=1))
    return replace(whole, **changes)


def attacked(attacks, notebook, at=None):
    progress, found = [], []
    done, skipped = attack_all(at or scene(), attacks, notebook, lambda *step: progress.append(step), found.append)
    return done, skipped, progress, found


def test_every_attack_is_counted_family_by_family(tmp_path):
    notebook = Notebook(tmp_path / MEASURED, RUN)
    done, skipped, _, found = attacked(("int8", "prune-90", "pirate", "transfer", "jpeg-90"), notebook)
    assert skipped == []
    assert (
        [measured.attack for measured in found] == list(done) == ["int8", "prune-90", "pirate", "transfer", "jpeg-90"]
    )
    assert done["int8"].matches == (5, 7)
    assert done["int8"].owners_head == (5, 7)
    assert (done["int8"].task_total, done["transfer"].task_total) == (30, 90)
    assert done["transfer"].matches is None
    assert len(done["transfer"].owners_head) == 2
    assert done["pirate"].pirate[1] == TRIGGERS
    assert done["int8"].pirate is None


def test_the_owners_head_is_counted_apart_from_the_networks_own(tmp_path):
    done, *_ = attacked(("rtll-1e-4",), Notebook(tmp_path / MEASURED, RUN))
    # A frozen trunk with the owner's head is the marked network again; the thief's own head is another matter.
    assert done["rtll-1e-4"].owners_head == (5, 7)
    assert sum(done["rtll-1e-4"].matches) < TRIGGERS


def test_the_marked_network_and_the_control_are_counted_unattacked():
    plain = build("small_cnn", (1, 8, 8), 3, seed=9)
    own, control = score_unattacked(scene(), plain)
    assert (own.attack, own.matches, own.owners_head) == ("none", (5, 7), (5, 7))
    assert control.attack == "no mark"
    assert sum(control.matches) < TRIGGERS
    assert score_unattacked(scene(), None)[1] is None


def test_a_control_of_another_architecture_has_no_count_with_the_owners_head():
    assert score_unattacked(scene(), build("resnet_small", (1, 8, 8), 3))[1].owners_head is None


def test_what_cannot_be_made_is_skipped_with_its_reason_and_the_rest_goes_on(tmp_path):
    broken = build("small_cnn", (1, 8, 8), 3)
    with torch.no_grad():
        next(broken.body.parameters()).fill_(float("nan"))
    done, skipped, *_ = attacked(("ftal-1e-2", "int8"), Notebook(tmp_path / MEASURED, RUN), scene(marked=broken))
    assert [item.attack for item in skipped] == ["ftal-1e-2"]
    assert "no longer a number" in skipped[0].reason
    assert list(done) == ["int8"]


def test_progress_names_the_attack_its_number_and_its_epochs(tmp_path):
    _, _, progress, _ = attacked(("int8", "ftll-1e-2"), Notebook(tmp_path / MEASURED, RUN))
    assert progress == [("int8", 1, 2, 0, 0), ("ftll-1e-2", 2, 2, 0, 0), ("ftll-1e-2", 2, 2, 1, 1)]


def test_a_run_goes_on_behind_what_is_written_down(tmp_path):
    first, *_ = attacked(("int8", "int4"), Notebook(tmp_path / MEASURED, RUN))
    again, _, progress, found = attacked(("int8", "prune-50", "int4"), Notebook(tmp_path / MEASURED, RUN))
    assert [step[0] for step in progress] == ["prune-50"]
    assert [measured.attack for measured in found] == ["prune-50"]
    assert again["int8"] == first["int8"]


def test_a_line_that_a_crash_cut_off_is_made_again(tmp_path):
    path = tmp_path / MEASURED
    attacked(("int8", "int4"), Notebook(path, RUN))
    path.write_bytes(path.read_bytes()[:-20])
    notebook = Notebook(path, RUN)
    assert list(notebook.done) == ["int8"]
    attacked(("int8", "int4"), notebook)
    assert list(Notebook(path, RUN).done) == ["int8", "int4"]


def test_results_of_another_run_are_not_taken(tmp_path):
    attacked(("int8",), Notebook(tmp_path / MEASURED, RUN))
    assert Notebook(tmp_path / MEASURED, bytes([1]) * 32).done == {}


def test_attacks_that_begin_alike_share_their_beginning_and_end_as_they_would_alone():
    names = ("extract-hard", "extract-hard+ftal-1e-2")
    beginnings = Beginnings([parse_attack(name) for name in names])
    shared = [
        run_attack(marked(), parse_attack(name), prey(), effort(), lambda *_: None, beginnings).network
        for name in names
    ]
    alone = run_attack(marked(), parse_attack(names[1]), prey(), effort(), lambda *_: None).network
    assert differing(state(shared[1]), state(alone)) == set()
    assert beginnings.find(parse_attack("extract-hard")).network is shared[0]
    assert beginnings.find(parse_attack(names[1])) is None


# From here on a whole report from files; where the process matters, in a child.

SETTINGS = {"epochs": 2, "student_epochs": 2, "batch_size": 16, "device": "cpu", "threads": 1, "interface_bits": 0}


@pytest.fixture(scope="module")
def marked_files(tmp_path_factory):
    """A folder with a marked network, a control and all data; the key of 60 triggers; the order they came from."""
    return write_marked(tmp_path_factory.mktemp("marked"), image_key(60))


def survival_order(files, output, attacks=("int8", "prune-90"), settings=None, **changes):
    folder, _, order = files
    output.mkdir(exist_ok=True)
    whole = SurvivalOrder(
        statement=order.statement,
        salt=order.salt,
        settings=SurvivalSettings.from_options({**SETTINGS, **(settings or {}), "attacks": list(attacks)}),
        weights_path=str(folder / MARKED),
        data_path=order.data_path,
        test_path=order.test_path,
        attacker_path=None,
        plain_path=str(folder / CONTROL),
        transfer_path=None,
        transfer_classes=(),
        output_path=str(output),
        key_form="plain",
    )
    return replace(whole, **changes)


def survive(files, order, events=None):
    """Make a report in this process, as the child does."""
    heard = events if events is not None else []
    return run_survival_order(order, PlainKey(encode_key_file(files[1])), heard.append)


def survive_in_child(files, order, events, should_stop=lambda: False):
    return run_survival(order, PlainKey(encode_key_file(files[1])), events.append, should_stop)


def test_a_child_attacks_reports_and_leaves_report_and_page(marked_files, tmp_path):
    order, events, names = marked_files[2], [], QUICK_SUITE
    wanted = survival_order(
        marked_files,
        tmp_path / "out",
        names,
        transfer_path=order.data_path,
        transfer_classes=("a", "b", "c", "d"),
    )
    report = survive_in_child(marked_files, wanted, events)
    assert [row.measured.attack for row in report.attacks] == list(names)
    assert report.skipped == ()
    assert report.marked.verdict == "CONFIRMED"
    assert report.plain.verdict == "NOT_CONFIRMED"
    assert sum(report.plain.measured.matches) < 35  # a third of 60 by chance
    int8 = next(row for row in report.attacks if row.measured.attack == "int8")
    assert (int8.verdict, int8.breaks) == ("CONFIRMED", False)
    assert SurvivalReport.parse((tmp_path / "out" / SURVIVAL_REPORT).read_bytes()) == report
    assert "<h1>Survival report</h1>" in (tmp_path / "out" / SURVIVAL_PAGE).read_text()
    assert [event["result"]["attack"] for event in events if event["event"] == "attack"] == list(names)
    assert events[-1]["event"] == "done"


def test_the_weights_of_a_program_are_attacked_with_it_and_refused_without(marked_files, tmp_path):
    program = export(settled(Residual()), tmp_path / "program.pt2")
    weights = tmp_path / "weights.safetensors"
    save_weights(build_exported(program, (1, 8, 8), len(CLASSES)), weights, (1, 8, 8), len(CLASSES))
    attacks = ("ftal-1e-3", "rtll-1e-3", "prune-50")
    without = survival_order(marked_files, tmp_path / "out", attacks, weights_path=str(weights))
    with pytest.raises(Malformed, match="belong to the exported program"):
        survive(marked_files, without)
    order = replace(without, program_path=str(program))
    assert order.model_paths == (str(weights), order.plain_path, str(program))
    report = survive_in_child(marked_files, order, [])
    assert tuple(row.measured.attack for row in report.attacks) == attacks
    assert report.skipped == ()
    # The unmarked program is the control as it is; these weights are its own.
    by_itself = survive_in_child(marked_files, replace(order, plain_path=str(program)), [])
    assert by_itself.plain.measured.matches == by_itself.marked.measured.matches
    assert by_itself.attacks == report.attacks


def test_nothing_secret_is_written_or_said(marked_files, tmp_path):
    events = []
    survive(marked_files, survival_order(marked_files, tmp_path / "out"), events)
    key = marked_files[1]
    secret = [key.master, key.inputs[0], key.label_key(0)]
    said = json.dumps(events).encode() + b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert not any(value in said or value.hex().encode() in said for value in secret)


def test_a_stopped_report_goes_on_where_it_was(marked_files, tmp_path):
    order = survival_order(marked_files, tmp_path / "out", ("int8", "extract-hard"), {"student_epochs": 10_000})
    events = []
    with pytest.raises(TrainingFailed) as stopped:
        survive_in_child(marked_files, order, events, lambda: any(e.get("attack") == "extract-hard" for e in events))
    assert stopped.value.state == STOPPED
    # Fewer attacks of the same settings are the same run, and so is another price of a dispute: it is asked of the counts.
    shorter = replace(order, settings=replace(order.settings, attacks=("int8",), bits=80))
    again = []
    report = survive(marked_files, shorter, again)
    assert again == []
    assert [row.measured.attack for row in report.attacks] == ["int8"]


def test_other_settings_or_data_are_another_run(marked_files, tmp_path):
    order = survival_order(marked_files, tmp_path / "out", ("int8",))
    survive(marked_files, order)
    for other in (
        replace(order, settings=replace(order.settings, seed=1)),
        replace(order, attacker_path=str(write_tensors(tmp_path / "other", *shapes_to_learn(45, seed=3)))),
    ):
        events = []
        survive(marked_files, other, events)
        assert [event["event"] for event in events] == ["progress", "attack"]


def test_an_attacker_may_have_a_share_of_the_data_only(marked_files, tmp_path):
    order = survival_order(marked_files, tmp_path / "out", ("ftal-1e-3",), {"attacker_percent": 20})
    assert survive(marked_files, order).attacks[0].measured.task_total == 30


def test_a_sealed_key_is_opened_in_the_child(marked_files, tmp_path):
    queue = QueueKey(bytes(range(32)))
    sealed = seal(queue.public, encode_key_file(marked_files[1]), marked_files[1].root())
    order = survival_order(marked_files, tmp_path / "out", key_form="sealed")
    report = run_survival_order(order, SealedKey(queue.seed, sealed), lambda _: None)
    assert report.marked.verdict == "CONFIRMED"


def test_another_marking_key_is_refused(marked_files, tmp_path):
    order = survival_order(marked_files, tmp_path / "out")
    with pytest.raises(TrainingFailed) as failed:
        run_survival(order, PlainKey(encode_key_file(image_key(59))), lambda _: None, lambda: False)
    assert failed.value.state == "opening_invalid"


def test_a_network_of_other_classes_is_refused(marked_files, tmp_path):
    weights = tmp_path / "weights"
    save_weights(build("mlp", (1, 8, 8), 7), weights, (1, 8, 8), 7)
    for name in ("weights_path", "plain_path"):
        with pytest.raises(Malformed, match="7 classes"):
            survive(marked_files, survival_order(marked_files, tmp_path / "out", **{name: str(weights)}))


def test_vendor_chosen_labels_are_reported_by_the_papers_rule(tmp_path):
    labels = tuple(np.random.default_rng(4).integers(0, len(CLASSES), 60).tolist())
    files = write_marked(tmp_path, image_key(60, labels=labels))
    report = survive(files, survival_order(files, tmp_path / "out", ("int8",), plain_path=None))
    assert (report.marked.verdict, report.attacks[0].verdict) == ("INDICATIVE", "INDICATIVE")
    assert (report.plain, report.needed, report.attacks[0].together) == (None, None, None)


def test_measured_lines_read_back_as_themselves():
    measured = Measured("int8", 1, 2, (3, 4), None, (5, 6), 7)
    assert Measured.parse(measured.encode()) == measured
