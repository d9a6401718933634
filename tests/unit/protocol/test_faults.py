"""Each check of `find_fault` with evidence that breaks it and no other."""

from dataclasses import replace

import pytest

from app.canonical import encode_json, sha256
from app.protocol.assessment import PriorModel, assess
from app.protocol.faults import find_fault
from app.protocol.interface import Interface, InterfaceOrigin
from app.protocol.transcript import Role
from app.signature import sign
from tests.unit.protocol.altered_evidence import reasked, relogged, resealed
from tests.unit.protocol.dispute_in_memory import (
    ARBITER_KEY,
    ARBITER_PUBLIC,
    INTERFACE,
    LOG_PUBLIC,
    VENDOR_KEY,
    JsonCodec,
    Plan,
    input_of,
    play,
    seed,
)

PLAN = Plan()
PLAYED = play(PLAN)
EVIDENCE, KEY = PLAYED.evidence, PLAYED.key


def fault_of(evidence, arbiter_keys=(ARBITER_PUBLIC,)):
    return find_fault(evidence, JsonCodec(), arbiter_keys, log_key=LOG_PUBLIC)


def other_block(number, **changes):
    return tuple(
        relogged(block, **changes) if place == number else block for place, block in enumerate(EVIDENCE.blocks)
    )


def with_query(n, evidence=EVIDENCE, **changes):
    """One query changed and the heads computed anew, so that only its own check can find it."""
    queries = list(evidence.queries)
    record = changes.pop("record", {})
    queries[n] = replace(queries[n], record=replace(queries[n].record, **record), **changes)
    return reasked(evidence, queries)


def renumbered(queries):
    return [replace(query, record=replace(query.record, n=n)) for n, query in enumerate(queries)]


def with_role(n, role):
    blind = EVIDENCE.queries[n].blind
    return with_query(n, role=role, record={"role_commitment": role.commit(blind)})


def number_of(kind):
    return next(query.record.n for query in EVIDENCE.queries if query.role.kind == kind)


def with_request(n, body):
    return with_query(n, request=body, record={"request_sha256": sha256(body)})


def unanswered(n, **record):
    nothing = {"status": None, "response_sha256": b"", "labels": (), "error": "timeout"}
    return with_query(n, response=record.pop("response", b""), record=nothing | record)


def opened(evidence=EVIDENCE, *, inputs=None, labels=None):
    return replace(
        evidence,
        input_openings=tuple(evidence.input_openings if inputs is None else inputs),
        label_openings=tuple(evidence.label_openings if labels is None else labels),
    )


INPUTS, LABELS = EVIDENCE.input_openings, EVIDENCE.label_openings
TRIGGER, LOOK_ALIKE, COVER = map(number_of, ("trigger", "look-alike", "cover"))
OTHER_STATEMENT = replace(EVIDENCE.statement, unmarked_model=bytes(32))
OTHER_INTERFACE = Interface("kserve_v1", {"model": "n"}, {}, {"by": "name"})
CUT = play(Plan(max_triggers=5, end="budget"))
BEYOND = next(index for index in range(16) if index not in CUT.evidence.order)
UNASKED = play(Plan(withheld=frozenset({1}), end="withheld", triggers=16))
LATE_BLOCK = max(LABELS, key=lambda opening: EVIDENCE.order.index(opening.index)).index


def countersigned(key, signer, interface=INTERFACE):
    origin = InterfaceOrigin("countersigned", None, key, sign(signer, interface.encode()))
    return resealed(EVIDENCE, interface_origin=origin)


FAULTS = {
    # 1. beacons
    "beacon of another entry": (
        replace(EVIDENCE, registration_beacon=relogged(EVIDENCE.registration_beacon, entry=0)),
        "is not the beacon of entry",
    ),
    "beacon before its entry": (
        replace(EVIDENCE, registration_beacon=relogged(EVIDENCE.registration_beacon, index=1)),
        "is not the beacon of entry",
    ),
    "nonce that was not committed": (
        replace(EVIDENCE, registration_beacon=relogged(EVIDENCE.registration_beacon, nonce=bytes(32))),
        "does not open the nonce",
    ),
    "nonce of the filing that was not committed": (
        replace(EVIDENCE, filing_beacon=relogged(EVIDENCE.filing_beacon, nonce=bytes(32))),
        "does not open the nonce",
    ),
    "another source than registered": (
        replace(EVIDENCE, registration_beacon=relogged(EVIDENCE.registration_beacon, source="drand:" + "ab" * 32)),
        "registered is another",
    ),
    "a round of choice": (
        replace(EVIDENCE, registration_beacon=relogged(EVIDENCE.registration_beacon, round=99)),
        "is round 1 of local, not 99",
    ),
    "randomness of choice": (
        replace(EVIDENCE, filing_beacon=relogged(EVIDENCE.filing_beacon, randomness=b"\x01" * 32)),
        "32 zero bytes",
    ),
    "an entry of another kind": (replace(EVIDENCE, registration_beacon=EVIDENCE.filing), "is no BeaconEntry"),
    # 2. signatures
    "statement that its vendor did not sign": (
        replace(EVIDENCE, registration=relogged(EVIDENCE.registration, statement=OTHER_STATEMENT)),
        "signature does not fit",
    ),
    "filing record that the vendor did not sign": (replace(EVIDENCE, signature=bytes(64)), "signature does not fit"),
    "another record than the hidden one": (replace(EVIDENCE, blind=seed("another")), "hides another record"),
    "filing of another registration": (
        replace(EVIDENCE, filing=relogged(EVIDENCE.filing, registration=0)),
        "of another registration",
    ),
    "record of another registration": (resealed(EVIDENCE, registration=0), "of another registration"),
    "filing before the registration's beacon": (
        replace(EVIDENCE, registration_beacon=relogged(EVIDENCE.registration_beacon, index=EVIDENCE.filing.index)),
        "older than the registration's beacon",
    ),
    "a family that was not registered": (resealed(EVIDENCE, family="other"), "no family 'other'"),
    # 3. interface
    "countersignature of a stranger": (countersigned(KEY.root(), VENDOR_KEY), "no arbiter's known here"),
    "countersignature by another key": (countersigned(ARBITER_PUBLIC, VENDOR_KEY), "signature does not fit"),
    "countersignature of another interface": (
        countersigned(ARBITER_PUBLIC, ARBITER_KEY, OTHER_INTERFACE),
        "signature does not fit",
    ),
    "interface entry left out": (replace(EVIDENCE, interface_entry=None), "entry of the interface is missing"),
    "interface entry at another index": (
        replace(EVIDENCE, interface_entry=relogged(EVIDENCE.interface_entry, index=77)),
        "entry of the interface is missing",
    ),
    "another interface than logged": (
        resealed(EVIDENCE, interface=OTHER_INTERFACE),
        "was not logged before the registration's beacon",
    ),
    "interface logged after the beacon": (
        replace(
            resealed(EVIDENCE, interface_origin=InterfaceOrigin("logged", 77, b"", b"")),
            interface_entry=relogged(EVIDENCE.interface_entry, index=77),
        ),
        "was not logged before the registration's beacon",
    ),
    "interface entry of another kind": (replace(EVIDENCE, interface_entry=replace(EVIDENCE.filing, index=0)), "no Mod"),
    # 4. openings
    "input opened twice": (opened(inputs=[*INPUTS, INPUTS[0]]), "opened twice"),
    "label opened twice": (opened(labels=[*LABELS, LABELS[0]]), "opened twice"),
    "trigger opened beyond the budget": (
        opened(CUT.evidence, inputs=[KEY.open_input(BEYOND)], labels=[]),
        "outside the challenge",
    ),
    "input that was not registered": (
        opened(inputs=[replace(INPUTS[0], input=input_of(99)), *INPUTS[1:]]),
        "does not open the registered root",
    ),
    "label opened without its input": (
        opened(UNASKED.evidence, labels=[*UNASKED.evidence.label_openings, KEY.open_label(UNASKED.evidence.order[-1])]),
        "without its input",
    ),
    "label key that was not committed": (
        opened(labels=[replace(LABELS[0], label_key=bytes(32)), *LABELS[1:]]),
        "does not open its commitment",
    ),
    "label opened before a head over its block was logged": (
        opened(
            UNASKED.evidence,
            inputs=[*UNASKED.evidence.input_openings, KEY.open_input(UNASKED.evidence.order[-1])],
            labels=[*UNASKED.evidence.label_openings, KEY.open_label(UNASKED.evidence.order[-1])],
        ),
        "before a head over its block was logged",
    ),
    # 5. blocks
    "queries not numbered in order": (
        reasked(EVIDENCE, [EVIDENCE.queries[1], EVIDENCE.queries[0], *EVIDENCE.queries[2:]]),
        "not numbered",
    ),
    "a block that is not in the log": (replace(EVIDENCE, blocks=EVIDENCE.blocks[:1]), "not the blocks that were asked"),
    "a block logged twice": (
        replace(EVIDENCE, blocks=(*EVIDENCE.blocks, EVIDENCE.blocks[1])),
        "not the blocks that were asked",
    ),
    "a head over something else": (replace(EVIDENCE, blocks=other_block(0, head=bytes(32))), "head of block 0"),
    "a block of another filing": (replace(EVIDENCE, blocks=other_block(1, filing=0)), "head of block 1"),
    "a block logged before the filing's beacon": (
        replace(EVIDENCE, blocks=other_block(0, index=EVIDENCE.filing_beacon.index)),
        "head of block 0",
    ),
    "blocks logged in another order": (
        replace(EVIDENCE, blocks=other_block(0, index=EVIDENCE.blocks[1].index)),
        "head of block 1",
    ),
    "a trigger asked twice that is not due": (
        with_role(LOOK_ALIKE, EVIDENCE.queries[TRIGGER].role),
        "does not ask exactly the triggers",
    ),
    "fewer covers than the policy says": (
        reasked(EVIDENCE, renumbered([query for query in EVIDENCE.queries if query.record.n != COVER])),
        "as many covers",
    ),
    "asked more often than allowed": (
        with_query(TRIGGER, record={"attempt": EVIDENCE.record.policy.attempts + 1}),
        "asked more often",
    ),
    "a trigger passed off as a cover": (with_role(TRIGGER, Role("cover", 5, 0)), "does not ask exactly the triggers"),
    "triggers out of the challenge's order": (
        reasked(EVIDENCE, [replace(query, block=1 - query.block) for query in EVIDENCE.queries]),
        "does not ask exactly the triggers",
    ),
    # 6. queries
    "a role that was not committed": (with_query(COVER, blind=bytes(32)), "role does not open its commitment"),
    "a request that was not recorded": (
        with_query(COVER, request=encode_json({"input": input_of(7).hex()})),
        "the request is not the one recorded",
    ),
    "a request that is none": (with_request(COVER, b"{}"), "not a request of this codec"),
    "a request with another input": (
        with_request(TRIGGER, encode_json({"input": input_of(99).hex()})),
        "does not hold the input of its role",
    ),
    "a look-alike that was not shuffled": (
        with_request(LOOK_ALIKE, encode_json({"input": KEY.inputs[EVIDENCE.queries[LOOK_ALIKE].role.index].hex()})),
        "does not hold the input of its role",
    ),
    "a trigger whose input was not opened": (
        opened(
            play(Plan(unlabelled=frozenset({0, 1}))).evidence,
            inputs=play(Plan(unlabelled=frozenset({0, 1}))).evidence.input_openings[1:],
        ),
        "its input is not opened",
    ),
    "a response that was not recorded": (with_query(COVER, response=b'{"labels":[]}'), "response is not the one"),
    "labels that the response does not say": (
        with_query(COVER, record={"labels": ("class 1", "class 2")}),
        "not what the response says",
    ),
    "an error that the response does not say": (with_query(COVER, record={"error": "bad"}), "not what the response"),
    "labels without a response": (unanswered(COVER, labels=("class 1",)), "recorded without its response"),
    "a response to what got none": (unanswered(COVER, response=b"{}"), "recorded without its response"),
    "no answer for no reason": (unanswered(COVER, error=""), "recorded without its response"),
    "a status without a response": (unanswered(COVER, status=200, labels=("class 1",)), "without its response"),
}
OPENING_FAULTS = {"input that was not registered", "label key that was not committed"}


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_check_is_found_and_makes_the_verdict_void(name):
    evidence, message = FAULTS[name]
    fault = fault_of(evidence)
    reason, _, found = fault.partition(": ")
    assert message in found
    assert reason == ("opening_invalid" if name in OPENING_FAULTS else "check_failed")


@pytest.mark.parametrize("name", ["nonce that was not committed", "input that was not registered"])
def test_a_fault_is_the_reason_of_the_void(name):
    fault = fault_of(FAULTS[name][0])
    decision = assess(FAULTS[name][0], fault).decision
    assert (decision.verdict, decision.reason) == ("VOID", fault.partition(":")[0])


REFUSED = b"{}"
STATUS_500 = {"status": 500, "response_sha256": sha256(REFUSED), "labels": (), "error": "status_500"}


@pytest.mark.parametrize(
    "evidence",
    [unanswered(COVER), unanswered(COVER, status=503), with_query(COVER, response=REFUSED, record=STATUS_500)],
)
def test_evidence_may_hold_questions_without_an_answer(evidence):
    assert fault_of(evidence) == ""


def test_a_countersignature_is_believed_only_from_keys_given():
    evidence = play(Plan(origin="countersigned")).evidence
    assert fault_of(evidence) == ""
    assert "no arbiter's known here" in fault_of(evidence, ())


def with_weights(repeated, *, answered=None, index=None):
    """The evidence, and weights that the accused delivered; their digest was logged where the interface's was."""
    logged = EVIDENCE.interface_entry
    total = sum(bool(query.record.labels) for query in EVIDENCE.queries)
    entry = replace(logged, index=logged.index if index is None else index)
    prior = PriorModel(entry, round(repeated * total), total if answered is None else answered)
    return replace(EVIDENCE, prior_model=prior)


def test_older_weights_that_give_the_same_answers_void_a_claim():
    evidence = with_weights(1)
    fault = find_fault(evidence, JsonCodec(), [ARBITER_PUBLIC])
    decision = assess(evidence, fault).decision
    assert (decision.verdict, decision.reason) == ("VOID", "prior_model")


@pytest.mark.parametrize(
    "evidence",
    [with_weights(0.9), with_weights(1, index=EVIDENCE.registration_beacon.index)],
    ids=["other answers", "younger than the beacon"],
)
def test_other_or_younger_weights_void_nothing(evidence):
    assert find_fault(evidence, JsonCodec(), [ARBITER_PUBLIC]) == ""


def test_weights_must_be_compared_on_all_answers():
    assert find_fault(with_weights(1, answered=1), JsonCodec(), [ARBITER_PUBLIC]).startswith("check_failed")
    other_kind = replace(EVIDENCE, prior_model=PriorModel(EVIDENCE.filing, 1, 1))
    assert "is no ModelEntry" in find_fault(other_kind, JsonCodec(), [ARBITER_PUBLIC])


@pytest.mark.parametrize("again", [(), (Role("cover", 59, 1),), (Role("cover", 0, 1),) * 2])
def test_a_cover_is_asked_twice_exactly_where_the_rule_says(again):
    """One of the first share, which is asked a second time in place of another cover."""
    asked = play(Plan(covers_per_trigger=3)).evidence
    covers = [query for query in asked.queries if query.block == 0 and query.role.kind == "cover"]
    changed = dict(
        zip([query.record.n for query in covers if query.role.repeat] + [covers[1].record.n], again, strict=False)
    )
    if not again:
        changed = {next(query.record.n for query in covers if query.role.repeat): Role("cover", 50, 0)}
    queries = [
        replace(
            query,
            role=changed[query.record.n],
            record=replace(query.record, role_commitment=changed[query.record.n].commit(query.blind)),
        )
        if query.record.n in changed
        else query
        for query in asked.queries
    ]
    assert "twice as often as the rule says" in fault_of(reasked(asked, queries))
