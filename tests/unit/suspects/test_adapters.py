"""Requests decode into the input they were made from; options and templates that could do more are refused."""

import base64
import json
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Malformed
from app.keys.trigger_set import ImageInput, TensorInput
from app.suspects.adapters import ADAPTERS, check_interface, load_adapter
from app.suspects.adapters.codec import MAX_REQUEST_BYTES, parse_body
from app.suspects.adapters.generic_json import parse_path
from tests.unit.suspects.examples import FRAMES, generic, interface

IMAGE = ImageInput(2, 3, 3, bytes(range(0, 252, 14)))
GREY = ImageInput(4, 2, 1, bytes([0, 1, 2, 127, 128, 253, 254, 255]))
TENSOR = TensorInput.of((2, 3), [0.1, -0.0, 1e-45, -3.4028234e38, 16777217.0, 1.0])
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
    assert {"generic_json", "kserve_v1", "oip_v2"} < set(ADAPTERS)
    import subprocess
    import sys

    check = "import sys, app.suspects.adapters; sys.exit(any(name in sys.modules for name in ('httpx2', 'socket', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
