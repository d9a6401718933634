"""What the rule of derivation may come to ask, before anybody is asked."""

from dataclasses import replace

import pytest

from app.canonical import sha256
from app.errors import Malformed
from app.keys.cover_set import CoverTable
from app.keys.trigger_set import ImageInput, TensorInput
from app.protocol.bundle import MAX_FILE_BYTES
from app.protocol.derivation import Rule
from app.suspects.adapters import load_adapter
from app.suspects.candidates import candidates, metadata_paths, verify_names, verify_size
from tests.unit.protocol.dispute_in_memory import Plan, marking_key, statement_of

STATEMENT = statement_of(Plan(classes=2), marking_key(4, 2, "A"))
COVERS = CoverTable(tuple(sha256(bytes([number])) for number in range(80)), (0, 1) * 40)


def statement(side: int, kind: str = "image"):
    return replace(STATEMENT, kind=kind, shape=(side, side, 3))


def recorded_bytes(said, question):
    rule = Rule(said, COVERS, candidates({"model": "m"}, [], said))
    sizes = [
        len(load_adapter(one.adapter).encode_request(one.options, one.preprocessing, question).body)
        for one in rule.candidates
    ]
    return (len(rule.first_part) * sum(sizes) + len(rule.asked_of_best) * max(sizes)) * 4 // 3


@pytest.mark.parametrize("value", ["a\r\nHost: b", "../x", "x?y", "\ud800", "m" * 201, "", {"a": 1}, None, 7])
@pytest.mark.parametrize("name", ["model", "version"])
def test_what_is_no_segment_of_a_path_names_no_model(name, value):
    with pytest.raises(Malformed, match="one segment of a path"):
        verify_names({"model": "m"} | {name: value})


def test_names_of_models_stand_in_paths_as_they_are():
    at = {"model": "resnet-50.v1", "version": "2"}
    verify_names(at)
    verify_names({})
    assert metadata_paths(at) == [("oip_v2", "/v2/models/resnet-50.v1/versions/2")]


def test_pictures_of_the_usual_small_sizes_are_compared_in_all_ways():
    verify_size({}, statement(64), COVERS, MAX_FILE_BYTES)
    verify_size({"model": "m"}, statement(128), COVERS, MAX_FILE_BYTES)


def test_inputs_whose_requests_no_bundle_could_hold_are_refused_before_anything_is_asked():
    with pytest.raises(Malformed, match="name the model"):
        verify_size({}, statement(128), COVERS, MAX_FILE_BYTES)
    with pytest.raises(Malformed, match="name the model"):
        verify_size({"model": "m"}, statement(1024), COVERS, MAX_FILE_BYTES)


@pytest.mark.parametrize(
    ("kind", "question"),
    [
        ("image", ImageInput(32, 32, 3, bytes([255]) * 3072)),
        ("image", ImageInput(32, 32, 3, bytes(range(256)) * 12)),
        ("tensor", TensorInput.of((32, 32, 3), [-1.25 / (number + 1) for number in range(3072)])),
    ],
)
def test_what_is_counted_is_near_what_is_sent(kind, question):
    sent = recorded_bytes(statement(32, kind), question)
    verify_size({"model": "m"}, statement(32, kind), COVERS, sent * 2)
    with pytest.raises(Malformed):
        verify_size({"model": "m"}, statement(32, kind), COVERS, sent * 4 // 5)
