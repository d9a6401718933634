import copy
import importlib.util

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from app.embedding.answering import count_correct
from app.embedding.artifacts import MARKED_WEIGHTS, digest_of_file
from app.embedding.checkpoint import Checkpoint, Snapshot
from app.embedding.child_order import PlainKey
from app.embedding.exported.program import load_program
from app.embedding.networks import build_exported, load_network, read_header, save_weights
from app.embedding.recipe import Recipe
from app.embedding.timm_networks import import_timm
from app.embedding.training_process import run_child
from app.errors import Malformed, TrainingFailed
from app.keys.key_file import encode_key_file
from tests.training.examples import TINY, image_key, order_in
from tests.training.programs import CLASSES, NETWORKS, SHAPE, Residual, Tied, example, export, settled
from tests.training.runs import image_data, run, tiny


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def loaded(network, tmp_path):
    return load_program(export(network, tmp_path / "program.pt2"), SHAPE, CLASSES)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_program_answers_what_the_network_answers_whatever_the_batch(tmp_path, name):
    network = example(name)
    body = loaded(network, tmp_path).eval()
    for count in (1, 2, 7):
        inputs = torch.rand(count, *SHAPE)
        assert torch.allclose(body(inputs), network(inputs), atol=1e-5)


def losses_of(body, inputs, steps, rate=0.05):
    """Losses while learning to tell three inputs apart, before each step and after the last."""
    optimiser = torch.optim.SGD(body.parameters(), lr=rate)
    losses = []
    for step in range(steps + 1):
        loss = nn.functional.cross_entropy(body(inputs), torch.arange(3))
        losses.append(loss.item())
        if step < steps:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return losses


@pytest.mark.parametrize("name", NETWORKS)
def test_every_trained_weight_of_a_program_learns(tmp_path, name):
    body = loaded(example(name), tmp_path)
    before = {name: weight.clone() for name, weight in body.named_parameters()}
    losses = losses_of(body.train(), torch.rand(3, *SHAPE), steps=30)
    assert losses[-1] < losses[0]
    assert all(not torch.equal(before[name], weight) for name, weight in body.named_parameters())


@pytest.mark.parametrize("name", ["residual", "vgg", "dense", "mobile"])
def test_batch_norm_learns_in_training_as_the_networks_own_does(tmp_path, name):
    network = example(name)
    body = loaded(network, tmp_path)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    without_dropout = loaded(network.eval(), tmp_path)
    inputs = torch.rand(16, *SHAPE)
    assert torch.allclose(without_dropout.train()(inputs), network.train()(inputs), atol=1e-5)
    body.train()(inputs)
    expected = network.state_dict()
    for name, value in body.state_dict().items():
        assert torch.allclose(value.float(), expected[name].float(), atol=1e-5), name


def test_dropout_follows_the_mode_and_not_the_export(tmp_path):
    for network in (example("residual").eval(), example("residual").train()):
        body = loaded(network, tmp_path)
        inputs = torch.rand(8, *SHAPE)
        assert torch.equal(body.eval()(inputs), body(inputs))
        body.train()
        assert not torch.equal(body(inputs), body(inputs))


def test_names_are_the_networks_own(tmp_path):
    for name in NETWORKS:
        network = example(name)
        assert set(loaded(network, tmp_path).state_dict()) == set(network.state_dict())


def test_layers_are_found_as_in_any_network_and_may_be_replaced(tmp_path):
    body = loaded(example("residual"), tmp_path)
    assert isinstance(body.head, nn.Linear)
    assert isinstance(body.conv1, nn.Conv2d)
    assert isinstance(body.bn1, nn.BatchNorm2d)
    other = copy.deepcopy(body)
    other.head = nn.Linear(32, 5)
    assert other(torch.rand(2, *SHAPE)).shape == (2, 5)
    with torch.no_grad():
        other.bn1.weight.zero_()
    assert not torch.equal(other.bn1.weight, body.bn1.weight)


def test_a_layer_in_eval_mode_keeps_its_statistics_while_the_rest_trains(tmp_path):
    body = loaded(example("residual"), tmp_path).train()
    body.bn1.eval()
    before = {name: body.get_buffer(f"{name}.running_mean").clone() for name in ("bn1", "bn2")}
    body(torch.rand(8, *SHAPE))
    assert torch.equal(body.bn1.running_mean, before["bn1"])
    assert not torch.equal(body.bn2.running_mean, before["bn2"])


def test_frozen_weights_stay_frozen_and_a_wholly_frozen_program_is_refused(tmp_path):
    network = example("residual")
    network.stem.requires_grad_(requires_grad=False)
    frozen = {name for name, weight in loaded(network, tmp_path).named_parameters() if not weight.requires_grad}
    assert frozen == {"stem.weight", "stem.bias"}
    with pytest.raises(Malformed, match="no trained weight"):
        loaded(network.requires_grad_(requires_grad=False), tmp_path)


@pytest.mark.parametrize("name", ["residual", "transformer"])
def test_a_mark_is_trained_into_a_program_and_the_task_stays(tmp_path, name):
    data = image_data()
    network = build_exported(export(example(name), tmp_path / "program.pt2"), SHAPE, CLASSES)
    recipe = tiny(network="exported", mode="pretrained", epochs=40, learning_rate_micros=20_000)
    _, progress, _ = run(recipe, data, network=network)
    assert progress[-1].loss < progress[0].loss / 2
    assert count_correct(network, data.test) >= 0.8 * data.test.count
    assert count_correct(network, data.triggers) >= 10


def test_delivered_weights_load_into_the_owners_own_network_and_into_the_program(tmp_path):
    for name in ("residual", "tied"):
        original = example(name)
        program = export(original, tmp_path / "program.pt2")
        network = build_exported(program, SHAPE, CLASSES, mean_millis=(500,), std_millis=(250,))
        run(tiny(network="exported", mode="pretrained", epochs=2), image_data(), network=network)
        save_weights(network, tmp_path / "weights", SHAPE, CLASSES)
        fresh = NETWORKS[name]()
        fresh.load_state_dict(load_file(tmp_path / "weights"))
        inputs = torch.rand(4, *SHAPE)
        answers = network.eval()(inputs)
        assert not torch.allclose(original((inputs - 0.5) / 0.25), answers, atol=1e-3)
        assert torch.allclose(fresh.eval()((inputs - 0.5) / 0.25), answers, atol=1e-5)
        again = load_network(tmp_path / "weights", program).eval()
        assert torch.allclose(again(inputs), answers, atol=1e-6)  # training may have laid weights out channels last


def test_the_weights_name_their_program_and_want_it_back(tmp_path):
    program = export(example("vgg"), tmp_path / "program.pt2")
    save_weights(build_exported(program, SHAPE, CLASSES), tmp_path / "weights", SHAPE, CLASSES)
    header = read_header(tmp_path / "weights")
    assert (header.network, header.program) == ("exported", digest_of_file(program))
    other = export(example("residual"), tmp_path / "other.pt2")
    for wrong in (None, other):
        with pytest.raises(Malformed, match="belong to the exported program"):
            load_network(tmp_path / "weights", wrong)


def test_tied_weights_stay_one(tmp_path):
    network = Tied()
    body = loaded(settled(network), tmp_path)
    assert body.first.weight is body.second.weight
    assert len(list(body.parameters())) == len(list(network.parameters()))


def test_a_run_on_tied_weights_can_be_kept_and_gone_on_from(tmp_path):
    body = loaded(settled(Tied()), tmp_path)
    checkpoint = Checkpoint(tmp_path / "kept", "run", 0)
    checkpoint.write(Snapshot(body.state_dict(), {}))
    kept = checkpoint.read().tensors
    assert all(torch.equal(kept[name], value) for name, value in body.state_dict().items())


def test_a_child_marks_a_program_and_delivers_its_weights(tmp_path):
    program = export(settled(Residual()), tmp_path / "program.pt2")
    options = {"network": "exported", "mode": "pretrained", "epochs": 40, "mean_millis": [300], "std_millis": [300]}
    order = order_in(tmp_path, recipe=Recipe.from_options({**TINY, **options}), weights_path=str(program))
    report = run_child(order, PlainKey(encode_key_file(image_key())), lambda _: None, lambda: False)
    assert report.marked.trigger_matches == 12
    assert report.given.trigger_matches < 12
    delivered = tmp_path / "output" / MARKED_WEIGHTS
    assert set(load_file(delivered)) == set(Residual().state_dict())
    assert read_header(delivered).mean_millis == (300,)


@pytest.mark.parametrize("network", ["exported", "mlp"])
def test_a_program_goes_with_its_name_and_weights_with_theirs(tmp_path, network):
    program = export(example("vgg"), tmp_path / "program.pt2")
    weights = tmp_path / "weights"
    save_weights(build_exported(program, SHAPE, CLASSES), weights, SHAPE, CLASSES)
    recipe = Recipe.from_options({**TINY, "network": network, "mode": "pretrained"})
    path = weights if network == "exported" else program
    with pytest.raises(TrainingFailed, match="goes with the network `exported`"):
        run_child(
            order_in(tmp_path, recipe=recipe, weights_path=str(path)),
            PlainKey(encode_key_file(image_key())),
            lambda _: None,
            lambda: False,
        )


def test_a_program_is_never_trained_from_scratch():
    with pytest.raises(Malformed, match="comes with its weights"):
        Recipe.from_options({"network": "exported"})


@pytest.mark.parametrize(
    "name",
    ["resnet18", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"],
)
def test_networks_of_timm_export_load_and_answer_the_same(tmp_path, name):
    if importlib.util.find_spec("timm") is None:
        pytest.skip("the extra `timm` is not installed")
    options = {"img_size": 32} if name.startswith("vit") else {}
    network = import_timm().create_model(name, pretrained=False, num_classes=5, **options)
    network = settled(network, (3, 32, 32))
    body = load_program(export(network, tmp_path / "program.pt2", (3, 32, 32)), (3, 32, 32), 5)
    inputs = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(body.eval()(inputs), network(inputs), atol=1e-5)
    losses = losses_of(body.eval(), inputs, steps=4, rate=0.01)  # three rows are too few for batch norm to learn
    assert losses[-1] < losses[0]
    assert set(body.state_dict()) == set(network.state_dict())
