import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from app.embedding.answering import count_correct
from app.embedding.artifacts import MARKED_WEIGHTS, REPORT, UNFINISHED_RUN, check_artifact
from app.embedding.child_order import PlainKey, SealedKey, TrainingReport, write_frames
from app.embedding.data import trigger_set
from app.embedding.networks import build, load_network, save_weights
from app.embedding.recipe import Recipe
from app.embedding.training_process import STOPPED, run_child
from app.errors import TrainingFailed
from app.keys.commitment import MarkingKey
from app.keys.key_file import encode_key_file
from app.keys.labels import draw_labels
from app.keys.sealing import QueueKey, seal
from app.keys.trigger_set import ImageInput
from tests.training.examples import (
    CLASSES,
    SALT,
    TINY,
    image_key,
    image_members,
    order_in,
    shapes_to_learn,
    statement_of,
    tensor_key,
    write_tar,
    write_tensors,
)

ROOT = Path(__file__).parents[2]
LONG = Recipe.from_options({**TINY, "epochs": 10_000})


def run(order, secrets=None, events=None, should_stop=lambda: False):
    secrets = secrets or PlainKey(encode_key_file(image_key()))
    return run_child(order, secrets, (events if events is not None else []).append, should_stop)


@dataclass
class Trained:
    """An order that was trained as it stands, for the tests that look at what is left of it."""

    folder: Path
    events: list[dict]
    report: TrainingReport


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    folder, events = tmp_path_factory.mktemp("trained"), []
    return Trained(folder, events, run(order_in(folder), events=events))


def test_a_child_trains_reports_and_leaves_the_weights_it_names(trained):
    events, report = trained.events, trained.report
    marked, plain = report.marked, report.plain
    assert marked.trigger_matches == marked.trigger_total == 12
    assert marked.task_correct >= 0.9 * marked.task_total == 27
    assert plain.trigger_matches < 12
    assert plain.task_correct >= 27
    assert (report.given, report.root) == (None, image_key().root())
    assert [event["event"] for event in events] == ["progress"] * 50 + ["done"]
    assert [event["run"] for event in events[:-1]] == ["plain"] * 25 + ["marked"] * 25
    output = trained.folder / "output"
    assert sorted(path.name for path in output.iterdir()) == [MARKED_WEIGHTS, REPORT]
    assert TrainingReport.parse((output / REPORT).read_bytes()) == report


def test_the_delivered_weights_answer_the_labels_that_the_beacon_drew(trained):
    key = image_key()
    triggers = trigger_set(key.inputs, draw_labels(key, SALT, len(CLASSES)))
    assert count_correct(load_network(trained.folder / "output" / MARKED_WEIGHTS), triggers) == 12


def test_the_same_order_gives_the_same_bytes(tmp_path, trained):
    assert run(order_in(tmp_path)).marked.weights_sha256 == trained.report.marked.weights_sha256


def test_a_sealed_key_is_opened_in_the_child(tmp_path):
    queue = QueueKey(bytes(range(32)))
    sealed = seal(queue.public, encode_key_file(image_key()), image_key().root())
    report = run(order_in(tmp_path, key_form="sealed"), SealedKey(queue.seed, sealed))
    assert report.marked.trigger_matches == 12


def test_a_key_sealed_for_another_registration_is_refused(tmp_path):
    queue = QueueKey(bytes(range(32)))
    sealed = seal(queue.public, encode_key_file(image_key()), bytes(32))
    with pytest.raises(TrainingFailed) as failed:
        run(order_in(tmp_path, key_form="sealed"), SealedKey(queue.seed, sealed))
    assert failed.value.state == "opening_invalid"


def test_labels_chosen_by_the_vendor_are_trained_as_they_are(tmp_path):
    key = image_key(labels=(0, 1, 2) * 4)
    report = run(order_in(tmp_path, key), PlainKey(encode_key_file(key)))
    assert report.marked.trigger_matches == 12


def test_a_mark_goes_into_given_weights_and_the_report_shows_what_they_were(tmp_path):
    weights = tmp_path / "weights.safetensors"
    save_weights(build("mlp", (1, 8, 8), 3, seed=3), weights, (1, 8, 8), 3)
    recipe = Recipe.from_options({**TINY, "mode": "pretrained"})
    report = run(order_in(tmp_path, recipe=recipe, weights_path=str(weights)))
    assert report.given.epochs == 0
    assert report.given.task_correct < 25 < report.marked.task_correct
    assert report.marked.trigger_matches == 12


def test_weights_of_another_network_are_refused(tmp_path):
    weights = tmp_path / "weights.safetensors"
    save_weights(build("small_cnn", (1, 8, 8), 3), weights, (1, 8, 8), 3)
    recipe = Recipe.from_options({**TINY, "mode": "pretrained"})
    with pytest.raises(TrainingFailed, match="are a small_cnn"):
        run(order_in(tmp_path, recipe=recipe, weights_path=str(weights)))


def test_tensor_inputs_are_marked_too(tmp_path):
    key = tensor_key()
    values = np.random.default_rng(8).normal(size=(120, 6)).astype(np.float32)
    data = write_tensors(tmp_path / "tensors", values, values[:, :3].argmax(1))
    recipe = Recipe.from_options({**TINY, "epochs": 60, "compare_plain": False})
    order = order_in(tmp_path, key, data_path=str(data), test_path=None, recipe=recipe)
    report = run(order, PlainKey(encode_key_file(key)))
    assert report.marked.trigger_matches == 12
    assert report.marked.task_total == 12


def test_task_pictures_that_became_triggers_are_neither_trained_on_nor_measured(tmp_path):
    (task, _), (test, _) = shapes_to_learn(), shapes_to_learn(30, seed=2)
    taken = np.concatenate([task[:9], test[:3]])
    key = MarkingKey(bytes(32), tuple(ImageInput(8, 8, 1, image.tobytes()).encode() for image in taken))
    recipe = Recipe.from_options({**TINY, "epochs": 60})
    report = run(order_in(tmp_path, key, recipe=recipe), PlainKey(encode_key_file(key)))
    assert report.marked.task_total == report.plain.task_total == 27
    # With the rows left in, the task would contradict the mark at every epoch.
    assert report.marked.trigger_matches == 12


def test_an_image_archive_is_trained_on_in_place(tmp_path):
    data = write_tar(tmp_path / "data.tar.gz", image_members(30))
    before = sorted(tmp_path.rglob("*"))
    recipe = Recipe.from_options({**TINY, "compare_plain": False})
    report = run(order_in(tmp_path, data_path=str(data), recipe=recipe))
    assert report.marked.trigger_matches == 12
    new = {path.name for path in set(tmp_path.rglob("*")) - set(before)}
    assert new == {"data.safetensors", "test.safetensors", "output", MARKED_WEIGHTS, REPORT}


def test_another_marking_key_is_refused_and_nothing_is_written(tmp_path):
    events: list[dict] = []
    with pytest.raises(TrainingFailed, match="root") as failed:
        run(order_in(tmp_path), PlainKey(encode_key_file(image_key(count=11))), events)
    assert failed.value.state == "opening_invalid"
    assert events[-1]["event"] == "error"
    assert all(path.name.startswith(UNFINISHED_RUN) for path in (tmp_path / "output").iterdir())


def test_bad_data_is_refused_with_the_member_at_fault(tmp_path):
    data = write_tar(tmp_path / "bad.tar.gz", [*image_members(6), ("../evil/1.png", b"")])
    with pytest.raises(TrainingFailed, match=r"\.\./evil/1\.png") as failed:
        run(order_in(tmp_path, data_path=str(data)))
    assert failed.value.state == "malformed"


def test_a_file_that_is_not_there_fails_without_a_report(tmp_path, caplog):
    with pytest.raises(TrainingFailed, match="status 1"):
        run(order_in(tmp_path, data_path=str(tmp_path / "absent")))
    assert "FileNotFoundError" in caplog.text  # the operator sees why


def test_should_stop_ends_the_child_soon(tmp_path):
    events: list[dict] = []
    told: list[float] = []

    def should_stop() -> bool:
        if len(events) > 3:
            told.append(time.monotonic())
        return len(events) > 3

    with pytest.raises(TrainingFailed) as failed:
        run(order_in(tmp_path, recipe=LONG), events=events, should_stop=should_stop)
    assert failed.value.state == STOPPED
    # From being told on: how long torch takes to load says nothing.
    assert time.monotonic() - told[0] < 20
    assert all(path.name.startswith(UNFINISHED_RUN) for path in (tmp_path / "output").iterdir())


def test_a_child_killed_from_outside_is_a_failure_and_no_report(tmp_path):
    def kill(event: dict) -> None:
        children = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True, check=True)
        for pid in children.stdout.split():
            if b"app.embedding.child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)

    with pytest.raises(TrainingFailed, match="status -9"):
        run_child(order_in(tmp_path, recipe=LONG), PlainKey(encode_key_file(image_key())), kill, lambda: False)


def test_an_error_in_the_parent_leaves_no_child(tmp_path):
    def fail(event: dict) -> None:
        raise RuntimeError("the parent's own trouble")

    before = _children_running()
    with pytest.raises(RuntimeError, match="own trouble"):
        run_child(order_in(tmp_path, recipe=LONG), PlainKey(encode_key_file(image_key())), fail, lambda: False)
    assert _children_running() == before


def test_a_child_ends_itself_when_its_parent_is_killed(tmp_path):
    order = order_in(tmp_path, recipe=LONG)
    (tmp_path / "order").write_bytes(order.encode())
    (tmp_path / "key").write_bytes(encode_key_file(image_key()))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True
    )
    pid = int(parent.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _wait_until_gone(pid)


PARENT = """
import os, subprocess, sys
from pathlib import Path
from app.embedding.child_order import ChildOrder, PlainKey
from app.embedding.training_process import run_child
folder = Path(sys.argv[1])
shown = []
def show_child(event):
    if not shown:
        out = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "app.embedding.child"], capture_output=True, text=True)
        shown.append(out.stdout.split()[0])
        print(shown[0], flush=True)
order, key = ChildOrder.parse((folder / "order").read_bytes()), PlainKey((folder / "key").read_bytes())
run_child(order, key, show_child, lambda: False)
"""


def _children_running() -> set[str]:
    found = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True, check=False)
    return set(found.stdout.split())


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return  # ended; whoever inherited it has not collected it yet
        except FileNotFoundError:
            return
        time.sleep(0.05)
    pytest.fail("the child outlived its parent")


def test_no_secret_stands_in_arguments_environment_or_files(tmp_path):
    key = replace(image_key(), master=bytes(range(100, 132)))
    secrets = PlainKey(encode_key_file(key))
    seen = bytearray()

    def look(event: dict) -> None:
        for pid in _children_running():
            with suppress(FileNotFoundError, ProcessLookupError):  # it may end while it is looked at
                seen.extend(Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes())
        seen.extend(json.dumps(event).encode())

    order = order_in(tmp_path, key, recipe=Recipe.from_options({**TINY, "epochs": 150, "compare_plain": False}))
    assert order.statement == statement_of(key)
    run_child(order, secrets, look, lambda: False)
    for path in tmp_path.rglob("*"):
        seen.extend(path.read_bytes() if path.is_file() else b"")
    assert b"app.embedding.child" in seen
    assert key.master not in seen
    assert key.master.hex().encode() not in seen
    assert key.label_key(0) not in seen


def test_a_child_whose_pipe_ends_before_the_key_says_so(tmp_path):
    order = order_in(tmp_path)
    child = subprocess.run(
        [sys.executable, "-m", "app.embedding.child"], input=order.encode() + b"\n", capture_output=True, cwd=ROOT
    )
    assert child.returncode == 1
    assert json.loads(child.stdout)["message"] == "the parent closed the pipe before it had sent the key"


def test_an_artifact_that_is_not_the_reported_one_is_refused(tmp_path):
    (tmp_path / "weights").write_bytes(b"other")
    with pytest.raises(TrainingFailed, match="not the file"):
        check_artifact(tmp_path / "weights", bytes(32))
    with pytest.raises(TrainingFailed, match="left no"):
        check_artifact(tmp_path / "absent", bytes(32))


def test_the_parents_side_needs_no_torch():
    code = "import sys, app.embedding.training_process as t; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_order_and_key_are_written_as_the_child_reads_them(tmp_path):
    with (tmp_path / "pipe").open("wb") as pipe:
        write_frames(pipe, order_in(tmp_path), PlainKey(b"key"))
    assert (tmp_path / "pipe").read_bytes().endswith(b"\n\0\0\0\x03key")
