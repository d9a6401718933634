"""The browser's checker part by part, against Python and the protocol's vectors: the same values, the same refusals."""

import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.canonical import sha256
from app.errors import Malformed, Refused
from app.keys.statement import Statement, fold_name
from app.keys.trigger_set import ImageInput, TensorInput
from app.protocol import bls
from app.protocol.beacon import QUICKNET
from app.protocol.challenge import look_alike
from app.protocol.evidence import clopper_pearson_lower, decimal_text, fisher_tail, log2_text
from app.protocol.flags import rate_below
from app.protocol.interface import Interface
from app.suspects.adapter_codec import AdapterCodec
from app.suspects.adapters import ADAPTERS, read_answer
from tests.portal.conftest import needs_browser
from tests.unit.protocol.dispute_in_memory import Plan, marking_key, statement_of

pytestmark = needs_browser

Run = Callable[..., Any]

VECTORS = Path(__file__).parents[1] / "vectors"
PROTOCOL = json.loads((VECTORS / "protocol-v1.json").read_text())
GIVEN = "const {fromHex, hex, utf8} = await load('protocol');"


@pytest.fixture(name="run_script")
def run_with_bytes(run_script: Run) -> Run:
    """The same, with hex and UTF-8 at hand."""
    return lambda body, **given: run_script(GIVEN + body, **given)


def cases(folder: str) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in sorted((VECTORS / folder).glob("*.json"))}


def hold(run_script: Run, body: str, vectors: dict[str, Any]) -> None:
    """Hold every vector to its name: those that end in `_fail` are refused, by a refusal and no other error."""
    loop = f"""const {{Refused}} = await load("verify/canonical");
        const said = {{}};
        const check = async (vector) => {{ {body} }};
        for (const [name, vector] of Object.entries(given.vectors)) {{
          try {{ await check(vector); said[name] = ""; }}
          catch (error) {{ said[name] = error instanceof Refused ? error.message : `broke: ${{error.stack}}`; }}
        }}
        return said;"""
    said = run_script(loop, vectors=vectors)
    assert [message for message in said.values() if message.startswith("broke")] == []
    assert {name for name, message in said.items() if message} == {name for name in vectors if name.endswith("_fail")}


# --- the protocol's vectors ---------------------------------------------------------------------------------------------


def test_receipts_hold_or_are_refused_as_their_vectors_say(run_script: Run):
    body = """const {verifierOf, verifyReceipt} = await load("verify/log");
        const verifier = verifierOf(vector.origin, fromHex(vector.log_key));
        await verifyReceipt(utf8(vector.receipt), fromHex(vector.entry), verifier);"""
    hold(run_script, body, cases("receipt"))


def test_inputs_hold_or_are_refused_as_their_vectors_say(run_script: Run):
    hold(
        run_script,
        'const {parseInput} = await load("verify/challenge"); parseInput(fromHex(vector.hex));',
        cases("input"),
    )


def test_entries_hold_or_are_refused_as_their_vectors_say(run_script: Run):
    body = 'const {parseEntry} = await load("verify/records"); parseEntry(utf8(vector.text));'
    kinds = ("registration", "beacon", "filing", "block", "model", "verdict", "withdrawal", "notice", "answer")
    hold(run_script, body, {name: case for name, case in cases("record").items() if case["kind"] in kinds})


def test_statements_hold_or_are_refused_as_their_vectors_say(run_script: Run):
    body = """const {parseRecord} = await load("verify/canonical");
        const {statement} = await load("verify/records");
        if (parseRecord(statement, utf8(vector.statement)).log !== vector.log) throw new Refused("of another log");"""
    hold(run_script, body, cases("statement"))


def test_beacons_hold_or_are_refused_as_their_vectors_say(run_script: Run):
    body = """const {verifyBeacon} = await load("verify/beacon");
        verifyBeacon(vector, {index: vector.entry_index, time: vector.entry_time});"""
    hold(run_script, body, cases("beacon"))


def affine(point):
    x, y, z = point
    return x / z, y / z


def test_points_of_the_curve_are_read_and_messages_hashed_to_it_as_python_does(run_script: Run):
    messages = [hashlib.shake_256(bytes([at])).digest(at) for at in range(6)]
    body = """const {QUICKNET_KEY, hashToCurve} = await load("verify/bls");
        const plain = (numbers) => numbers.map(String);
        return [QUICKNET_KEY.map(plain), given.messages.map((each) => plain(hashToCurve(fromHex(each))))];"""
    key = [[str(int(part)) for part in one.coeffs] for one in affine(bls.public_point(QUICKNET.public_key))]
    hashed = [[str(int(one)) for one in affine(bls.hash_to_G1(each, bls.DST, hashlib.sha256))] for each in messages]
    assert run_script(body, messages=[each.hex() for each in messages]) == [key, hashed]


def test_signatures_hold_or_are_refused_as_their_vectors_say(run_script: Run):
    body = """const {checkSignature} = await load("verify/log");
        await checkSignature(fromHex(vector.public_key), fromHex(vector.signature), utf8(vector.text));"""
    hold(run_script, body, cases("signature"))


def test_walks_and_evidence_of_the_protocols_vectors_are_reproduced(run_script: Run):
    body = """const {evidencePath, threshold, walk} = await load("verify/evidence");
        const {log2Text} = await load("verify/decimal");
        const stepOf = (step) => step === null
          ? {outcome: "no-answer", group: 1, classes: 2}
          : {outcome: step[0] ? "match" : "mismatch", group: step[1], classes: step[2]};
        const walks = given.walks.map((one) => {
          const bound = threshold({bits: one.bits ?? 64, interfaceBits: one.interface_bits ?? 0,
            families: one.families ?? 1, ordinal: one.ordinal ?? 1, isRanking: false});
          const ended = walk(one.steps.map(stepOf), bound);
          return [ended.end, ended.asked];
        });
        const evidence = given.evidence.map(({matched, p}) => {
          const steps = [...matched].map((x) => ({outcome: x === "1" ? "match" : "mismatch", group: p[0], classes: p[1]}));
          return log2Text(...[...evidencePath(steps)].at(-1));
        });
        return [walks, evidence];"""
    walks, evidence = run_script(body, walks=PROTOCOL["walks"], evidence=PROTOCOL["evidence"])
    assert walks == [one["ends"] for one in PROTOCOL["walks"]]
    assert evidence == [one["log2_e_last"] for one in PROTOCOL["evidence"]]


def test_labels_and_the_challenge_of_the_protocols_vectors_are_reproduced(run_script: Run):
    body = """const {challengeOrder, labelDrawer, saltOf, seedOf} = await load("verify/challenge");
        const {MarkingKey, imageInput} = await load("keys");
        return Promise.all(given.vectors.map(async (vector) => {
          const salt = saltOf(vector.beacon, fromHex(vector.root), fromHex(vector.beacon.entry_hash));
          const seed = seedOf(vector.challenge, fromHex(vector.challenge.entry_hash));
          const key = new MarkingKey(fromHex(vector.master), [imageInput([1, 1, 1], new Uint8Array(1))]);
          const draw = labelDrawer(salt, vector.classes);
          const labels = await Promise.all(vector.labels.map(async (_, at) => draw(await key.labelKey(at), at)));
          const [start, end] = vector.order_range;
          return {salt: hex(salt), challenge_seed: hex(seed), order: challengeOrder(seed, {start, end}), labels};
        }));"""
    vectors = [one for one in PROTOCOL["commitments"] if one["count"] <= 256]
    found = run_script(body, vectors=vectors)
    assert found == [{name: one[name] for name in ("salt", "challenge_seed", "order", "labels")} for one in vectors]


# --- hashes and numbers -------------------------------------------------------------------------------------------------


def test_hashes_of_every_length_around_a_block_are_pythons(run_script: Run):
    body = """const {hmac, sha256} = await load("verify/hash");
        const bytes = Uint8Array.from({length: 300}, (_, at) => (at * 7) % 256);
        const starts = Array.from({length: 300}, (_, at) => bytes.slice(0, at));
        return starts.map((start) => [hex(sha256(start)), hex(hmac(start, bytes))]);"""
    data = bytes(at * 7 % 256 for at in range(300))
    expected = [
        [hashlib.sha256(data[:at]).hexdigest(), hmac.digest(data[:at], data, hashlib.sha256).hex()] for at in range(300)
    ]
    assert run_script(body) == expected


def numbers(count: int) -> list[tuple[int, int]]:
    """Fractions of all sizes, powers of two among them, the same each time."""
    made = []
    for number in range(count):
        digest = hashlib.shake_256(number.to_bytes(4, "big")).digest(200)
        above, below = digest[: 1 + digest[0] % 100], digest[100 : 101 + digest[1] % 100]
        pair = int.from_bytes(above, "big") + 1, int.from_bytes(below, "big") + 1
        made.append(
            (1 << digest[2], pair[1]) if number % 5 == 0 else (pair[0], 1 << digest[3]) if number % 7 == 0 else pair
        )
    return [*made, (1, 1), (2**65, 1), (1, 2**65), (10**30, 10**29), (5 * 2**73, 5)]


def test_printed_decimals_are_pythons_to_the_last_digit(run_script: Run):
    body = """const {decimalText, log2Text} = await load("verify/decimal");
        const pairs = given.pairs.map((pair) => pair.map(BigInt));
        return pairs.map(([a, b]) => [log2Text(a, b), a < b ? decimalText(a, b) : ""]);"""
    pairs = numbers(600)
    expected = [[log2_text(a, b), decimal_text(a, b) if a < b else ""] for a, b in pairs]
    assert run_script(body, pairs=[[str(a), str(b)] for a, b in pairs]) == expected


def test_bounds_and_tails_are_pythons(run_script: Run):
    counts = [(hits, of) for of in (0, 1, 7, 60, 200) for hits in sorted({0, 1, of // 2, of}) if hits <= of]
    body = """const {clopperPearsonLower, fisherTail} = await load("verify/evidence");
        const lower = (hits, of) => (of ? clopperPearsonLower(hits, of) : "");
        return given.counts.map(([hits, of]) => [lower(hits, of), fisherTail(hits, of, 3, 50).map(String)]);"""
    expected = [
        [clopper_pearson_lower(hits, of) if of else "", list(map(str, fisher_tail(hits, of, 3, 50)))]
        for hits, of in counts
    ]
    assert run_script(body, counts=counts) == expected
    assert rate_below(50, 60) == int(float(clopper_pearson_lower(50, 60)) * 2**32)


def test_look_alikes_are_pythons(run_script: Run):
    pictures = [ImageInput(9, 13, 3, hashlib.shake_256(b"x").digest(351)), ImageInput(8, 8, 1, bytes(range(64)))]
    inputs = [one.encode() for one in (*pictures, TensorInput.of((5, 10), list(range(50))))]
    body = """const {lookAlike} = await load("verify/challenge");
        return given.inputs.map((each, at) => hex(lookAlike(fromHex(given.seed), at, fromHex(each))));"""
    seed = sha256(b"look-alikes")
    found = run_script(body, inputs=[each.hex() for each in inputs], seed=seed.hex())
    assert found == [look_alike(seed, at, each).hex() for at, each in enumerate(inputs)]


def test_class_names_are_compared_as_python_compares_them(run_script: Run):
    names = [
        "Stra\u00dfe",
        " \u0130stanbul\x85",
        "\u03a3\u03c2\u03c3",
        "\u0131",
        "\u1e9e",
        "\u13a0\uab70",
        "e\u0301",
        "\ufb01",
        "\x1fa\ufeff",
        "A z",
    ]
    body = 'const {foldName} = await load("verify/records"); return given.names.map(foldName);'
    assert run_script(body, names=names) == [fold_name(name) for name in names]


# --- requests and answers -----------------------------------------------------------------------------------------------

BODIES = [
    b'{"predictions": [[0.1, 0.9, 0.9]]}',
    b'{"predictions": [[1, 0.5, 1.0]]}',
    b'{"predictions": [0.7]}',
    b'{"predictions": [1]}',
    b'{"predictions": [null]}',
    b'{"predictions": ["a"]}',
    b'{"predictions": [["a", "b", "a"]]}',
    b'{"predictions": [["a", "b"]]}',
    b'{"predictions": [{"10": 0.5, "2": 0.5, "1": 0.1}]}',
    b'{"predictions": [{"label": "x", "score": 1e999}]}',
    b'{"predictions": [[{"label": "x", "score": NaN}]]}',
    b'{"predictions": [[{"label": "x", "score": 1}, {"label": "y", "score": 1.5}]]}',
    b'{"predictions": [[["x", 0.2], ["y", 0.8]]]}',
    b'{"predictions": [{"labels": ["x", "y"], "scores": [1, 2, 3]}]}',
    b'{"predictions": [{"class": 3, "score": 0.5}]}',
    b'{"predictions": [12345678901234567890123]}',
    b'{"predictions": ["\\ud800"]}',
    b'{"predictions": ["\\ud83d\\ude00"]}',
    b'{"predictions": ["' + b"x" * 201 + b'"]}',
    b'{"predictions": [[1, 2, "3"]]}',
    b'{"predictions": [[true, false, true]]}',
    b'{"predictions": [1], "predictions": [2]}',
    b'{"predictions": [01]}',
    b'{"predictions": [-0]}',
    b'{"predictions": [1.]}',
    b'{"predictions": ["\x01"]}',
    b'{"predictions": [[0.1,0.2,0.3],[1,2,3]]}',
    b'{"predictions": {}}',
    b"\xef\xbb\xbf{}",
    b'{"predictions": ["\xff"]}',
    b"[" * 33 + b"]" * 33,
    b'["[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["]',
    b"",
    b"null",
    b'{"predictions": [' + b"9" * 4301 + b"]}",
]


@pytest.mark.parametrize("by", ["index", "name"])
def test_answers_are_read_as_python_reads_them(run_script: Run, by: str):
    interface = Interface("kserve_v1", {"model": "m"}, {}, {"by": by})
    body = """const {readAnswer} = await load("verify/adapters");
        return given.bodies.map((each) => [false, true].map((ranking) => {
          const {labels, error} = readAnswer(given.filed, 3, 200, fromHex(each), ranking);
          return [labels, error];
        }));"""
    found = run_script(body, bodies=[each.hex() for each in BODIES], filed=interface.to_json())
    for data, said in zip(BODIES, found, strict=True):
        expected = [read_answer(interface, 3, 200, data, ranking=ranking) for ranking in (False, True)]
        assert said == [[list(labels), error] for labels, error in expected], data[:80]


TEMPLATE = {"a": [1, {"b": {"$input": "pixels_nested"}}], "none": None, "yes": True}
FILED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("kserve_v1", {"model": "m"}, {}),
    (
        "kserve_v1",
        {"model": "m"},
        {"dtype": "float32", "scale": "0..1", "layout": "chw", "mean": [485] * 3, "std": [229] * 3},
    ),
    ("kserve_v1", {"model": "m", "encoding": "png_base64"}, {"size": [9, 7]}),
    ("oip_v2", {"model": "m", "output_name": "o"}, {"dtype": "float32"}),
    ("generic_json", {"template": TEMPLATE, "path": "@", "result": "any"}, {"layout": "chw"}),
    ("tf_serving", {"model": "m", "columnar": True, "input_name": "q", "signature_name": "s"}, {}),
    ("tf_serving", {"model": "m", "encoding": "png_base64"}, {}),
    ("mlflow", {"envelope": "dataframe_split", "encoding": "png_data_url"}, {}),
    ("mlflow", {"envelope": "instances", "input_name": "x"}, {"layout": "flat"}),
    ("bentoml", {}, {}),
    ("litserve", {"batch": True}, {}),
    ("ray_serve", {}, {}),
]


def variants(body: bytes) -> list[bytes]:
    """A request, and what somebody might make of it."""
    at = len(body) // 2
    flipped = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
    return [
        body,
        flipped,
        body + b" ",
        body + b"0",
        body[:-1],
        body[:at] + b"1" + body[at:],
        body.replace(b"{", b'{"more":1,', 1),
        b"",
    ]


@pytest.mark.parametrize(("adapter", "options", "preprocessing"), FILED)
def test_requests_are_decoded_as_python_decodes_them(
    run_script: Run, adapter: str, options: dict[str, Any], preprocessing: dict[str, Any]
):
    picture = ImageInput(4, 5, 3, hashlib.shake_256(adapter.encode()).digest(60))
    interface = Interface(adapter, options, preprocessing, {"by": "index"})
    bodies = variants(ADAPTERS[adapter].encode_request(options, preprocessing, picture).body)
    statement = statement_for(picture)
    expected = [decoded(interface, body, statement) for body in bodies]
    assert expected[0] == picture.encode().hex()
    body = """const {decodeRequest} = await load("verify/adapters");
        const {Refused} = await load("verify/canonical");
        return Promise.all(given.bodies.map(async (each) => {
          try { return hex(await decodeRequest(given.filed, fromHex(each), {kind: "image", shape: [4, 5, 3]})); }
          catch (error) { if (error instanceof Refused) return null; throw error; }
        }));"""
    assert run_script(body, bodies=[each.hex() for each in bodies], filed=interface.to_json()) == expected


def statement_for(picture: ImageInput) -> Statement:
    plan = Plan(triggers=2)
    made: Any = statement_of(plan, marking_key(2, plan.classes, "A"))
    return Statement(**{**made.__dict__, "kind": "image", "shape": picture.shape})


def decoded(interface: Interface, body: bytes, statement: Statement) -> str | None:
    try:
        return AdapterCodec().decode_request(interface, body, statement).hex()
    except (Malformed, Refused):
        return None
