"""The rule of derivation in the browser: candidates, interface, price and refusals are those of `check`."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from app.canonical import sha256
from app.errors import TrapstreetError
from app.keys.cover_set import CoverTable
from app.keys.statement import Statement
from app.keys.trigger_set import ImageInput
from app.protocol.derivation import Derivation, DerivationHead, DerivationQuery, MetadataAnswer
from app.protocol.derivation_price import price_derivation
from app.protocol.interface import Interface
from app.protocol.rederivation import verify_derivation
from app.suspects.adapter_codec import AdapterCodec
from app.suspects.adapters import load_adapter, read_answer
from app.suspects.candidates import candidates, metadata_paths, rule_of
from tests.portal.conftest import needs_browser
from tests.unit.protocol.dispute_in_memory import Plan, marking_key, statement_of

pytestmark = needs_browser

Run = Callable[..., Any]

SHAPE = (3, 2, 1)
BASE = statement_of(Plan(classes=3), marking_key(4, 3, "A"))
STATEMENT = replace(BASE, kind="image", shape=SHAPE)
FLOATS = {"dtype": "float32", "scale": "0..1"}
INPUTS = [ImageInput(*SHAPE, bytes([number, number % 7, 3, number % 5, 200, 9])) for number in range(75)]
COVERS = CoverTable(tuple(sha256(one.encode()) for one in INPUTS), tuple(number % 3 for number in range(75)))


def said(adapter: str, path: str, body: Any, status: int | None = 200) -> MetadataAnswer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return MetadataAnswer(adapter, path, status, data if status else b"", "192.0.2.1", b"")


def told(at: dict[str, Any], bodies: dict[str, Any]) -> tuple[MetadataAnswer, ...]:
    """What a server says at every path that the rule asks: these, and 404 elsewhere."""
    return tuple(
        said(adapter, path, bodies[path]) if path in bodies else said(adapter, path, b"{}", 404)
        for adapter, path in metadata_paths(at, None)
    )


BENTO = {"routes": [{"route": "/predict", "input": {"properties": {"image": {"type": "file"}}}}]}
ARRAYS = {
    "routes": [{"route": "classify/now", "input": {"properties": {"é": {"type": "array"}, "b": {}}}}, {"route": 7}]
}

# What servers say; the odd ones hold what a stranger may make up.
SAID: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "models": ({}, {"/v1/models": {"models": ["a", "b", "c", 4, "", "d" * 201, "../x", "e", "f"]}}),
    "models that are no list": ({}, {"/v1/models": {"models": {"a": 1}}}),
    "a model": ({"model": "m"}, {}),
    "tensors": (
        {"model": "m", "version": "2"},
        {
            "/v2/models/m/versions/2": {
                "inputs": [{"name": "pixels", "datatype": "FP32"}],
                "outputs": [{"name": "scores"}],
            }
        },
    ),
    "two inputs": ({"model": "m"}, {"/v2/models/m": {"inputs": [{"name": "a"}, {"name": "b"}]}}),
    "names that are no text": (
        {"model": "m"},
        {"/v2/models/m": b'{"inputs": [{"name": "\\ud800", "datatype": "INT8"}]}'},
    ),
    "a long name": ({"model": "m"}, {"/v2/models/m": {"inputs": [{"name": "\U0001f600" * 150}], "outputs": []}}),
    "tensorflow": ({"model": "m", "version": "7"}, {"/v1/models/m": {"model_version_status": []}}),
    "pictures": (
        {"model": "m"},
        {
            "/v1/models/m": {"model_version_status": []},
            "/v1/models/m/metadata": {
                "metadata": {
                    "signature_def": {"signature_def": {"serving_default": {"inputs": {"b": {"dtype": "DT_STRING"}}}}}
                }
            },
        },
    ),
    "torchserve": ({"model": "m"}, {"/ping": {"status": "Healthy"}}),
    "mlflow": ({}, {"/version": b"3.17.2"}),
    "mlflow in quotes": ({}, {"/version": "2.1"}),
    "mlflow as a number": ({}, {"/version": b" 3.17 "}),
    "a whole number": ({}, {"/version": b"3"}),
    "a great number": ({}, {"/version": b"1e999"}),
    "no number": ({}, {"/version": b"NaN"}),
    "digits of another script": ({}, {"/version": "\u0663.\u0661".encode()}),
    "bytes that are no text": ({}, {"/version": b"\xff3", "/info": b"\xef\xbb\xbf{}"}),
    "bentoml": ({}, {"/schema.json": BENTO}),
    "arrays": ({}, {"/schema.json": ARRAYS}),
    "another route": ({"route": "classify/now"}, {"/schema.json": BENTO | ARRAYS}),
    "litserve": ({}, {"/info": {"server": {"stream": {"/predict": False, "/b": True, "/a/b": 1}}}}),
    "ray": ({}, {"/-/routes": {"/": "app", "/digits/": "app", "//x//": 1, "no good": 2}}),
    "a repeated key": ({}, {"/-/routes": b'{"/a": 1, "/a": 2}'}),
    "deep": ({}, {"/-/routes": b'{"/a":' + b"[" * 40 + b"]" * 40 + b"}"}),
    "prototypes": (
        {},
        {"/-/routes": b'{"__proto__": 1, "constructor": 2}', "/info": b'{"server": {"stream": {"__proto__": 1}}}'},
    ),
    "too long": ({}, {"/v1/models": b'{"models": ["a"], "x": "' + b"x" * 65_536 + b'"}'}),
}
KINDS = [("image", (3, 2, 1)), ("image", (2, 2, 3)), ("tensor", (4,))]
NAMED = [
    ("azure_ml", {"version": "blue"}),
    ("gradio", {}),
    ("huggingface", {}),
    ("kserve_v1", {"model": "m"}),
    ("mlflow", {}),
    ("oip_v2", {"model": "m", "version": "1"}),
    ("replicate", {"model": "o/n"}),
    ("roboflow", {}),
    ("sagemaker", {}),
    ("torchserve", {"model": "m"}),
    ("vertex", {}),
    ("no_such", {}),
    ("bentoml", {"route": "a"}),
    ("tf_serving", {"model": "m"}),
    ("ray_serve", {}),
]


def in_browser(run_script: Run, body: str, **given: Any) -> Any:
    return run_script(
        """const {Refused} = await load("verify/canonical");
        const {candidatesOf, metadataPaths} = await load("verify/candidates");
        const {checkRule} = await load("verify/derivation");
        const tried = async (act) => {
          try { return await act(); } catch (error) { if (error instanceof Refused) return error.message; throw error; }
        };"""
        + body,
        **given,
    )


def test_the_same_descriptions_give_the_same_candidates_in_the_same_order(run_script: Run) -> None:
    cases = []
    expected: list[list[Any]] = []
    for kind, shape in KINDS:
        statement = replace(BASE, kind=kind, shape=shape)
        asked = [(at, None, told(at, bodies)) for at, bodies in SAID.values()]
        for at, adapter, metadata in [*asked, *((at, adapter, ()) for adapter, at in NAMED)]:
            head = DerivationHead(0, 1, 0, 1, "https://x.example", at, adapter, metadata, None)
            cases.append({"head": head.to_json(), "kind": kind, "shape": list(shape)})
            expected.append(
                [
                    [list(pair) for pair in metadata_paths(at, adapter)],
                    [one.to_json() for one in candidates(at, adapter, metadata, statement)],
                ]
            )
    body = "return given.cases.map(({head, ...shown}) => [metadataPaths(head), candidatesOf(head, shown)]);"
    found = in_browser(run_script, body, cases=cases)
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert ours == theirs, list(SAID)[number % (len(SAID) + len(NAMED))]
    assert sum(len(theirs) for _, theirs in expected) > 200


# --- whole derivations --------------------------------------------------------------------------------------------------

Endpoint = Callable[[Interface, int], tuple[int | None, bytes]]


def derived(endpoint: Endpoint, at: dict[str, Any], bodies: dict[str, Any], **head: Any) -> Derivation:
    """Put the covers to an endpoint as the rule says."""
    metadata = told(at, bodies)
    rule = rule_of(at, None, metadata, STATEMENT, COVERS)
    answers: dict[tuple[int, int], tuple[str, ...]] = {}
    queries: list[DerivationQuery] = []
    while pairs := rule.next_pairs(answers):
        for candidate, cover in pairs:
            one = rule.candidates[candidate]
            request = load_adapter(one.adapter).encode_request(one.options, one.preprocessing, INPUTS[cover]).body
            status, response = endpoint(one, cover)
            labels, error = ((), "timeout") if status is None else read_answer(one, 3, status, response)
            seen = ("2026-11-23T00:00:00Z", status, labels, error, "192.0.2.1", b"", request, response)
            queries.append(DerivationQuery(candidate, cover, *seen))
            answers[candidate, cover] = labels
    statuses = {query.pair: query.status for query in queries}
    price = price_derivation(1, None, metadata, rule, answers, statuses)
    told_head = DerivationHead(0, 1, price.bits, 1, "https://x.example", at, None, metadata, rule.interface(answers))
    return Derivation(replace(told_head, **head), tuple(queries))


def honest(one: Interface, cover: int) -> tuple[int | None, bytes]:
    """Know classes where pixels come as floats, say one thing to whole numbers, and refuse the rest."""
    if one.preprocessing == FLOATS:
        return 200, json.dumps({"predictions": [f"Klasse {(cover + 1) % 3}"]}).encode()
    return (200, b'{"predictions": ["same"]}') if not one.preprocessing else (400, b"no")


def failing(one: Interface, cover: int) -> tuple[int | None, bytes]:
    return (503, b"") if one.preprocessing == FLOATS and cover == 1 else honest(one, cover)


def silent_about_one_class(one: Interface, cover: int) -> tuple[int | None, bytes]:
    return (None, b"") if cover % 3 == 2 and cover > 55 else honest(one, cover)


def changed(derivation: Derivation, at: int, **fields: Any) -> Derivation:
    queries = list(derivation.queries)
    queries[at] = replace(queries[at], **fields)
    return replace(derivation, queries=tuple(queries))


MODEL: dict[str, Any] = {"model": "m"}
HONEST = derived(honest, MODEL, {})
LAST = len(HONEST.queries) - 1
UNHEARD = replace(HONEST.head.metadata[0], status=None, response=b"")

DERIVATIONS = {
    "honest": HONEST,
    "listed": derived(honest, {}, {"/v1/models": {"models": ["a", "b"]}}),
    "failing": derived(failing, MODEL, {}),
    "silent about one class": derived(silent_about_one_class, MODEL, {}),
    "nobody answers": derived(lambda one, cover: (404, b""), MODEL, {}),
    "another price": replace(HONEST, head=replace(HONEST.head, bits=1)),
    "a silence that is not paid for": replace(
        HONEST, head=replace(HONEST.head, metadata=(UNHEARD, *HONEST.head.metadata[1:]))
    ),
    "another interface": replace(
        HONEST, head=replace(HONEST.head, interface=replace(HONEST.head.interface, options={"model": "n"}))
    ),
    "no metadata": replace(HONEST, head=replace(HONEST.head, metadata=())),
    "asked too little": replace(HONEST, queries=HONEST.queries[:-1]),
    "asked too much": replace(HONEST, queries=(*HONEST.queries, HONEST.queries[0])),
    "asked in another order": replace(HONEST, queries=HONEST.queries[::-1]),
    "another cover": changed(HONEST, LAST, request=HONEST.queries[LAST - 1].request),
    "other labels": changed(HONEST, LAST, labels=("Klasse 7",)),
    "labels without a response": changed(HONEST, LAST, response=b""),
    "a status that was not": changed(HONEST, LAST, status=500),
}


def by_python(derivation: Derivation) -> str:
    try:
        verify_derivation(derivation, STATEMENT, COVERS, AdapterCodec())
    except TrapstreetError as error:
        return error.message
    return ""


def shown(statement: Statement) -> dict[str, Any]:
    return {"kind": statement.kind, "shape": list(statement.shape), "classes": list(statement.classes)}


def test_the_rule_is_run_again_with_the_same_outcome(run_script: Run) -> None:
    given = {
        name: {"head": one.head.to_json(), "queries": [query.to_json() for query in one.queries]}
        for name, one in DERIVATIONS.items()
    }
    body = """const found = {};
        for (const [name, one] of Object.entries(given.all)) {
          found[name] = (await tried(() => checkRule(one, given.statement, given.covers, () => {}))) ?? "";
        }
        return found;"""
    covers = {"digests": [digest.hex() for digest in COVERS.digests], "labels": list(COVERS.labels)}
    found = in_browser(run_script, body, all=given, statement=shown(STATEMENT), covers=covers)
    expected = {name: by_python(one) for name, one in DERIVATIONS.items()}
    assert found == expected
    holds = {"honest", "listed", "failing", "silent about one class", "nobody answers"}
    assert {name for name, message in expected.items() if not message} == holds
    prices = {name: DERIVATIONS[name].head.bits for name in holds}
    assert prices["honest"] == prices["listed"] == 0
    assert prices["failing"] > 8 < prices["silent about one class"]
