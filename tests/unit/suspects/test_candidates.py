"""What the rule of derivation may come to ask, before anybody is asked."""

from dataclasses import replace

import pytest

from app.canonical import encode_json, sha256
from app.errors import Malformed
from app.keys.cover_set import CoverTable
from app.keys.trigger_set import ImageInput, TensorInput
from app.protocol.derivation import MetadataAnswer
from app.suspects.adapters import ADAPTERS, load_adapter
from app.suspects.candidates import (
    MAX_REQUESTED_BYTES,
    answer_bytes,
    candidates,
    metadata_paths,
    requested_bytes,
    rule_of,
    verify_adapter,
    verify_size,
)
from tests.unit.protocol.dispute_in_memory import Plan, marking_key, statement_of

STATEMENT = statement_of(Plan(classes=2), marking_key(4, 2, "A"))
BY_MODEL = {"kserve_v1", "oip_v2", "tf_serving", "torchserve"}
COVERS = CoverTable(tuple(sha256(bytes([number])) for number in range(80)), (0, 1) * 40)


def statement(side: int, kind: str = "image"):
    return replace(STATEMENT, kind=kind, shape=(side, side, 3))


def recorded_bytes(rule, question):
    """What the requests really come to, in base64."""
    sizes = [
        len(load_adapter(one.adapter).encode_request(one.options, one.preprocessing, question).body)
        for one in rule.candidates
    ]
    return (len(rule.first_part) * sum(sizes) + len(rule.asked_of_best) * max(sizes)) * 4 // 3


def told(path, body, adapter="kserve_v1"):
    return MetadataAnswer(adapter, path, 200, body if isinstance(body, bytes) else encode_json(body), "192.0.2.1", b"")


def asked_as(at, metadata, adapter=None, shape=8, kind="image"):
    """Name the ways that are compared, each once: adapter and options."""
    found = candidates(at, adapter, metadata, statement(shape, kind))
    return list(dict.fromkeys((one.adapter, tuple(sorted(one.options.items()))) for one in found))


@pytest.mark.parametrize("value", ["a\r\nHost: b", "../x", "x?y", "\ud800", "m" * 201, "", {"a": 1}, None, 7])
@pytest.mark.parametrize("name", ["model", "version"])
def test_what_stands_in_no_path_names_no_model(name, value):
    with pytest.raises(Malformed, match="stands in a path as it is"):
        verify_adapter(None, {"model": "m"} | {name: value}, statement(8))


def test_names_of_models_stand_in_paths_as_they_are():
    at = {"model": "resnet-50.v1", "version": "2"}
    verify_adapter(None, at, statement(8))
    verify_adapter(None, {"model": "owner/name", "route": ""}, statement(8))
    verify_adapter(None, {}, statement(8))
    assert metadata_paths(at, None)[0] == ("oip_v2", "/v2/models/resnet-50.v1/versions/2")
    assert metadata_paths(at, "vertex") == []


def test_every_way_of_asking_is_compared_once():
    found = candidates({"model": "m"}, None, [told("/ping", {"status": "Healthy"}, "torchserve")], statement(8))
    picture = ImageInput(8, 8, 3, bytes(range(192)))
    sent = [load_adapter(one.adapter).encode_request(one.options, one.preprocessing, picture) for one in found]
    assert len({(one.adapter, request.path, request.body) for one, request in zip(found, sent, strict=True)}) == len(
        sent
    )


DESCRIPTIONS = {
    "nothing": ({}, "/v1/models", b"<html>", "kserve_v1", []),
    "kserve_v1": ({}, "/v1/models", {"models": ["a", "b"]}, "kserve_v1", [{"model": "a"}, {"model": "b"}]),
    "mlflow": ({}, "/version", b"3.17.2", "mlflow", [{}, {"envelope": "dataframe_split", "encoding": "png_base64"}]),
    "no version": ({}, "/version", b"<html>", "mlflow", []),
    "bentoml": (
        {},
        "/schema.json",
        {"routes": [{"route": "/classify", "input": {"properties": {"picture": {"type": "file"}}}}]},
        "bentoml",
        [{"route": "classify", "input_name": "picture"}],
    ),
    "litserve": ({}, "/info", {"server": {"stream": {"/predict": False}}}, "litserve", [{}]),
    "ray_serve": ({}, "/-/routes", {"/digits": "app"}, "ray_serve", [{"route": "digits"}]),
    "another route": ({"route": "letters"}, "/-/routes", {"/digits": "app"}, "ray_serve", []),
    "gradio": (
        {},
        "/gradio_api/info",
        {"named_endpoints": {"/classify": {"parameters": [{"component": "Image"}]}}},
        "gradio",
        [{"route": "gradio_api/call/classify"}],
    ),
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_servers_description_names_its_adapter_and_its_options(name):
    at, path, body, adapter, expected = DESCRIPTIONS[name]
    assert (adapter, path) in metadata_paths(at, None)
    assert asked_as(at, [told(path, body, adapter)]) == [(adapter, tuple(sorted(one.items()))) for one in expected]


def test_tensorflow_serving_and_torchserve_are_asked_of_a_named_model():
    at = {"model": "m"}
    status, pictures = {"model_version_status": []}, {"metadata": {"signature_def": {"signature_def": {}}}}
    serving = pictures["metadata"]["signature_def"]["signature_def"]
    serving["serving_default"] = {"inputs": {"bytes": {"dtype": "DT_STRING"}}}
    found = asked_as(at, [told("", status, "tf_serving"), told("", pictures, "tf_serving")])
    assert ("tf_serving", (("encoding", "png_base64"), ("model", "m"))) in found
    found = asked_as(at, [told("", status, "tf_serving"), told("", b"", "tf_serving")])
    assert ("tf_serving", (("model", "m"),)) in found
    found = asked_as(at, [told("", {"status": "Healthy"}, "torchserve")])
    assert ("torchserve", (("model", "m"),)) in found
    assert {adapter for adapter, _ in asked_as(at, [])} == {"kserve_v1", "oip_v2"}


@pytest.mark.parametrize("adapter", sorted(set(ADAPTERS) - {"generic_json"}))
def test_every_adapter_can_be_asked_by_name_about_pictures(adapter):
    at = {"model": "owner/name"} if adapter == "replicate" else {"model": "m"} if adapter in BY_MODEL else {}
    verify_adapter(adapter, at, statement(8))
    found = candidates(at, adapter, [], statement(8))
    assert {one.adapter for one in found} == {adapter}


def test_an_adapter_whose_options_say_everything_cannot_be_named():
    with pytest.raises(Malformed, match="no way to ask by generic_json"):
        verify_adapter("generic_json", {}, statement(8))


def test_inputs_that_are_too_large_are_asked_in_fewer_ways_and_refused_when_none_is_left():
    models = [told("/v1/models", {"models": ["a", "b", "c", "d"]})]
    for side in (64, 128, 192):
        verify_size(statement(side), COVERS)
        rule = rule_of({}, None, models, statement(side), COVERS)
        assert requested_bytes(rule) < MAX_REQUESTED_BYTES
        assert answer_bytes(rule) > 16_000
    assert len(rule_of({}, None, models, statement(192), COVERS).candidates) < len(
        candidates({}, None, models, statement(192))
    )
    with pytest.raises(Malformed, match="give the interface yourself"):
        verify_size(statement(1024), COVERS)


@pytest.mark.parametrize(
    ("kind", "question"),
    [
        ("image", ImageInput(32, 32, 3, bytes([255]) * 3072)),
        ("image", ImageInput(32, 32, 3, bytes(range(256)) * 12)),
        ("tensor", TensorInput.of((32, 32, 3), [-1.25 / (number + 1) for number in range(3072)])),
    ],
)
def test_what_is_counted_is_near_what_is_sent(kind, question):
    rule = rule_of({"model": "m"}, None, [], statement(32, kind), COVERS)
    assert recorded_bytes(rule, question) < requested_bytes(rule) * 5 // 4
    assert requested_bytes(rule) < recorded_bytes(rule, question) * 2
