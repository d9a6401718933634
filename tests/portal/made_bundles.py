"""Bundles without a service, asked by a real adapter: what `tests/unit/protocol/dispute_in_memory.py` plays, put into words
that the checkers of the command line and of the browser both read."""

import json
import struct
from dataclasses import replace
from typing import Any

from app.canonical import sha256
from app.keys.trigger_set import parse_input
from app.protocol.assessment import Assessment, Evidence, assess
from app.protocol.challenge import look_alike
from app.protocol.faults import find_fault
from app.protocol.interface import Interface
from app.protocol.transcript import AskedQuery
from app.storage.archive import pack
from app.suspects.adapter_codec import AdapterCodec
from app.suspects.adapters import load_adapter
from tests.unit.protocol.altered_evidence import reasked
from tests.unit.protocol.dispute_in_memory import (
    ARBITER_PUBLIC,
    LOG_PUBLIC,
    MemoryLog,
    Plan,
    Played,
    bundle_of,
    input_of,
    play,
)


class Spoken(Played):
    """A dispute whose questions were put by the adapter of its interface."""

    @property
    def assessment(self) -> Assessment:  # type: ignore[override]  # computed anew after each change
        return assess(self.evidence, find_fault(self.evidence, AdapterCodec(), [ARBITER_PUBLIC], log_key=LOG_PUBLIC))


def spoken(plan: Plan) -> Spoken:
    """Play a dispute and put its questions again, by the adapter."""
    played = play(plan)
    evidence = reasked(played.evidence, [_put(played.evidence, query) for query in played.evidence.queries])
    return with_evidence(Spoken(plan, played.log, played.key, evidence), evidence)


def with_evidence(played: Played, evidence: Evidence) -> Spoken:
    """The same dispute with other evidence, logged as it is."""
    log = MemoryLog(played.log.private_key, played.log.origin, played.log.start)
    log.entries = list(played.log.entries)
    named = [evidence.registration, evidence.registration_beacon, evidence.filing, evidence.filing_beacon]
    for logged in [*named, *evidence.blocks]:
        log.entries[logged.index] = logged.data
    return Spoken(played.plan, log, played.key, evidence)


def file_of(played: Played, **changes: Any) -> bytes:
    """Close a dispute and give its bundle's one file."""
    return pack(bundle_of(played, **changes))


def _put(evidence: Evidence, query: AskedQuery) -> AskedQuery:
    role, interface = query.role, evidence.record.interface
    if role.kind == "cover":
        data = input_of(role.index, "cover")
    else:
        opened = evidence.inputs[role.index].input
        data = opened if role.kind == "trigger" else look_alike(evidence.seed, role.index, opened)
    adapter = load_adapter(interface.adapter)
    request = adapter.encode_request(interface.options, interface.preprocessing, parse_input(data)).body
    response = b"" if query.record.status is None else said_by(interface, list(query.record.labels))
    record = replace(
        query.record,
        request_sha256=sha256(request),
        response_sha256=sha256(response) if response else b"",
    )
    return replace(query, record=record, request=request, response=response)


def said_by(interface: Interface, labels: list[str]) -> bytes:
    """Write an answer as a server of this kind would."""
    said = [labels[0] if len(labels) == 1 else labels]
    match interface.adapter:
        case "kserve_v1" | "vertex":
            return json.dumps({"predictions": said}).encode()
        case "gradio":
            return b"event: heartbeat\ndata: null\n\nevent: complete\ndata: " + json.dumps(said).encode() + b"\n\n"
        case "oip_v2":
            data = b"".join(struct.pack("<I", len(label)) + label.encode() for label in labels)
            output = {"name": "o", "datatype": "BYTES", "shape": [1, len(labels)]}
            output["parameters"] = {"binary_data_size": len(data)}
            return json.dumps({"outputs": [output]}).encode() + data
        case "replicate":
            return json.dumps({"id": "abcdefgh", "status": "succeeded", "output": json.dumps(said)}).encode()
        case _:
            return json.dumps(said).encode()
