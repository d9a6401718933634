"""The formulas of the benchmarks, on numbers and on trainings of seconds; no test here looks at a clock."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from app.embedding.archives import LabelledArrays
from app.embedding.data import TrainingData, labelled_set, network_input
from app.embedding.train import prepare_torch, train
from benchmarks import amulet, cifar10, paper, paper_picture, results, trigger_pictures
from benchmarks.accuracy import Notebook, Reached, accuracy_figures, measure_accuracy
from benchmarks.embedding import (
    compile_figures,
    measure_reference,
    measure_time,
    reference_figures,
    time_figures,
)
from benchmarks.epochs import Spent, Stepwise, start_network
from benchmarks.formulas import corrected, mean_and_error, median_ratio
from benchmarks.reference_loop import Pictures, ReferenceTraining
from benchmarks.scale import QUICK, recipe_of

SMALL = replace(
    QUICK, network="small_cnn", epochs=2, seeds=2, timed_pictures=64, rounds=4, triggers_per_batch=4, pictures=96
)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    prepare_torch(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=False)


def small_data(count: int = 96, side: int = 8) -> TrainingData:
    """Noise whose brightness names its class, and noise with any labels as triggers."""
    draw = np.random.default_rng(3)

    def part(rows: int):
        labels = np.arange(rows) % 10
        pictures = draw.integers(0, 30, (rows, side, side, 3)) + labels[:, None, None, None] * 22
        return labelled_set("image", LabelledArrays(pictures.astype(np.uint8), labels.astype(np.int64)))

    triggers = draw.integers(0, 256, (10, side, side, 3), dtype=np.uint8)
    marked = labelled_set("image", LabelledArrays(triggers, draw.integers(0, 10, 10)))
    return TrainingData(part(count), part(40), marked)


def test_a_ratio_is_the_median_of_pairs_and_one_slow_epoch_does_not_move_it():
    assert median_ratio([1.0, 1.1, 50.0], [1.0, 1.0, 1.0]) == pytest.approx(1.1)


def test_a_ratio_loses_what_two_equals_show():
    assert corrected(1.05, 1.02) == pytest.approx(1.03)


def test_the_standard_error_is_the_deviation_over_the_root_of_the_count():
    mean, error = mean_and_error([1.0, 2.0, 3.0, 4.0])
    assert (mean, error) == pytest.approx((2.5, np.std([1, 2, 3, 4], ddof=1) / 2))
    assert mean_and_error([7.0]) == (7.0, 0.0)


def test_what_auto_costs_is_the_mean_of_its_cheap_and_its_dear_half():
    took = {"plain": [1.0] * 4, "again": [1.02] * 4, "append": [1.05] * 4, "auto": [1.02, 1.02, 1.62, 1.62]}
    figures = time_figures(took)
    assert figures["marked_over_plain"] == pytest.approx(1.03)
    assert figures["auto_over_plain_first_half"] == pytest.approx(1.0)
    assert figures["auto_over_plain_second_half"] == pytest.approx(1.6)
    assert figures["auto_over_plain"] == pytest.approx(1.3)
    assert figures["epoch_pairs"] == 4


def test_changes_of_accuracy_are_taken_pair_by_pair():
    plain = [Reached(70.0, 10, 100), Reached(60.0, 10, 100)]
    reached = {
        "plain": plain,
        "append": [Reached(69.0, 100, 100), Reached(60.0, 98, 100)],
        "auto": [Reached(70.0, 100, 130), Reached(60.0, 100, 130)],
        "into": [Reached(68.0, 100, 8), Reached(60.0, 100, 12)],
    }
    figures = accuracy_figures(reached)
    assert (figures["accuracy_change_points"], figures["accuracy_change_se"]) == (-0.5, 0.5)
    assert figures["trigger_accuracy"] == 0.99
    assert figures["auto_accuracy_change_points"] == 0
    assert figures["into_trained_share"] == 0.1
    assert figures["plain_accuracy"] == 65


def test_the_speedup_is_the_smaller_of_wall_and_processor():
    figures = reference_figures({"reference": Spent(90, 120), "ours": Spent(30, 30)}, waiting=45, loading=30)
    assert figures["speedup_over_reference"] == 3
    assert figures["speedup_over_reference_cpu_time"] == 4
    assert figures["reference_loading_share"] == 0.25
    assert figures["reference_waiting_share"] == 0.5


def test_figures_of_an_earlier_run_keep_the_day_they_were_measured_on(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    path = results.keep("one", {}, {"a": 1}, "first")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"measured_on": {"first": "2026-01-02"}}))
    results.keep("one", {}, {**results.read("one"), "b": 2}, "second")
    content = json.loads(path.read_text())
    assert content["figures"] == {"a": 1, "b": 2}
    assert content["measured_on"]["first"] == "2026-01-02"
    assert content["measured_on"]["second"] > "2026-01-02"


def test_compiling_pays_after_as_many_epochs_as_it_takes_to_earn_its_seconds():
    took = {"eager": [9.0, 9.0, 2.0, 2.0], "compiled": [9.0, 9.0, 1.5, 1.5]}
    spent = {"eager": [Spent(2, 2)] * 2, "compiled": [Spent(12, 12), Spent(2, 2)]}
    assert compile_figures(took, spent) == {
        "compile_over_eager": 0.75,
        "compile_seconds": 10,
        "compile_pays_after_epochs": 20,
    }
    slower = {"eager": took["compiled"], "compiled": took["eager"]}
    assert compile_figures(slower, spent)["compile_pays_after_epochs"] is None


def test_a_training_in_turns_gives_the_weights_of_a_training_at_once():
    recipe = recipe_of(SMALL, epochs=3)
    at_once, in_turns = (start_network(recipe, torch.device("cpu"), (3, 8, 8)) for _ in range(2))
    train(recipe, at_once, small_data(), marked=True, on_progress=lambda _: None)
    stepwise = Stepwise(recipe, in_turns, small_data(), marked=True)
    for _ in range(3):
        stepwise.train_epoch()
    assert all(torch.equal(one, other) for one, other in zip(at_once.parameters(), in_turns.parameters(), strict=True))


def test_the_reference_loop_learns_task_and_triggers():
    recipe = recipe_of(SMALL, batch_size=16, epochs=12, mixing="append", crop_padding=0, learning_rate_micros=50_000)
    data = small_data()
    training = ReferenceTraining(recipe, start_network(recipe, torch.device("cpu"), (3, 8, 8)), data, workers=0)
    for _ in range(recipe.epochs):
        training.train_epoch()
    assert training.matches == 10
    assert training.waiting > 0


def test_the_reference_sees_each_picture_as_the_network_takes_it_and_flipped_every_other_time():
    data = small_data().task
    still = Pictures(data, padding=0, flip=False)
    assert all(torch.equal(still[row][0], network_input(data.inputs)[row]) for row in range(5))
    torch.manual_seed(1)
    moved = Pictures(data, padding=0, flip=True)
    flipped = sum(torch.equal(moved[3][0], still[3][0].flip(2)) for _ in range(60))
    assert 15 <= flipped <= 45
    assert Pictures(data, padding=4, flip=False)[3][0].shape == (3, 8, 8)


def test_every_part_that_needs_no_peer_gives_its_figures(monkeypatch, tmp_path):
    monkeypatch.setattr(cifar10, "CACHE", tmp_path)
    data = small_data()
    time = measure_time(data, SMALL)
    accuracy = measure_accuracy(data, SMALL)
    assert time["epoch_pairs"] == 4
    assert all(time[name] > 0 for name in ("marked_over_plain", "plain_over_plain", "auto_over_plain"))
    assert accuracy["accuracy_seeds"] == 2
    assert {"accuracy_change_se", "auto_accuracy_change_se", "into_trained_share"} <= set(accuracy)
    assert accuracy["accuracy_curve"] == {}  # nothing is fewer than these


def test_a_training_that_was_finished_is_not_done_again(tmp_path):
    def fail():
        raise AssertionError("trained again")

    found = Notebook(tmp_path / "notes").recall("a", lambda: [Reached(70.0, 10.0, 1.5), Reached(71.0, 90.0, 0.1)])
    again = Notebook(tmp_path / "notes")
    assert again.recall("a", fail) == found
    assert again.recall("b", lambda: [Reached(1.0, 2.0, 3.0)]) == [Reached(1.0, 2.0, 3.0)]
    assert Notebook(tmp_path / "notes").recall("b", fail) == [Reached(1.0, 2.0, 3.0)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking a process that has threads
def test_the_reference_part_counts_what_its_loading_processes_spent():
    figures = measure_reference(small_data(128), SMALL)
    assert 0 < figures["reference_loading_share"] < 1
    assert figures["speedup_over_reference"] > 0
    assert figures["speedup_over_reference_one_thread"] > 0
    assert torch.get_num_threads() == 1
    assert {"reference_accuracy", "ours_accuracy"} <= set(figures)


def test_the_papers_experiment_scores_a_new_head_and_the_owners_apart(tmp_path):
    scale = replace(paper.SCALES["trial"], network="small_cnn", epochs=2)
    figures = paper.average([paper.measure(small_data(), scale, seed) for seed in (0, 1)])
    assert set(figures["table_1"]) == set(paper_picture.TITLES)
    for attacked in figures["figure_6"].values():
        assert set(attacked) == set(paper.ATTACKS)
    # A frozen trunk with the owner's head is the owner's network again.
    for name in ("from_scratch", "into_trained"):
        rtll = figures["figure_6"][name]["rtll"]
        assert rtll["trigger_original_head_not_evidence"] == figures["table_1"][name]["trigger"]
    paper_picture.draw(figures, tmp_path / "paper.png")
    with Image.open(tmp_path / "paper.png") as drawn:
        assert drawn.width == paper_picture.WIDTH
    assert paper.table_of(figures).count("\n") == 12


def test_averages_of_several_seeds_have_a_standard_error_beside_them():
    assert paper.average([{"a": {"test": 1.0}}, {"a": {"test": 3.0}}]) == {"a": {"test": 2.0, "test_se": 1.0}}
    assert paper.average([{"test": 1.0}]) == {"test": 1.0}


def test_the_peer_and_ours_are_set_side_by_side():
    theirs = {
        "plain_seconds": 2.0,
        "marked_seconds": 3.0,
        "plain_accuracy": 0.98,
        "marked_accuracy": 0.97,
        "trigger_accuracy": 1.0,
        "extracted_accuracy": 0.97,
        "extracted_trigger_accuracy": 0.2,
        "ours_extracted_accuracy": 0.96,
        "ours_extracted_trigger_accuracy": 0.3,
    }
    ours = {**theirs, "marked_seconds": 2.2}
    figures = amulet.figures([theirs, theirs], [ours, ours])
    assert figures["amulet_marked_over_plain"] == 1.5
    assert figures["amulet_ours_marked_over_plain"] == 1.1
    assert figures["amulet_accuracy_change_points"] == -1
    assert figures["amulet_ours_extracted_trigger_accuracy"] == 0.3


def picture(mode: str, colour: object, size: tuple[int, int] = (40, 60)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_labels_belong_to_pictures_in_the_order_of_their_names_whatever_their_mode(tmp_path):
    path = tmp_path / "triggers.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pics/2.jpg", picture("L", 200))
        archive.writestr("pics/1.jpg", picture("RGB", (10, 20, 30)))
        archive.writestr("pics/10.jpg", picture("RGBA", (90, 80, 70, 255)))
        archive.writestr("labels-cifar.txt", "4.0\n7.0\n1.0\n")
    triggers = trigger_pictures.read(path)
    assert triggers.inputs.shape == (3, 3, 32, 32)
    assert triggers.labels.tolist() == [4, 7, 1]
    assert triggers.inputs[:, 0, 0, 0].tolist() == [10, 90, 200]


def test_pictures_without_labels_are_refused(tmp_path):
    path = tmp_path / "triggers.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pics/1.jpg", picture("L", 1))
        archive.writestr("labels-cifar.txt", "4\n7\n")
    with pytest.raises(ValueError, match="1 pictures and 2 labels"):
        trigger_pictures.read(path)


def test_absent_archives_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAPSTREET_SHARED", str(tmp_path))
    with pytest.raises(cifar10.DataMissing, match=r"cifar10-train.tar.gz is missing: .*TRAPSTREET_SHARED"):
        cifar10.load("train")


def test_the_papers_pictures_lie_far_apart_as_the_network_sees_them():
    try:
        triggers = trigger_pictures.load()
    except cifar10.DataMissing as error:
        pytest.skip(str(error))
    assert torch.bincount(triggers.labels).tolist() == [11, 8, 12, 14, 12, 10, 12, 9, 8, 4]
    values = network_input(triggers.inputs).flatten(1)
    distances = torch.cdist(values, values).fill_diagonal_(torch.inf) / values.shape[1] ** 0.5
    assert float(distances.min()) > 0.05


def test_a_table_is_written_between_its_marks_and_nowhere_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- one -->\nold\n<!-- end of one -->\nb\n")
    results.write_section("one", results.table(("x", "y"), [(1, 2)]), page)
    assert page.read_text() == "a\n<!-- one -->\n\n| x | y |\n| --- | --- |\n| 1 | 2 |\n\n<!-- end of one -->\nb\n"
    with pytest.raises(ValueError, match="needs <!-- two -->"):
        results.write_section("two", "", page)


def test_the_page_has_a_place_for_every_benchmark():
    text = results.PAGE.read_text()
    assert [text.count(f"<!-- {name} -->") for name in ("embedding", "paper", "survival")] == [1, 1, 1]
