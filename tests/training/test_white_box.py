from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from app.embedding.answering import count_correct
from app.embedding.artifacts import digest_of_file
from app.embedding.attacks.heads import head_of
from app.embedding.child_order import PlainKey
from app.embedding.data import trigger_set
from app.embedding.networks import build, build_exported, load_network, save_weights
from app.embedding.opened_key import labels_of_key
from app.embedding.training_process import run_white_box as run_in_child
from app.embedding.white_box.check import (
    NOT_EVIDENCE,
    WHITE_BOX_REPORT,
    Control,
    WhiteBoxOrder,
    WhiteBoxReport,
    admit_head,
)
from app.embedding.white_box.child import run_white_box
from app.errors import Malformed
from app.keys.key_file import encode_key_file
from app.protocol.assessment import Logged
from app.protocol.records import ModelEntry
from tests.training.examples import image_key
from tests.training.programs import example, export
from tests.training.thieves import CONTROL, MARKED, write_marked

SINCE = "2026-04-01T00:00:00Z"


def admission_of(head, suspect):
    digest = digest_of_file(head)
    entry = ModelEntry(time="2026-03-01T12:00:00Z", owner_key=bytes(32), sha256=digest, signature=bytes(64))
    return admit_head(Logged(3, entry, entry.encode()), digest, digest_of_file(suspect), suspect_since=SINCE)


def order_of(files, output, suspect, *, head=None, controls=(), **changes):
    output.mkdir(exist_ok=True)
    whole = WhiteBoxOrder(
        statement=files[2].statement,
        salt=files[2].salt,
        suspect_path=str(suspect),
        head_path=None if head is None else str(head),
        admission=None if head is None else admission_of(head, suspect),
        controls=tuple(Control(path.stem, str(path)) for path in controls),
        bits=64,
        device="cpu",
        threads=1,
        output_path=str(output),
        key_form="plain",
    )
    return replace(whole, **changes)


def check(files, order):
    """Count in this process, as the child does."""
    return run_white_box(order, PlainKey(encode_key_file(files[1])), lambda _: None)


@pytest.fixture(scope="module")
def marked_files(tmp_path_factory):
    """A folder with a marked network and a control; the key of 60 triggers; the order they came from."""
    return write_marked(tmp_path_factory.mktemp("marked"), image_key(60))


@pytest.fixture
def weights(marked_files):
    """The marked weights, the control's, and a thief's copy with a head of its own."""
    folder = marked_files[0]
    marked, path = folder / MARKED, folder / "thief.safetensors"
    thief = load_network(marked)
    with torch.no_grad():
        head_of(thief).weight.copy_(torch.roll(head_of(thief).weight, 1, dims=0))
        head_of(thief).bias.copy_(torch.roll(head_of(thief).bias, 1))
    save_weights(thief, path, (1, 8, 8), 3)
    return marked, folder / CONTROL, path


def test_a_suspects_own_head_is_weighed_as_evidence(marked_files, weights, tmp_path):
    marked, plain, _ = weights
    report = check(marked_files, order_of(marked_files, tmp_path / "out", marked))
    assert report.own_head.matches[0] >= 58
    assert float(report.own_head.log2_e[0]) > 64
    assert report.not_evidence is None
    order = order_of(marked_files, tmp_path / "out", plain)
    innocent = run_in_child(order, PlainKey(encode_key_file(marked_files[1])), lambda: False)
    assert innocent.own_head.reaches == (False,)
    assert WhiteBoxReport.parse((tmp_path / "out" / WHITE_BOX_REPORT).read_bytes()) == innocent


def test_a_vendors_head_is_counted_apart_beside_the_controls(marked_files, weights, tmp_path):
    marked, plain, thief = weights
    report = check(marked_files, order_of(marked_files, tmp_path / "out", thief, head=marked, controls=(plain,)))
    apart = report.not_evidence
    assert report.own_head.matches[0] < 30  # the thief's classes are turned round
    assert apart.suspect.matches[0] >= 58  # the owner's head sees through that
    assert apart.controls[0].name == "plain"
    assert apart.controls[0].matches[0] < 40
    assert apart.note == NOT_EVIDENCE
    assert set(apart.to_json()) == {"admission", "suspect", "controls", "note"}
    assert set(apart.suspect.to_json()) == {"name", "sha256", "matches"}


def test_a_head_in_a_file_of_its_own_counts_as_the_whole_weights_do(marked_files, weights, tmp_path):
    marked, plain, thief = weights
    head, alone = head_of(load_network(marked)), tmp_path / "head.safetensors"
    save_file({"weight": head.weight.detach(), "bias": head.bias.detach()}, alone)
    by_file, by_weights = (
        check(marked_files, order_of(marked_files, tmp_path / "out", thief, head=path, controls=(plain,)))
        for path in (alone, marked)
    )
    assert by_file.not_evidence.suspect == by_weights.not_evidence.suspect


def test_weights_of_a_program_are_asked_with_the_program_at_hand(marked_files, tmp_path):
    program = export(example("vgg"), tmp_path / "network.pt2")
    marked, other = tmp_path / "marked.safetensors", tmp_path / "control.safetensors"
    network = build_exported(program, (1, 8, 8), 3)
    save_weights(network, marked, (1, 8, 8), 3)
    with torch.no_grad():
        next(network.body.parameters()).mul_(0.5)
    save_weights(network, other, (1, 8, 8), 3)
    order = order_of(marked_files, tmp_path / "out", marked, head=marked, controls=(other,), program_path=str(program))
    report = run_in_child(order, PlainKey(encode_key_file(marked_files[1])), lambda: False)
    apart = report.not_evidence
    assert apart.suspect.matches == report.own_head.matches  # the head put in its own place
    assert len(apart.controls[0].matches) == 1
    with pytest.raises(Malformed, match="give that file as the program"):
        check(marked_files, replace(order, program_path=None))


def test_the_unmarked_program_is_a_control_and_sees_inputs_as_the_marked_weights_do(marked_files, tmp_path):
    program = export(example("vgg"), tmp_path / "network.pt2")
    marked, foreign = tmp_path / "marked.safetensors", tmp_path / "foreign.safetensors"
    network = build_exported(program, (1, 8, 8), 3, mean_millis=(500,), std_millis=(250,))
    save_weights(network, marked, (1, 8, 8), 3)
    as_weights = order_of(marked_files, tmp_path / "out", marked, head=marked, controls=(marked,))
    as_weights = replace(as_weights, program_path=str(program))
    expected = run_in_child(as_weights, PlainKey(encode_key_file(marked_files[1])), lambda: False)
    # The same network, as a program: beside weights of it that say so, its inputs are normalised as theirs.
    order = replace(as_weights, controls=(Control("unmarked", str(program)),))
    report = run_in_child(order, PlainKey(encode_key_file(marked_files[1])), lambda: False)
    assert report.not_evidence.controls[0].matches == expected.not_evidence.controls[0].matches
    # A suspect's file that says otherwise is not believed.
    save_weights(build_exported(program, (1, 8, 8), 3, mean_millis=(900,), std_millis=(1,)), foreign, (1, 8, 8), 3)
    lied = replace(order, suspect_path=str(foreign))
    lied = replace(lied, admission=admission_of(marked, foreign))
    assert check(marked_files, lied).not_evidence.controls == report.not_evidence.controls


def test_a_program_is_a_suspect_and_no_head(marked_files, weights, tmp_path):
    program = export(example("vgg"), tmp_path / "network.pt2")
    report = check(marked_files, order_of(marked_files, tmp_path / "out", program))
    alone = build_exported(program, (1, 8, 8), 3)
    key = marked_files[1]
    triggers = trigger_set(key.inputs, labels_of_key(marked_files[2].statement, marked_files[2].salt, key))
    assert sum(report.own_head.matches) == count_correct(alone, triggers)
    assert report.suspect_sha256 == digest_of_file(program)
    order = order_of(marked_files, tmp_path / "out", weights[0], head=program, controls=(weights[1],))
    with pytest.raises(Malformed, match="is a program: give the head as weights"):
        check(marked_files, order)


def test_every_file_that_may_be_a_program_is_looked_at_before_a_process_is_started(marked_files, weights, tmp_path):
    marked, plain, thief = weights
    order = order_of(marked_files, tmp_path / "out", thief, head=marked, controls=(plain,), program_path="network.pt2")
    assert set(order.model_paths) == {str(thief), str(marked), str(plain), "network.pt2"}


def test_a_control_that_the_head_does_not_fit_has_no_count(marked_files, weights, tmp_path):
    marked, _, thief = weights
    other = tmp_path / "other.safetensors"
    save_weights(build("small_cnn", (1, 8, 8), 3), other, (1, 8, 8), 3)
    report = check(marked_files, order_of(marked_files, tmp_path / "out", thief, head=marked, controls=(other,)))
    assert report.not_evidence.controls[0].matches is None


def test_a_suspect_of_other_classes_has_no_evidence_of_its_own(marked_files, weights, tmp_path):
    marked, plain, _ = weights
    suspect = tmp_path / "suspect.safetensors"
    save_weights(build("mlp", (1, 8, 8), 5), suspect, (1, 8, 8), 5)
    report = check(marked_files, order_of(marked_files, tmp_path / "out", suspect, head=marked, controls=(plain,)))
    assert report.own_head is None
    assert len(report.not_evidence.suspect.matches) == 1


def test_a_head_that_is_not_the_admitted_one_is_refused(marked_files, weights, tmp_path):
    marked, plain, thief = weights
    order = order_of(marked_files, tmp_path / "out", thief, head=marked, controls=(plain,))
    with pytest.raises(Malformed, match="not the head that was admitted"):
        check(marked_files, replace(order, head_path=str(plain)))


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"weight": torch.zeros(3)}, "a head is"),
        ({"weight": torch.zeros(3, 512), "bias": torch.zeros(2)}, "a head is"),
        ({"weight": torch.full((3, 512), float("inf"))}, "finite"),
        ({"weight": torch.zeros(3, 512, dtype=torch.float16)}, "finite float32"),
        ({"weight": torch.zeros(4, 512)}, "answers 4 classes"),
        ({"weigth": torch.zeros(3, 512)}, "metadata"),
    ],
)
def test_what_is_no_head_is_refused_with_the_reason(marked_files, weights, tmp_path, tensors, why):
    _, plain, thief = weights
    head = tmp_path / "head.safetensors"
    save_file(tensors, head)
    with pytest.raises(Malformed, match=why):
        check(marked_files, order_of(marked_files, tmp_path / "out", thief, head=head, controls=(plain,)))
