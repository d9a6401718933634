from copy import deepcopy

import pytest
import torch
from torch import nn

from app.embedding.answering import answers, count_correct
from app.embedding.attacks.catalogue import STEPS
from app.embedding.attacks.descent import Course, descend, label_loss
from app.embedding.attacks.extraction import fresh_copy
from app.embedding.attacks.heads import head_features, head_name, head_of, with_head
from app.embedding.attacks.overwriting import draw_mark
from app.embedding.attacks.preprocessing import preprocess
from app.embedding.data import LabelledSet, network_input, seeded
from app.embedding.networks import MarkedNetwork, Normalise, build
from app.embedding.precision import computes_half
from app.errors import PolicyRefused, TrainingFailed
from tests.training.runs import image_data, tensor_data
from tests.training.thieves import TRIGGERS, attack, differing, effort, marked, other_task, state

DATA = image_data()
HEAD = {"body.13.weight", "body.13.bias"}


def task_correct(network):
    return count_correct(network, DATA.test)


def trigger_matches(network):
    return count_correct(network, DATA.triggers)


def test_the_network_to_be_stolen_knows_task_and_triggers():
    assert task_correct(marked()) >= 28
    assert trigger_matches(marked()) == TRIGGERS


@pytest.mark.parametrize("name", ["transfer", *sorted(set(STEPS) - {"transfer"})])
def test_no_attack_changes_the_network_that_it_is_given(name):
    before, mode = state(marked()), marked().training
    attack(name, epochs=1, student_epochs=1)
    assert differing(before, state(marked())) == set()
    assert marked().training == mode


@pytest.mark.parametrize("name", ["ftal-1e-2", "rtll-1e-2", "pirate", "extract-hard", "prune-50+ftal-1e-3+int8"])
def test_the_same_attack_gives_the_same_weights(name):
    one, other = (attack(name, epochs=2, student_epochs=2).network for _ in range(2))
    assert differing(state(one), state(other)) == set()
    another = attack(name, epochs=2, student_epochs=2, seed=4).network
    assert differing(state(one), state(another)) != set()


@pytest.mark.parametrize("kind", ["ftll", "rtll"])
def test_frozen_layers_stay_frozen_batch_norm_statistics_included(kind):
    changed = differing(state(marked()), state(attack(f"{kind}-1e-2").network))
    assert changed == HEAD


@pytest.mark.parametrize("kind", ["ftal", "rtal"])
def test_tuning_all_layers_changes_every_layer_and_the_statistics(kind):
    changed = differing(state(marked()), state(attack(f"{kind}-1e-2").network))
    assert {name for name in state(marked()) if name.startswith("body.")} == changed


def test_retraining_starts_the_last_layer_at_random_and_tuning_does_not():
    tuned, retrained = (attack(f"{kind}-1e-4", epochs=1).network for kind in ("ftll", "rtll"))
    own = head_of(marked()).weight
    assert torch.allclose(head_of(tuned).weight, own, atol=0.01)
    assert not torch.allclose(head_of(retrained).weight, own, atol=0.05)


def test_a_retrained_network_learns_its_task_again():
    assert task_correct(attack("rtal-1e-2", epochs=6).network) >= 28


def test_a_pirate_plants_a_mark_of_its_own_as_large_as_the_owners():
    served = attack("pirate", epochs=15)
    assert served.pirate.count == TRIGGERS
    assert count_correct(served.network, served.pirate) > count_correct(marked(), served.pirate)
    assert count_correct(served.network, served.pirate) >= 10
    assert task_correct(served.network) >= 28


def test_a_pirate_of_tensor_inputs_draws_values_like_the_data():
    data = tensor_data()
    mark = draw_mark(200, 3, data.task, 1)
    assert mark.inputs.dtype == torch.float32
    assert float(mark.inputs.std()) == pytest.approx(float(data.task.inputs.std()), rel=0.1)
    assert set(mark.labels.tolist()) == {0, 1, 2}


def test_transfer_learns_the_other_task_with_a_head_of_its_own():
    network = attack("transfer", epochs=8).network
    assert head_of(network).out_features == 2
    assert count_correct(network, other_task()) >= 80
    restored = with_head(network, head_of(marked()))
    assert restored(network_input(DATA.test.inputs)).shape == (30, 3)


@pytest.mark.parametrize("percent", [30, 50, 70, 90])
def test_pruning_removes_the_smallest_weights_of_all_layers(percent):
    before, after = state(marked()), state(attack(f"prune-{percent}").network)
    names = [name for name, value in before.items() if value.dim() > 1 and name.startswith("body.")]
    removed = sum(int((after[name] == 0).sum()) for name in names)
    total = sum(before[name].numel() for name in names)
    assert removed == pytest.approx(total * percent / 100, abs=2)
    sizes = torch.cat([before[name].abs().flatten() for name in names])
    gone = torch.cat([after[name].flatten() == 0 for name in names])
    assert float(sizes[gone].max()) <= float(sizes[~gone].min())
    assert {name for name in before if name not in names and not torch.equal(before[name], after[name])} == set()


@pytest.mark.parametrize("name", ["prune-70+ftal-1e-2", "prune-70+ftll-1e-2"])
def test_what_was_pruned_stays_pruned_under_fine_tuning(name):
    pruned, tuned = state(attack("prune-70").network), state(attack(name).network)
    weights = [key for key, value in pruned.items() if value.dim() > 1 and key.startswith("body.")]
    assert all(bool((tuned[key][pruned[key] == 0] == 0).all()) for key in weights)
    assert differing(pruned, tuned) != set()


@pytest.mark.parametrize(("name", "levels"), [("int8", 255), ("int4", 15)])
def test_quantised_weights_have_so_many_levels_a_channel_and_no_more(name, levels):
    before, after = state(marked()), state(attack(name).network)
    for key in (key for key, value in before.items() if value.dim() > 1 and key.startswith("body.")):
        for old, new in zip(before[key], after[key], strict=True):
            scale = float(old.abs().max()) / (levels // 2)
            assert len(new.unique()) <= levels
            assert float((old - new).abs().max()) <= scale / 2 + 1e-6
    assert torch.equal(before["body.1.running_mean"], after["body.1.running_mean"])


@pytest.mark.parametrize("kind", ["extract-hard", "extract-soft", "distill"])
def test_a_student_learns_the_task_from_answers_with_none_of_the_teachers_weights(kind):
    student = attack(kind).network
    assert task_correct(student) >= 27
    shared = {name for name in state(student) if name.endswith("weight")} - differing(state(student), state(marked()))
    assert shared == set()
    assert trigger_matches(student) < TRIGGERS


def test_a_student_starts_anew_with_the_same_normalisation():
    network = build("mlp", (1, 8, 8), 3, mean_millis=(300,), std_millis=(200,))
    fresh = fresh_copy(network, 5)
    assert torch.equal(fresh.normalise.mean, network.normalise.mean)
    assert {"body.1.weight", "body.5.bias"} <= differing(state(network), state(fresh))
    assert differing(state(fresh), state(fresh_copy(network, 5))) == set()


class Scaled(nn.Module):
    """A layer with weights that nobody knows how to start anew."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x * self.scale


def network_of(*layers):
    return MarkedNetwork("odd", nn.Sequential(nn.Flatten(), *layers), Normalise(3, (), ()))


def test_a_network_whose_layers_cannot_be_started_anew_has_no_students():
    with pytest.raises(PolicyRefused, match=r"no fresh student can be made of odd: '2'"):
        fresh_copy(network_of(nn.Linear(64, 3), Scaled()), 1)


def test_a_network_without_a_linear_layer_or_with_something_behind_it_has_no_head():
    with pytest.raises(PolicyRefused, match="no linear layer"):
        head_name(network_of(nn.ReLU()))
    with pytest.raises(PolicyRefused, match="does not give its answers"):
        head_features(network_of(nn.Linear(64, 3), Scaled(), nn.Softmax(dim=1)), DATA.test.inputs)


class Backwards(nn.Module):
    """Names the layer that answers first, and the one before it last."""

    def __init__(self):
        super().__init__()
        self.answering, self.before = nn.Linear(64, 3), nn.Linear(64, 64)

    def forward(self, x):
        return self.answering(self.before(x.flatten(1)))


@pytest.mark.parametrize("name", ["rtll-1e-2", "ftll-1e-2", "rtal-1e-2", "transfer"])
def test_an_attack_on_the_head_is_not_made_where_the_last_layer_is_none(name):
    backwards = MarkedNetwork("backwards", Backwards(), Normalise(3, (), ()))
    with pytest.raises(PolicyRefused, match="the last linear layer of backwards does not give its answers"):
        attack(name, backwards)


@pytest.mark.parametrize("network", ["mlp", "small_cnn", "resnet_small"])
def test_the_head_of_every_network_of_ours_is_found(network):
    built = build(network, (1, 8, 8), 3)
    head = head_of(built)
    assert (head.out_features, head_name(built)) == (3, [name for name, _ in built.body.named_modules()][-1])
    features = head_features(built, DATA.test.inputs)
    assert torch.equal(head(features), built(network_input(DATA.test.inputs)))


def test_another_networks_head_is_refused_where_its_width_does_not_fit():
    with pytest.raises(PolicyRefused, match="takes 512 features"):
        with_head(marked(), head_of(build("mlp", (1, 8, 8), 3)))


IMAGES = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=seeded(1))


@pytest.mark.parametrize("name", ["jpeg-90", "jpeg-50", "noise-8", "resize-50", "median"])
@pytest.mark.parametrize("channels", [1, 3])
def test_preprocessing_gives_images_of_the_same_form_and_changes_them(name, channels):
    step, images = STEPS[name], IMAGES[:, :channels]
    before = images.clone()
    seen = preprocess(images, step.kind, step.number, 4)
    assert (seen.shape, seen.dtype) == (images.shape, torch.uint8)
    assert not torch.equal(seen, before)
    assert torch.equal(images, before)
    assert torch.equal(seen, preprocess(images, step.kind, step.number, 4))


def test_stronger_preprocessing_changes_more():
    smooth = DATA.test.inputs

    def change(name):
        step = STEPS[name]
        return float((preprocess(smooth, step.kind, step.number, 4).float() - smooth.float()).abs().mean())

    assert change("jpeg-90") < change("jpeg-50")
    assert change("noise-4") < change("noise-8") < change("noise-16")
    assert change("resize-75") < change("resize-50")


def test_a_median_removes_a_single_bright_pixel():
    image = torch.full((1, 1, 8, 8), 50, dtype=torch.uint8)
    image[0, 0, 4, 4] = 255
    assert preprocess(image, "median", 0, 0).unique().tolist() == [50]


def test_what_stands_in_front_leaves_the_network_as_it_is():
    served = attack("jpeg-50")
    assert served.network is marked()
    assert not torch.equal(served.seen(DATA.test.inputs, 1), DATA.test.inputs)


def pictures_seen_in_a_batch(**changes):
    """Descend on one batch of sixteen equal pictures; count how many different ones the network sees."""
    network, seen = deepcopy(marked()), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    inputs, labels = DATA.task.inputs[:1].repeat(16, 1, 1, 1), DATA.task.labels[:1].repeat(16)
    loss = label_loss(LabelledSet(inputs, labels))
    descend(network, inputs, loss, Course(1, 1e-4), effort(**changes), lambda *_: None)
    assert seen[0].shape == inputs.shape
    return len(seen[0].unique(dim=0))


def test_a_thief_who_augments_moves_each_picture_by_itself_as_the_owner_does():
    assert pictures_seen_in_a_batch() == 1
    assert pictures_seen_in_a_batch(flip=True) == 2
    assert pictures_seen_in_a_batch(crop_padding=2) > 5


def test_bfloat16_trains_the_task_as_well():
    network = attack("rtal-1e-2", half=True, epochs=6, flip=True, crop_padding=1).network
    assert task_correct(network) >= 27
    assert next(network.parameters()).dtype == torch.float32


def test_automatic_precision_leaves_networks_without_convolutions_alone_and_obeys_where_told():
    cpu, plain = torch.device("cpu"), build("mlp", (1, 8, 8), 3)
    assert not computes_half("auto", cpu, plain)
    assert computes_half("bf16", cpu, plain)
    assert not computes_half("fp32", cpu, marked())


def test_an_attack_that_diverges_says_so():
    broken = deepcopy(marked("mlp"))
    with torch.no_grad():
        head_of(broken).bias.fill_(float("nan"))
    with pytest.raises(TrainingFailed, match="no longer a number after epoch 1"):
        attack("ftal-1e-2", broken)


def test_answers_are_the_same_in_one_batch_and_in_many():
    many = DATA.task.inputs.repeat(15, 1, 1, 1)
    assert len(many) > 1024
    assert torch.equal(answers(marked(), many), answers(marked(), DATA.task.inputs).repeat(15))
