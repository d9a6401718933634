"""The child that makes triggers, as the command line starts it."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from app.cli.keygen import make_triggers
from app.embedding.confinement.limits import Limits
from app.embedding.confinement.sandbox import find_confinement, why_not
from app.embedding.networks import build, build_exported, save_weights
from app.embedding.trigger_order import FamilyOrder, TriggerOrder
from app.embedding.trigger_process import run_trigger_child
from app.errors import Malformed, TrainingFailed
from app.keys.trigger_set import parse_input
from tests.training.examples import CLASSES, png, shapes_to_learn, write_tensors, write_zip
from tests.training.programs import example, export
from tests.training.runs import image_data, run, tiny

SHAPE = (8, 8, 1)


@pytest.fixture
def data_path(tmp_path):
    return str(write_tensors(tmp_path / "task.safetensors", *shapes_to_learn()))


def own_folder(tmp_path, images):
    members = [(f"{'cats' if number % 2 else 'dogs'}/{number}.png", png(image)) for number, image in enumerate(images)]
    return str(write_zip(tmp_path / "own.zip", members))


def noise(count, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def test_own_folders_come_first_and_families_by_program_after_them(tmp_path):
    images = noise(6)
    path = own_folder(tmp_path, images)
    order = TriggerOrder(SHAPE, (FamilyOrder("abstract", 3),), images_path=path, folders=("cats", "dogs"))
    inputs, families = make_triggers(order)
    assert families == [FamilyOrder("cats", 3), FamilyOrder("dogs", 3), FamilyOrder("abstract", 3)]
    pixels = [parse_input(data).pixels for data in inputs]
    assert pixels[:6] == [images[number].tobytes() for number in (1, 3, 5, 0, 2, 4)]


def test_the_vendors_near_duplicates_are_refused_by_name_but_covers_may_be_alike(tmp_path):
    images = noise(6)
    images[4] = images[1]
    images[4, 0] ^= 1
    order = TriggerOrder(SHAPE, images_path=own_folder(tmp_path, images), folders=("cats", "dogs"))
    with pytest.raises(Malformed, match=r"cats/1\.png and dogs/4\.png \(0\.1%\)\. Take one of each"):
        make_triggers(order)
    covers = TriggerOrder(SHAPE, images_path=order.images_path, folders=order.folders, apart=False)
    assert len(make_triggers(covers)[0]) == 6


def test_near_duplicates_in_a_file_of_tensors_are_named_by_row(tmp_path):
    images = noise(5)
    images[3] = images[0]
    path = str(write_tensors(tmp_path / "own.safetensors", images, np.zeros(5, np.int64)))
    with pytest.raises(Malformed, match="row 0 and row 3"):
        make_triggers(TriggerOrder(SHAPE, images_path=path, folders=("mine",)))


def test_the_networks_own_normalisation_decides_what_is_alike(tmp_path):
    images = np.full((2, 8, 8, 3), 100, np.uint8)
    images[1, :, :, 2] += 30
    path = str(write_tensors(tmp_path / "own.safetensors", images, np.zeros(2, np.int64)))
    order = {"images_path": path, "folders": ("mine",)}
    assert len(make_triggers(TriggerOrder((8, 8, 3), **order))[0]) == 2
    with pytest.raises(Malformed, match="row 0 and row 1"):
        make_triggers(TriggerOrder((8, 8, 3), **order, std_millis=(100, 100, 1_000)))
    weights = tmp_path / "weights.safetensors"
    network = build("mlp", (3, 8, 8), 3, mean_millis=(500, 500, 500), std_millis=(100, 100, 1_000))
    save_weights(network, weights, (3, 8, 8), 3)
    with pytest.raises(Malformed, match="row 0 and row 1"):
        make_triggers(TriggerOrder((8, 8, 3), **order, model_path=str(weights)))


def test_boundary_triggers_come_from_a_file_of_weights(tmp_path, data_path):
    weights = tmp_path / "weights.safetensors"
    network, _, _ = run(tiny(epochs=5), image_data(), marked=False)
    save_weights(network, weights, (1, 8, 8), 3)
    order = TriggerOrder(
        SHAPE, (FamilyOrder("boundary", 8),), data_path=data_path, classes=CLASSES, model_path=str(weights)
    )
    first, again = make_triggers(order), make_triggers(order)
    assert first == again
    assert len(set(first[0])) == 8


def test_weights_of_another_shape_or_number_of_classes_are_refused(tmp_path, data_path):
    weights = tmp_path / "weights.safetensors"
    for shape, classes in (((1, 9, 8), 3), ((1, 8, 8), 4)):
        save_weights(build("mlp", shape, classes), weights, shape, classes)
        order = TriggerOrder(
            SHAPE, (FamilyOrder("boundary", 8),), data_path=data_path, classes=CLASSES, model_path=str(weights)
        )
        with pytest.raises(Malformed, match=f"the network has {classes} classes"):
            make_triggers(order)


def test_a_program_is_not_run_where_a_key_is_made_nor_are_weights_of_one(tmp_path, data_path):
    program, weights = export(example("vgg"), tmp_path / "network.pt2"), tmp_path / "weights.safetensors"
    save_weights(build_exported(program, (1, 8, 8), 3), weights, (1, 8, 8), 3)
    for path in (program, weights):
        families = (FamilyOrder("boundary", 8),)
        order = TriggerOrder(SHAPE, families, data_path=data_path, classes=CLASSES, model_path=str(path))
        with pytest.raises(Malformed, match="confined trainings only"):
            make_triggers(order)


def test_an_empty_folder_is_refused(tmp_path):
    order = TriggerOrder(SHAPE, images_path=own_folder(tmp_path, noise(4)), folders=("cats", "dogs", "hens"))
    with pytest.raises(Malformed, match="at least one"):
        make_triggers(order)


def seen_of_the_child(seen: list[dict[str, str]], is_over: threading.Event) -> None:
    """Note what the kernel says of every process that makes triggers, until told to stop."""
    while not is_over.is_set():
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if not (folder / "cmdline").read_bytes().endswith(b"-m\0app.embedding.trigger_child\0"):
                    continue
                lines = (folder / "status").read_text().splitlines()
                seen.append({name: value.strip() for name, _, value in (line.partition(":") for line in lines)})
            except OSError:
                continue
        time.sleep(0.01)


@pytest.mark.skipif(why_not() is not None, reason=f"this machine has none: {why_not()}")
def test_the_child_reads_strangers_pictures_under_the_same_confinement_as_a_training(tmp_path):
    seen, is_over = [], threading.Event()
    looking = threading.Thread(target=seen_of_the_child, args=(seen, is_over))
    looking.start()
    try:
        make_triggers(TriggerOrder(SHAPE, images_path=own_folder(tmp_path, noise(6)), folders=("cats", "dogs")))
    finally:
        is_over.set()
        looking.join()
    last = seen[-1]
    assert (last["NoNewPrivs"], last["Seccomp"], int(last["CapPrm"], 16)) == ("1", "2", 0)
    assert ("own_id" in find_confinement().holds()) == (int(last["Uid"].split()[0]) in Limits().user_ids)


def test_the_child_is_held_to_memory_and_time(tmp_path):
    order = TriggerOrder((64, 64, 3), (FamilyOrder("abstract", 20_000),))
    with pytest.raises(TrainingFailed, match="takes longer than 1 seconds"):
        run_trigger_child(order, Limits(seconds=1))
    with pytest.raises(TrainingFailed, match="of memory"):
        run_trigger_child(order, Limits(memory_bytes=1024**2))


def test_a_path_is_found_from_where_the_command_was_given(tmp_path, monkeypatch):
    own_folder(tmp_path, noise(4))
    monkeypatch.chdir(tmp_path)
    assert len(make_triggers(TriggerOrder(SHAPE, images_path="own.zip", folders=("cats", "dogs")))[0]) == 4
