"""The browser's adapters against Python's: whatever the bytes, the same input is read out of a request, the same
labels or the same word out of a response."""

import hashlib
import json
import struct
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import pytest

from app.errors import Malformed, Refused
from app.keys.statement import Statement
from app.keys.trigger_set import ImageInput, TensorInput
from app.protocol.interface import Interface
from app.suspects.adapter_codec import AdapterCodec
from app.suspects.adapters import ADAPTERS, read_answer
from tests.portal.conftest import needs_browser
from tests.unit.protocol.dispute_in_memory import Plan, marking_key, statement_of

pytestmark = needs_browser

Run = Callable[..., Any]

VERSION = {"version": "ab" * 32}
FLOATS = {"dtype": "float32", "scale": "0..1", "layout": "chw"}
RAW = {"model": "m", "binary": True}

# --- answers ------------------------------------------------------------------------------------------------------------

# What may stand where an answer stands, as JSON text.
SAID = [
    b"[0.1, 0.9, 0.9]",
    b"[[1, 0.5, 1.0]]",
    b"0.7",
    b"[0.7]",
    b"7",
    b"null",
    b'"a"',
    b'["a", "b", "a"]',
    b'{"LABEL_2": 0.25, "LABEL_0": 0.75}',
    b'[{"label": "LABEL_1", "score": 0.9}, {"label": "LABEL_01", "score": 0.1}]',
    b'[[{"label": "LABEL_1", "score": 0.9}, {"label": "LABEL_2", "score": 0.1}]]',
    b'[{"label": "LABEL_1\\n", "score": 0.9}]',
    b'{"label": "x", "confidences": [{"label": "x", "confidence": 0.5}, {"label": "y", "confidence": 0.75}]}',
    b'{"x": {"confidence": 0.5}, "y": {"confidence": 1e999}}',
    b'{"x": {"confidence": 0.5}, "y": {"confidence": 1}}',
    b'{"x": 0.5, "y": {"confidence": 1}}',
    b'{"displayNames": ["x", "y"], "confidences": [0.25, 0.75]}',
    b'[{"labels": ["x", "y"], "probs": [0.25, 0.75]}]',
    b'{"error": "none today"}',
    b'{"error": "", "label": "x"}',
    b'{"error": -0.0, "label": "x"}',
    b'{"probabilities": [NaN, 0.5, 0.25]}',
    b'{"output": {"prediction": 3}}',
    b"[123456789012345678901234567890, 0, 1]",
    b'["\\ud800"]',
    b'["\\ud83d\\ude00"]',
    b'{"a": 1, "a": 2}',
    b"[]",
    b"{}",
    b'"[0.1, 0.7, 0.2]"',
    b'"{\\"label\\": \\"\\u00e9\\"}"',
    b'"[\\"\\ud800\\"]"',
    b'"[01]"',
    b'"' + b"[" * 40 + b'"',
    b'"' + b"[" * 33 + b'\\ud800"',
]

# Around it, with %s in its place.
ENVELOPES = [
    b"%s",
    b'{"predictions": %s}',
    b'{"predictions": [%s]}',
    b'{"outputs": [{"name": "o", "datatype": "FP32", "shape": [1, 3], "data": %s}]}',
]
EVENTS = [
    b"event: complete\ndata: [%s]\n\n",
    b"event: complete\r\ndata:[%s]\r\n\r\n",
    b"event: complete\ndata: [%s]\n",
    b"event: heartbeat\ndata: null\n\nevent: generating\ndata: [1]\n\nevent: complete\ndata: [%s]\n\n",
    b"event: complete\ndata: [%s]\n\nevent: complete\ndata: [1]\n\n",
    b"event: error\ndata: %s\n\n",
    b"event: closed\ndata: %s\n\n",
    b"event: heartbeat\ndata: %s\n\n",
    b"event:complete\ndata: [%s]\n\n",
    b"event: complete\ndata: [\xff\x85%s]\n\n",
    b'{"event_id": "abcdefgh"}',
    b'{"event_id": "abc/../d"}',
    b'{"event_id": "abcdefgh\\n"}',
    b'{"event_id": %s}',
]
PREDICTIONS = [
    b'{"id": "abcdefgh", "status": "succeeded", "output": %s}',
    b'{"status": "starting", "id": "abcdefgh"}',
    b'{"status": "processing", "id": "ab-defgh"}',
    b'{"status": "processing"}',
    b'{"status": "failed", "output": %s}',
    b'{"status": "aborted"}',
    b'{"status": %s, "output": 1}',
    b'{"output": %s}',
]


def outputs(datatype: str, raw: bytes, behind: bytes = b"", **more: Any) -> bytes:
    named = {"name": "o", "datatype": datatype, "shape": [1, 3], "parameters": {"binary_data_size": len(raw)}} | more
    return json.dumps({"id": '{"\\', "outputs": [named]}).encode() + raw + behind


def counted(*texts: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def raw_answers() -> Iterable[bytes]:
    """Outputs as raw bytes, whole and broken."""
    values = {"FP16": "e", "FP32": "f", "FP64": "d", "INT8": "b", "INT32": "i", "INT64": "q", "UINT16": "H"}
    for datatype, code in values.items():
        yield outputs(datatype, struct.pack(f"<3{code}", 1, 3, 2))
    for numbers in ((0.0, float("nan"), 1.0), (float("inf"), 1.0, 0.0), (6e-8, 5.9e-8, -1.0), (65504.0, 3e-5, 0.0)):
        yield outputs("FP16", struct.pack("<3e", *numbers))
    for datatype, code, number in (("INT64", "q", -(2**60)), ("UINT64", "Q", 2**64 - 1), ("UINT8", "B", 7)):
        yield outputs(datatype, struct.pack(f"<{code}", number), shape=[1])
    yield outputs("FP32", bytes(12), b"\0")
    yield outputs("FP32", bytes(12))[:-1]
    yield outputs("FP32", bytes(11))
    yield outputs("FP31", bytes(12))
    yield outputs("FP32", bytes(12), data=[1, 2, 3])
    yield outputs("FP32", b"", parameters={"binary_data_size": -1})
    yield outputs("FP32", b"", parameters={"binary_data_size": 10**30})
    yield outputs("FP32", bytes(12), parameters={"binary_data_size": 12.0})
    yield outputs("FP32", bytes(12), parameters=[12])
    yield outputs("BYTES", counted(b"a", "\u00e9".encode(), b""))
    yield outputs("BYTES", counted(b"a", b"\xff", b"c"))
    yield outputs("BYTES", counted(b"a", b"\xef\xbb\xbfb", b"c"))
    yield outputs("BYTES", counted(b"a", b"b", b"c")[:-1])
    yield outputs("BYTES", counted(b"a", b"b", b"c") + b"\0")
    yield outputs("BYTES", b"\xff" * 12)
    yield b'{"outputs": 1}'
    yield b'{"a": "}\\"}'
    yield b"{}" + bytes(4)
    yield b'{"outputs": []}}'
    yield b"\xff"


def responses(adapter: str) -> list[bytes]:
    """Answers of every kind in what is usual around them, and in what is not."""
    around = {"gradio": EVENTS, "replicate": PREDICTIONS}.get(adapter, ENVELOPES)
    filled = [one.replace(b"%s", said) for one, said in product(around, SAID)]
    return [*dict.fromkeys(filled), *(raw_answers() if adapter == "oip_v2" else ()), b"", b"\xef\xbb\xbf1"]


ANSWERED: list[tuple[str, dict[str, Any]]] = [
    ("azure_ml", {}),
    ("gradio", {}),
    ("huggingface", {}),
    ("oip_v2", RAW),
    ("replicate", VERSION),
    ("roboflow", {}),
    ("sagemaker", {}),
    ("torchserve", {"model": "m"}),
    ("vertex", {}),
]


@pytest.mark.parametrize(("adapter", "options"), ANSWERED)
def test_answers_are_read_as_python_reads_them(run_script: Run, adapter: str, options: dict[str, Any]):
    bodies = responses(adapter)
    asked = [(status, body) for status, some in ((200, bodies), (201, bodies[:8]), (503, bodies[:2])) for body in some]
    interfaces = [Interface(adapter, options, {}, {"by": by}) for by in ("index", "name")]
    body = """const {readAnswer} = await load("verify/adapters");
        const {fromHex} = await load("protocol");
        return given.asked.map(([status, body]) => given.interfaces.map((filed) => {
          const {labels, error} = readAnswer(filed, 3, status, fromHex(body), true);
          return [labels, error];
        }));"""
    found = run_script(
        body, asked=[(status, each.hex()) for status, each in asked], interfaces=[one.to_json() for one in interfaces]
    )
    assert len({error for said in found for _, error in said}) > 5
    for (status, data), said in zip(asked, found, strict=True):
        expected = [read_answer(one, 3, status, data, ranking=True) for one in interfaces]
        assert said == [[list(labels), error] for labels, error in expected], (status, data)


# --- requests -----------------------------------------------------------------------------------------------------------

FILED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("azure_ml", {}, {}),
    ("azure_ml", {"version": "blue-1", "encoding": "nested"}, FLOATS),
    ("azure_ml", {"envelope": "data", "encoding": "png_data_url"}, {}),
    ("gradio", {}, {}),
    ("gradio", {"route": "call/x"}, FLOATS),
    ("huggingface", {}, {}),
    ("huggingface", {"top_k": 3}, {"size": [9, 7]}),
    ("oip_v2", RAW, {}),
    ("oip_v2", RAW | {"output_name": "\u00e9\u2028\x7f\x01", "input_name": '"}'}, FLOATS | {"size": [8, 10]}),
    ("replicate", VERSION, {}),
    ("replicate", {"model": "o/n", "input_name": "__proto__", "encoding": "flat"}, {}),
    ("roboflow", {}, {}),
    ("sagemaker", {}, {}),
    ("sagemaker", {"media_type": "application/x-image", "model": "a-b"}, {}),
    ("sagemaker", {"encoding": "png_base64"}, {}),
    ("sagemaker", {"encoding": "nested"}, {"layout": "chw"}),
    ("sagemaker", {"encoding": "flat", "envelope": "bare"}, FLOATS),
    ("torchserve", {"model": "m"}, {}),
    ("torchserve", {"model": "m"}, FLOATS),
    ("torchserve", {"model": "m", "envelope": "body"}, {}),
    ("torchserve", {"model": "m", "envelope": "instances", "encoding": "floats_flat"}, FLOATS),
    ("vertex", {}, {}),
    ("vertex", {"encoding": "nested"}, {}),
    ("vertex", {"input_name": "toString", "encoding": "png_data_url"}, {}),
]
# What an adapter does not take, and so nobody can have asked.
UNTAKEN: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("no_such", {}, {}),
    ("constructor", {}, {}),
    ("azure_ml", {"version": "-x"}, {}),
    ("huggingface", {"top_k": 0}, {}),
    ("huggingface", {"top_k": 3, "encoding": "png"}, {}),
    ("oip_v2", {"binary": True}, {}),
    ("oip_v2", RAW | {"datatype": "FP32"}, {}),
    ("replicate", {}, {}),
    ("replicate", VERSION | {"model": "o/n"}, {}),
    ("roboflow", {"encoding": "png"}, {}),
    ("sagemaker", {"envelope": "bare"}, {}),
    ("sagemaker", {"encoding": "flat", "media_type": "application/x-image"}, {}),
    ("torchserve", {}, {}),
    ("torchserve", {"model": "m", "envelope": "data", "encoding": "png"}, {}),
    ("vertex", {"input_name": ""}, {}),
]


def variants(body: bytes) -> list[bytes]:
    """A request, and what somebody might make of it."""
    at = len(body) // 2
    flipped = [body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :] for place in (0, at, len(body) - 1)]
    more = [body + b" ", body + b"0", body[:-1], body[:at] + b"1" + body[at:], b"", b"\xff" * len(body)]
    return [body, *flipped, *more, body.replace(b"{", b'{"more":1,', 1), body.replace(b":0", b":0.0")]


def test_requests_are_decoded_as_python_decodes_them(run_script: Run):
    picture = ImageInput(4, 5, 3, hashlib.shake_256(b"picture").digest(60))
    tensor = TensorInput.of((2, 3), [0.0, -0.0, 1e-45, -3.4e38, 0.1, 7.0])
    broken = struct.pack("<6f", 0, 1, 2, 3, 4, float("nan"))
    asked = []
    for adapter, options, preprocessing in FILED:
        request = ADAPTERS[adapter].encode_request(options, preprocessing, picture)
        asked.append((Interface(adapter, options, preprocessing, {"by": "index"}), picture, variants(request.body)))
    request = ADAPTERS["oip_v2"].encode_request(RAW, {}, tensor)
    asked.append((Interface("oip_v2", RAW, {}, {"by": "index"}), tensor, [request.body, request.body[:-24] + broken]))
    for adapter, options, preprocessing in UNTAKEN:
        asked.append((Interface(adapter, options, preprocessing, {"by": "index"}), picture, [b"{}"]))
    expected = [[decoded(filed, body, question) for body in bodies] for filed, question, bodies in asked]
    assert [each[0] for each in expected[: len(FILED) + 1]] == [
        question.encode().hex() for _, question, _ in asked[: len(FILED) + 1]
    ]
    assert [each[0] for each in expected[len(FILED) + 1 :]] == [None] * len(UNTAKEN)
    body = """const {decodeRequest} = await load("verify/adapters");
        const {Refused} = await load("verify/canonical");
        const {fromHex, hex} = await load("protocol");
        return Promise.all(given.asked.map(([filed, kind, shape, bodies]) => Promise.all(bodies.map(async (each) => {
          try { return hex(await decodeRequest(filed, fromHex(each), {kind, shape})); }
          catch (error) { if (error instanceof Refused) return null; throw error; }
        }))));"""
    given = [
        (filed.to_json(), question.kind, list(question.shape), [each.hex() for each in bodies])
        for filed, question, bodies in asked
    ]
    for (filed, _, _), wanted, found in zip(asked, expected, run_script(body, asked=given), strict=True):
        assert found == wanted, filed


def statement_for(question: ImageInput | TensorInput) -> Statement:
    plan = Plan(triggers=2)
    made: Any = statement_of(plan, marking_key(2, plan.classes, "A"))
    return Statement(**{**made.__dict__, "kind": question.kind, "shape": question.shape})


def decoded(interface: Interface, body: bytes, question: ImageInput | TensorInput) -> str | None:
    try:
        return AdapterCodec().decode_request(interface, body, statement_for(question)).hex()
    except (Malformed, Refused):
        return None
