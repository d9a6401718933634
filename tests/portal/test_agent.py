"""The agent of a tab under a watermark whose beacon is drand: it opens what rounds of the chain draw, and nothing else."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from app.keys.key_file import encode_key_file
from app.protocol.beacon import QUICKNET
from tests.portal.conftest import needs_browser
from tests.portal.made_bundles import with_evidence
from tests.unit.protocol.altered_evidence import relogged
from tests.unit.protocol.dispute_in_memory import LOG_PUBLIC, ORIGIN, ROUNDS, Plan, Played, play

pytestmark = needs_browser

Run = Callable[..., Any]

PLAYED = play(Plan(triggers=4, block_size=4, beacon=QUICKNET.source))


def drawn_otherwise(name: str, **changes: Any) -> Played:
    """The same dispute, its challenge drawn by another recorded value, in a log that the service signed."""
    value = json.loads((ROUNDS / f"{name}.json").read_bytes())
    drawn: dict[str, Any] = {key: bytes.fromhex(value[key]) for key in ("randomness", "signature")}
    beacon = relogged(PLAYED.evidence.filing_beacon, **{"round": value["round"]} | drawn | changes)
    return with_evidence(PLAYED, replace(PLAYED.evidence, filing_beacon=beacon))


def told(played: Played) -> dict[str, Any]:
    """What a service shows of a dispute, and of its log."""
    evidence = played.evidence
    return {
        "dispute": {
            "record": evidence.record.encode().decode(),
            "signature": evidence.signature.hex(),
            "blind": evidence.blind.hex(),
            "filing_index": evidence.filing.index,
            "beacon_index": evidence.filing_beacon.index,
            "needs": {"labels": None, "inputs": {"block": 0, "indices": list(evidence.order[:4])}},
            "state": "running",
            "verdict": None,
        },
        "entries": [base64.b64encode(entry).decode() for entry in played.log.entries],
        "receipts": [played.log.receipt(index) for index in range(len(played.log.entries))],
        "registration": evidence.registration.index,
    }


def test_a_block_is_opened_if_and_only_if_drand_drew_it(run_script: Run):
    shown = {
        "genuine": told(PLAYED),
        "of another time": told(drawn_otherwise("quicknet_1002")),
        "chosen randomness": told(drawn_otherwise("quicknet_1001", randomness=bytes(32))),
        "under another name": told(drawn_otherwise("quicknet_1000", round=1001)),
        "cut short": told(drawn_otherwise("quicknet_1001", signature=b"")),
    }
    body = """const {fromBase64, fromHex, utf8} = await load("protocol");
        const {Agent, ProofError} = await load("agent");
        const {openKeyFile} = await load("keys");
        const {LogView} = await load("log_view");
        const {verifierOf} = await load("verify/log");
        const key = await openKeyFile(fromBase64(given.key), "");
        const said = {};
        for (const [name, {dispute, entries, receipts, registration}] of Object.entries(given.shown)) {
          const ask = async (path) => {
            const [, index, receipt] = path.match(/^\\/v1\\/log\\/entries\\/(\\d+)(\\/receipt)?$/);
            return receipt ? utf8(receipts[index]) : fromBase64(entries[index]);
          };
          const posted = [];
          const service = {get: async () => dispute, post: async (path, sent) => posted.push([path, sent.openings])};
          const log = new LogView(ask, verifierOf(given.origin, fromHex(given.logKey)));
          const agent = new Agent(service, log, key, await key.root(), "d", registration);
          try { await agent.answer(); said[name] = posted; }
          catch (error) {
            said[name] = error instanceof ProofError && !posted.length ? error.message : `broke: ${error.stack}`;
          }
        }
        return said;"""
    key = base64.b64encode(encode_key_file(PLAYED.key)).decode()
    said = run_script(body, shown=shown, key=key, origin=ORIGIN, logKey=LOG_PUBLIC.hex())
    expected = [PLAYED.key.open_input(index).to_json() for index in PLAYED.evidence.order[:4]]
    assert said.pop("genuine") == [["/v1/disputes/d/input-openings", expected]]
    assert said == {
        "of another time": f"the beacon of entry 3 is round 1001 of {QUICKNET.source}, not 1002",
        "chosen randomness": "the randomness of a drand round is SHA-256 of its signature",
        "under another name": "the signature is not the chain's over this round",
        "cut short": "the randomness of a drand round is SHA-256 of its signature",
    }
