"""Answers that a service would give, spoilt in one place: labels that stand in them, or a named error, never a crash."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.canonical import encode_json
from app.protocol.interface import Interface
from app.protocol.transcript import MAX_LABEL_CHARACTERS, MAX_LABELS
from app.suspects.adapters import ADAPTERS, load_adapter, read_answer
from app.suspects.adapters.answers import REASONS

RECORDED = Path(__file__).parent / "recorded"
FILES = sorted(path.relative_to(RECORDED).as_posix() for path in RECORDED.glob("*/*.json"))
VERSION = "5c7d5dc6dd8bf75c1acaa8565735e7986bc5b66206b55cca93cb72c9bf15ccaa"

# JSON texts that have broken parsers, put in the place of any value.
NASTY = [
    "NaN",
    "-Infinity",
    "1e999",
    "1" + "0" * 400,
    "1" + "0" * 5000,
    "-0",
    "true",
    "null",
    "{}",
    "[]",
    "[[]]",
    '"\\ud800"',
    '"\\u0000"',
    '"[\\ud800"',
    json.dumps("[" * 40),
    json.dumps('{"label":"a","label":"b"}'),
    '"' + "x" * 201 + '"',
    '"\\u202e7"',
    "[" * 40 + "]" * 40,
    '{"a":1,"a":2}',
    '{"label":"a","label":"b"}',
    "[{},[]]",
    "",
    "'",
]


def places(value, path=()):
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


def spoilt(value, path, text):
    """Write JSON with `text` in the place to which `path` leads."""
    if not path:
        return text
    if isinstance(value, dict):
        items = value.items()
        return "{" + ",".join(f"{json.dumps(k)}:{each(v, k, path, text)}" for k, v in items) + "}"
    return "[" + ",".join(each(item, at, path, text) for at, item in enumerate(value)) + "]"


def each(item, key, path, text):
    return spoilt(item, path[1:], text) if key == path[0] else json.dumps(item)


def verify_bounded(labels, error, status):
    assert not (labels and error)
    assert error in REASONS | {"", f"status_{status}"}
    assert len(labels) <= MAX_LABELS
    assert len(set(labels)) == len(labels)
    assert all(len(label) <= MAX_LABEL_CHARACTERS for label in labels)
    assert encode_json(list(labels))


@pytest.mark.parametrize("path", FILES)
@settings(max_examples=15)
@given(data=st.data())
def test_one_spoilt_value_gives_labels_or_a_named_error(path, data):
    recorded = json.loads((RECORDED / path).read_text())
    response = recorded["response"]
    place = data.draw(st.sampled_from(list(places(response))))
    body = spoilt(response, place, data.draw(st.sampled_from(NASTY))).encode()
    for by in ("index", "name"):
        interface = Interface(path.partition("/")[0], recorded["options"], {}, {"by": by})
        for ranking in (False, True):
            labels, error = read_answer(interface, recorded["class_count"], recorded["status"], body, ranking=ranking)
            verify_bounded(labels, error, recorded["status"])


ADDRESSED = [
    ("azure_ml", {}),
    ("bentoml", {}),
    ("generic_json", {"template": {"x": {"$input": "pixels_flat"}}, "path": "@", "result": "any"}),
    ("huggingface", {}),
    ("kserve_v1", {"model": "m"}),
    ("litserve", {}),
    ("mlflow", {}),
    ("oip_v2", {"model": "m"}),
    ("ray_serve", {}),
    ("replicate", {"version": VERSION}),
    ("roboflow", {}),
    ("sagemaker", {}),
    ("tf_serving", {"model": "m"}),
    ("torchserve", {"model": "m"}),
    ("vertex", {}),
]


@pytest.mark.parametrize(("name", "options"), ADDRESSED)
def test_an_answer_of_another_service_is_no_crash(name, options):
    for path in FILES:
        response = json.loads((RECORDED / path).read_text())["response"]
        body = json.dumps(response).encode()
        plain, marked = (
            (body, b" " + body + b"\n"),
            (b"\xef\xbb\xbf" + body, body.decode().encode("utf-16"), body + b"\0"),
        )
        for encoded in plain + marked:
            labels, error = read_answer(Interface(name, options, {}, {"by": "name"}), 3, 200, encoded, ranking=True)
            verify_bounded(labels, error, 200)
            assert encoded in plain or error == "not_json"


@pytest.mark.parametrize(("name", "options"), ADDRESSED)
@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf"), 2**1000])
def test_a_score_that_is_no_number_is_never_the_highest(name, options, score):
    read = set()
    for value in (
        [score, 0.5, 0.25],
        {"a": score, "b": 0.5},
        [{"label": "a", "score": score}, {"label": "b", "score": 1}],
    ):
        tensor = {"name": "y", "datatype": "FP32", "shape": [1, 3], "data": value}
        wrapped = {"predictions": value, "outputs": [tensor], "output": value, "status": "succeeded"}
        for response in (value, {"predictions": [value]}, wrapped):
            body = json.dumps(response).encode()
            read.add(read_answer(Interface(name, options, {}, {"by": "name"}), 3, 200, body))
    assert {labels for labels, _ in read} == {()}
    assert "nan_score" in {error for _, error in read}


@pytest.mark.parametrize(("name", "options"), ADDRESSED)
def test_a_later_question_is_asked_only_where_answers_come_later(name, options):
    for path in FILES:
        recorded = json.loads((RECORDED / path).read_text())
        body = json.dumps(recorded["response"]).encode()
        is_later = name == "replicate" and path == "replicate/unfinished.json"
        following = None
        if name != "replicate" or path.startswith("replicate/"):
            following = load_adapter(name).next_request(options, recorded["status"], body)
        assert (following is not None) == is_later


def test_every_adapter_with_recorded_answers_is_known():
    assert {path.partition("/")[0] for path in FILES} <= set(ADAPTERS)
