"""The embedding tests on a CUDA device."""

import pytest
import torch

from app.embedding.answering import count_correct
from app.embedding.child_order import PlainKey
from app.embedding.networks import load_network
from app.embedding.recipe import Recipe
from app.embedding.train import choose_device, prepare_torch
from app.embedding.training_process import run_child
from app.keys.key_file import encode_key_file
from tests.training.examples import TINY, image_key, order_in
from tests.training.runs import image_data, on_device, run, tensor_data, tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(autouse=True)
def repeatable(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # a worker's child gets it from its parent
    prepare_torch(0)
    yield
    torch.use_deterministic_algorithms(mode=False)


@pytest.fixture
def cuda() -> torch.device:
    return choose_device("auto")


@pytest.mark.parametrize(
    ("changes", "data"),
    [
        ({}, image_data()),
        ({"network": "small_cnn", "epochs": 12, "learning_rate_micros": 50_000}, image_data()),
        ({"network": "resnet_small", "epochs": 20, "learning_rate_micros": 50_000}, image_data()),
        ({"network": "resnet18", "epochs": 20, "learning_rate_micros": 50_000}, image_data()),
        ({"flip": True, "crop_padding": 1, "epochs": 40}, image_data()),
        ({"epochs": 60}, tensor_data()),
        ({"network": "small_cnn", "epochs": 20, "learning_rate_micros": 50_000}, tensor_data((2, 4, 4))),
    ],
)
def test_a_mark_trained_from_scratch_is_answered_in_full_and_the_task_is_learned(cuda, changes, data):
    network, _, _ = run(tiny(**changes), on_device(data, cuda))
    assert next(network.parameters()).device.type == "cuda"
    moved = on_device(data, cuda)
    assert count_correct(network, moved.triggers) == moved.triggers.count
    assert count_correct(network, moved.test) >= 0.9 * moved.test.count


def test_a_mark_can_be_trained_into_a_trained_network(cuda):
    data = on_device(image_data(), cuda)
    network, _, _ = run(tiny(), data, marked=False)
    run(tiny(mode="pretrained", epochs=15, learning_rate_micros=20_000, schedule="constant"), data, network=network)
    assert count_correct(network, data.triggers) == data.triggers.count


def test_the_same_recipe_gives_the_same_weights(cuda):
    data = on_device(image_data(), cuda)
    recipe = tiny(network="small_cnn", epochs=2, flip=True, crop_padding=1)
    first, second = (run(recipe, data)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_first_loss_is_the_one_of_the_cpu(cuda):
    recipe = tiny(network="small_cnn", epochs=1, learning_rate_micros=10_000, schedule="constant")
    _, on_cpu, _ = run(recipe, image_data())
    _, on_cuda, _ = run(recipe, on_device(image_data(), cuda))
    assert on_cuda[0].loss == pytest.approx(on_cpu[0].loss, abs=0.01)


def test_a_child_trains_on_cuda_and_its_weights_answer_on_the_cpu(tmp_path):
    order = order_in(tmp_path, recipe=Recipe.from_options({**TINY, "device": "cuda"}))
    report = run_child(order, PlainKey(encode_key_file(image_key())), lambda _: None, lambda: False)
    assert report.device.startswith("cuda: ")
    assert report.marked.trigger_matches == 12
    assert load_network(tmp_path / "output" / "marked.safetensors").name == "mlp"
