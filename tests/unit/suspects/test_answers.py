"""Responses of every protocol give labels, or one of the named errors."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.suspects.adapters import read_answer
from app.suspects.adapters.answers import REASONS
from tests.unit.suspects.examples import FRAMES, generic, interface


def answers(name, options, response, status=200, by="index"):
    body = response if isinstance(response, bytes) else json.dumps(response).encode()
    return read_answer(interface(name, options, by), 3, status, body)


@pytest.mark.parametrize(
    ("prediction", "labels"),
    [
        ([0.1, 0.7, 0.2], ("1",)),
        ([-5, -1, -1], ("1",)),
        ([0.5, 0.5, 0.5], ("0",)),
        (2, ("2",)),
        ("seven", ("seven",)),
        ("", ("",)),
        (None, ()),
        (["seven", "one"], ("seven", "one")),
        ([{"label": "a", "score": 0.1}, {"label": "b", "score": 0.8}], ("b",)),
        ([{"class": 3, "confidence": 0.1}, {"class": 1, "confidence": 0.1}], ("3",)),
        ({"cat": 0.2, "dog": 0.8}, ("dog",)),
        ({"label": "dog", "probability": 0.4}, ("dog",)),
        ({"class": 2, "confidence": 0.4}, ("2",)),
        ({"predicted_label": "dog", "scores": [0.1, 0.2, 0.7]}, ("dog",)),
        ({"predicted_label": 1, "scores": [0.1, 0.2, 0.7]}, ("2",)),
        ({"labels": ["a", "b"], "scores": [0.1, 0.8]}, ("b",)),
        ({"labels": [], "scores": []}, ()),
        ({"logits": [-7, 3.5, 1]}, ("1",)),
        ([["n01", "cat", 0.2], ["n02", "dog", 0.7]], ("dog",)),
        ([["cat", 0.2], ["dog", 0.7]], ("dog",)),
        ({}, ()),
    ],
)
def test_kserve_predictions_give_labels(prediction, labels):
    assert answers("kserve_v1", {"model": "m"}, {"predictions": [prediction], "model": "x"}) == (labels, "")


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"", "not_json"),
        (b"<html>", "not_json"),
        (b"\xef\xbb\xbf{}", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b'{"predictions":[1],"predictions":[2]}', "not_json"),
        (b"1" * 5000, "not_json"),
        (b"[" * 40 + b"]" * 40, "too_deep"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "too_deep"),
        (b"[" * 900_000, "too_deep"),
        ([], "missing_field"),
        ({"prediction": [1]}, "missing_field"),
        ({"predictions": {"a": 1}}, "wrong_shape"),
        ({"predictions": []}, "wrong_count"),
        ({"predictions": [1, 2]}, "wrong_count"),
        ({"predictions": [[0.5, 0.5]]}, "wrong_count"),
        ({"predictions": [[0.1, 0.2, 0.3, 0.4]]}, "wrong_count"),
        ({"predictions": [[]]}, "wrong_count"),
        ({"predictions": [[[0.1, 0.2, 0.7]]]}, "wrong_shape"),
        ({"predictions": [[0.1, True, 0.7]]}, "wrong_shape"),
        ({"predictions": [0.7]}, "wrong_shape"),
        ({"predictions": [True]}, "wrong_shape"),
        ({"predictions": [{"name": 1, "colour": "red"}]}, "wrong_shape"),
        ({"predictions": [[{"label": "a"}]]}, "missing_field"),
        ({"predictions": [[{"label": "a", "score": "high"}]]}, "wrong_shape"),
        ({"predictions": [[{"label": "a", "score": float("nan")}]]}, "nan_score"),
        ({"predictions": [[{"label": "a", "score": 0.7}, {"label": "a", "score": 0.3}]]}, "duplicate_label"),
        ({"predictions": [["a", "b", "a"]]}, "duplicate_label"),
        ({"predictions": [{"labels": ["a", "a"], "scores": [1, 0]}]}, "duplicate_label"),
        ({"predictions": [{"labels": ["a"], "scores": [1, 0]}]}, "wrong_count"),
        ({"predictions": [{"scores": [1, 0]}]}, "wrong_count"),
        ({"predictions": [{"class": True, "confidence": 0.4}]}, "wrong_shape"),
        ({"predictions": [[["a", "b"], ["c", "d"]]]}, "wrong_shape"),
        ({"predictions": [[["a", 0.1], ["a", 0.2]]]}, "duplicate_label"),
        ({"predictions": [[["a", 0.1], [0.2]]]}, "wrong_shape"),
        ({"predictions": [[0.1, float("nan"), 0.2]]}, "nan_score"),
        ({"predictions": [[0.1, float("inf"), 0.2]]}, "nan_score"),
        (b'{"predictions":[[1e999,0,0]]}', "nan_score"),
        ({"predictions": [[10**400, 0, 0]]}, "nan_score"),
        ({"predictions": ["x" * 201]}, "bad_label"),
        (b'{"predictions":["\\ud800"]}', "bad_label"),
    ],
)
def test_a_bad_response_has_a_name(response, reason):
    assert answers("kserve_v1", {"model": "m"}, response) == ((), reason)
    assert reason in REASONS


def test_brackets_inside_strings_are_no_depth():
    assert answers("kserve_v1", {"model": "m"}, {"predictions": [1], "note": '\\"' + "[" * 1000}) == (("1",), "")


@pytest.mark.parametrize("status", [204, 301, 404, 429, 500])
def test_another_status_than_200_is_no_answer(status):
    response = {"predictions": [[0.1, 0.7, 0.2]]}
    assert answers("kserve_v1", {"model": "m"}, response, status) == ((), f"status_{status}")


def test_scores_need_one_for_each_class_only_where_the_index_is_the_class():
    response = {"predictions": [[0.1, 0.7]]}
    assert answers("kserve_v1", {"model": "m"}, response, by="name") == (("1",), "")


def tensor(datatype, shape, data, name="out"):
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


@pytest.mark.parametrize(
    ("options", "outputs", "labels"),
    [
        ({}, [tensor("FP32", [1, 3], [0.1, 0.2, 0.7])], ("2",)),
        ({}, [tensor("FP32", [1, 3], [[0.1, 0.9, 0.7]])], ("1",)),
        ({}, [tensor("FP32", [3], [0.1, 0.9, 0.7])], ("1",)),
        ({}, [tensor("FP32", [1, 3, 1, 1], [0.1, 0.9, 0.7])], ("1",)),
        ({}, [tensor("FP32", [1, 3, 1, 1], [[[[0.1]], [[0.9]], [[0.7]]]])], ("1",)),
        ({}, [tensor("INT8", [1, 3], [3, 2, 1])], ("0",)),
        ({}, [tensor("INT64", [1, 1], [2])], ("2",)),
        ({}, [tensor("UINT8", [1], [1])], ("1",)),
        ({}, [tensor("BYTES", [1, 2], ["cat", "dog"])], ("cat", "dog")),
        ({"output_name": "b"}, [tensor("INT64", [1], [0], "a"), tensor("INT64", [1], [1], "b")], ("1",)),
    ],
)
def test_open_inference_outputs_give_labels(options, outputs, labels):
    assert answers("oip_v2", {"model": "m"} | options, {"outputs": outputs, "id": "1"}) == (labels, "")


@pytest.mark.parametrize(
    ("options", "outputs", "reason"),
    [
        ({}, [], "missing_field"),
        ({}, {}, "wrong_shape"),
        ({}, [tensor("INT64", [1], [0]), tensor("INT64", [1], [1])], "wrong_count"),
        ({"output_name": "b"}, [tensor("INT64", [1], [0], "a")], "missing_field"),
        ({}, [tensor("FP32", [2, 3], [0.1] * 6)], "wrong_shape"),
        ({}, [tensor("FP32", [3, 1], [0.1] * 3)], "wrong_shape"),
        ({}, [tensor("FP32", [1, 2, 3], [0.1] * 6)], "wrong_shape"),
        ({}, [tensor("FP32", [1, 3], [[0.1, 0.2], [0.7]])], "wrong_shape"),
        ({}, [tensor("FP32", [1, 3], [0.1, [0.2], 0.7])], "wrong_shape"),
        ({}, [tensor("FP32", [1, 3], [0.1] * 4)], "wrong_shape"),
        ({}, [tensor("FP32", [1, 3], 7)], "wrong_shape"),
        ({}, [tensor("FP32", [1, True], [0.1])], "wrong_shape"),
        ({}, [tensor("FP32", "x", [0.1])], "wrong_shape"),
        ({}, [tensor("FP32", [1, 1], [0.1])], "wrong_count"),
        ({}, [{"name": "a"}], "missing_field"),
        ({}, [7], "missing_field"),
    ],
)
def test_a_bad_open_inference_output_has_a_name(options, outputs, reason):
    assert answers("oip_v2", {"model": "m"} | options, {"outputs": outputs}) == ((), reason)


@pytest.mark.parametrize(
    ("path", "result", "response", "expected"),
    [
        ("@", "scores", [0.1, 0.9, 0.2], (("1",), "")),
        ("a[0].b", "scores", {"a": [{"b": [1, 0, 0]}]}, (("0",), "")),
        ("a[*].s", "scores", {"a": [{"s": 1}, {"s": 3}, {"s": 2}]}, (("1",), "")),
        ("a[*].s", "scores", {"a": [{"s": 1}, {}, {"s": 2}]}, ((), "missing_field")),
        ("a[*].s", "scores", {"a": {"s": 1}}, ((), "wrong_shape")),
        ("[*].label", "labels", [{"label": "x"}, {"label": "y"}], (("x", "y"), "")),
        ("labels", "labels", {"labels": []}, ((), "")),
        ("labels", "labels", {"labels": ["x"] * 1001}, ((), "wrong_count")),
        ("labels", "labels", {"labels": "x"}, ((), "wrong_shape")),
        ("top", "label", {"top": 7}, (("7",), "")),
        ("top", "label", {"top": ["x"]}, ((), "wrong_shape")),
        ("a[5]", "label", {"a": [1]}, ((), "missing_field")),
    ],
)
def test_a_generic_response_is_read_along_its_path(path, result, response, expected):
    assert answers("generic_json", generic("pixels_flat", path, result), response) == expected


@given(st.binary(max_size=100), st.integers(100, 999))
def test_no_response_breaks_the_adapters(body, status):
    for name, options in FRAMES:
        labels, error = read_answer(interface(name, options), 3, status, body)
        assert not (labels and error)
        assert error in REASONS | {"", f"status_{status}"}


@pytest.mark.parametrize(
    ("prediction", "ranked"),
    [
        ([0.1, 0.7, 0.2], ("1", "2", "0")),
        ([0.5, 0.1, 0.5], ("0", "2", "1")),
        ({"cat": 0.2, "dog": 0.8, "cow": 0.2}, ("dog", "cat", "cow")),
        (["seven", "one"], ("seven", "one")),
        ("seven", ("seven",)),
        (None, ()),
    ],
)
def test_a_ranking_is_all_that_the_endpoint_ranks(prediction, ranked):
    body = json.dumps({"predictions": [prediction]}).encode()
    assert read_answer(interface("kserve_v1", {"model": "m"}, "index"), 3, 200, body, ranking=True) == (ranked, "")


@pytest.mark.parametrize(
    ("score", "labels", "error"), [(0.9, "1", ""), (0.5, "0", ""), (0, "0", ""), (1.2, "", "wrong_count")]
)
def test_one_probability_decides_between_two_classes(score, labels, error):
    body = json.dumps({"predictions": [[score]]}).encode()
    read = read_answer(interface("kserve_v1", {"model": "m"}, "index"), 2, 200, body)
    assert read == (tuple(labels), error)


def test_a_ranking_holds_as_many_labels_as_a_transcript():
    body = json.dumps({"predictions": [list(range(2000))]}).encode()
    labels, error = read_answer(interface("kserve_v1", {"model": "m"}, "index"), 2000, 200, body, ranking=True)
    assert (len(labels), labels[0], error) == (1000, "1999", "")
