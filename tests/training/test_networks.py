import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from app.embedding.architectures import BUILDERS
from app.embedding.networks import build, load_network, load_weights, model_shape, save_weights
from app.embedding.recipe import NETWORKS
from app.embedding.timm_networks import import_timm
from app.errors import Malformed, TooLarge

SHAPE = (1, 8, 8)
ROOT = Path(__file__).parents[2]


def test_every_network_a_recipe_may_name_can_be_built():
    assert tuple(BUILDERS) == NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 12, 20)])
def test_a_network_answers_each_input_with_one_logit_a_class(name, shape):
    assert build(name, shape, 7)(torch.rand(2, *shape)).shape == (2, 7)


def test_a_network_takes_tensors_of_any_rank_if_it_is_an_mlp():
    assert build("mlp", (2, 3, 2, 2), 3)(torch.rand(2, 2, 3, 2, 2)).shape == (2, 3)
    with pytest.raises(Malformed, match="three dimensions"):
        build("small_cnn", (6,), 3)


def test_images_are_seen_channels_first_and_tensors_as_they_are():
    assert model_shape("image", (4, 5, 3)) == (3, 4, 5)
    assert model_shape("tensor", (4, 5, 3)) == (4, 5, 3)


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    first = build("mlp", SHAPE, 3, seed=4).state_dict()
    torch.manual_seed(2)
    second = build("mlp", SHAPE, 3, seed=4).state_dict()
    other = build("mlp", SHAPE, 3, seed=5).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["body.1.weight"], other["body.1.weight"])


def test_building_leaves_the_callers_randomness_alone():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    build("mlp", SHAPE, 3, seed=9)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_saved_weights_come_back_with_their_normalisation_and_answer_the_same(tmp_path, channels):
    means = (500, 400, 300)[:channels]
    network = build("resnet_small", (3, 8, 8), 4, mean_millis=means, std_millis=(250,) * channels)
    network.train()
    network(torch.rand(8, 3, 8, 8))  # moves the running statistics
    save_weights(network, tmp_path / "weights", (3, 8, 8), 4)
    again = load_network(tmp_path / "weights")
    inputs = torch.rand(2, 3, 8, 8)
    assert torch.equal(network.eval()(inputs), again.eval()(inputs))
    assert again.normalise.mean.flatten().tolist() == pytest.approx([mean / 1000 for mean in means])


def saved(tmp_path, change):
    network = build("mlp", SHAPE, 3)
    path = tmp_path / "weights"
    save_weights(network, path, SHAPE, 3)
    with safe_open(path, framework="np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        metadata = file.metadata()
    change(tensors, metadata)
    save_file(tensors, path, metadata=metadata)
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors, _: tensors.pop("body.1.bias"), r"body\.1\.bias"),
        (lambda tensors, _: tensors.update(extra=np.zeros(1, np.float32)), "extra"),
        (lambda tensors, _: tensors.update({"body.1.bias": np.zeros(3, np.float32)}), "shape"),
        (lambda tensors, _: tensors.update({"body.1.bias": np.zeros(512, np.float16)}), "float16"),
        (lambda tensors, _: tensors["body.1.bias"].__setitem__(0, np.inf), "not finite"),
        (lambda tensors, _: tensors["normalise.std"].__setitem__(0, 0), "positive"),
        (
            lambda _, metadata: metadata.update(trapstreet=metadata["trapstreet"].replace("mlp", "exported")),
            "goes with",
        ),
        (lambda _, metadata: metadata.update(trapstreet=metadata["trapstreet"].replace("[]", "[1]")), "one each"),
        (lambda _, metadata: metadata.clear(), "metadata"),
        (lambda _, metadata: metadata.update(trapstreet="{}"), "missing"),
        (lambda _, metadata: metadata.update(trapstreet=metadata["trapstreet"].replace("mlp", "vgg")), "one of mlp"),
        (lambda _, metadata: metadata.update(trapstreet=metadata["trapstreet"].replace(":3", ":4")), "shape"),
    ],
)
def test_weights_that_are_not_exactly_the_networks_are_refused(tmp_path, change, reason):
    with pytest.raises(Malformed, match=reason):
        load_network(saved(tmp_path, change))


@pytest.mark.parametrize("size", [0, 7, 100, 5_000])
def test_a_cut_weights_file_is_refused(tmp_path, size):
    path = saved(tmp_path, lambda *_: None)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(Malformed):
        load_network(path)
    with pytest.raises(Malformed):
        load_weights(build("mlp", SHAPE, 3), path)


def test_a_pickle_is_refused(tmp_path):
    torch.save(build("mlp", SHAPE, 3).state_dict(), tmp_path / "weights")
    with pytest.raises(Malformed, match="safetensors"):
        load_network(tmp_path / "weights")


def test_weights_over_the_limit_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("app.embedding.networks.MAX_WEIGHTS_BYTES", 1000)
    with pytest.raises(TooLarge):
        load_network(saved(tmp_path, lambda *_: None))


needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="the extra `timm` is not installed")


@needs_timm
@pytest.mark.parametrize(("name", "shape"), [("timm:test_resnet", (1, 24, 24)), ("timm:test_vit", (3, 32, 32))])
def test_an_architecture_of_timm_is_built_for_the_shape_saved_and_loaded(tmp_path, name, shape):
    network = build(name, shape, 7, seed=3)
    first, again = network.state_dict(), build(name, shape, 7, seed=3).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    save_weights(network, tmp_path / "weights", shape, 7)
    inputs = torch.rand(2, *shape)
    answers = network.eval()(inputs)
    assert answers.shape == (2, 7)
    assert torch.equal(load_network(tmp_path / "weights").eval()(inputs), answers)


@needs_timm
def test_global_pooling_of_timm_is_replaced_by_a_mean_that_gives_the_same():
    original = import_timm().create_model("test_resnet", pretrained=False, num_classes=3)
    network = build("timm:test_resnet", (3, 24, 24), 3).body
    network.load_state_dict(original.state_dict())
    assert not any(isinstance(module, torch.nn.AdaptiveAvgPool2d) for module in network.modules())
    inputs = torch.rand(2, 3, 24, 24)
    assert torch.allclose(network.eval()(inputs), original.eval()(inputs), atol=1e-6)


@needs_timm
@pytest.mark.parametrize(
    ("name", "reason"), [("timm:no_such_network", "has no network"), ("timm:test_vit", "cannot take")]
)
def test_what_timm_cannot_build_is_refused(name, reason):
    with pytest.raises(Malformed, match=reason):
        build(name, (3, 7, 7), 3)


def test_without_timm_its_networks_are_refused_with_what_to_install():
    code = (
        "import sys; sys.modules['timm'] = None\n"
        "from app.embedding.networks import build\n"
        "from app.errors import PolicyRefused\n"
        "try: build('timm:resnet18', (3, 8, 8), 3)\n"
        "except PolicyRefused as error: sys.exit('trapstreet[timm]' not in error.message)\n"
        "sys.exit(2)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_torchvision_and_timm_are_loaded_only_where_a_recipe_asks_for_them():
    code = "import sys, app.embedding.child; sys.exit('torchvision' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
