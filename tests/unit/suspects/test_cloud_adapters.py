"""Requests to cloud services are what their documentation says, carry nothing but the input, and cost what they should."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Malformed, SuspectMisbehaved
from app.keys.trigger_set import ImageInput, TensorInput, parse_input
from app.protocol.interface import BUILT_IN_BITS, BY_CLAIMANT, Interface, interface_bits
from app.suspects.adapters import load_adapter, read_answer
from app.suspects.adapters.answers import REASONS
from app.suspects.adapters.inputs import JPEG_TOLERANCE, NUMBER_ENCODINGS, TEXT_ENCODINGS
from app.suspects.adapters.png import encode_png

VERSION = "5c7d5dc6dd8bf75c1acaa8565735e7986bc5b66206b55cca93cb72c9bf15ccaa"
IMAGE = ImageInput(2, 3, 3, bytes(range(0, 252, 14)))
TENSOR = TensorInput.of((2, 3), [0.1, -0.0, 1e-45, -3.4028234e38, 16777217.0, 1.0])

# The common case of each service: nothing but an address.
PLAIN = [
    ("azure_ml", {}),
    ("azure_ml", {"version": "blue"}),
    ("huggingface", {}),
    ("replicate", {"version": VERSION}),
    ("replicate", {"model": "owner/classifier"}),
    ("roboflow", {}),
    ("sagemaker", {}),
    ("sagemaker", {"model": "component-1", "version": "AllTraffic"}),
    ("vertex", {}),
]
PICTURES = [
    *PLAIN,
    ("huggingface", {"top_k": 10}),
    ("roboflow", {"encoding": "jpeg_base64"}),
    ("sagemaker", {"media_type": "application/x-image"}),
    ("vertex", {"input_name": "image_bytes"}),
    *[("huggingface", {"encoding": encoding}) for encoding in ("png", "jpeg", "png_base64", "jpeg_base64")],
    *[("sagemaker", {"encoding": encoding}) for encoding in ("jpeg", *TEXT_ENCODINGS)],
    *[("sagemaker", {"encoding": "png_base64", "envelope": each}) for each in ("bare", "instances", "inputs")],
    *[("vertex", {"encoding": encoding}) for encoding in TEXT_ENCODINGS],
    *[("azure_ml", {"encoding": encoding, "envelope": "data"}) for encoding in TEXT_ENCODINGS],
    *[("replicate", {"version": VERSION, "encoding": encoding, "input_name": "x"}) for encoding in TEXT_ENCODINGS],
]
NUMBERS = [
    (name, options | {"encoding": encoding})
    for encoding in NUMBER_ENCODINGS
    for name, options in [
        ("azure_ml", {}),
        ("azure_ml", {"envelope": "data"}),
        ("replicate", {"model": "owner/classifier"}),
        ("sagemaker", {}),
        ("sagemaker", {"envelope": "bare"}),
        ("sagemaker", {"envelope": "inputs"}),
        ("vertex", {}),
        ("vertex", {"input_name": "x"}),
    ]
]


def sent(name, options, question, rules=None):
    adapter = load_adapter(name)
    adapter.check_options(options, rules or {}, kind=question.kind, shape=question.shape)
    return adapter.encode_request(options, rules or {}, question)


def sent_and_decoded(name, options, question, rules=None):
    body = sent(name, options, question, rules).body
    return load_adapter(name).decode_request(options, rules or {}, body, kind=question.kind, shape=question.shape)


@pytest.mark.parametrize(("name", "options"), PICTURES)
@pytest.mark.parametrize("rules", [{}, {"size": [5, 9]}])
@settings(max_examples=10)
@given(pixels=st.binary(min_size=18, max_size=18))
def test_a_picture_comes_back_from_its_request(name, options, rules, pixels):
    question = ImageInput(2, 3, 3, pixels)
    read = parse_input(sent_and_decoded(name, options, question, rules))
    slack = load_adapter(name).tolerance(options)
    assert slack == (JPEG_TOLERANCE if options.get("encoding", "").startswith("jpeg") else 0)
    assert read.shape == question.shape
    assert max(abs(a - b) for a, b in zip(read.pixels, pixels, strict=True)) <= slack


@pytest.mark.parametrize(("name", "options"), NUMBERS)
def test_numbers_come_back_from_their_request(name, options):
    rules = {"dtype": "float32", "scale": "0..1"} if options["encoding"].startswith("floats") else {}
    assert sent_and_decoded(name, options, IMAGE, rules) == IMAGE.encode()
    if not options["encoding"].startswith("pixels"):
        assert sent_and_decoded(name, options, TENSOR) == TENSOR.encode()


@pytest.mark.parametrize(("name", "options"), PICTURES)
@settings(max_examples=20)
@given(body=st.binary(max_size=80))
def test_no_bytes_break_the_decoders(name, options, body):
    with pytest.raises(Malformed):
        load_adapter(name).decode_request(options, {}, body, kind="image", shape=(2, 3, 3))


@pytest.mark.parametrize(("name", "options"), PICTURES)
def test_a_request_with_anything_beside_the_picture_is_refused(name, options):
    adapter = load_adapter(name)
    body = sent(name, options, IMAGE).body
    changed = [b" " + body[1:], body[:-1], body + b"7", body + b"\n7", body + body]
    if body.startswith(b"{"):
        changed += [b'{"label":7,' + body[1:], body[:-1] + b',"seed":7}', body.replace(b":", b':[7],"x":', 1)]
    for other in changed:
        with pytest.raises(Malformed):
            adapter.decode_request(options, {}, other, kind="image", shape=IMAGE.shape)


TEXT = base64.b64encode(encode_png(IMAGE)).decode()
DATA_URL = "data:image/png;base64," + TEXT
WIRE = [
    ("huggingface", {}, "", encode_png(IMAGE), {"content-type": "image/png", "x-scale-up-timeout": "25"}),
    (
        "huggingface",
        {"top_k": 10},
        "",
        {"inputs": TEXT, "parameters": {"top_k": 10}},
        {"content-type": "application/json", "x-scale-up-timeout": "25"},
    ),
    ("sagemaker", {}, "", encode_png(IMAGE), {"content-type": "image/png"}),
    (
        "sagemaker",
        {"model": "c-1", "version": "v1", "media_type": "application/x-image"},
        "",
        encode_png(IMAGE),
        {
            "content-type": "application/x-image",
            "x-amzn-sagemaker-inference-component": "c-1",
            "x-amzn-sagemaker-target-variant": "v1",
        },
    ),
    ("sagemaker", {"encoding": "png_base64"}, "", {"inputs": TEXT}, {"content-type": "application/json"}),
    (
        "sagemaker",
        {"encoding": "flat"},
        "",
        {"instances": [list(IMAGE.pixels)]},
        {"content-type": "application/json"},
    ),
    (
        "vertex",
        {},
        "",
        {"instances": [{"content": TEXT}], "parameters": {"confidenceThreshold": 0, "maxPredictions": 1000}},
        {"content-type": "application/json"},
    ),
    ("vertex", {"encoding": "flat"}, "", {"instances": [list(IMAGE.pixels)]}, {"content-type": "application/json"}),
    (
        "azure_ml",
        {"version": "blue"},
        "",
        {"input_data": {"columns": ["image"], "data": [TEXT]}},
        {"content-type": "application/json", "azureml-model-deployment": "blue"},
    ),
    (
        "azure_ml",
        {"encoding": "flat"},
        "",
        {"input_data": [list(IMAGE.pixels)]},
        {"content-type": "application/json"},
    ),
    (
        "replicate",
        {"version": VERSION},
        "/v1/predictions",
        {"version": VERSION, "input": {"image": DATA_URL}},
        {"content-type": "application/json", "prefer": "wait=20"},
    ),
    (
        "replicate",
        {"model": "owner/classifier"},
        "/v1/models/owner/classifier/predictions",
        {"input": {"image": DATA_URL}},
        {"content-type": "application/json", "prefer": "wait=20"},
    ),
    ("roboflow", {}, "", TEXT.encode(), {"content-type": "application/x-www-form-urlencoded"}),
]


@pytest.mark.parametrize(("name", "options", "path", "body", "headers"), WIRE)
def test_the_request_is_what_the_documentation_says(name, options, path, body, headers):
    request = sent(name, options, IMAGE)
    assert (request.method, request.path) == ("POST", path)
    assert dict(request.headers) == headers | {"accept": "application/json"}
    assert len(dict(request.headers)) == len(request.headers)
    assert (request.body if isinstance(body, bytes) else json.loads(request.body)) == body


@pytest.mark.parametrize(("name", "options"), PICTURES)
def test_two_inputs_differ_in_nothing_but_the_body(name, options):
    one, other = sent(name, options, IMAGE), sent(name, options, ImageInput(2, 3, 3, bytes(18)))
    assert (one.method, one.path, one.headers) == (other.method, other.path, other.headers)


@pytest.mark.parametrize(
    ("name", "options", "pointer"),
    [
        ("azure_ml", {"version": "a"}, "/options/version"),
        ("azure_ml", {"version": "blue\r\nx: 7"}, "/options/version"),
        ("azure_ml", {"envelope": "x"}, "/options/envelope"),
        ("azure_ml", {"encoding": "png"}, "/options/encoding"),
        ("huggingface", {"top_k": 0}, "/options/top_k"),
        ("huggingface", {"top_k": 10, "encoding": "png"}, "/options/top_k"),
        ("huggingface", {"encoding": "nested"}, "/options/encoding"),
        ("huggingface", {"token": "hf_x"}, "/options/token"),
        ("replicate", {}, "/options/version"),
        ("replicate", {"version": VERSION, "model": "a/b"}, "/options/version"),
        ("replicate", {"version": VERSION[1:]}, "/options/version"),
        ("replicate", {"version": VERSION.upper()}, "/options/version"),
        ("replicate", {"model": "a/b/c"}, "/options/model"),
        ("replicate", {"model": "../b"}, "/options/model"),
        ("replicate", {"model": "a/b?c"}, "/options/model"),
        ("roboflow", {"encoding": "png"}, "/options/encoding"),
        ("sagemaker", {"version": "a b"}, "/options/version"),
        ("sagemaker", {"model": "a-"}, "/options/model"),
        ("sagemaker", {"envelope": "bare"}, "/options/envelope"),
        ("sagemaker", {"encoding": "nested", "media_type": "application/x-image"}, "/options/media_type"),
        ("vertex", {"encoding": "png"}, "/options/encoding"),
        ("vertex", {"parameters": {}}, "/options/parameters"),
    ],
)
def test_a_wrong_option_is_refused_where_it_stands(name, options, pointer):
    with pytest.raises(Malformed) as refused:
        load_adapter(name).check_options(options, {}, kind="image", shape=(2, 3, 3))
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(("name", "options"), PLAIN)
def test_a_tensor_is_not_sent_as_a_picture(name, options):
    with pytest.raises(Malformed) as refused:
        load_adapter(name).check_options(options, {}, kind="tensor", shape=(2, 3))
    assert refused.value.pointer == "/options/encoding"


@pytest.mark.parametrize(("name", "options"), PLAIN)
def test_the_common_case_costs_no_more_than_a_built_in_adapter(name, options):
    asked = Interface(name, options, {}, {"by": "name"})
    # A simple map asks nothing of the statement, whose classes only an explicit one would name.
    bits = interface_bits(asked, BY_CLAIMANT, None, endpoint="https://x/endpoints/a:predict", beacon_index=9)
    assert bits == BUILT_IN_BITS


@pytest.mark.parametrize(("name", "options"), [each for each in PICTURES + NUMBERS if each not in PLAIN])
def test_whatever_shapes_a_request_is_paid_for_by_the_byte(name, options):
    asked = Interface(name, options, {}, {"by": "name"})
    bits = interface_bits(asked, BY_CLAIMANT, None, endpoint="https://x", beacon_index=9)
    priced = {key: value for key, value in options.items() if key not in ("model", "version")}
    assert bits == 8 * (len(json.dumps(priced, separators=(",", ":"))) + 2)


FIELDS = ["predictions", "label", "labels", "class", "score", "scores", "confidence", "confidences", "probs"]
FIELDS += ["probabilities", "displayNames", "output", "status", "error", "id"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["cat", "succeeded", "processing", "\ud800", "", "x" * 201]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=12,
)


@pytest.mark.parametrize(("name", "options"), PLAIN)
@given(response=JSON, status=st.sampled_from([200, 201, 202, 204, 404, 503]), ranking=st.booleans())
def test_any_response_gives_labels_or_a_named_error(name, options, response, status, ranking):
    asked = Interface(name, options, {}, {"by": "index"})
    for body in (json.dumps(response).encode(), json.dumps(response).encode()[:-1]):
        labels, error = read_answer(asked, 3, status, body, ranking=ranking)
        assert not (labels and error)
        assert error in REASONS | {"", f"status_{status}"}
        assert all(label.encode() or not label for label in labels)


def prediction(**changes):
    return json.dumps({"id": "gm3qorzdhgbfurvjtvhg6dckhu", "status": "processing", "output": None} | changes).encode()


def next_of(status, body):
    return load_adapter("replicate").next_request({"version": VERSION}, status, body)


@pytest.mark.parametrize("status", ["starting", "processing"])
def test_an_unfinished_prediction_is_asked_for_again_at_a_path_of_ours(status):
    body = prediction(status=status, urls={"get": "https://169.254.169.254/latest/meta-data"})
    request = next_of(201, body)
    assert (request.method, request.path, request.body) == ("GET", "/v1/predictions/gm3qorzdhgbfurvjtvhg6dckhu", b"")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, prediction(status="succeeded")),
        (200, prediction(status="failed")),
        (200, prediction(status="aborted")),
        (200, prediction(status=7)),
        (404, prediction()),
        (500, b""),
    ],
)
def test_what_is_finished_or_wrong_is_not_asked_for_again(status, body):
    assert next_of(status, body) is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (prediction(id="../../v2/secret"), "wrong_shape"),
        (prediction(id="a" * 65), "wrong_shape"),
        (prediction(id="gm3qorzdhgbf\n"), "wrong_shape"),
        (prediction(id="gm3qorzdhgbf?x=1"), "wrong_shape"),
        (prediction(id="\uff47m3qorzdhgbf"), "wrong_shape"),
        (prediction(id=12345678), "wrong_shape"),
        (b'{"status":"processing"}', "missing_field"),
        (b"{}", "missing_field"),
        (b"[]", "missing_field"),
        (b"<html>", "not_json"),
        (b'{"status":"starting","status":"succeeded"}', "not_json"),
    ],
)
def test_an_identifier_that_could_lead_elsewhere_is_a_named_error(body, reason):
    with pytest.raises(SuspectMisbehaved) as refused:
        next_of(201, body)
    assert refused.value.reason == reason


def test_no_other_cloud_service_is_asked_twice():
    for name, options in PLAIN:
        if name != "replicate":
            assert load_adapter(name).next_request(options, 200, b'{"status":"processing","id":"abcdefgh"}') is None
