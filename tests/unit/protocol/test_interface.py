import math
from dataclasses import replace

import pytest

from app.canonical import encode_json, sha256
from app.errors import Malformed
from app.protocol.interface import BY_CLAIMANT, Interface, InterfaceOrigin, LabelMap, interface_bits
from tests.unit.protocol.dispute_in_memory import Plan, marking_key, statement_of

STATEMENT = statement_of(Plan(classes=4), marking_key(16, 4, "A"))
CLASSES = STATEMENT.classes
LOGGED = InterfaceOrigin("logged", 3, b"", b"")
COUNTERSIGNED = InterfaceOrigin("countersigned", None, bytes(32), bytes(64))


def interface(label_map, options=None, preprocessing=None):
    value = {"adapter": "kserve_v1", "options": options or {}, "preprocessing": preprocessing or {}}
    return Interface.parse(encode_json(value | {"label_map": label_map}))


def explicit(entries):
    return {"by": "explicit", "map": entries}


ONE_TO_ONE = explicit({f"endpoint {index}": [name] for index, name in enumerate(CLASSES)})


def price(wanted, origin=BY_CLAIMANT, statement=STATEMENT, *, endpoint="https://models.example.org", beacon_index=0):
    return interface_bits(wanted, origin, statement, endpoint=endpoint, beacon_index=beacon_index)


@pytest.mark.parametrize("label_map", [{"by": "index"}, ONE_TO_ONE])
def test_an_interface_that_somebody_else_fixed_costs_nothing(label_map):
    assert price(interface(label_map, {"path": "x"}), COUNTERSIGNED, beacon_index=1000) == 0


def test_a_logged_interface_costs_what_names_it_among_all_that_could_have_been_logged():
    wanted = interface(ONE_TO_ONE, {"path": "x"})
    assert [price(wanted, LOGGED, beacon_index=index) for index in (1, 2, 1023, 1024)] == [1, 2, 10, 11]


def test_the_query_of_an_address_costs_eight_bits_a_byte_whoever_fixed_the_interface():
    endpoint = "https://models.example.org/v1?labels=cat,dög"
    assert price(interface({"by": "name"}), endpoint=endpoint) == 8 + 8 * len("labels=cat,dög".encode())
    assert price(interface({"by": "name"}), COUNTERSIGNED, endpoint=endpoint) == 8 * len("labels=cat,dög".encode())


@pytest.mark.parametrize("sign", [";", "%3F", "%3f", "%3B", "%25"])
def test_parameters_in_the_path_cost_what_a_query_costs(sign):
    endpoint = f"https://models.example.org/predict{sign}order=4,2;seed?x"
    assert price(interface({"by": "name"}), endpoint=endpoint) == 8 + 8 * len("order=4,2;seed?x")


def test_a_path_without_parameters_is_free():
    endpoint = "https://us-central1-aiplatform.example.org/v1/projects/1/endpoints/2:predict"
    assert price(interface({"by": "name"}), endpoint=endpoint) == 8


@pytest.mark.parametrize(
    ("label_map", "options", "preprocessing", "bits"),
    [
        ({"by": "name"}, {}, {}, 8),
        ({"by": "index"}, {}, {}, 8),
        ({"by": "name"}, {"model": "m", "version": "7"}, {}, 8),
        ({"by": "name"}, {"model": "m", "x": 1}, {}, 8 * (len('{"x":1}') + len("{}"))),
        ({"by": "index"}, {}, {"layout": "chw"}, 8 * (len("{}") + len('{"layout":"chw"}'))),
        (ONE_TO_ONE, {}, {}, 8 * 4 + math.ceil(math.log2(math.factorial(4)))),
        # Not onto: two labels give one class, or a class is missing.
        (explicit({"a": [CLASSES[0]], "b": [CLASSES[0]]}), {}, {}, 8 * 4 + math.ceil(2 * math.log2(5))),
        (explicit({str(i): [CLASSES[i % 3]] for i in range(4)}), {}, {}, 8 * 4 + math.ceil(4 * math.log2(5))),
        (explicit({"a": [CLASSES[0]]}), {}, {}, 8 * 4 + math.ceil(math.log2(5))),
        (explicit({"a": [CLASSES[0], CLASSES[1]], "b": [CLASSES[2]]}), {}, {}, 8 * 4 + 2 * 4),
        (ONE_TO_ONE, {"x": 1}, {}, 8 * (len('{"x":1}') + len("{}")) + 5),
    ],
)
def test_the_price_of_an_interface_is_its_freedom(label_map, options, preprocessing, bits):
    assert price(interface(label_map, options, preprocessing)) == bits


def test_the_price_of_a_permutation_is_exact_where_floats_end():
    names = tuple(f"class {index}" for index in range(1000))
    statement = statement_of(Plan(classes=1000), marking_key(16, 1000, "A"))
    label_map = explicit({f"endpoint {index}": [name] for index, name in enumerate(names)})
    bits = price(interface(label_map), statement=statement) - 32
    assert 2 ** (bits - 1) < math.factorial(1000) <= 2**bits


@pytest.mark.parametrize(
    "label_map",
    [
        {},
        {"by": "rank"},
        {"by": "name", "map": {}},
        {"by": "explicit"},
        {"by": "explicit", "map": []},
        explicit({}),
        explicit({"a": []}),
        explicit({"a": "cat"}),
        explicit({"a": [1]}),
        explicit({"a": ["cat", "cat"]}),
        explicit({"a": ["cat"]}) | {"else": "dog"},
    ],
)
def test_a_label_map_of_another_form_is_malformed(label_map):
    with pytest.raises(Malformed) as caught:
        interface(label_map)
    assert caught.value.pointer.startswith("/label_map")


def test_a_map_of_too_many_labels_is_malformed():
    made = interface({"by": "name"})
    with pytest.raises(Malformed, match="1 to 65536"):
        replace(made, label_map=explicit({str(index): ["c"] for index in range(65_537)})).check("")


def test_a_map_that_names_an_unknown_class_is_refused_where_it_does():
    with pytest.raises(Malformed, match="'cat' is no registered class") as caught:
        LabelMap(interface(explicit({"a/b": ["cat"]})), STATEMENT)
    assert caught.value.pointer == "/interface/label_map/map/a~1b"


@pytest.mark.parametrize(
    ("label_map", "labels", "classes"),
    [
        ({"by": "index"}, ["0"], {0}),
        ({"by": "index"}, ["3", "1"], {1, 3}),
        ({"by": "index"}, ["4"], set()),
        ({"by": "index"}, ["-1", "01", "1.0", "", " 1", "\u0661", "\u00b2", "1" * 5000], set()),
        ({"by": "name"}, [" CLASS 2"], {2}),
        ({"by": "name"}, ["class 2", "nothing"], {2}),
        ({"by": "name"}, ["2"], set()),
        (explicit({"dog": [CLASSES[1], CLASSES[3]]}), ["dog"], {1, 3}),
        (explicit({"dog": [CLASSES[1]]}), ["Dog", "class 1"], set()),
        ({"by": "name"}, [], set()),
    ],
)
def test_endpoint_labels_become_classes(label_map, labels, classes):
    assert LabelMap(interface(label_map), STATEMENT).classes_of(labels) == classes


@pytest.mark.parametrize("origin", [BY_CLAIMANT, LOGGED, COUNTERSIGNED])
def test_an_origin_holds_exactly_what_its_kind_needs(origin):
    value = origin.to_json()
    assert InterfaceOrigin.parse(encode_json(value)) == origin
    for key, wrong in (
        ("entry", 5 if value["entry"] is None else None),
        ("key", "" if value["key"] else "00" * 32),
        ("signature", "" if value["signature"] else "00" * 64),
    ):
        with pytest.raises(Malformed):
            InterfaceOrigin.parse(encode_json(value | {key: wrong}))


def test_the_digest_of_an_interface_is_of_its_bytes():
    made = interface({"by": "name"})
    assert made.digest() == sha256(made.encode())
