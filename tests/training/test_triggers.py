import time

import numpy as np
import pytest
import torch

from app.cli.keygen import keygen
from app.demo.workshop import scans
from app.embedding.data import LabelledSet, TrainingData
from app.embedding.networks import build, save_weights
from app.embedding.recipe import Recipe
from app.embedding.train import train
from app.embedding.trigger_order import FamilyOrder
from app.embedding.triggers import boundary, heldout
from app.embedding.triggers.distance import MIN_DISTANCE, as_seen, check_apart, distances, has_twin, near_pairs
from app.embedding.triggers.families import GENERATORS, generate
from app.embedding.triggers.network import with_network
from app.embedding.triggers.source import Source
from app.errors import Malformed
from tests.write_docs import ROOT, help_text

SHAPE = (8, 8, 1)
FAMILIES = tuple(FamilyOrder(name, 24) for name in GENERATORS)


@pytest.fixture(scope="module")
def plain_network(tmp_path_factory):
    """A small network that has learned 900 digits, in a file."""
    images, labels = scans()
    part = LabelledSet(
        torch.from_numpy(images[:900]).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels[:900]).clone()
    )
    network = build("mlp", (1, 8, 8), 10, seed=1)
    recipe = Recipe.from_options({"network": "mlp", "epochs": 5, "batch_size": 50, "schedule": "cosine"})
    train(recipe, network, TrainingData(part, part, part), marked=False, on_progress=lambda _: None)
    path = tmp_path_factory.mktemp("network") / "plain.safetensors"
    save_weights(network, path, (1, 8, 8), 10)
    return path


@pytest.fixture(scope="module")
def source(plain_network):
    return with_network(Source(SHAPE, scans()[0][:900]), plain_network, 10)


@pytest.mark.parametrize("name", GENERATORS)
def test_a_seed_gives_the_same_triggers_and_another_seed_others(name, source):
    order = [FamilyOrder(name, 16)]
    first, again, other = (generate(order, source, seed) for seed in (1, 1, 2))
    assert first.shape == (16, *SHAPE)
    assert first.dtype == np.uint8
    assert (first == again).all()
    assert not (first == other).all()


def test_a_family_does_not_depend_on_how_many_the_one_before_has(source):
    long, short = (generate([FamilyOrder("noise", n), FamilyOrder("abstract", 8)], source, 5) for n in (20, 10))
    assert (long[-8:] == short[-8:]).all()


def test_all_triggers_of_a_set_are_far_apart_and_from_the_vendors_own(source):
    own = generate([FamilyOrder("heldout", 30)], source, 1)
    images = generate(FAMILIES, source, 2, own)
    assert (images[:30] == own).all()
    flat = images.reshape(len(images), -1) / 255
    apart = np.sqrt(((flat[:, None] - flat[None]) ** 2).mean(axis=2))  # the long way
    assert apart[np.triu_indices(len(images), 1)].min() >= MIN_DISTANCE - 1e-5
    assert near_pairs(images, source.std) == []


def test_what_lies_near_the_vendors_own_is_drawn_again(source):
    own = generate([FamilyOrder("blended", 40)], source, 3)
    assert (generate([FamilyOrder("blended", 40)], source, 3, own)[40:] != own).any()
    with pytest.raises(Malformed, match="only 0 of 1 triggers"):
        generate([FamilyOrder("heldout", 1)], Source(SHAPE, own[:1]), 1, own)


def test_held_out_pictures_are_task_pictures_each_once_and_without_a_twin():
    pictures = scans()[0]
    taken = generate([FamilyOrder("heldout", 700)], Source(SHAPE, pictures), 4)
    rows = [int(np.flatnonzero((pictures == image).all(axis=(1, 2, 3)))[0]) for image in taken]
    assert len(set(rows)) == 700
    assert not has_twin(pictures, np.array(rows)).any()


def test_a_picture_with_a_twin_in_the_task_is_not_held_out():
    pictures = np.random.default_rng(1).integers(0, 256, (1100, 4, 4, 3), dtype=np.uint8)
    pictures[1060] = pictures[3]  # in another block
    pictures[1060, 0, 0, 0] ^= 1
    drawn = np.concatenate(list(heldout.draw(64, Source((4, 4, 3), pictures), np.random.default_rng(2))))
    assert len(drawn) == 1098
    assert not (drawn == pictures[3]).all(axis=(1, 2, 3)).any()
    assert not (drawn == pictures[1060]).all(axis=(1, 2, 3)).any()


def test_boundary_triggers_lie_one_grey_level_from_another_answer():
    pictures = np.random.default_rng(1).integers(0, 2, (200, 1, 1, 1)) * 200 + np.random.default_rng(2).integers(
        0, 40, (200, 6, 6, 1)
    )

    def brightness(images):
        return (images.mean(axis=(1, 2, 3)) > 120).astype(np.int64)

    source = Source((6, 6, 1), pictures.astype(np.uint8), brightness)
    mixed = next(boundary.draw(64, source, np.random.default_rng(3)))
    assert len(mixed) > 16
    means = mixed.mean(axis=(1, 2, 3))
    assert (abs(means - 120) <= 1.5).all()


def test_boundary_triggers_are_where_a_real_network_hesitates(source, plain_network):
    from app.embedding.networks import load_network

    network = load_network(plain_network).eval()

    def lead(images):
        with torch.no_grad():
            best = network(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255).topk(2, dim=1).values
        return (best[:, 0] - best[:, 1]).median()

    assert lead(generate([FamilyOrder("boundary", 64)], source, 1)) < 0.05 * lead(source.pictures)


def test_no_boundary_trigger_is_nearly_a_task_picture(source):
    mixed = generate([FamilyOrder("boundary", 64)], source, 2)
    one = distances(as_seen(mixed), as_seen(source.pictures)).min(axis=1)
    # The parents are checked, the rest of the task is not.
    assert np.median(one) >= MIN_DISTANCE


def test_a_network_that_always_answers_alike_has_no_boundary():
    pictures = scans()[0][:50]
    source = Source(SHAPE, pictures, lambda images: np.zeros(len(images), np.int64))
    with pytest.raises(Malformed, match="only 0 of 4 triggers"):
        generate([FamilyOrder("boundary", 4)], source, 1)


@pytest.mark.parametrize(
    ("order", "source", "message"),
    [
        (FamilyOrder("unheard", 4), Source(SHAPE), "no trigger generator 'unheard'"),
        (FamilyOrder("blended", 4), Source(SHAPE), "give a data archive"),
        (FamilyOrder("heldout", 4), Source(SHAPE), "give a data archive"),
        (FamilyOrder("boundary", 4), Source(SHAPE, np.zeros((2, *SHAPE), np.uint8)), "give its weights"),
        (FamilyOrder("noise", 500), Source((1, 1, 1)), "ask for fewer"),
        (FamilyOrder("heldout", 9), Source(SHAPE, np.zeros((8, *SHAPE), np.uint8)), "only 0 of 9 .* give more task"),
    ],
)
def test_what_cannot_be_made_is_refused_with_what_to_change(order, source, message):
    with pytest.raises(Malformed, match=message):
        generate([order], source, 1)


def test_near_duplicates_are_named_nearest_first():
    images = np.random.default_rng(1).integers(0, 256, (1200, 8, 8, 3), dtype=np.uint8)
    images[1100] = images[7]
    images[1101] = images[8] ^ 1
    images[30:32] = 3  # nearly black, both
    images[31, 0] = 9
    with pytest.raises(Malformed) as refused:
        check_apart(images, [f"pics/{number}.jpg" for number in range(1200)])
    told = refused.value.message
    assert "pics/7.jpg and pics/1100.jpg (0.0%)" in told
    assert "pics/8.jpg and pics/1101.jpg" in told
    assert "pics/30.jpg and pics/31.jpg (0.8%)" in told
    assert told.count(" and pics/") == 3
    assert told.index("pics/7.jpg") < told.index("pics/30.jpg")


def test_of_many_near_duplicates_twenty_are_named_and_the_rest_counted():
    with pytest.raises(Malformed, match=r"; and 25 pairs more\."):
        check_apart(np.zeros((10, 4, 4, 1), np.uint8), [str(number) for number in range(10)])


def test_the_networks_normalisation_weighs_the_channels():
    images = np.full((2, 4, 4, 3), 100, np.uint8)
    images[1, :, :, 2] += 30
    # 30 of 255 levels in one channel of three.
    assert 0.06 < distances(as_seen(images), as_seen(images))[0, 1] < 0.07
    assert near_pairs(images, (0.2, 0.2, 0.2)) == []
    [(first, second, apart)] = near_pairs(images, (0.1, 0.1, 1.0))
    assert (first, second) == (0, 1)
    assert apart == pytest.approx(30 / 255 * np.sqrt(1 / 201), rel=1e-3)


def test_five_hundred_and_twelve_triggers_are_made_in_seconds():
    pictures = np.random.default_rng(1).integers(0, 256, (5000, 32, 32, 3), dtype=np.uint8)
    started = time.monotonic()
    for name in GENERATORS.keys() - {"boundary"}:
        generate([FamilyOrder(name, 512)], Source((32, 32, 3), pictures), 1)
    assert time.monotonic() - started < 30


def test_every_generator_stands_in_the_documentation_with_its_picture_and_in_the_help():
    page = (ROOT / "docs" / "triggers.md").read_text()
    assert "](pictures/triggers.png)" in page
    assert (ROOT / "docs" / "pictures" / "triggers.png").stat().st_size > 10_000
    shown = help_text([keygen.__name__])
    for name in GENERATORS:
        assert f"## `{name}`" in page
        assert name in shown
