"""The protocol's own vectors, and that the comparison finds any value in them that was changed."""

import json
from pathlib import Path

import pytest

from app.protocol.vectors import find_difference

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "protocol-v1.json").read_bytes())
SECTIONS = ("inputs", "commitments", "walks", "evidence", "thresholds")
SMALLEST = {section: [min(VECTORS[section], key=lambda case: len(json.dumps(case)))] for section in SECTIONS} | {
    "protocol": VECTORS["protocol"]
}

# What is given in a section's cases and what comes out; a name is free text, and a walk's steps may lie after its end.
RESULTS = {"canonical_sha256", "leaf_0", "input_key_0", "label_key_0", "root", "path_last", "salt", "labels"}
RESULTS |= {"challenge_seed", "order", "class_b", "ends", "log2_e_last", "log2_e_max", "first_at_64_bits", "needed"}
GIVEN = {"kind", "shape", "values", "master", "count", "classes", "image", "beacon", "challenge", "order_range"}
GIVEN |= {"matched", "p"}


def leaves(value, path=()):
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    else:
        yield path


def other(value):
    """A value of the same kind that is not the same."""
    match value:
        case bool() | None:
            return 7
        case int():
            return value + 1
        case float():
            return value + 1
        case str() if value[-1:].isdigit():
            return value[:-1] + str((int(value[-1]) + 1) % 10)
        case _:
            return ("e" if value[:1] == "f" else "f") + value[1:]


def replaced(value, path, make):
    if not path:
        return make(value)
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], make)
    return copy


def test_every_vector_of_the_protocol_holds():
    assert find_difference(VECTORS) is None
    assert find_difference(SMALLEST) is None


@pytest.mark.parametrize("section", SECTIONS)
def test_any_changed_value_is_found(section):
    for case in VECTORS[section]:
        names = [name for name in case if name in RESULTS | GIVEN]
        # Of a long list the first, the last and one between stand for the others.
        for path in [path for name in names for path in thin(leaves(case[name], (name,)))]:
            changed = SMALLEST | {section: [replaced(case, path, other)]}
            assert (find_difference(changed) or "").startswith(f"{section}[0]: "), path


def thin(paths):
    paths = list(paths)
    return paths if len(paths) < 12 else [paths[0], paths[len(paths) // 2], paths[-1]]


def test_the_difference_names_the_value_and_both_sides():
    changed = SMALLEST | {"thresholds": [{"n": 20, "k": 10, "bits": 10, "needed": 9}]}
    assert find_difference(changed) == "thresholds[0]: needed is 8 here, 9 in the file"


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("cases", [[], {}, None, [None], [{}], [[]], [{"n": 3, "k": "2", "bits": 1, "needed": 1}]])
def test_a_section_of_another_form_is_a_difference(section, cases):
    assert section in find_difference(SMALLEST | {section: cases})


def test_a_missing_or_extra_section_and_another_protocol_are_differences():
    assert "exactly the keys" in find_difference({})
    assert "exactly the keys" in find_difference(SMALLEST | {"more": []})
    assert "trapstreet/v2" in find_difference(SMALLEST | {"protocol": "trapstreet/v2"})


def test_a_value_of_another_type_is_a_difference():
    """One and true, or one and 1.0, are equal to Python and not to anybody else."""
    case = {"n": 1, "k": 2000, "bits": 10, "needed": 1}
    assert find_difference(SMALLEST | {"thresholds": [case]}) is None
    for wrong in (1.0, True, "1"):
        assert "needed is 1 here" in find_difference(SMALLEST | {"thresholds": [case | {"needed": wrong}]})


@pytest.mark.parametrize("kind", ["text", "Image", 1])
def test_an_input_of_another_kind_cannot_be_read(kind):
    assert "image or tensor" in find_difference(SMALLEST | {"inputs": [VECTORS["inputs"][0] | {"kind": kind}]})
