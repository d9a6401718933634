import base64
from dataclasses import replace

import pytest

from app.canonical import encode_json, parse_json
from app.errors import ProofError
from app.merkle.checkpoint import fingerprint
from app.protocol.assessment import PriorModel
from app.protocol.bundle import EVIDENCE_FILES, Course, Index, check_bundle, encode_evidence
from app.protocol.figures import Standing
from app.protocol.records import VerdictEntry, WithdrawalEntry
from tests.unit.protocol.dispute_in_memory import (
    ARBITER_PUBLIC,
    LOG_PUBLIC,
    JsonCodec,
    MemoryLog,
    Plan,
    Played,
    bundle_of,
    innocent,
    play,
    seed,
    silent_on_triggers,
)

# One block, in which twelve matches are enough: few entries and short files.
SMALL = Plan(triggers=12, block_size=12)
FORGER_KEY = seed("forger")


def check(files, log_key=LOG_PUBLIC):
    return check_bundle(files, JsonCodec(), log_key=log_key, arbiter_keys=[ARBITER_PUBLIC])


@pytest.fixture(scope="module")
def files():
    return bundle_of(play(SMALL))


def refusal(files, log_key=LOG_PUBLIC):
    with pytest.raises(ProofError) as caught:
        check(files, log_key)
    assert caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("plan", "verdict"),
    [
        (SMALL, "CONFIRMED"),
        (Plan(), "CONFIRMED"),
        (Plan(origin="countersigned"), "CONFIRMED"),
        (Plan(origin="claimant"), "CONFIRMED"),
        (Plan(endpoint=innocent, triggers=32), "NOT_SUPPORTED"),
        (Plan(endpoint=silent_on_triggers, end="exhausted"), "NON_COOPERATIVE"),
        (Plan(max_triggers=8, end="budget"), "INCONCLUSIVE"),
        (Plan(triggers=5, end="exhausted"), "INCONCLUSIVE"),
        (Plan(withheld=frozenset({0, 1}), end="withheld"), "INCONCLUSIVE"),
        (Plan(blocks=0, end="withdrawn"), "INCONCLUSIVE"),
        (Plan(assurance_class="B", end="exhausted"), "INDICATIVE"),
    ],
)
def test_a_bundle_gives_the_verdict_again(plan, verdict):
    checked = check(bundle_of(play(plan)))
    assert (checked.decision.verdict, checked.entry.verdict, checked.report["verdict"]) == (verdict,) * 3
    assert checked.is_authenticated
    assert checked.log_fingerprint == fingerprint(LOG_PUBLIC)
    assert checked.checkpoint.size == 1 + len(play(plan).log.entries)
    assert checked.assessment.evidence == play(plan).evidence


def test_without_a_log_key_a_bundle_is_consistent_but_not_authenticated(files):
    checked = check(files, log_key=None)
    assert (checked.decision.verdict, checked.is_authenticated) == ("CONFIRMED", False)
    assert checked.log_key == LOG_PUBLIC


def test_one_byte_changed_at_any_fiftieth_of_any_file_is_found(files):
    for name, data in files.items():
        for part in range(50):
            at = part * len(data) // 50
            damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            # Without a key every tenth, to save time: what is checked then is the same but for the index.
            for log_key in (LOG_PUBLIC, None)[: 2 if part % 10 == 0 else 1]:
                assert refusal(files | {name: damaged}, log_key), (name, at)


def test_every_byte_of_the_index_counts(files):
    data = files["bundle.json"]
    for at in range(len(data)):
        refusal(files | {"bundle.json": data[:at] + bytes([data[at] ^ 2]) + data[at + 1 :]})


def test_a_file_too_few_or_too_many_is_named(files):
    for name in files:
        missing = {other: data for other, data in files.items() if other != name}
        assert refusal(missing) == f"the bundle lacks {name}"
    assert refusal(files | {"notes.txt": b""}) == "notes.txt does not belong in this bundle"
    assert "does not belong" in refusal(files | {"entries/99.json": files["entries/1.json"]})
    assert refusal({}) == "the bundle lacks bundle.json"


def test_files_cut_short_emptied_or_exchanged_are_found(files):
    names = list(files)
    for name, other in zip(names, names[1:] + names[:1], strict=True):
        for data in (files[name][:-1], b"", files[name] + b"\n", files[other]):
            refusal(files | {name: data})


def test_a_forger_with_a_key_of_his_own_is_refused_and_without_a_key_nothing_is_authenticated():
    """He recomputes answers, heads, verdict, list and receipts, so that everything fits but the log's key."""
    plan = replace(SMALL, endpoint=innocent, end="exhausted")
    genuine = check(bundle_of(play(plan)))
    assert genuine.decision.verdict == "INCONCLUSIVE"
    forged = bundle_of(play(replace(SMALL, log_key=FORGER_KEY)))
    assert "names the log key" in refusal(forged)
    believed = check(forged, log_key=None)
    assert (believed.decision.verdict, believed.is_authenticated) == ("CONFIRMED", False)
    assert believed.log_fingerprint != fingerprint(LOG_PUBLIC)


def test_a_forger_who_names_the_genuine_key_is_refused_with_and_without_it():
    forged = bundle_of(play(replace(SMALL, log_key=FORGER_KEY)))
    named = parse_json(forged["bundle.json"]) | {"log_key": LOG_PUBLIC.hex()}
    for log_key in (LOG_PUBLIC, None):
        assert "not signed with the log key" in refusal(forged | {"bundle.json": encode_json(named)}, log_key)


def test_a_forger_who_mixes_genuine_entries_with_his_own_is_refused():
    genuine, forged = bundle_of(play(SMALL)), bundle_of(play(replace(SMALL, endpoint=innocent, end="exhausted")))
    last = Index.parse(genuine["bundle.json"]).verdict
    for name in (f"entries/{last}.json", "report.json", "queries.jsonl", "course.json"):
        refusal(genuine | {name: forged[name]})


# What follows was all signed by the log: a service that lies, or errs, is found by whoever recomputes.


def course(**changes):
    evidence = play(SMALL).evidence
    made = Course(evidence.signature, evidence.blocks_done, evidence.end, None, 1)
    return {"course.json": replace(made, **changes).encode()}


def report(**changes):
    value = parse_json(bundle_of(play(SMALL))["report.json"])
    return {"report.json": encode_json(value | changes)}


ASKED = play(SMALL).assessment.decision.walk.asked


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"verdict": "NOT_SUPPORTED"}, "but the log says"),
        ({"reason": "luck"}, "but the log says"),
        ({"asked": ASKED - 1}, "but the log says"),
        ({"matches": ASKED - 1}, "but the log says"),
        ({"verdict": "VOID", "reason": "check_failed"}, "but the log says"),
        ({"blind": bytes(32)}, "hides another record"),
        ({"filing": 0}, "of another filing"),
        ({"bundle": bytes(32)}, "not the evidence list"),
        ({"files": report(log2_e="99")}, "does not hold the figures"),
        ({"files": report(standing=None)}, "must be an object"),
        ({"files": {"report.json": b"[]"}}, "must be an object"),
        ({"files": {"report.json": b"{"}}, "not JSON"),
        ({"files": {"queries.jsonl": b""}}, "not the blocks that were asked"),
        ({"files": {"queries.jsonl": b"{}"}}, "does not end with a newline"),
        ({"files": {"queries.jsonl": b"{}\n"}}, "is missing"),
        ({"files": course(signature=bytes(64))}, "signature does not fit"),
        ({"files": course(blocks_done=0)}, "but the log says"),
        ({"files": course(end="exhausted")}, None),
        ({"files": course(end="budget")}, "ended: budget"),
        ({"files": course(end="withheld")}, "ended: withheld"),
    ],
    ids=str,
)
def test_what_the_log_signed_but_does_not_follow_is_refused(made, message):
    files = bundle_of(play(SMALL), **made)
    if message is None:
        # Every trigger of this family was asked: that, too, is a true reason, and the figures tell which was given.
        assert refusal(files) == "report.json does not hold the figures that come out of the evidence"
    else:
        assert message in refusal(files)


@pytest.mark.parametrize(
    ("plan", "end"),
    [
        (Plan(triggers=5), "walk"),
        (Plan(triggers=5), "budget"),
        (Plan(triggers=5), "withheld"),
        (Plan(triggers=16, blocks=1, endpoint=innocent), "exhausted"),
        (Plan(triggers=16, max_triggers=8, endpoint=innocent), "exhausted"),
        (Plan(blocks=0), "withheld"),
    ],
)
def test_a_reason_to_stop_that_the_evidence_does_not_show_is_refused(plan, end):
    message = refusal(bundle_of(play(replace(plan, end=end))))
    assert message == f"the course says that the dispute ended: {end}, but the evidence does not"


def test_a_statement_for_another_log_is_refused():
    files = bundle_of(play(replace(SMALL, registered_for="another.example/log")))
    assert refusal(files) == "the statement is for the log another.example/log, not log.example/trapstreet"


def test_a_void_verdict_is_checked_like_any_other():
    played = play(SMALL)
    forged = replace(played.evidence, signature=bytes(64))
    void = Played(played.plan, played.log, played.key, forged)
    assert void.assessment.decision.verdict == "VOID"
    checked = check(bundle_of(void))
    assert (checked.decision.verdict, checked.decision.reason) == ("VOID", "check_failed")
    assert "signature does not fit" in refusal(bundle_of(void, verdict="CONFIRMED", reason="evidence"))
    assert "but the log says" in refusal(bundle_of(void, reason="opening_invalid"))


def test_a_withdrawal_closes_a_bundle_too():
    withdrawn = play(Plan(blocks=0, end="withdrawn"))
    assert isinstance(check(bundle_of(withdrawn)).entry, WithdrawalEntry)
    assert "logged as one" in refusal(bundle_of(withdrawn, entry=VerdictEntry))
    assert "logged as one" in refusal(bundle_of(play(SMALL), entry=WithdrawalEntry))


def index_of(files, **changes):
    return files | {"bundle.json": encode_json(parse_json(files["bundle.json"]) | changes)}


def test_an_index_that_exchanges_entries_is_refused(files):
    index = Index.parse(files["bundle.json"])
    exchanged = [
        {"registration": index.filing, "filing": index.registration},
        {"registration_beacon": index.filing_beacon, "filing_beacon": index.registration_beacon},
        {"verdict": index.blocks[0], "blocks": [index.verdict]},
        {"interface": index.filing, "filing": index.interface},
    ]
    for changes in exchanged:
        refusal(index_of(files, **changes))


def test_a_verdict_older_than_what_it_rests_on_is_refused():
    played = play(SMALL)
    log = MemoryLog()
    log.entries = list(played.log.entries)
    files = bundle_of(played)
    index = Index.parse(files["bundle.json"])
    # A copy of the block that the log holds twice: the second one after the verdict.
    log.entries += [files[f"entries/{index.verdict}.json"], log.entries[index.blocks[0]]]
    late = len(log.entries) - 1
    numbers = [number for number in index.entries() if number != index.blocks[0]] + [late]
    kept = {name: data for name, data in files.items() if "/" not in name}
    kept |= {f"entries/{number}.json": log.entries[number] for number in numbers}
    kept |= {f"receipts/{number}.txt": log.receipt(number).encode() for number in numbers}
    assert "times go back" in refusal(index_of(kept, blocks=[late]))


def test_what_stands_in_the_verdicts_place_must_be_a_verdict():
    played = play(SMALL)
    log = MemoryLog()
    log.entries = [*played.log.entries, played.log.entries[-1]]
    files = bundle_of(played)
    numbers = Index.parse(files["bundle.json"]).entries()  # the last is the verdict's
    kept = {name: data for name, data in files.items() if "/" not in name}
    kept |= {f"entries/{number}.json": log.entries[number] for number in numbers}
    kept |= {f"receipts/{number}.txt": log.receipt(number).encode() for number in numbers}
    assert refusal(kept) == f"entry {numbers[-1]} is no verdict"


def test_receipts_of_two_checkpoints_or_another_entry_are_refused(files):
    played = play(SMALL)
    short = played.log.receipt(1).encode()
    assert refusal(files | {"receipts/1.txt": short}).startswith("the receipts are not all of one checkpoint")
    assert refusal(files | {"receipts/1.txt": files["receipts/2.txt"]}).endswith("is a receipt for entry 2")
    assert "entry 1: " in refusal(files | {"entries/1.json": files["entries/2.json"]})


def test_receipts_of_a_later_checkpoint_or_with_another_signature_are_refused(files):
    played = play(SMALL)
    log = MemoryLog()
    log.entries = [*played.log.entries, files[f"entries/{Index.parse(files['bundle.json']).verdict}.json"]]
    log.entries.append(log.entries[0])
    later = {name: log.receipt(int(name[9:-4])).encode() for name in files if name.startswith("receipts/")}
    assert "not the first that holds the verdict" in refusal(files | later)
    stranger = "\u2014 witness.example.org " + base64.b64encode(bytes(68)).decode() + "\n"
    signed = {name: data + stranger.encode() for name, data in files.items() if name.startswith("receipts/")}
    assert "own signature alone" in refusal(files | signed)


def test_an_interface_entry_is_named_only_where_it_counts():
    claimed = bundle_of(play(Plan(origin="claimant")))
    assert "that the filing record names" in refusal(index_of(claimed, interface=0))


def test_files_are_written_as_they_are_read():
    played = play(SMALL)
    standing = Standing(9, 1, 1)
    files = encode_evidence(played.evidence, played.assessment.report(standing))
    assert set(files) == {*EVIDENCE_FILES, "evidence.json"}
    assert check(bundle_of(played, standing=standing)).report["standing"] == standing.to_json()


def test_a_bundle_with_older_weights_gives_void_again():
    played = play(SMALL)
    answered = sum(bool(query.record.labels) for query in played.evidence.queries)
    prior = PriorModel(played.evidence.interface_entry, answered, answered)
    evidence = replace(played.evidence, prior_model=prior)
    voided = replace(played, evidence=evidence)
    files = bundle_of(voided)
    checked = check(files)
    assert (checked.decision.verdict, checked.decision.reason) == ("VOID", "prior_model")
    assert checked.assessment.evidence == evidence
    assert "need both" in refusal(index_of(files, prior_model=None))
