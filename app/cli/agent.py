"""The agent: answers every opening of a vendor's disputes from a key file, until stopped.

It believes the service nothing that the log does not prove. Before an input is opened: the vendor's own key signed the
filing record, the filing in the log hides exactly that record, registration, filing and the filing's beacon are in the log,
the beacon follows the rule, and the triggers asked for are exactly the next block of the challenge. Before a label key is
opened: the head of its block is in the log, after the beacon.

Invariants: no state of its own, so a killed agent resumes by looking again; openings are derived, so sending one twice is
the same bytes.
Source: protocol.md sections 5.3 and 5.4.
"""

from collections.abc import Callable
from typing import Any

from app.canonical import sha256
from app.cli.client import ApiClient, ApiProblem
from app.errors import Malformed, ProofError, SignatureInvalid
from app.keys.commitment import MarkingKey
from app.protocol.assessment import Logged, beacon_value
from app.protocol.beacon import verify_beacon
from app.protocol.challenge import challenge_order, seed_of
from app.protocol.records import BeaconEntry, BlockEntry, FilingEntry, FilingRecord, RegistrationEntry
from app.signature import verify_signature

OnEvent = Callable[[dict[str, Any]], None]


class Agent:
    """One marking key and the disputes of its registration."""

    def __init__(self, client: ApiClient, key: MarkingKey, on_event: OnEvent) -> None:
        """Answer for `key` through `client`, telling `on_event` what was done or refused."""
        self._client = client
        self._key = key
        self._root = key.root()
        self._on_event = on_event
        self._orders: dict[str, list[int]] = {}
        self._refused: set[tuple[str, str]] = set()

    def answer_all(self) -> int:
        """Answer what is asked for now; give the number of blocks opened."""
        opened = 0
        for dispute in self._client.items("/v1/disputes", needs_opening="true"):
            try:
                opened += self._answer(self._client.get(f"/v1/disputes/{dispute['id']}"))
            except (ProofError, SignatureInvalid, Malformed) as error:
                self._refuse(dispute["id"], error.message)
            except ApiProblem as problem:
                # The dispute moved on between our two calls, for instance because another agent answers too.
                if problem.status != 409:
                    raise
        return opened

    def _answer(self, dispute: dict[str, Any]) -> int:
        needs = dispute["needs"]
        order = self._order(dispute)
        if order is None:
            return 0
        opened = 0
        if labels := needs["labels"]:
            self._check_indices(dispute, order, labels)
            self._check_head(dispute, labels)
            self._send(dispute, "label", labels, [self._key.open_label(index).to_json() for index in labels["indices"]])
            opened += 1
        if inputs := needs["inputs"]:
            self._check_indices(dispute, order, inputs)
            self._send(dispute, "input", inputs, [self._key.open_input(index).to_json() for index in inputs["indices"]])
            opened += 1
        return opened

    def _order(self, dispute: dict[str, Any]) -> list[int] | None:
        """Derive the challenge from the log, or give None if the dispute is not of this key's registration."""
        if dispute["id"] in self._orders:
            return self._orders[dispute["id"]]
        record = FilingRecord.parse(dispute["record"].encode())
        registration = _expect(self._client.log.entry(record.registration), RegistrationEntry)
        statement = registration.statement
        if statement.root != self._root:
            return None
        filing = self._client.log.entry(dispute["filing_index"])
        entry = _expect(filing, FilingEntry)
        beacon = _expect(self._client.log.entry(dispute["beacon_index"]), BeaconEntry)
        if entry.registration != record.registration or beacon.entry != filing.index:
            raise ProofError("the filing or its beacon in the log is another dispute's")
        verify_signature(statement.vendor_key, bytes.fromhex(dispute["signature"]), record.encode())
        if entry.record_hash != record.hidden_hash(bytes.fromhex(dispute["blind"])):
            raise ProofError("the filing in the log hides another record than the one shown")
        if sha256(beacon.nonce) != entry.nonce_hash or beacon.source != statement.beacon:
            raise ProofError("the beacon does not open the filing's nonce")
        verify_beacon(
            beacon.source,
            beacon.round,
            beacon.randomness,
            beacon.signature,
            entry_index=filing.index,
            entry_time=entry.time,
        )
        family = statement.family(record.family)
        seed = seed_of(beacon_value(beacon), sha256(filing.data))
        order = challenge_order(seed, family)[: record.policy.max_triggers]
        self._orders[dispute["id"]] = order
        return order

    def _check_indices(self, dispute: dict[str, Any], order: list[int], need: dict[str, Any]) -> None:
        size = FilingRecord.parse(dispute["record"].encode()).policy.block_size
        if need["indices"] != order[need["block"] * size : (need["block"] + 1) * size]:
            raise ProofError(f"block {need['block']} asked for is not the next one of the challenge")

    def _check_head(self, dispute: dict[str, Any], need: dict[str, Any]) -> None:
        head = _expect(self._client.log.entry(need["entry_index"]), BlockEntry)
        is_late = need["entry_index"] > dispute["beacon_index"]
        if (head.filing, head.block, is_late) != (dispute["filing_index"], need["block"], True):
            raise ProofError(f"the head of block {need['block']} is not in the log")

    def _send(self, dispute: dict[str, Any], what: str, need: dict[str, Any], openings: list[dict[str, Any]]) -> None:
        body = {"block": need["block"], "openings": openings}
        self._client.post(f"/v1/disputes/{dispute['id']}/{what}-openings", body)
        self._on_event(
            {"event": "opened", "dispute": dispute["id"], "what": what, "block": need["block"], "count": len(openings)}
        )

    def _refuse(self, dispute_id: str, reason: str) -> None:
        if (dispute_id, reason) not in self._refused:
            self._refused.add((dispute_id, reason))
            self._on_event({"event": "refused", "dispute": dispute_id, "reason": reason})


def _expect(logged: Logged, kind: type[Any]) -> Any:
    if not isinstance(logged.entry, kind):
        raise ProofError(f"entry {logged.index} is not the {kind.__name__} that the service says it is")
    return logged.entry
