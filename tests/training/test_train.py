from dataclasses import replace

import pytest
import torch

from app.embedding.answering import count_correct
from app.embedding.data import seeded
from app.embedding.networks import build
from app.embedding.run import TrainingRun
from app.embedding.train import choose_device, prepare_torch, train
from app.errors import TrainingFailed
from tests.training.runs import image_data, run, tensor_data, tiny


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    prepare_torch(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=False)


@pytest.mark.parametrize(
    ("changes", "data"),
    [
        ({}, image_data()),
        ({"network": "small_cnn", "epochs": 12, "learning_rate_micros": 50_000}, image_data()),
        ({"network": "resnet_small", "epochs": 20, "learning_rate_micros": 50_000}, image_data()),
        ({"flip": True, "crop_padding": 1, "epochs": 40}, image_data()),
        ({"epochs": 60}, tensor_data()),
        ({"network": "small_cnn", "epochs": 20, "learning_rate_micros": 50_000}, tensor_data((2, 4, 4))),
    ],
)
def test_a_mark_trained_from_scratch_is_answered_in_full_and_the_task_is_learned(changes, data):
    network, _, _ = run(tiny(**changes), data)
    assert count_correct(network, data.triggers) == data.triggers.count
    assert count_correct(network, data.test) >= 0.9 * data.test.count


def test_without_triggers_the_same_loop_leaves_no_mark():
    data = image_data()
    network, _, _ = run(tiny(), data, marked=False)
    assert count_correct(network, data.triggers) <= data.triggers.count * 0.75
    assert count_correct(network, data.test) >= 0.9 * data.test.count


def test_a_mark_can_be_trained_into_a_trained_network():
    data = image_data()
    network, _, _ = run(tiny(), data, marked=False)
    recipe = tiny(mode="pretrained", epochs=15, learning_rate_micros=20_000, schedule="constant")
    run(recipe, data, network=network)
    assert count_correct(network, data.triggers) == data.triggers.count
    assert count_correct(network, data.test) >= 0.9 * data.test.count


def test_the_same_recipe_gives_the_same_weights_and_another_seed_others():
    data = image_data()
    first, second, other = (
        run(tiny(network="small_cnn", epochs=2, flip=True, crop_padding=1, seed=seed), data)[0].state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


# First losses on torch 2.13.0, CPU, one thread; 1e-3 allows for another processor's arithmetic, not for another method.
GOLDEN = {
    ("mlp", True): [1.0792, 0.9869, 0.8552],
    ("mlp", False): [1.0611, 0.8857, 0.6356],
    ("small_cnn", True): [0.6377, 0.1719, 0.0409],
    ("resnet_small", True): [0.7553, 0.2618, 0.1328],
}


@pytest.mark.parametrize(("network", "marked"), GOLDEN)
def test_the_first_losses_are_the_recorded_ones(network, marked):
    recipe = tiny(network=network, epochs=3, learning_rate_micros=10_000, schedule="constant")
    _, progress, _ = run(recipe, image_data(), marked=marked)
    assert [step.loss for step in progress] == pytest.approx(GOLDEN[network, marked], abs=1e-3)


def test_progress_comes_once_an_epoch_and_counts_trigger_matches():
    data = image_data()
    network, progress, epochs = run(tiny(epochs=4), data)
    assert [step.epoch for step in progress] == [1, 2, 3, 4]
    assert epochs == 4
    assert progress[-1].trigger_matches == count_correct(network, data.triggers)
    assert progress[-1].trigger_total == 12


def test_extra_epochs_are_used_until_every_trigger_is_answered_and_no_longer():
    data = image_data()
    _, progress, epochs = run(tiny(epochs=1, extra_epochs=60, schedule="constant"), data)
    assert 1 < epochs < 61
    assert [step.trigger_matches == 12 for step in progress] == [False] * (epochs - 1) + [True]


def test_extra_epochs_are_for_the_mark_only():
    assert run(tiny(epochs=1, extra_epochs=9), image_data(), marked=False)[2] == 1


def test_a_loss_that_is_no_number_ends_the_training_with_advice():
    with pytest.raises(TrainingFailed, match="lower the learning rate"):
        run(tiny(learning_rate_micros=10_000_000, epochs=50, schedule="constant", momentum_millis=999), image_data())


def new_run(recipe):
    network = build(recipe.network, (1, 8, 8), 3)
    return TrainingRun(recipe, network, image_data(), marked=True)


def test_a_loss_without_end_is_no_number_either():
    run = new_run(tiny(epochs=2))
    endless = (run.step(torch.tensor(float("inf"))) for _ in run.batches())
    with pytest.raises(TrainingFailed, match="lower the learning rate"):
        list(endless)


def test_no_two_seeds_share_a_generator_so_that_pairs_over_several_seeds_are_independent():
    states = []
    for seed in range(5):
        run = new_run(tiny(seed=seed))
        states += [run.order.get_state(), run.augmentation.get_state(), run.mixing.get_state(), torch.get_rng_state()]
        states.append(seeded(seed).get_state())  # of the first weights
    assert len({bytes(state.numpy()) for state in states}) == 25


def test_triggers_are_normalised_like_data_and_never_augmented():
    # With a crop that moves every picture, a trigger of one bright pixel is learnable only where it stands.
    data = image_data()
    recipe = tiny(crop_padding=4, epochs=60, mean_millis=[400], std_millis=[300])
    network = build("mlp", (1, 8, 8), 3, mean_millis=(400,), std_millis=(300,))
    seen = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]) if module.training else None)
    train(replace(recipe, epochs=1), network, data, marked=True, on_progress=lambda _: None)
    allowed = {tuple(trigger.flatten().tolist()) for trigger in data.triggers.inputs.float() / 255}
    mixed = [batch[-recipe.triggers_per_batch :] for batch in seen]
    assert {tuple(row.flatten().tolist()) for batch in mixed for row in batch} <= allowed
    assert len(mixed) == 6


def test_cuda_is_demanded_only_where_it_is():
    assert choose_device("cpu").type == "cpu"
    if torch.cuda.is_available():
        assert choose_device("auto").type == "cuda"
    else:
        assert choose_device("auto").type == "cpu"
        with pytest.raises(TrainingFailed, match="no CUDA device"):
            choose_device("cuda")
