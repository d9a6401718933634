"""Bundles that were tampered with, or signed by a log that lies: what `trapstreet check` refuses, the browser does, too."""

import base64
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from app.canonical import encode_json, parse_json, sha256
from app.errors import ProofError, Refused
from app.protocol.beacon import QUICKNET
from app.protocol.bundle import check_bundle
from app.protocol.interface import Interface
from app.protocol.records import VerdictEntry
from app.storage.archive import pack, unpack
from app.suspects.adapter_codec import AdapterCodec
from tests.portal.conftest import needs_browser
from tests.portal.made_bundles import file_of, spoken, with_evidence
from tests.unit.protocol.altered_evidence import reasked, relogged
from tests.unit.protocol.dispute_in_memory import (
    ARBITER_PUBLIC,
    LOG_PUBLIC,
    ROUNDS,
    Plan,
    bundle_of,
    input_of,
    seed,
)

pytestmark = needs_browser

Run = Callable[..., Any]

SMALL = Plan(triggers=12, block_size=12)
SPOKEN = spoken(SMALL)
FILES = bundle_of(SPOKEN)
GENUINE = pack(FILES)
FORGED = spoken(replace(SMALL, log_key=seed("forger")))


def edited(**changes: bytes | None) -> bytes:
    """The genuine files with some changed or, for None, left out; a name's `__` is a slash and `_x_` a dot."""
    named = {name.replace("__", "/").replace("_x_", "."): data for name, data in changes.items()}
    return pack({name: data for name, data in {**FILES, **named}.items() if data is not None})


def flipped(name: str, at: int) -> bytes:
    data = FILES[name]
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def compressed() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(FILES):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), FILES[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def lying(**stated: Any) -> bytes:
    """What a log signed that does not follow the evidence."""
    return file_of(SPOKEN, **stated)


def broken(**changes: Any) -> bytes:
    """Evidence with a fault, under a verdict that does not say so."""
    evidence = replace(SPOKEN.evidence, **changes)
    return file_of(with_evidence(SPOKEN, evidence), verdict="CONFIRMED", reason="evidence")


def asked_otherwise(kind: str, **changes: Any) -> bytes:
    """The first question of a kind changed, with everything that depends on it computed anew."""
    queries = list(SPOKEN.evidence.queries)
    n = next(query.record.n for query in queries if query.role.kind == kind)
    record = changes.pop("record", {})
    if "request" in changes:
        record["request_sha256"] = sha256(changes["request"])
    if "response" in changes:
        record["response_sha256"] = sha256(changes["response"])
    queries[n] = replace(queries[n], record=replace(queries[n].record, **record), **changes)
    evidence = reasked(SPOKEN.evidence, queries)
    return file_of(with_evidence(SPOKEN, evidence), verdict="CONFIRMED", reason="evidence")


def drawn_otherwise(name: str) -> bytes:
    """A dispute whose registration was drawn by drand, with another recorded value in its place."""
    played = spoken(replace(SMALL, beacon=QUICKNET.source))
    value = json.loads((ROUNDS / f"{name}.json").read_bytes())
    drawn = {key: bytes.fromhex(value[key]) for key in ("randomness", "signature")}
    beacon = relogged(played.evidence.registration_beacon, round=value["round"], **drawn)
    evidence = replace(played.evidence, registration_beacon=beacon)
    return file_of(with_evidence(played, evidence), verdict="CONFIRMED", reason="evidence")


def first(kind: str) -> Any:
    return next(query for query in SPOKEN.evidence.queries if query.role.kind == kind)


def report(**changes: Any) -> dict[str, bytes]:
    return {"report.json": encode_json(parse_json(FILES["report.json"]) | changes)}


def course(**changes: Any) -> dict[str, bytes]:
    return {"course.json": encode_json(parse_json(FILES["course.json"]) | changes)}


EVIDENCE = SPOKEN.evidence
INPUTS, LABELS = EVIDENCE.input_openings, EVIDENCE.label_openings
OTHER_STATEMENT = replace(EVIDENCE.statement, unmarked_model=bytes(32))
FLAGS = parse_json(FILES["report.json"])["flags"]

# Bundles that are refused; where the browser has other words for the reason, those stand beside.
TAMPERED: dict[str, tuple[Callable[[], bytes], str]] = {
    # the file
    "a byte of a file": (
        lambda: GENUINE.replace(b'"type":"trapstreet/v1/course"', b'"type":"trapstreet/v1/coursf"'),
        "",
    ),
    "a byte after the archive": (lambda: GENUINE + b"\0", "not a zip file"),
    "an archive cut short": (lambda: GENUINE[:-1], "not a zip file"),
    "files compressed": (compressed, ""),
    "another date in the archive": (lambda: GENUINE.replace(b"\x21\x00", b"\x22\x00", 1), ""),
    "no zip at all": (lambda: b"nothing", ""),
    "a file too few": (lambda: edited(course_x_json=None), ""),
    "a file too many": (lambda: edited(notes_x_txt=b""), ""),
    "an entry too many": (lambda: edited(entries__99_x_json=FILES["entries/1.json"]), ""),
    "evidence changed": (lambda: edited(queries_x_jsonl=flipped("queries.jsonl", 700)), ""),
    "the list changed": (lambda: edited(evidence_x_json=flipped("evidence.json", 60)), ""),
    "an index that is not canonical": (lambda: edited(bundle_x_json=b" " + FILES["bundle.json"]), ""),
    "an index with a key twice": (
        lambda: edited(bundle_x_json=FILES["bundle.json"].replace(b'"filing":', b'"filing":3,"filing":', 1)),
        "not canonical",
    ),
    # the log
    "an entry changed": (lambda: edited(entries__1_x_json=FILES["entries/2.json"]), ""),
    "a receipt for another entry": (
        lambda: edited(receipts__1_x_txt=FILES["receipts/2.txt"]),
        "",
    ),
    "a receipt of an older checkpoint": (
        lambda: edited(receipts__1_x_txt=SPOKEN.log.receipt(1).encode()),
        "",
    ),
    "a checkpoint's signature": (
        lambda: edited(receipts__1_x_txt=FILES["receipts/1.txt"][:-9] + b"AAAAAAA=\n"),
        "does not fit the checkpoint",
    ),
    "a forger's log": (lambda: file_of(FORGED), ""),
    "a forger's log under the genuine name": (
        lambda: pack(
            bundle_of(FORGED)
            | {"bundle.json": encode_json(parse_json(bundle_of(FORGED)["bundle.json"]) | {"log_key": LOG_PUBLIC.hex()})}
        ),
        "entry 0: the checkpoint is not signed with the log key",
    ),
    "a statement for another log": (
        lambda: file_of(spoken(replace(SMALL, registered_for="another.example/log"))),
        "",
    ),
    # what the log signed but does not follow
    "another verdict": (lambda: lying(verdict="NOT_SUPPORTED"), "but the log says NOT_SUPPORTED"),
    "another reason": (lambda: lying(reason="luck"), "but the log says CONFIRMED (luck)"),
    "fewer matches": (lambda: lying(matches=3), "3 of"),
    "a void that nothing voids": (lambda: lying(verdict="VOID", reason="check_failed"), "but the log says VOID"),
    "another blind": (lambda: lying(blind=bytes(32)), ""),
    "a verdict of another filing": (lambda: lying(filing=0), ""),
    "another list": (lambda: lying(bundle=bytes(32)), ""),
    "a figure of the report": (lambda: lying(files=report(log2_e="99")), ""),
    "a sentence of the report": (lambda: lying(files=report(says="It is stolen.")), ""),
    "a flag of the report": (lambda: lying(files=report(flags=FLAGS | {"accuracy": {}})), ""),
    "no questions": (lambda: lying(files={"queries.jsonl": b""}), ""),
    "questions cut short": (lambda: lying(files={"queries.jsonl": b"{}"}), ""),
    "a question without keys": (lambda: lying(files={"queries.jsonl": b"{}\n"}), ""),
    "a course that was cut": (lambda: lying(files=course(blocks_done=0)), "but the log says"),
    "another end": (lambda: lying(files=course(end="budget")), ""),
    "a withdrawal that is none": (
        lambda: file_of(spoken(Plan(blocks=0, end="withdrawn")), entry=VerdictEntry),
        "",
    ),
    # beacons, signatures, interface
    "a nonce of choice": (
        lambda: broken(registration_beacon=relogged(EVIDENCE.registration_beacon, nonce=bytes(32))),
        "",
    ),
    "a round of choice": (lambda: broken(registration_beacon=relogged(EVIDENCE.registration_beacon, round=99)), ""),
    "randomness of choice": (
        lambda: broken(filing_beacon=relogged(EVIDENCE.filing_beacon, randomness=b"\x01" * 32)),
        "",
    ),
    "another source": (
        lambda: broken(registration_beacon=relogged(EVIDENCE.registration_beacon, source="drand:" + "ab" * 32)),
        "",
    ),
    "a drand round that nobody drew": (lambda: drawn_otherwise("quicknet_signature_negated_fail"), ""),
    "a drand round of another time": (lambda: drawn_otherwise("quicknet_1002"), ""),
    "randomness that no drand round gave": (lambda: drawn_otherwise("quicknet_randomness_bit_fail"), ""),
    "a statement that nobody signed": (
        lambda: broken(registration=relogged(EVIDENCE.registration, statement=OTHER_STATEMENT)),
        "",
    ),
    "a filing that nobody signed": (lambda: broken(signature=bytes(64)), ""),
    "a stranger's countersignature": (
        lambda: file_of(spoken(replace(SMALL, origin="countersigned"))),
        "",
    ),
    # openings
    "an input opened twice": (lambda: broken(input_openings=(*INPUTS, INPUTS[0])), ""),
    "an input that was not registered": (
        lambda: broken(input_openings=(replace(INPUTS[0], input=input_of(99)), *INPUTS[1:])),
        "",
    ),
    "a label key that was not committed": (
        lambda: broken(label_openings=(replace(LABELS[0], label_key=bytes(32)), *LABELS[1:])),
        "",
    ),
    "a label chosen in class A": (lambda: broken(label_openings=(replace(LABELS[0], label=1), *LABELS[1:])), ""),
    "a label without its input": (lambda: broken(input_openings=INPUTS[1:]), ""),
    # blocks and questions
    "questions out of order": (
        lambda: file_of(
            with_evidence(SPOKEN, reasked(EVIDENCE, [EVIDENCE.queries[1], EVIDENCE.queries[0], *EVIDENCE.queries[2:]])),
            verdict="CONFIRMED",
            reason="evidence",
        ),
        "",
    ),
    "a head over other questions": (
        lambda: broken(blocks=tuple(relogged(block, head=bytes(32)) for block in EVIDENCE.blocks)),
        "",
    ),
    "another role": (lambda: asked_otherwise("trigger", role=replace(first("trigger").role, kind="look-alike")), ""),
    "a role without its blind": (lambda: asked_otherwise("cover", blind=bytes(32)), ""),
    "asked too often": (lambda: asked_otherwise("trigger", record={"attempt": 2}), ""),
    "another request": (lambda: asked_otherwise("trigger", request=first("cover").request), ""),
    "a request that was not recorded": (
        lambda: asked_otherwise("trigger", record={"request_sha256": bytes(32)}),
        "",
    ),
    "a request that carries more": (
        lambda: asked_otherwise("trigger", request=first("trigger").request.replace(b"}", b',"hint":1}')),
        "",
    ),
    "a request that is no JSON": (lambda: asked_otherwise("trigger", request=b"{"), "the request is not JSON"),
    "another label than the response's": (lambda: asked_otherwise("trigger", record={"labels": ("class 0",)}), ""),
    "another response": (
        lambda: asked_otherwise("look-alike", response=b'{"predictions": ["class 99"]}'),
        "",
    ),
    "an answer without its response": (
        lambda: asked_otherwise("cover", record={"status": None}),
        "",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_the_command_line_refuses_the_browser_refuses_for_the_same_reason(run_script: Run, name: str):
    make, words = TAMPERED[name]
    data = make()
    arbiters = [] if "stranger" in name else [ARBITER_PUBLIC]
    with pytest.raises((Refused, ProofError)) as caught:
        check_bundle(unpack(data), AdapterCodec(), log_key=LOG_PUBLIC, arbiter_keys=arbiters)
    said = in_browser(run_script, data, arbiters)
    if words:
        assert words in said, (caught.value.message, said)
    else:
        assert said == caught.value.message


def in_browser(run_script: Run, data: bytes, arbiters: list[bytes]) -> str:
    """Check a bundle in the browser: what came out, or the refusal."""
    body = """const {checkBundle} = await load("verify/bundle");
        const {Refused} = await load("verify/canonical");
        const {fromBase64} = await load("protocol");
        try { return (await checkBundle(fromBase64(given.data), given.keys, () => {})).outcome; }
        catch (error) { return error instanceof Refused ? error.message : `broke: ${error.stack}`; }"""
    keys = {"logKey": LOG_PUBLIC.hex(), "arbiterKeys": [key.hex() for key in arbiters]}
    return str(run_script(body, data=base64.b64encode(data).decode(), keys=keys))


RAW = {"model": "m", "binary": True}
# What stands in an answer, and what somebody puts there.
OTHERS: list[tuple[str, dict[str, Any], bytes, bytes]] = [
    ("gradio", {}, b'["class', b'["glass'),
    ("gradio", {}, b"heartbeat", b"complete"),
    ("vertex", {"encoding": "flat"}, b'["class', b'["glass'),
    ("oip_v2", RAW, b"class", b"glass"),
    ("oip_v2", RAW, b'_size": 1', b'_size": 2'),
    ("replicate", {"version": "ab" * 32, "encoding": "nested"}, b"succeeded", b"failed"),
    ("sagemaker", {"encoding": "flat", "envelope": "bare"}, b'["class', b'["glass'),
]


@pytest.mark.parametrize(("adapter", "options", "said", "instead"), OTHERS)
def test_what_other_protocols_carried_is_held_to_the_record_as_well(
    run_script: Run, adapter: str, options: dict[str, Any], said: bytes, instead: bytes
):
    filed = Interface(adapter, options, {}, {"by": "name"})
    played = spoken(replace(SMALL, interface=filed.encode()))
    assert in_browser(run_script, file_of(played), []) == "verified"
    first, second, *others = played.evidence.queries
    assert said in first.response
    for key, value in (("request", second.request), ("response", first.response.replace(said, instead, 1))):
        record = replace(first.record, **{f"{key}_sha256": sha256(value)})
        changed = replace(first, record=record, **{key: value})
        evidence = reasked(played.evidence, [changed, second, *others])
        data = file_of(with_evidence(played, evidence), verdict="CONFIRMED", reason="evidence")
        with pytest.raises((Refused, ProofError)) as caught:
            check_bundle(unpack(data), AdapterCodec(), log_key=LOG_PUBLIC)
        assert in_browser(run_script, data, []) == caught.value.message
