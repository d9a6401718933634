"""Each method teaches the mark and the task; what each does beside that is seen in the weights and the inputs."""

import pytest
import torch

from app.embedding.answering import count_correct
from app.embedding.batch_norm import clean_statistics
from app.embedding.checkpoint import Checkpoint
from app.embedding.methods import append, auto, margin
from app.embedding.networks import build
from app.embedding.precision import autocast_for, prefer_layout
from app.embedding.recipe import METHODS
from app.embedding.recipe import METHODS as METHOD_NAMES
from app.embedding.run import TrainingRun
from app.embedding.train import METHODS as BUILT
from app.embedding.train import prepare_torch
from tests.training.runs import image_data, run, tensor_data, tiny


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    prepare_torch(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=False)
    torch.utils.deterministic.fill_uninitialized_memory = False


def start(recipe, data, network=None):
    network = network or build(recipe.network, tuple(data.task.inputs.shape[1:]), 3, seed=recipe.seed)
    return TrainingRun(recipe, network, data, marked=True)


def test_the_methods_a_recipe_may_name_are_those_that_are_built():
    assert set(METHOD_NAMES) == set(BUILT)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", ["mlp", "small_cnn"])
def test_every_method_teaches_mark_and_task(method, network):
    data = image_data()
    # The margin of a picture of 8x8 noise is most of it: that mark takes longest.
    changes = {"method": method, "network": network, "epochs": 40, "learning_rate_micros": 50_000}
    trained, _, _ = run(tiny(**changes), data)
    assert count_correct(trained, data.triggers) == data.triggers.count
    assert count_correct(trained, data.test) >= 0.9 * data.test.count


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", ["mlp", "small_cnn"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_method_reads_memory_that_nobody_wrote(method, network, precision):
    # Torch can fill new memory with NaN: who reads it before writing ends at other weights. prepare_torch leaves it as it is.
    recipe, ended = tiny(method=method, network=network, precision=precision, epochs=4), []
    for fill in (False, True):
        torch.utils.deterministic.fill_uninitialized_memory = fill
        trained, _, _ = run(recipe, image_data())
        ended.append([value.numpy().tobytes() for value in trained.state_dict().values()])
    assert ended[0] == ended[1]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_tensors_and_networks_without_momentum(method):
    data = tensor_data()
    trained, _, _ = run(tiny(method=method, momentum_millis=0, epochs=2), data)
    assert all(torch.isfinite(value).all() for value in trained.state_dict().values())


@pytest.mark.parametrize("method", METHODS)
def test_replacing_task_rows_keeps_the_shape_of_a_batch(method):
    data, seen = image_data(), []
    recipe = tiny(method=method, mixing="replace", epochs=1, batch_size=30, triggers_per_batch=6)
    network = build("mlp", (1, 8, 8), 3)
    network.register_forward_pre_hook(lambda module, inputs: seen.append((module.training, len(inputs[0]))))
    run(recipe, data, network=network)
    assert {count for training, count in seen if training} == {30}


def test_foreseeing_puts_the_weights_back_and_changes_their_gradient():
    data = image_data()
    recipe = tiny(network="small_cnn", method="auto", epochs=2)
    gradients = {}
    for name, method in (("append", append), ("auto", auto)):
        training = start(recipe, data)
        kept = []
        step = training.step

        def look(loss, training=training, kept=kept, step=step):
            kept.append({n: p.grad.clone() for n, p in training.network.named_parameters()})
            kept.append({n: p.detach().clone() for n, p in training.network.named_parameters()})
            step(loss)

        training.step = look
        method.train(training)
        gradients[name] = kept
    steps = len(gradients["append"]) // 2
    same = [
        all(torch.equal(gradients["append"][2 * i][n], gradients["auto"][2 * i][n]) for n in gradients["append"][0])
        for i in range(steps)
    ]
    # The first half of the epochs is `append`; in the first step after it the weights are still the same, up to the
    # rounding of being moved and put back, and the gradient is not.
    assert same == [True] * (steps // 2) + [False] * (steps - steps // 2)
    first = steps // 2
    for name, weights in gradients["append"][2 * first + 1].items():
        assert torch.allclose(weights, gradients["auto"][2 * first + 1][name], atol=1e-6)


def test_foreseeing_goes_no_farther_and_weighs_no_more_than_it_may():
    data = image_data()
    training = start(tiny(network="small_cnn"), data)
    parameters = list(training.network.parameters())
    for weights in parameters:
        weights.grad = torch.ones_like(weights)
    training.optimizer.step()
    training.optimizer.momenta[parameters[0]] *= 1e6
    lengths = [weights.norm() for weights in parameters]
    before = [weights.detach().clone() for weights in parameters]
    moves = auto.move_ahead(training, parameters)
    for move, length in zip(moves, lengths, strict=True):
        assert move.norm() <= auto.FARTHEST * length * 1.0001
    assert moves[0].norm() > 0.099 * lengths[0]
    assert all(torch.equal(weights, old + move) for weights, old, move in zip(parameters, before, moves, strict=True))
    here = auto.take_gradients(parameters)
    assert [weights.grad for weights in parameters] == [None] * len(parameters)
    for weights in parameters:
        weights.grad = torch.full_like(weights, 1e9)
    auto.add_gradients(parameters, here)
    assert auto.length_of([weights.grad for weights in parameters]) <= 2.0001 * auto.length_of(here)


def test_the_worst_neighbours_lie_within_the_margin_and_are_answered_worse():
    data = image_data()
    trained, _, _ = run(tiny(epochs=20), data)
    training = start(tiny(), data, trained)
    triggers = training.next_triggers()
    worst = margin.worst_neighbours(training, triggers)
    assert (worst - triggers.inputs).abs().max() <= margin.STEPS * margin.STEP_SIZE + 1e-6
    assert 0 <= worst.min() <= worst.max() <= 1
    loss = torch.nn.functional.cross_entropy
    trained.eval()
    assert loss(trained(worst), triggers.labels) > loss(trained(triggers.inputs), triggers.labels)


@pytest.mark.parametrize("counted", [True, False])
def test_batch_norm_knows_the_task_rows_alone(counted):
    network = build("small_cnn", (1, 8, 8), 3).train()
    layer = network.body[1]
    task, triggers = torch.rand(12, 1, 8, 8), torch.rand(4, 1, 8, 8) * 5
    alone = build("small_cnn", (1, 8, 8), 3).train()
    expected = alone(task)
    with clean_statistics(network, 12, counted=counted):
        mixed = network(torch.cat([task, triggers]))
    assert torch.allclose(mixed[:12], expected, atol=1e-5)
    assert torch.allclose(layer.running_mean, alone.body[1].running_mean) == counted
    assert torch.equal(network(task), alone(task)) or not counted  # and afterwards the layer is its own again


def test_bf16_is_for_networks_that_convolve_and_weights_stay_float32():
    assert not enabled(tiny(precision="auto"), build("mlp", (1, 8, 8), 3))
    assert enabled(tiny(precision="bf16"), build("mlp", (1, 8, 8), 3))
    assert not enabled(tiny(precision="fp32", network="small_cnn"), build("small_cnn", (1, 8, 8), 3))
    data = image_data()
    trained, _, _ = run(tiny(network="small_cnn", precision="bf16", epochs=12, learning_rate_micros=50_000), data)
    assert {value.dtype for value in trained.parameters()} == {torch.float32}
    assert count_correct(trained, data.triggers) == 12


def enabled(recipe, network) -> bool:
    with autocast_for(recipe, torch.device("cpu"), network)():
        return torch.is_autocast_enabled("cpu")


def test_layout_changes_no_answer():
    network = build("resnet_small", (3, 16, 16), 10).eval()
    images = torch.rand(5, 3, 16, 16)
    before = network(images)
    assert torch.allclose(prefer_layout(network)(images), before, atol=1e-5)


TOO_LITTLE = {"epochs": 4, "triggers_per_batch": 1, "learning_rate_micros": 100}


def warnings_of(changes, checkpoint=None):
    warnings, network = [], build("mlp", (1, 8, 8), 3)
    told = {"on_warning": warnings.append, "checkpoint": checkpoint}
    append.train(TrainingRun(tiny(**changes), network, image_data(), marked=True, **told))
    return warnings


def test_a_network_that_is_too_small_is_warned_of_halfway():
    (warning,) = warnings_of(TOO_LITTLE)
    assert warning.startswith("after 2 of 4 epochs the network answers")
    assert warnings_of({"epochs": 20}) == []


def test_who_goes_on_after_a_kill_is_warned_of_what_was_seen_before(tmp_path):
    kept = Checkpoint(tmp_path / "run", "mine", every_seconds=0)
    assert warnings_of(TOO_LITTLE, kept) == warnings_of(TOO_LITTLE, kept) == warnings_of(TOO_LITTLE)


def test_what_dropout_draws_is_kept_with_the_run(tmp_path):
    data = image_data()

    def begin(path):
        network = build("mlp", (1, 8, 8), 3)
        network.body.insert(3, torch.nn.Dropout(0.5))
        kept = Checkpoint(tmp_path / path, "mine", every_seconds=0)
        return TrainingRun(tiny(epochs=3), network, data, marked=True, checkpoint=kept)

    whole = begin("whole")
    append.train(whole)
    halted = begin("halted")
    batches = halted.batches()
    halted.batches = lambda: (next(batches) for _ in range(9))
    append.train(halted)
    next(batches)  # writes the ninth step down
    torch.rand(100)
    resumed = begin("halted")
    append.train(resumed)
    expected = whole.network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.network.state_dict().items())


def test_a_checkpoint_of_another_run_is_not_read(tmp_path):
    data = image_data()
    kept = Checkpoint(tmp_path / "run", "mine", every_seconds=0)
    network = build("mlp", (1, 8, 8), 3)
    training = TrainingRun(tiny(epochs=1), network, data, marked=True, checkpoint=kept)
    append.train(training)
    assert kept.read() is not None
    assert Checkpoint(tmp_path / "run", "another", every_seconds=0).read() is None
    kept.remove()
    assert kept.read() is None
