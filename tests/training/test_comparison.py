"""How weights of an accused are counted: in this process, and in a confined child with a program."""

import pytest
import torch

from app.embedding.answering import answers
from app.embedding.artifacts import digest_of_file
from app.embedding.data import trigger_set
from app.embedding.networks import build, build_exported, save_weights
from app.embedding.training_process import run_comparison as run_in_child
from app.embedding.white_box.comparison import ComparisonOrder, Question
from app.embedding.white_box.comparison_child import is_repeated
from app.errors import Malformed, TrainingFailed
from tests.training.examples import image_key, statement_of
from tests.training.programs import example, export

KEY = image_key()
LOGITS = [0.1, 0.7, 0.7, -1.0]


@pytest.mark.parametrize(
    ("logits", "answer", "is_ranked", "hit"),
    [
        (LOGITS, (1,), False, True),
        (LOGITS, (2,), False, False),  # equal, and the lower output comes first
        (LOGITS, (2, 1), False, True),
        (LOGITS, (2, 1), True, False),
        (LOGITS, (1, 2, 0, 3), True, True),
        # An old network's class listed beside another one's is neither's answer.
        (LOGITS, (1, 3), False, False),
        (LOGITS, (), False, False),
        (LOGITS, (9,), False, False),
        ([0.0, float("nan"), 0.0, 0.0], (1,), False, False),
    ],
)
def test_an_answer_is_repeated_whole_or_not_at_all(logits, answer, is_ranked, hit):
    assert is_repeated(torch.tensor(logits), Question(b"", answer, is_ranked, is_trigger=False)) is hit


def order_in(folder, weights, labels, program=None):
    lines = [
        Question(data, (int(label),), is_ranked=False, is_trigger=number < 4).encode() + b"\n"
        for number, (data, label) in enumerate(zip(KEY.inputs, labels, strict=True))
    ]
    (folder / "questions").write_bytes(b"".join(lines))
    (folder / "output").mkdir()
    return ComparisonOrder(
        statement=statement_of(KEY),
        weights_path=str(weights),
        program_path=None if program is None else str(program),
        questions_path=str(folder / "questions"),
        device="cpu",
        threads=1,
        output_path=str(folder / "output"),
    )


def test_a_program_is_asked_in_a_child_that_is_given_no_key(tmp_path):
    program = export(example("residual"), tmp_path / "model.pt2")
    network = build_exported(program, (1, 8, 8), 3)
    said = answers(network, trigger_set(KEY.inputs, [0] * KEY.count).inputs)
    wrong = (said[5] + 1) % 3
    labels = [*said[:5].tolist(), int(wrong), *said[6:].tolist()]
    events = []
    report = run_in_child(order_in(tmp_path, program, labels), events.append, lambda: False)
    assert (report.repeated, report.answered) == (11, 12)
    assert (report.triggers_repeated, report.triggers_answered) == (4, 4)
    assert report.weights_sha256 == digest_of_file(program)
    assert {"event": "progress", "asked": 12} in events


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 8, 8)])
def test_a_network_for_other_inputs_is_refused_in_words(tmp_path, shape):
    save_weights(build("mlp", shape, 3, mean_millis=(500,), std_millis=(200,)), tmp_path / "w", shape, 3)
    with pytest.raises(TrainingFailed, match="takes inputs of") as failed:
        run_in_child(order_in(tmp_path, tmp_path / "w", [0] * 12), lambda _: None, lambda: False)
    assert failed.value.state == Malformed.code
