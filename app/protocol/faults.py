"""The checks that make a verdict VOID, or a bundle a forgery: the service runs them once, an auditor again.

  1. the registration's and the filing's beacons follow the rule and open their nonces
  2. the vendor key signed the statement and the filing record; the log's filing entry hides exactly that record
  3. an interface said to be logged, countersigned or derived is; covers said to be the committed ones are
  4. opened inputs and labels fit the registered root
  5. blocks are slices of the challenge order, asked among as many covers as the policy says; heads chain over exactly the
     queries shown
  6. each query's role opens its commitment, was asked no more often than the policy allows, its request decodes to the
     input that role names, its labels are what its response says
  7. weights that the accused delivered do not show that the endpoint's answers are older than the registration's beacon

Invariants: pure; the first thing that does not hold is named.
Source: docs/protocol.md section 9.2; Adi et al. 2018 section 4 (Verify, step 2).
"""

from collections.abc import Sequence
from typing import Protocol

from app.canonical import sha256
from app.errors import OpeningInvalid, ProofError, Refused
from app.keys.commitment import verify_input_opening, verify_label_opening
from app.keys.statement import Statement
from app.protocol.assessment import Evidence, Logged, expect
from app.protocol.beacon import verify_beacon
from app.protocol.challenge import is_repeated, look_alike
from app.protocol.interface import Interface
from app.protocol.records import BeaconEntry, BlockEntry, FilingEntry, FilingRecord, ModelEntry, RegistrationEntry
from app.protocol.rederivation import CandidateCodec, verify_derivation, verify_derivation_entry
from app.protocol.transcript import FIRST_HEAD, AskedQuery, Role, block_head
from app.signature import verify_signature

# Weights count as the endpoint's if they repeat so many of its answers.
PRIOR_MODEL_PERCENT = 99
PRIOR_MODEL_ANSWERED_PERCENT = 90


class Codec(CandidateCodec, Protocol):
    """What reads requests and responses of the adapters; below the line nobody knows which ones there are."""

    def decode_request(
        self, interface: Interface, body: bytes, statement: Statement, expected: bytes | None = None
    ) -> bytes:
        """Read the canonical input out of a request; `expected` itself where a lossy picture holds it nearly enough."""

    def read_answer(
        self, interface: Interface, status: int, body: bytes, statement: Statement, *, ranking: bool = False
    ) -> tuple[tuple[str, ...], str]:
        """Read the endpoint labels out of a response that arrived whole, or the word for why there are none.

        `ranking`: all that the endpoint ranks, highest first, instead of what it answers with.
        """


def find_fault(evidence: Evidence, codec: Codec, arbiter_keys: Sequence[bytes] = (), *, log_key: bytes = b"") -> str:
    """Repeat every check that makes a verdict VOID; give `reason: what was found`, or "" if nothing was.

    `arbiter_keys` are the keys whose countersignature of an interface is believed; `log_key` the one under which the service
    logs what it derives.
    """
    try:
        _check_beacons(evidence)
        _check_signatures(evidence)
        _check_interface_origin(evidence, arbiter_keys)
        _check_covers(evidence)
        _check_derivation(evidence, codec, log_key)
        _check_openings(evidence)
        _check_blocks(evidence)
        for query in evidence.queries:
            _check_query(evidence, query, codec)
        is_prior = is_prior_model(evidence)
    except OpeningInvalid as error:
        return f"opening_invalid: {error.message}"
    except (ProofError, Refused) as error:
        return f"check_failed: {error.message}"
    return "prior_model: the accused's weights are older than the beacon and give these answers" if is_prior else ""


def is_prior_model(evidence: Evidence) -> bool:
    """Tell whether delivered weights void the claim: logged before the beacon, and repeating 99 % of the answers.

    Weights that are younger, or answer otherwise, void nothing; nor does a digest to which no weights were delivered.
    Raises: ProofError if the entry is no model entry, or the count is not over this transcript's answers.
    """
    prior = evidence.prior_model
    if prior is None:
        return False
    expect(prior.entry, ModelEntry)
    answered = sum(bool(query.record.labels) for query in evidence.queries)
    if prior.answered != answered or prior.repeated > answered:
        raise ProofError(f"the delivered weights were compared on {prior.answered} answers; there are {answered}")
    is_older = prior.entry.index < evidence.registration_beacon.index
    # An endpoint that is silent where the delivered weights would betray it shows nothing by what it does answer.
    speaks = 100 * answered >= PRIOR_MODEL_ANSWERED_PERCENT * len(evidence.queries) > 0
    return is_older and speaks and 100 * prior.repeated >= PRIOR_MODEL_PERCENT * answered


def verify_beacon_of(logged: Logged, nonce_hash: bytes, beacon: Logged, source: str) -> None:
    """Check that `beacon` is what the rule gives a registration or filing, and opens the nonce it committed to.

    Raises: ProofError; PolicyRefused if the source is not one of this version.
    """
    entry = expect(beacon, BeaconEntry)
    if entry.entry != logged.index or beacon.index <= logged.index:
        raise ProofError(f"entry {beacon.index} is not the beacon of entry {logged.index}")
    if sha256(entry.nonce) != nonce_hash:
        raise ProofError(f"beacon {beacon.index} does not open the nonce of entry {logged.index}")
    if entry.source != source:
        raise ProofError(f"beacon {beacon.index} is of source {entry.source}, registered is another")
    verify_beacon(
        entry.source,
        entry.round,
        entry.randomness,
        entry.signature,
        entry_index=logged.index,
        entry_time=logged.entry.time,
    )


def verify_filing(registration: Logged, filing: Logged, record: FilingRecord, signature: bytes, blind: bytes) -> None:
    """Check that the registered vendor key signed the record, and that the log's filing entry hides exactly this one.

    Raises: ProofError; SignatureInvalid.
    """
    verify_signature(expect(registration, RegistrationEntry).statement.vendor_key, signature, record.encode())
    entry = expect(filing, FilingEntry)
    if entry.record_hash != record.hidden_hash(blind):
        raise ProofError("the filing entry hides another record than the one revealed")
    if not entry.registration == record.registration == registration.index:
        raise ProofError("the filing is of another registration")


def _check_beacons(evidence: Evidence) -> None:
    registration, filing = evidence.registration, evidence.filing
    source = evidence.statement.beacon
    registered = expect(registration, RegistrationEntry).nonce_hash
    verify_beacon_of(registration, registered, evidence.registration_beacon, source)
    verify_beacon_of(filing, expect(filing, FilingEntry).nonce_hash, evidence.filing_beacon, source)


def _check_signatures(evidence: Evidence) -> None:
    registration = expect(evidence.registration, RegistrationEntry)
    verify_signature(registration.statement.vendor_key, registration.signature, registration.statement.encode())
    verify_filing(evidence.registration, evidence.filing, evidence.record, evidence.signature, evidence.blind)
    if evidence.filing.index <= evidence.registration_beacon.index:
        raise ProofError("the filing is older than the registration's beacon")


def _check_interface_origin(evidence: Evidence, arbiter_keys: Sequence[bytes]) -> None:
    interface, origin = evidence.record.interface, evidence.record.interface_origin
    if origin.kind == "countersigned":
        if origin.key not in arbiter_keys:
            raise ProofError(f"the interface is countersigned by {origin.key.hex()}, which is no arbiter's known here")
        verify_signature(origin.key, origin.signature, interface.encode())
    if origin.kind == "logged":
        logged = evidence.interface_entry
        if logged is None or logged.index != origin.entry:
            raise ProofError("the log entry of the interface is missing")
        entry = expect(logged, ModelEntry)
        if entry.sha256 != interface.digest() or logged.index >= evidence.registration_beacon.index:
            raise ProofError("the interface was not logged before the registration's beacon")


def _check_covers(evidence: Evidence) -> None:
    if evidence.covers is not None:
        evidence.covers.verify(evidence.statement)


def _check_derivation(evidence: Evidence, codec: Codec, log_key: bytes) -> None:
    record, derivation = evidence.record, evidence.derivation
    if record.interface_origin.kind != "derived":
        return
    logged = evidence.interface_entry
    if derivation is None or evidence.covers is None or logged is None or logged.index != record.interface_origin.entry:
        raise ProofError("the derivation of the interface, its log entry or its covers are missing")
    verify_derivation_entry(expect(logged, ModelEntry), derivation, log_key)
    head = derivation.head
    made = (head.registration, head.endpoint, head.interface)
    if (
        made != (evidence.registration.index, record.endpoint, record.interface)
        or logged.index >= evidence.filing.index
    ):
        raise ProofError("the derivation is of another endpoint, registration or interface, or younger than the filing")
    verify_derivation(derivation, evidence.statement, evidence.covers, codec)


def _check_openings(evidence: Evidence) -> None:
    inputs = evidence.inputs
    labels = {opening.index for opening in evidence.label_openings}
    if len(inputs) != len(evidence.input_openings) or len(labels) != len(evidence.label_openings):
        raise ProofError("a trigger is opened twice")
    if strangers := (inputs.keys() | labels) - evidence.positions.keys():
        raise ProofError(f"trigger {min(strangers)} was opened outside the challenge")
    for opening in evidence.input_openings:
        verify_input_opening(evidence.statement, opening)
    for opening_of_label in evidence.label_openings:
        opened = inputs.get(opening_of_label.index)
        if opened is None:
            raise ProofError(f"trigger {opening_of_label.index}: the label was opened without its input")
        verify_label_opening(evidence.statement, opened.label_commitment, opening_of_label)


def _check_blocks(evidence: Evidence) -> None:
    asked: dict[int, list[AskedQuery]] = {}
    for query in evidence.queries:
        asked.setdefault(query.block, []).append(query)
    if [query.record.n for query in evidence.queries] != list(range(len(evidence.queries))):
        raise ProofError("queries are not numbered from 0 without gaps")
    logged = {expect(block, BlockEntry).block: block for block in evidence.blocks}
    if logged.keys() != asked.keys() or len(logged) != len(evidence.blocks):
        raise ProofError("the blocks in the log are not the blocks that were asked")
    head, index = FIRST_HEAD, evidence.filing_beacon.index
    for number in sorted(asked):
        head = block_head(head, number, (query.record for query in asked[number]))
        block = expect(logged[number], BlockEntry)
        if block.head != head or block.filing != evidence.filing.index or logged[number].index <= index:
            raise ProofError(f"the head of block {number} in the log is not the head of the queries shown")
        index = logged[number].index
        _check_roles(evidence, number, [query.role for query in asked[number]])
    for opening in evidence.label_openings:
        if evidence.block_of(opening.index) not in asked:
            raise ProofError(f"trigger {opening.index}: the label was opened before a head over its block was logged")


def _check_roles(evidence: Evidence, number: int, roles: Sequence[Role]) -> None:
    """Every trigger of the block is asked with its look-alike, as often as the rule says, among as many covers."""
    policy = evidence.record.policy
    size = policy.block_size
    expected = set()
    block = evidence.order[number * size : (number + 1) * size]
    for position, index in enumerate(block, start=number * size):
        for repeat in range(1 + is_repeated(position)):
            expected |= {Role("trigger", index, repeat), Role("look-alike", index, repeat)}
    found = [role for role in roles if role.kind != "cover"]
    if len(found) != len(set(found)) or set(found) != expected:
        raise ProofError(f"block {number} does not ask exactly the triggers of the challenge and their look-alikes")
    covers = [role for role in roles if role.kind == "cover"]
    again = [role.index for role in covers if role.repeat]
    repeats = sum(map(is_repeated, range(number * size, number * size + len(block))))
    if len(covers) != policy.covers_per_trigger * len(block):
        raise ProofError(f"block {number} does not ask as many covers as the policy says")
    if len(again) != (repeats if policy.covers_per_trigger > 1 else 0) or not set(again) <= {
        role.index for role in covers if not role.repeat
    }:
        raise ProofError(f"block {number} does not ask covers twice as often as the rule says")


def _check_query(evidence: Evidence, query: AskedQuery, codec: Codec) -> None:
    record, role = query.record, query.role
    if role.commit(query.blind) != record.role_commitment:
        raise ProofError(f"query {record.n}: the role does not open its commitment")
    if record.attempt > evidence.record.policy.attempts:
        raise ProofError(f"query {record.n}: asked more often than the policy allows")
    if sha256(query.request) != record.request_sha256:
        raise ProofError(f"query {record.n}: the request is not the one recorded")
    expected = _cover_input(evidence, role) if role.kind == "cover" else _expected_input(evidence, role)
    sent = codec.decode_request(evidence.record.interface, query.request, evidence.statement, expected)
    if expected is not None and sent != expected:
        raise ProofError(f"query {record.n}: the request does not hold the input of its role")
    if role.kind == "cover" and evidence.covers is not None and sha256(sent) != evidence.covers.digests[role.index]:
        raise ProofError(f"query {record.n}: the request does not hold the committed cover {role.index}")
    _check_answer(evidence, query, codec)


def _cover_input(evidence: Evidence, role: Role) -> bytes | None:
    covers = evidence.covers
    if covers is not None and role.index >= len(covers.digests):
        raise ProofError(f"cover {role.index} was asked, but only {len(covers.digests)} are committed")
    return None if covers is None else covers.inputs.get(role.index)


def _expected_input(evidence: Evidence, role: Role) -> bytes:
    opening = evidence.inputs.get(role.index)
    if opening is None:
        raise ProofError(f"trigger {role.index} was asked but its input is not opened")
    return opening.input if role.kind == "trigger" else look_alike(evidence.seed, role.index, opening.input)


def _check_answer(evidence: Evidence, query: AskedQuery, codec: Codec) -> None:
    record = query.record
    if record.status is None or not record.response_sha256:
        # Nothing arrived whole: there is no response to show, and so no answer.
        if query.response or record.labels or not record.error:
            raise ProofError(f"query {record.n}: an answer is recorded without its response")
        return
    if sha256(query.response) != record.response_sha256:
        raise ProofError(f"query {record.n}: the response is not the one recorded")
    filed = evidence.record
    answer = codec.read_answer(
        filed.interface, record.status, query.response, evidence.statement, ranking=filed.by_ranking
    )
    if answer != (record.labels, record.error):
        raise ProofError(f"query {record.n}: the labels recorded are not what the response says")
