import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.embedding.recipe import Recipe
from app.errors import Malformed


def test_a_recipe_has_one_form_and_reads_back_as_itself():
    recipe = Recipe.from_options({"network": "small_cnn", "mean_millis": [500], "std_millis": [250], "seed": 7})
    assert Recipe.parse(recipe.encode()) == recipe


def test_defaults_are_the_papers_own_for_cifar():
    recipe = Recipe.from_options({"network": "resnet18"})
    assert (recipe.epochs, recipe.batch_size, recipe.triggers_per_batch) == (60, 100, 2)
    rates = [recipe.learning_rate(epoch) for epoch in (0, 19, 20, 39, 40, 59)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_a_recipe_may_name_an_architecture_of_timm_or_a_program():
    assert Recipe.from_options({"network": "timm:vit_tiny_patch16_224"}).network == "timm:vit_tiny_patch16_224"
    values = {
        "network": "exported",
        "mode": "pretrained",
        "mean_millis": [485, 456, 406],
        "std_millis": [229, 224, 225],
    }
    recipe = Recipe.from_options(values)
    recipe.check_input("image", (8, 8, 3))
    Recipe.from_options({"network": "exported", "mode": "pretrained"}).check_input("tensor", (6,))
    assert Recipe.parse(recipe.encode()) == recipe


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({}, "/network"),
        ({"network": "vgg"}, "/network"),
        ({"network": "timm:"}, "/network"),
        ({"network": "timm:hf-hub:somebody/something"}, "/network"),
        ({"network": "timm:resnet18.a1_in1k"}, "/network"),
        ({"network": "timm:../resnet18"}, "/network"),
        ({"network": "timm:resnet18\n"}, "/network"),
        ({"network": ["mlp"]}, "/network"),
        ({"network": "exported"}, "/mode"),
        ({"network": "mlp", "mode": "pretrained", "mean_millis": [1], "std_millis": [1]}, "/mean_millis"),
        ({"network": "mlp", "epochs": 0}, "/epochs"),
        ({"network": "mlp", "epochs": True}, "/epochs"),
        ({"network": "mlp", "batch_size": 1}, "/batch_size"),
        ({"network": "mlp", "triggers_per_batch": 0}, "/triggers_per_batch"),
        ({"network": "mlp", "learning_rate_micros": 0.1}, "/learning_rate_micros"),
        ({"network": "mlp", "momentum_millis": 1000}, "/momentum_millis"),
        ({"network": "mlp", "device": "tpu"}, "/device"),
        ({"network": "mlp", "colour": "red"}, "/colour"),
        ({"network": "mlp", "std_millis": [0], "mean_millis": [0]}, "/std_millis/0"),
        ({"network": "mlp", "std_millis": [1000]}, "/std_millis"),
        ({"network": "mlp", "mode": "pretrained", "mean_millis": [5], "std_millis": [5]}, "/mean_millis"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(options, pointer):
    with pytest.raises(Malformed) as refused:
        Recipe.from_options(options)
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(
    ("options", "kind", "shape", "pointer"),
    [
        ({"network": "mlp", "flip": True}, "tensor", (6,), "/flip"),
        ({"network": "mlp", "resize": True}, "tensor", (6,), "/flip"),
        ({"network": "small_cnn"}, "tensor", (6,), "/network"),
        ({"network": "mlp", "mean_millis": [1, 2, 3], "std_millis": [1, 2, 3]}, "image", (8, 8, 1), "/mean_millis"),
        ({"network": "mlp", "mean_millis": [1, 2], "std_millis": [1, 2]}, "image", (8, 8, 3), "/mean_millis"),
    ],
)
def test_an_option_that_does_not_fit_the_registered_inputs_is_refused_by_name(options, kind, shape, pointer):
    with pytest.raises(Malformed) as refused:
        Recipe.from_options(options).check_input(kind, shape)
    assert refused.value.pointer == pointer


def test_cosine_falls_from_the_full_rate():
    recipe = Recipe.from_options(
        {"network": "mlp", "schedule": "cosine", "epochs": 10, "extra_epochs": 5, "learning_rate_micros": 50_000}
    )
    rates = [recipe.learning_rate(epoch) for epoch in range(15)]
    assert rates[0] == 0.05
    assert rates[5] == pytest.approx(0.025)
    assert rates[:10] == sorted(rates[:10], reverse=True)
    assert rates[9] == 0.05 * (1 + math.cos(math.pi * 0.9)) / 2


@given(st.binary(max_size=200))
def test_any_bytes_are_a_recipe_that_prints_back_or_malformed(data):
    try:
        recipe = Recipe.parse(data)
    except Malformed:
        return
    assert recipe.encode() == data


def test_extra_epochs_of_a_cosine_still_learn():
    options = {"network": "mlp", "epochs": 20, "extra_epochs": 5, "learning_rate_micros": 100_000}
    cosine = Recipe.from_options({**options, "schedule": "cosine"})
    assert cosine.learning_rate(19) < 0.001
    assert [cosine.learning_rate(epoch) for epoch in (20, 24)] == [0.01, 0.01]
    steps = Recipe.from_options({**options, "schedule": "step", "decay_epochs": 10})
    assert steps.learning_rate(24) == steps.learning_rate(19)
