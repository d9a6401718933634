"""Requests decode into the input they were made from; responses give labels or one of the named errors."""

import base64
import json
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Malformed
from app.keys.trigger_set import ImageInput, TensorInput
from app.protocol.interface import Interface
from app.suspects.adapters import ADAPTERS, check_interface, load_adapter, read_answer
from app.suspects.adapters.answers import REASONS
from app.suspects.adapters.codec import MAX_REQUEST_BYTES, parse_body
from app.suspects.adapters.generic_json import parse_path

IMAGE = ImageInput(2, 3, 3, bytes(range(0, 252, 14)))
GREY = ImageInput(4, 2, 1, bytes([0, 1, 2, 127, 128, 253, 254, 255]))
TENSOR = TensorInput.of((2, 3), [0.1, -0.0, 1e-45, -3.4028234e38, 16777217.0, 1.0])


def generic(placeholder, path="result", result="scores"):
    return {"template": {"data": [{"x": {"$input": placeholder}}], "n": 1, "on": True}, "path": path, "result": result}


FRAMES = [
    ("kserve_v1", {"model": "m"}),
    ("oip_v2", {"model": "m"}),
    ("oip_v2", {"model": "m", "version": "2", "input_name": "x", "output_name": "p"}),
    ("generic_json", generic("floats_nested")),
    ("generic_json", generic("floats_flat")),
]
IMAGE_RULES = [
    {"dtype": "float32"},
    {"dtype": "float32", "layout": "chw"},
    {"dtype": "float32", "layout": "flat", "scale": "0..1"},
    {"dtype": "float32", "layout": "chw", "scale": "0..1", "mean": [485, 456, 406], "std": [229, 224, 225]},
    {"dtype": "float32", "mean": [103939, 116779, 123680]},
    {"dtype": "float32", "mean": [255000] * 3, "std": [255000] * 3},
    {"dtype": "float32", "mean": [255000] * 3, "std": [1] * 3},
]
PIXEL_RULES = [{}, {"layout": "chw"}, {"layout": "flat"}]
PIXEL_FRAMES = [
    *FRAMES[:3],
    ("generic_json", generic("pixels_nested")),
    ("generic_json", generic("pixels_flat")),
]


def sent_and_decoded(name, options, rules, question):
    adapter = load_adapter(name)
    adapter.check_options(options, rules, kind=question.kind, shape=question.shape)
    body = adapter.encode_request(options, rules, question).body
    return adapter.decode_request(options, rules, body, kind=question.kind, shape=question.shape)


@pytest.mark.parametrize(("name", "options"), FRAMES)
@pytest.mark.parametrize("rules", IMAGE_RULES)
@given(pixels=st.binary(min_size=18, max_size=18))
def test_a_preprocessed_image_comes_back_from_its_request(name, options, rules, pixels):
    question = ImageInput(2, 3, 3, pixels)
    assert sent_and_decoded(name, options, rules, question) == question.encode()


@pytest.mark.parametrize(("name", "options"), PIXEL_FRAMES)
@pytest.mark.parametrize("rules", PIXEL_RULES)
@pytest.mark.parametrize("question", [IMAGE, GREY])
def test_plain_pixels_come_back_from_their_request(name, options, rules, question):
    assert sent_and_decoded(name, options, rules, question) == question.encode()


@pytest.mark.parametrize(("name", "options"), FRAMES)
@pytest.mark.parametrize("rules", [{}, {"layout": "flat"}])
@given(floats=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=6, max_size=6))
def test_a_tensor_comes_back_bit_by_bit_from_its_request(name, options, rules, floats):
    question = TensorInput.of((2, 3), floats)
    assert sent_and_decoded(name, options, rules, question) == question.encode()


@pytest.mark.parametrize("question", [IMAGE, GREY])
def test_an_image_comes_back_from_its_png(question):
    assert sent_and_decoded("generic_json", generic("png_base64"), {}, question) == question.encode()


def test_every_pixel_value_survives_every_preprocessing():
    question = ImageInput(16, 16, 3, bytes(value for value in range(256) for _ in range(3)))
    for rules in IMAGE_RULES:
        assert sent_and_decoded("kserve_v1", {"model": "m"}, rules, question) == question.encode()


def test_a_float_is_printed_as_a_float_so_that_no_server_takes_it_for_an_integer():
    body = load_adapter("kserve_v1").encode_request({"model": "m"}, {"dtype": "float32"}, GREY).body
    assert b"255.0" in body
    assert b"255]" not in body


def test_the_request_is_what_the_protocols_say():
    kserve = load_adapter("kserve_v1").encode_request({"model": "m"}, {}, GREY)
    assert kserve.path == "/v1/models/m:predict"
    assert json.loads(kserve.body) == {"instances": [[[[0], [1]], [[2], [127]], [[128], [253]], [[254], [255]]]]}
    options = {"model": "m", "version": "3", "input_name": "x", "output_name": "p"}
    oip = load_adapter("oip_v2").encode_request(options, {"layout": "chw"}, GREY)
    assert oip.path == "/v2/models/m/versions/3/infer"
    assert json.loads(oip.body) == {
        "inputs": [
            {"name": "x", "shape": [1, 1, 4, 2], "datatype": "UINT8", "data": [0, 1, 2, 127, 128, 253, 254, 255]}
        ],
        "outputs": [{"name": "p"}],
    }


def decode_two_pixels(body, rules):
    return load_adapter("kserve_v1").decode_request({"model": "m"}, rules, body, kind="image", shape=(1, 2, 1))


def test_a_request_printed_in_another_way_decodes_to_the_same_input():
    expected = ImageInput(1, 2, 1, b"\1\2").encode()
    assert decode_two_pixels(b'{"instances":[[[[1],[2]]]]}', {}) == expected
    assert decode_two_pixels(b' { "instances" : [ [[[1e0], [2.0000]]] ] }', {"dtype": "float32"}) == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances":[[[[1],[2]]]],"label":7}',
        b'{"instances":[[[[1],[2]]]],"instances":[[[[1],[2]]]]}',
        b'{"instances":[[[[1],[2]]],[[[1],[2]]]]}',
        b'{"instances":[[[[1],[2],[3]]]]}',
        b'{"instances":[[[[1],2]]]}',
        b'{"instances":[[[[1,2]]]]}',
        b'{"instances":[[[[1],[true]]]]}',
        b'{"instances":[[[[1],["2"]]]]}',
        b'{"instances":[[[[1],[2.5]]]]}',
        b'{"instances":[[[[1],[2.01]]]]}',
        b'{"instances":[[[[1],[256]]]]}',
        b'{"instances":[[[[1],[-1]]]]}',
        b'{"instances":[[[[1],[NaN]]]]}',
        b'{"instances":[[[[1],[1e999]]]]}',
        b'{"instances":[[[[1],[1e300]]]]}',
        b'{"instances":[[[[1],[1' + b"0" * 400 + b"]]]]}",
        b'{"instances":[[[[1],[null]]]]}',
        b'{"instances":7}',
        b"[]",
        b"",
        b"\xff",
        b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("rules", [{}, {"dtype": "float32"}], ids=["pixels", "floats"])
def test_a_request_with_anything_but_the_input_is_refused(body, rules):
    with pytest.raises(Malformed):
        decode_two_pixels(body, rules)


@given(st.binary(max_size=80))
def test_no_bytes_break_the_decoders(body):
    for name, options in PIXEL_FRAMES:
        with pytest.raises(Malformed):
            load_adapter(name).decode_request(options, {}, body, kind="image", shape=(2, 3, 3))


def png_request(data):
    return json.dumps({"data": [{"x": base64.b64encode(data).decode()}], "n": 1, "on": True}).encode()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(*chunks, rows=b"\0\1\2"):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def decode_png_request(data):
    return load_adapter("generic_json").decode_request(
        generic("png_base64"), {}, png_request(data), kind="image", shape=(1, 2, 1)
    )


def test_the_plainest_png_is_read():
    assert decode_png_request(png()) == ImageInput(1, 2, 1, b"\1\2").encode()


@pytest.mark.parametrize(
    "data",
    [
        png(chunk(b"tEXt", b"Comment\0answer 7")),
        png() + b"answer 7",
        png(rows=b"\1\1\2"),
        png(rows=b"\0\1\2\3"),
        png(rows=b"\0\1"),
        png(rows=b"\0" * 1_000_000),
        png()[:-12] + chunk(b"IDAT", b"") + chunk(b"IEND", b""),
        png().replace(b"\x89PNG", b"\x89PNJ"),
        png()[:-20] + bytes([png()[-20] ^ 1]) + png()[-19:],
        b"",
    ],
    ids=["text", "tail", "filtered", "long", "short", "bomb", "two-idat", "signature", "checksum", "empty"],
)
def test_a_png_that_carries_more_than_its_pixels_is_refused(data):
    with pytest.raises(Malformed):
        decode_png_request(data)


@pytest.mark.parametrize(
    ("name", "options", "rules", "pointer"),
    [
        ("kserve_v1", {}, {}, "/options/model"),
        ("kserve_v1", {"model": "m", "x": 1}, {}, "/options/x"),
        ("kserve_v1", {"model": "a/b"}, {}, "/options/model"),
        ("kserve_v1", {"model": ".."}, {}, "/options/model"),
        ("kserve_v1", {"model": "a?b"}, {}, "/options/model"),
        ("kserve_v1", {"model": "m"}, {"scale": "0..2"}, "/preprocessing/scale"),
        ("kserve_v1", {"model": "m"}, {"scale": "0..1"}, "/preprocessing/dtype"),
        ("kserve_v1", {"model": "m"}, {"dtype": "float32", "std": [0, 1, 1]}, "/preprocessing/std/0"),
        ("kserve_v1", {"model": "m"}, {"dtype": "float32", "mean": [1]}, "/preprocessing/mean"),
        ("kserve_v1", {"model": "m"}, {"resize": 3}, "/preprocessing/resize"),
        ("oip_v2", {"model": "m", "datatype": "FP32"}, {}, "/options/datatype"),
        ("generic_json", {"template": {}, "path": "a", "result": "scores"}, {}, "/options/template"),
        ("generic_json", generic("pixels"), {}, "/options/template/data/0/x"),
        ("generic_json", generic("pixels_nested"), {"dtype": "float32"}, "/options/template"),
        ("generic_json", generic("png_base64"), {"layout": "chw"}, "/options/template"),
        ("generic_json", generic("floats_flat", "a[*]", "label"), {}, "/options/path"),
        ("generic_json", generic("floats_flat", result="best"), {}, "/options/result"),
    ],
)
def test_a_wrong_option_is_refused_where_it_stands(name, options, rules, pointer):
    with pytest.raises(Malformed) as refused:
        load_adapter(name).check_options(options, rules, kind="image", shape=(2, 3, 3))
    assert refused.value.pointer == pointer


def test_a_template_has_exactly_one_placeholder():
    hole = {"$input": "pixels_flat"}
    for template in ({"a": hole, "b": hole}, {"a": 1}, {"a": {"$input": "pixels_flat", "b": 1}}, {"a": {"$other": 1}}):
        with pytest.raises(Malformed):
            load_adapter("generic_json").check_options(
                {"template": template, "path": "a", "result": "label"}, {}, kind="image", shape=(2, 3, 3)
            )


def test_text_that_looks_like_the_placeholder_is_only_text():
    hole = {"$input": "pixels_flat"}
    options = {"template": {"a": '{"$input":"pixels_flat"}', "b": hole}, "path": "a", "result": "label"}
    assert sent_and_decoded("generic_json", options, {}, IMAGE) == IMAGE.encode()


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("@", ()),
        ("a", ("a",)),
        ("a.b_1[0].c", ("a", "b_1", 0, "c")),
        ("[0][1]", (0, 1)),
        ("[*].label", (None, "label")),
        ('"a b"."c\\"d".e', ("a b", 'c"d', "e")),
        ('"f(x)"', ("f(x)",)),
    ],
)
def test_a_path_of_fields_indices_and_stars_is_read(path, steps):
    assert parse_path(path) == steps


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("max_by(a, &score).label", "functions"),
        ("a[?score > `0.5`].label", "filters"),
        ("`7`", "literals"),
        ("'7'", "literals"),
        ("a || b", "alternatives"),
        ("a && b", "conditions"),
        ("a | b", "pipes"),
        ("{a: b}", "multi-selects"),
        ("a[]", "flattening"),
        ("a.*", "wildcards"),
        ("a[0:2]", "slices"),
        ("a[-1]", "indices from the end"),
        ("a[0,1]", "cannot be read"),
        ("*", "cannot be read"),
        (".a", "cannot be read"),
        ("a..b", "cannot be read"),
        ("a.", "cannot be read"),
        ("a[01]", "cannot be read"),
        ("a b", "cannot be read"),
        ("[0]a", "cannot be read"),
        ('a"b"', "cannot be read"),
        ('"\\x"', "no JSON string"),
        ("a.@", "cannot be read"),
    ],
)
def test_a_path_that_could_compute_an_answer_is_refused_by_name(path, named):
    with pytest.raises(Malformed, match=named):
        parse_path(path)


def interface(name, options, by="index"):
    return Interface(adapter=name, options=options, preprocessing={}, label_map={"by": by})


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
        ({"predictions": [["0.1", "0.2", "0.7"]]}, "wrong_shape"),
        ({"predictions": [0.7]}, "wrong_shape"),
        ({"predictions": [True]}, "wrong_shape"),
        ({"predictions": [{"label": 1}]}, "wrong_shape"),
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


@pytest.mark.parametrize("value", [7, None, "?", "iVBORw0KGgo", "iVBORw0KGgp="])
def test_a_png_that_is_not_plain_base64_is_refused(value):
    body = json.dumps({"data": [{"x": value}], "n": 1, "on": True}).encode()
    with pytest.raises(Malformed):
        load_adapter("generic_json").decode_request(generic("png_base64"), {}, body, kind="image", shape=(1, 2, 1))


def test_pixels_that_do_not_inflate_are_refused():
    with pytest.raises(Malformed):
        decode_png_request(png().replace(zlib.compress(b"\0\1\2"), b"junk"))
    idat = chunk(b"IDAT", b"junk")
    with pytest.raises(Malformed):
        decode_png_request(png()[:33] + idat + chunk(b"IEND", b""))


def test_a_tensor_cannot_be_sent_as_png():
    with pytest.raises(Malformed):
        load_adapter("generic_json").check_options(generic("png_base64"), {}, kind="tensor", shape=(2, 3))
    with pytest.raises(Malformed):
        load_adapter("generic_json").encode_request(generic("png_base64"), {}, TENSOR)


def test_an_endless_request_is_not_even_parsed():
    with pytest.raises(Malformed):
        parse_body(bytes(MAX_REQUEST_BYTES + 1))


def test_an_unknown_adapter_is_refused():
    with pytest.raises(Malformed) as refused:
        check_interface(interface("pickle", {}), "image", (2, 3, 3))
    assert refused.value.pointer == "/adapter"


def test_the_adapters_need_no_network_library():
    assert set(ADAPTERS) == {"generic_json", "kserve_v1", "oip_v2"}
    import subprocess
    import sys

    check = "import sys, app.suspects.adapters; sys.exit(any(name in sys.modules for name in ('httpx2', 'socket', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
