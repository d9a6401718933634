"""What live servers told of themselves leads to their adapters; what a hostile one tells leads nowhere else."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.suspects.descriptions import MAX_NAMES
from app.suspects.detect import (
    FIRST_LOOKS,
    MAX_CANDIDATES,
    SHOWN_BYTES,
    Look,
    Seen,
    candidates,
    escaped,
    second_looks,
)

TOLD = Path(__file__).parent / "recorded_bytes" / "detect"


def recorded(name):
    (path,) = TOLD.glob(f"{name}-*.json")
    return [
        Seen(Look(each["path"], each["method"]), each["status"], each["body"].encode("latin-1"))
        for each in json.loads(path.read_text())
    ]


def told(**answers):
    return [Seen(Look(path), 200, json.dumps(value).encode()) for path, value in answers.items()]


def proposed(seen, shape=(8, 8, 1), model=None):
    return [(each.adapter, each.options, each.preprocessing) for each in candidates(seen, "image", shape, model)]


@pytest.mark.parametrize(
    ("server", "model", "first"),
    [
        ("kserve", None, ("oip_v2", {"model": "digits"})),
        ("mlserver", None, ("oip_v2", {"model": "digits"})),
        ("mlflow", None, ("mlflow", {})),
        ("litserve", None, ("litserve", {})),
        ("gradio", None, ("gradio", {})),
        ("ray_serve", None, ("ray_serve", {})),
        ("torchserve", "digits", ("torchserve", {"model": "digits"})),
        (
            "bentoml",
            None,
            ("bentoml", {"route": "classify", "input_name": "images", "batch": True, "encoding": "nested"}),
        ),
    ],
)
def test_what_a_live_server_told_leads_to_its_adapter(server, model, first):
    found = proposed(recorded(server), model=model)
    assert found[0][:2] == first
    assert found == proposed(recorded(server), model=model)
    assert {adapter for adapter, _, _ in found} <= {first[0], "kserve_v1"}


def test_a_server_of_several_protocols_is_proposed_with_each():
    assert {adapter for adapter, _, _ in proposed(recorded("kserve"))} == {"oip_v2", "kserve_v1"}
    assert ("bentoml", {}, {}) in proposed(recorded("bentoml"))


def test_a_server_that_lists_no_models_needs_a_name_for_one():
    assert proposed(recorded("torchserve")) == []


def test_models_are_looked_at_by_the_names_that_a_server_gives():
    assert [each.path for each in second_looks(recorded("mlserver"))] == ["/v2/models/digits"]
    named = [each.path for each in second_looks([], "m")]
    assert named == ["/v2/models/m", "/v1/models/m", "/v1/models/m/metadata"]


def test_a_tensors_description_gives_its_name_type_layout_and_size():
    about = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3, 224, 224]}]}
    seen = told(**{"/v2": {"name": "triton"}, "/v2/models/m": about})
    assert proposed(seen, (32, 32, 3), "m") == [
        (
            "oip_v2",
            {"model": "m", "input_name": "x"},
            {"dtype": "float32", "scale": "0..1", "layout": "chw", "size": [224, 224]},
        )
    ]
    assert proposed(seen, (224, 224, 3), "m")[0][2] == {"dtype": "float32", "scale": "0..1", "layout": "chw"}


def signature(dtype, *sizes):
    tensor = {"dtype": dtype, "tensor_shape": {"dim": [{"size": size} for size in sizes]}}
    inner = {"signature_def": {"serving_default": {"inputs": {"x": tensor}}}}
    return {"model_spec": {"name": "m"}, "metadata": {"signature_def": inner}}


def test_a_model_of_tensorflow_serving_is_known_by_its_versions():
    versions = {"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}
    floats = {"/v1/models/m": versions, "/v1/models/m/metadata": signature("DT_FLOAT", "-1", "28", "28", "1")}
    assert proposed(told(**floats), (28, 28, 1), "m") == [
        ("tf_serving", {"model": "m"}, {"dtype": "float32", "scale": "0..1"})
    ]
    texts = {"/v1/models/m": versions, "/v1/models/m/metadata": signature("DT_STRING", "-1")}
    assert proposed(told(**texts), model="m")[0] == ("tf_serving", {"model": "m", "encoding": "png_base64"}, {})
    assert proposed(told(**{"/v1/models/m": versions}), model="m")[0] == ("tf_serving", {"model": "m"}, {})


def test_functions_of_a_page_that_take_no_picture_are_sent_numbers_by_the_older_route():
    info = {"named_endpoints": {"/score": {"parameters": [{"component": "JSON"}]}}}
    assert proposed(told(**{"/info": info}))[0] == ("gradio", {"route": "call/score", "encoding": "nested"}, {})


def test_hostile_names_are_left_out_and_many_are_cut():
    for names in (["../admin"], ["a?b"], ["x" * 201], [7], [None], ["\ud800"], "digits", {"a": 1}):
        seen = told(**{"/v1/models": {"models": names}, "/v2/models": {"models": names}})
        assert second_looks(seen) == []
        assert proposed(seen) == []
    many = told(**{"/v1/models": {"models": [f"m{n}" for n in range(100)]}})
    assert len(second_looks(many)) == 2 * MAX_NAMES
    assert len(proposed(many)) == MAX_CANDIDATES


WORDS = [
    "models",
    "named_endpoints",
    "parameters",
    "component",
    "routes",
    "input",
    "properties",
    "route",
    "server",
    "stream",
    "status",
    "inputs",
    "shape",
    "datatype",
    "name",
    "/predict",
    "metadata",
    "signature_def",
    "model_version_status",
    "serving_default",
    "tensor_shape",
    "dim",
    "size",
    "dtype",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(st.tuples(st.sampled_from([*FIRST_LOOKS, *second_looks([], "m")]), JSON), max_size=6))
def test_whatever_servers_tell_leads_to_interfaces_that_hold_or_to_none(told_by):
    seen = [Seen(wanted, 200, json.dumps(value).encode()) for wanted, value in told_by]
    for model in (None, "m"):
        assert len(proposed(seen, model=model)) <= MAX_CANDIDATES
        assert all(each.path.startswith("/") for each in second_looks(seen, model))


@pytest.mark.parametrize("side", ["9" * 5000, 10**400, "\u00b2", True, 8.0, [8], None])
def test_a_size_that_no_picture_has_is_left_out(side):
    model = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3, side, side]}]}
    (found,) = proposed(told(**{"/v2/models": {"models": ["m"]}, "/v2/models/m": model}), shape=(8, 8, 3))
    assert found == ("oip_v2", {"model": "m"}, {"dtype": "float32", "scale": "0..1", "layout": "chw"})


def test_answers_with_another_status_tell_nothing():
    seen = [Seen(each.look, 404, each.body) for each in recorded("kserve")]
    assert proposed(seen) == []


def test_what_is_shown_holds_no_control_character_and_is_short():
    assert escaped(b"\x1b[2Jhi\r\n\x00\x07") == "\\u001b[2Jhi\\r\\n\\u0000\\u0007"
    assert escaped("\u202e7\u2028".encode()) == "\\u202e7\\u2028"
    assert escaped(b"\xff\xfe") == "\\xff\\xfe"
    assert escaped(b"a" * 500) == "a" * SHOWN_BYTES + "…"


@given(st.binary(max_size=300))
def test_every_byte_can_be_shown(data):
    assert escaped(data).isprintable()
