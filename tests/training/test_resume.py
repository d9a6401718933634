"""Trainings that are killed with -9 go on where they were and end at the same weights, alone and as two processes."""

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from app.embedding.artifacts import MARKED_WEIGHTS, REPORT, UNFINISHED_RUN, digest_of_file
from app.embedding.child_order import PlainKey
from app.embedding.recipe import Recipe
from app.embedding.training_process import run_child
from app.errors import TrainingFailed
from app.keys.key_file import encode_key_file
from tests.training.examples import TINY, image_key, order_in

# So many that a child still trains when the event is read at which it is to die.
EPOCHS = 16
CHANGES = {"network": "small_cnn", "epochs": EPOCHS, "flip": True, "crop_padding": 1, "learning_rate_micros": 50_000}


def order(folder: Path, **changes: object):
    folder.mkdir()
    return replace(order_in(folder, recipe=Recipe.from_options({**TINY, **CHANGES, **changes})), checkpoint_millis=0)


def run(order, events):
    return run_child(order, PlainKey(encode_key_file(image_key())), events.append, lambda: False)


def killed(order, kill_at: int, events) -> None:
    """Run an order and kill one of its processes with -9 when its `kill_at`-th event comes."""

    def kill(event: dict) -> None:
        events.append(event)
        if len(events) == kill_at:
            os.kill(training_processes()[-1], signal.SIGKILL)

    with pytest.raises(TrainingFailed, match="status"):
        run_child(order, PlainKey(encode_key_file(image_key())), kill, lambda: False)


def training_processes() -> list[int]:
    """Give the processes that train under this one, oldest first."""
    found, parents = [], [os.getpid()]
    while parents:
        told = subprocess.run(["pgrep", "-P", ",".join(map(str, parents))], capture_output=True, text=True, check=False)
        parents = [int(pid) for pid in told.stdout.split()]
        found += parents
    names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in found if Path(f"/proc/{pid}").exists()}
    return [
        pid for pid in found if b"app.embedding.child" in names.get(pid, b"") and b"torch.distributed" not in names[pid]
    ]


@pytest.mark.parametrize(("method", "kills"), [("append", (2, 4, 5)), ("auto", (4,))])
def test_a_training_that_is_killed_ends_at_the_weights_of_an_undisturbed_one(tmp_path, method, kills):
    undisturbed = order(tmp_path / "undisturbed", method=method)
    expected = run(undisturbed, [])
    disturbed = order(tmp_path / "disturbed", method=method)
    told: list[dict] = []
    for kill_at in kills:
        events: list[dict] = []
        killed(disturbed, kill_at, events)
        told += events
    report = run(disturbed, told)
    assert report.marked.weights_sha256 == expected.marked.weights_sha256
    assert (report.plain.task_correct, report.comparison) == (expected.plain.task_correct, expected.comparison)
    # What was learned before a kill is not learned again: nearly every epoch of the two runs is told once.
    assert EPOCHS <= len([event for event in told if event["event"] == "progress"]) <= 2 * EPOCHS + 3 * 2
    assert sorted(path.name for path in (tmp_path / "disturbed" / "output").iterdir()) == [MARKED_WEIGHTS, REPORT]


def test_two_processes_train_one_network_and_survive_the_death_of_one(tmp_path):
    together = {"processes": 2, "compare_plain": False}
    undisturbed = order(tmp_path / "undisturbed", **together)
    expected = run(undisturbed, [])
    assert expected.marked.trigger_matches == expected.marked.trigger_total
    assert expected.marked.task_correct >= 0.9 * expected.marked.task_total
    assert expected.device.endswith("2 processes")
    disturbed = order(tmp_path / "disturbed", **together)
    killed(disturbed, 3, [])
    assert training_processes() == []  # one death ends them all
    report = run(disturbed, [])
    assert report.marked.weights_sha256 == expected.marked.weights_sha256


def test_an_unfinished_run_of_other_data_or_a_broken_one_is_not_gone_on_from(tmp_path):
    first = order(tmp_path / "first")
    killed(first, 4, [])
    kept = tmp_path / "first" / "output" / f"{UNFINISHED_RUN}plain.safetensors"
    with safe_open(kept, framework="np") as file:
        owner = file.metadata()["run"]
    other = order(tmp_path / "other", seed=7)
    expected = run(other, []).marked.weights_sha256
    again = order(tmp_path / "again", seed=7)
    for name, left in (("plain", kept.read_bytes()), ("marked", b"\x08\0\0\0\0\0\0\0{}      ")):
        (tmp_path / "again" / "output" / f"{UNFINISHED_RUN}{name}.safetensors").write_bytes(left)
    assert owner.startswith("plain ")
    assert run(again, []).marked.weights_sha256 == expected == digest_of_file(Path(again.output_path) / MARKED_WEIGHTS)
