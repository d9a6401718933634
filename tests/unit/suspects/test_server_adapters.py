"""Adapters of model servers: requests come back, live servers' recorded answers are read, everything else has a name."""

import json
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Malformed, SuspectMisbehaved
from app.keys.statement import Statement
from app.keys.trigger_set import Family, ImageInput, TensorInput
from app.protocol.interface import BUILT_IN_BITS, BY_CLAIMANT, Interface, interface_bits
from app.suspects.adapters import ADAPTERS, check_interface, load_adapter, read_answer
from app.suspects.adapters.answers import REASONS
from tests.unit.suspects.examples import generic, interface

HERE = Path(__file__).parent
SERVERS = ("bentoml", "gradio", "litserve", "mlflow", "ray_serve", "tf_serving", "torchserve")
# How an ordinary server is spoken with: no option but where the model is.
USUAL = {
    **{key: {} for key in ADAPTERS},
    **{key: {"model": "m"} for key in ("kserve_v1", "oip_v2", "tf_serving", "torchserve")},
    "replicate": {"model": "a/b"},
    "generic_json": generic("pixels_nested"),
}

IMAGE = ImageInput(2, 3, 3, bytes(range(0, 252, 14)))
TENSOR = TensorInput.of((2, 3), [0.1, -0.0, 1e-45, -3.4028234e38, 16777217.0, 1.0])
FLOATS = {"dtype": "float32", "scale": "0..1", "layout": "chw"}

MORE = [
    ("oip_v2", {"model": "m", "binary": True}),
    ("oip_v2", {"model": "m", "binary": True, "output_name": "p"}),
    ("tf_serving", {"model": "m", "columnar": True}),
    ("tf_serving", {"model": "m", "columnar": True, "input_name": "x", "signature_name": "s"}),
    ("tf_serving", {"model": "m", "input_name": "x", "version": "3", "encoding": "flat"}),
    ("torchserve", {"model": "m", "version": "2", "encoding": "nested", "envelope": "instances"}),
    ("torchserve", {"model": "m", "encoding": "flat", "envelope": "data"}),
    ("mlflow", {"envelope": "instances", "input_name": "x"}),
    ("mlflow", {"envelope": "dataframe_split"}),
    ("mlflow", {"input_name": "x"}),
    ("bentoml", {"route": "classify", "input_name": "images", "batch": True, "encoding": "nested"}),
    ("litserve", {"input_name": ""}),
    ("ray_serve", {"route": "a/b", "encoding": "nested"}),
    ("gradio", {"encoding": "flat"}),
]
PICTURES = [
    ("bentoml", {"encoding": "png_file", "input_name": "picture"}),
    ("bentoml", {"encoding": "png"}),
    ("litserve", {"encoding": "png_base64", "input_name": "image_bytes"}),
    ("tf_serving", {"model": "m", "encoding": "png_base64"}),
    ("torchserve", {"model": "m", "envelope": "body", "encoding": "png_base64"}),
    ("mlflow", {"envelope": "dataframe_split", "encoding": "png_base64"}),
]


def sent(name, options, rules, question):
    adapter = load_adapter(name)
    adapter.check_options(options, rules, kind=question.kind, shape=question.shape)
    return adapter.encode_request(options, rules, question)


def decoded(name, options, rules, body, question):
    return load_adapter(name).decode_request(options, rules, body, kind=question.kind, shape=question.shape)


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_adapter_sends_an_image_without_options_and_reads_it_back(name):
    request = sent(name, USUAL[name], {}, IMAGE)
    assert decoded(name, USUAL[name], {}, request.body, IMAGE) == IMAGE.encode()


@pytest.mark.parametrize(("name", "options"), [*((name, USUAL[name]) for name in SERVERS), *MORE])
@pytest.mark.parametrize("rules", [FLOATS, {"dtype": "float32"}])
def test_a_server_that_wants_floats_gets_an_image_that_comes_back(name, options, rules):
    request = sent(name, options, rules, IMAGE)
    assert decoded(name, options, rules, request.body, IMAGE) == IMAGE.encode()


@pytest.mark.parametrize(("name", "options"), [*((name, USUAL[name]) for name in SERVERS), *MORE])
def test_a_tensor_comes_back_bit_by_bit(name, options):
    request = sent(name, options, {}, TENSOR)
    assert decoded(name, options, {}, request.body, TENSOR) == TENSOR.encode()


@pytest.mark.parametrize(("name", "options"), PICTURES)
def test_a_picture_in_every_wrapping_comes_back(name, options):
    request = sent(name, options, {}, IMAGE)
    assert decoded(name, options, {}, request.body, IMAGE) == IMAGE.encode()
    with pytest.raises(Malformed):
        sent(name, options, {}, TENSOR)


@pytest.mark.parametrize(("name", "options"), [*((name, USUAL[name]) for name in SERVERS), *MORE, *PICTURES])
def test_a_request_with_a_byte_more_is_refused(name, options):
    body = sent(name, options, {}, IMAGE).body
    for changed in (body + b"1", b"1" + body, body[:-1], b""):
        with pytest.raises(Malformed):
            decoded(name, options, {}, changed, IMAGE)


@given(st.binary(max_size=80))
def test_no_bytes_break_the_decoders(body):
    for name, options in (*MORE, *PICTURES):
        with pytest.raises(Malformed):
            decoded(name, options, {}, body, IMAGE)


def test_requests_stand_as_the_servers_take_them():
    grey = ImageInput(1, 2, 1, b"\1\2")
    columns = sent("tf_serving", {"model": "m", "columnar": True, "version": "canary"}, {}, grey)
    assert (columns.path, json.loads(columns.body)) == (
        "/v1/models/m/labels/canary:predict",
        {"inputs": [[[[1], [2]]]]},
    )
    row = sent("tf_serving", {"model": "m", "version": "12", "encoding": "png_base64"}, {}, grey)
    assert row.path == "/v1/models/m/versions/12:predict"
    assert list(json.loads(row.body)["instances"][0]) == ["b64"]
    form = sent("bentoml", {}, {}, grey)
    assert form.path == "/predict"
    assert form.body.startswith(b"--trapstreet-")
    assert b'name="image"; filename="image.png"\r\n' in form.body
    assert dict(form.headers)["content-type"].startswith("multipart/form-data; boundary=trapstreet-")
    assert sent("ray_serve", {}, {}, grey).body.startswith(b"\x89PNG")
    assert sent("ray_serve", {}, {}, grey).path == ""
    assert sent("torchserve", {"model": "m", "version": "1.0"}, {}, grey).path == "/predictions/m/1.0"
    page = json.loads(sent("gradio", {}, {}, grey).body)
    assert page["data"][0]["meta"] == {"_type": "gradio.FileData"}


@pytest.mark.parametrize(
    ("name", "options", "pointer"),
    [
        ("torchserve", {"model": "m", "encoding": "png", "envelope": "data"}, "/options/envelope"),
        ("torchserve", {"model": "../admin"}, "/options/model"),
        ("ray_serve", {"route": "a//b"}, "/options/route"),
        ("ray_serve", {"route": "/a"}, "/options/route"),
        ("ray_serve", {"route": "a/../b"}, "/options/route"),
        ("ray_serve", {"route": "a?map=1"}, "/options/route"),
        ("ray_serve", {"route": "a;map=1"}, "/options/route"),
        ("ray_serve", {"route": "a%3fmap"}, "/options/route"),
        ("ray_serve", {"input_name": "x"}, "/options/input_name"),
        ("ray_serve", {"batch": True}, "/options/input_name"),
        ("bentoml", {"input_name": ""}, "/options/input_name"),
        ("bentoml", {"input_name": 'x"\r\nx-more: 1'}, "/options/input_name"),
        ("gradio", {"route": ""}, "/options/route"),
        ("gradio", {"encoding": "png"}, "/options/encoding"),
        ("tf_serving", {"model": "m", "encoding": "png_data_url"}, "/options/encoding"),
        ("mlflow", {"envelope": "dataframe_records"}, "/options/envelope"),
    ],
)
def test_options_that_would_do_something_else_are_refused(name, options, pointer):
    with pytest.raises(Malformed) as refused:
        check_interface(interface(name, options), "image", (2, 3, 3))
    assert refused.value.pointer == pointer


def test_a_route_costs_as_little_as_the_path_in_which_it_could_stand():
    statement = Statement(
        log="log.example/test",
        vendor_key=bytes(32),
        root=bytes(32),
        count=64,
        kind="image",
        shape=(8, 8, 1),
        classes=tuple("0123456789"),
        families=(Family("all", 0, 64),),
        label_source="beacon",
        beacon="local",
        covers=None,
        unmarked_model=None,
    )
    for options in ({}, {"route": "classify"}):
        asked = Interface("bentoml", options, {}, {"by": "index"})
        assert (
            interface_bits(asked, BY_CLAIMANT, statement, endpoint="https://a.example", beacon_index=9) == BUILT_IN_BITS
        )


# What is JSON stands where the other recorded answers do; the bytes of the rest by themselves.
LIVE = sorted(
    path.relative_to(HERE).as_posix()
    for path in (*HERE.glob("recorded/*/*.json"), *HERE.glob("recorded_bytes/*/*.json"))
    if path.parent.name != "detect" and json.loads(path.read_text())["source"].endswith(", live")
)


def recorded_body(recorded):
    if "response_hex" in recorded:
        return bytes.fromhex(recorded["response_hex"])
    return (
        recorded["response_text"].encode() if "response_text" in recorded else json.dumps(recorded["response"]).encode()
    )


@pytest.mark.parametrize("path", LIVE)
def test_what_a_live_server_answered_is_read_as_it_was(path):
    recorded = json.loads((HERE / path).read_text())
    asked = Interface(path.split("/")[1], recorded["options"], {}, {"by": recorded["label_map"]})
    for ranking, key in ((False, "said"), (True, "ranking")):
        read = read_answer(asked, recorded["class_count"], recorded["status"], recorded_body(recorded), ranking=ranking)
        assert read == (tuple(recorded[key]), recorded["error"])


@pytest.mark.parametrize(
    "name",
    [name for name, adapter in ADAPTERS.items() if adapter.about.tried.startswith("live") and name != "generic_json"],
)
def test_an_adapter_that_says_it_was_tried_live_has_an_answer_and_a_refusal_to_show(name):
    kinds = {part for path in LIVE if path.split("/")[1] == name for part in ("answer", "refused") if part in path}
    assert kinds == {"answer", "refused"}
    shown = {path.split("/")[2].split("-")[1] for path in LIVE if path.split("/")[1] == name}
    assert shown == set(re.findall(r"[0-9]+\.[0-9]+\.[0-9]+", ADAPTERS[name].about.tried))


@pytest.mark.parametrize("server", sorted({path.split("/")[2].rsplit("-", 2)[0] for path in LIVE}))
def test_recorded_answers_are_of_the_server_that_the_interop_tests_start(server):
    name, version = server.split("-")
    pins = (HERE.parents[1] / "interop" / "servers" / name / "requirements.txt").read_text().splitlines()
    assert f"{name.removesuffix('_serve')}=={version}" in pins


def answers(name, options, response, status=200, by="index"):
    body = response if isinstance(response, bytes) else json.dumps(response).encode()
    return read_answer(interface(name, options, by), 3, status, body)


@pytest.mark.parametrize(
    ("name", "options", "response", "labels"),
    [
        ("tf_serving", {"model": "m"}, {"predictions": [[0.1, 0.7, 0.2]]}, ("1",)),
        ("tf_serving", {"model": "m"}, {"predictions": [{"class": "cat", "p": [0.1]}]}, ("cat",)),
        ("tf_serving", {"model": "m"}, {"predictions": [{"probabilities": [0, 0, 1], "class_ids": [2]}]}, ("2",)),
        ("tf_serving", {"model": "m", "output_name": "a"}, {"predictions": [{"a": [1, 0, 0], "b": 7}]}, ("0",)),
        ("tf_serving", {"model": "m", "columnar": True}, {"outputs": [[0.1, 0.7, 0.2]]}, ("1",)),
        (
            "tf_serving",
            {"model": "m", "columnar": True},
            {"outputs": {"classes": [["a", "b", "c"]], "scores": [[0, 1, 0]]}},
            ("b",),
        ),
        ("tf_serving", {"model": "m", "columnar": True, "output_name": "p"}, {"outputs": {"p": [[3, 2, 1]]}}, ("0",)),
        ("torchserve", {"model": "m"}, {"tabby": 0.6, "lynx": 0.4}, ("tabby",)),
        ("torchserve", {"model": "m"}, [[0.1, 0.7, 0.2]], ("1",)),
        ("torchserve", {"model": "m"}, {"predictions": [[0.1, 0.7, 0.2]]}, ("1",)),
        ("torchserve", {"model": "m"}, 2, ("2",)),
        ("mlflow", {}, {"predictions": [[0.1, 0.7, 0.2]]}, ("1",)),
        ("mlflow", {}, {"predictions": {"logits": [[0.1, 0.7, 0.2]]}}, ("1",)),
        ("mlflow", {}, {"predictions": [{"0": 0.1, "1": 0.7, "2": 0.2}]}, ("1",)),
        ("mlflow", {}, {"predictions": [1]}, ("1",)),
        ("bentoml", {}, [0.1, 0.7, 0.2], ("1",)),
        ("bentoml", {}, ["cat"], ("cat",)),
        ("litserve", {}, {"output": 1}, ("1",)),
        ("litserve", {}, {"output": 0.4, "input": 0.6}, ("input",)),
        ("ray_serve", {}, {"result": {"label": "cat", "score": 0.9}}, ("cat",)),
        ("gradio", {}, b"event: complete\ndata: [[0.1, 0.7, 0.2]]\n\n", ("1",)),
        ("gradio", {}, b'event: heartbeat\ndata: null\n\nevent: complete\ndata: [{"label": "cat"}, 7]\n\n', ("cat",)),
    ],
)
def test_usual_answers_give_labels(name, options, response, labels):
    assert answers(name, options, response) == (labels, "")


@pytest.mark.parametrize(
    ("name", "options", "response", "reason"),
    [
        ("tf_serving", {"model": "m"}, {"error": "no such signature"}, "missing_field"),
        ("tf_serving", {"model": "m"}, {"predictions": [[1, 0, 0], [1, 0, 0]]}, "wrong_count"),
        ("tf_serving", {"model": "m", "columnar": True}, {"outputs": {"p": [1, 2]}}, "wrong_count"),
        ("tf_serving", {"model": "m", "columnar": True}, {"predictions": [[1, 0, 0]]}, "missing_field"),
        ("mlflow", {}, {"predictions": [[0.1, 0.2]]}, "wrong_count"),
        ("bentoml", {}, {"error": "out of order"}, "reported_error"),
        ("litserve", {}, {"output": [0.1, float("nan"), 0.2]}, "nan_score"),
        ("torchserve", {"model": "m"}, b"cat", "not_json"),
        ("gradio", {}, b"event: error\ndata: null\n\n", "reported_error"),
        ("gradio", {}, b"event: generating\ndata: [1]\n\n", "unfinished"),
        ("gradio", {}, b"event: complete\ndata: [1]\n\nevent: complete\ndata: [2]\n\n", "wrong_shape"),
        ("gradio", {}, b"event: finished\ndata: [1]\n\n", "wrong_shape"),
        ("gradio", {}, b"event: complete\ndata: []\n\n", "missing_field"),
        ("gradio", {}, b"event: complete\ndata: {]\n\n", "not_json"),
        ("gradio", {}, b"event:complete", "wrong_shape"),
        ("gradio", {}, {"event_id": "0123456789abcdef"}, "unfinished"),
        ("gradio", {}, {"event_id": "../../admin"}, "wrong_shape"),
        ("gradio", {}, {"detail": "Not Found"}, "missing_field"),
    ],
)
def test_bad_answers_have_names(name, options, response, reason):
    assert answers(name, options, response) == ((), reason)
    assert reason in REASONS


def test_the_outcome_of_a_gradio_event_is_fetched_from_a_path_of_ours():
    adapter = load_adapter("gradio")
    following = adapter.next_request({}, 200, b'{"event_id": "0123456789abcdef"}')
    assert (following.method, following.path) == ("GET", "/gradio_api/call/predict/0123456789abcdef")
    assert adapter.next_request({}, 200, b"event: complete\ndata: [1]\n\n") is None
    assert adapter.next_request({}, 503, b"{}") is None
    for bad in (b'{"event_id": 7}', b'{"event_id": "a/b/c/d/e/f"}', b'{"event_id": "http://a.example/x"}'):
        with pytest.raises(SuspectMisbehaved):
            adapter.next_request({}, 200, bad)


BINARY = {"model": "m", "binary": True}


def raw(data, *outputs):
    return json.dumps({"model_name": "m", "outputs": list(outputs)}).encode() + data


def output(datatype, shape, size):
    return {"name": "p", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}


def text_items(*texts):
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


@pytest.mark.parametrize(
    ("response", "labels"),
    [
        (raw(struct.pack("<3f", 0.1, 0.7, 0.2), output("FP32", [1, 3], 12)), ("1",)),
        (raw(struct.pack("<3e", 0.1, 0.7, 0.2), output("FP16", [1, 3], 6)), ("1",)),
        (raw(struct.pack("<3d", 0.1, 0.2, 0.7), output("FP64", [3], 24)), ("2",)),
        (raw(struct.pack("<q", 2), output("INT64", [1], 8)), ("2",)),
        (raw(text_items("Käfer".encode(), b"}{"), output("BYTES", [1, 2], 16)), ("Käfer", "}{")),
        ({"outputs": [{"name": "p", "datatype": "FP32", "shape": [1, 3], "data": [0.1, 0.7, 0.2]}]}, ("1",)),
    ],
)
def test_raw_tensors_behind_the_json_are_read(response, labels):
    assert answers("oip_v2", BINARY, response) == (labels, "")


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (raw(bytes(8), output("FP32", [1, 3], 12)), "wrong_count"),
        (raw(bytes(13), output("FP32", [1, 3], 12)), "wrong_count"),
        (raw(bytes(11), output("FP32", [1, 3], 11)), "wrong_shape"),
        (raw(bytes(12), output("FP32", [1, 2], 12)), "wrong_shape"),
        (raw(bytes(12), output("FP99", [1, 3], 12)), "wrong_shape"),
        (raw(bytes(12), output(7, [1, 3], 12)), "wrong_shape"),
        (raw(bytes(12), output("FP32", [1, 3], -12)), "wrong_shape"),
        (raw(bytes(12), output("FP32", [1, 3], "12")), "wrong_shape"),
        (raw(bytes(12), {**output("FP32", [1, 3], 12), "data": [1, 2, 3]}), "wrong_shape"),
        (raw(struct.pack("<3f", 0, float("nan"), 0), output("FP32", [1, 3], 12)), "nan_score"),
        (raw(text_items(b"cat")[:-1], output("BYTES", [1, 1], 6)), "wrong_shape"),
        (raw(b"\1", output("BYTES", [1, 1], 1)), "wrong_shape"),
        (raw(text_items(b"\xff"), output("BYTES", [1, 1], 5)), "bad_label"),
        (b'{"outputs": []}' + bytes(3), "wrong_count"),
        (b'{"outputs": 7}', "wrong_shape"),
        (b'{"outputs": [', "not_json"),
        (b'"' + b'\\"' * 100_000, "not_json"),
        (b'{"' + b'\\"' * 100_000, "not_json"),
        (b"[" * 100 + b"]" * 100, "too_deep"),
        (b"", "not_json"),
    ],
)
def test_bad_raw_tensors_have_names(response, reason):
    assert answers("oip_v2", BINARY, response) == ((), reason)


@given(st.binary(max_size=200))
def test_no_bytes_behind_the_json_break_the_reader(data):
    labels, reason = answers("oip_v2", BINARY, raw(data, output("BYTES", [1, 1], 9)))
    assert labels or reason in REASONS
