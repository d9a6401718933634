"""How a party's committed model is asked both disputes' questions, in a confined child and in this process."""

import pytest
import torch

from app.embedding.answering import answers
from app.embedding.artifacts import digest_of_file
from app.embedding.data import trigger_set
from app.embedding.networks import build, build_exported, save_weights
from app.embedding.training_process import run_cross_test
from app.embedding.white_box.cross_test import MAX_NUMBERS, CrossOrder, CrossQuestion, depth_of
from app.embedding.white_box.cross_test_child import best_of, is_alike
from app.errors import Malformed, TrainingFailed
from app.protocol.cross_test import Repeated
from tests.training.examples import image_key, statement_of
from tests.training.programs import example, export

KEY = image_key()


@pytest.mark.parametrize(
    ("logits", "best"),
    [
        ([0.1, 0.7, 0.7, -1.0], (1, 2)),
        ([3.0, 2.0, 1.0, 0.0], (0, 1)),
        ([0.0, float("nan"), 0.0, 0.0], ()),
        ([0.0, float("inf"), 0.0, 0.0], ()),
    ],
)
def test_the_best_outputs_are_told_in_order_and_none_of_what_is_no_number(logits, best):
    assert best_of(torch.tensor(logits), 2) == best


@pytest.mark.parametrize(
    ("answer", "alike"), [((1,), True), ((2,), False), ((1, 2), True), ((0, 1), False), ((), False)]
)
def test_a_cover_is_repeated_whole_or_not_at_all(answer, alike):
    logits = torch.tensor([0.1, 0.7, 0.7, -1.0])
    assert is_alike(logits, CrossQuestion(b"", 0, 0, answer)) is alike


def test_a_report_stays_short_however_many_triggers_and_classes_there_are():
    assert depth_of(24, 10) == 10
    assert depth_of(0, 10) == 10
    assert depth_of(24, 65_536) == 1000
    assert depth_of(60_000, 65_536) == 1
    assert 500 * depth_of(500, 65_536) <= MAX_NUMBERS


def order_in(folder, weights, questions):
    lines = [question.encode() + b"\n" for question in questions]
    (folder / "questions").write_bytes(b"".join(lines))
    (folder / "output").mkdir()
    return CrossOrder(
        statement=statement_of(KEY),
        weights_path=str(weights),
        program_path=None,
        questions_path=str(folder / "questions"),
        device="cpu",
        threads=1,
        output_path=str(folder / "output"),
    )


def test_a_program_is_asked_in_a_child_that_knows_no_label(tmp_path):
    program = export(example("residual"), tmp_path / "model.pt2")
    network = build_exported(program, (1, 8, 8), 3)
    said = answers(network, trigger_set(KEY.inputs, [0] * KEY.count).inputs).tolist()
    wrong = (said[0] + 1) % 3
    covers = [
        CrossQuestion(KEY.inputs[0], 0, 0, (wrong,)),
        CrossQuestion(KEY.inputs[1], 0, 0, (said[1],)),
        CrossQuestion(KEY.inputs[2], 1, 0, (said[2],)),
    ]
    triggers = [
        CrossQuestion(KEY.inputs[3], 0, 1, ()),
        CrossQuestion(KEY.inputs[4], 1, 3, ()),
        CrossQuestion(KEY.inputs[5], 1, 1, ()),
    ]
    events = []
    order = order_in(tmp_path, program, [*covers, *triggers])
    report = run_cross_test(order, events.append, lambda: False)
    assert report.covers == (Repeated(1, 2), Repeated(1, 1))
    assert report.triggers[0] == ((said[3],),)
    (ranking, single) = report.triggers[1]
    assert (ranking[0], sorted(ranking), single) == (said[4], [0, 1, 2], (said[5],))
    assert report.weights_sha256 == digest_of_file(program)
    assert {"event": "progress", "asked": 6} in events


def test_a_network_for_other_inputs_is_refused_in_words(tmp_path):
    save_weights(build("mlp", (1, 4, 4), 3, mean_millis=(500,), std_millis=(200,)), tmp_path / "w", (1, 4, 4), 3)
    order = order_in(tmp_path, tmp_path / "w", [CrossQuestion(KEY.inputs[0], 0, 1, ())])
    with pytest.raises(TrainingFailed, match="takes inputs of") as failed:
        run_cross_test(order, lambda _: None, lambda: False)
    assert failed.value.state == Malformed.code
