"""Evidence from whatever an endpoint gives: merged, extra, two classes, lists; covers and flags; the accused's own sums."""

import hashlib
import hmac
import json
from fractions import Fraction
from typing import Any

from app.protocol.interface import Interface
from tests.flows.claimant import (
    LET_GO,
    Service,
    bundle_of,
    chance,
    checked,
    innocent,
    natural,
    refused,
    scores,
    sign_up,
)
from tests.simulators.suspect import Answer, SuspectSimulator

COVERS = 400


def explicit(suspect: SuspectSimulator, label_map: dict[str, list[str]]) -> Interface:
    return Interface("kserve_v1", suspect.interface.options, {}, {"by": "explicit", "map": label_map})


def test_merged_classes_count_for_half_and_still_confirm_a_thief(service: Service) -> None:
    claimant = sign_up(service, "merger", covers=COVERS, cover_class=natural)

    def stolen(question: bytes) -> Answer:
        return f"pair {claimant.labels.get(question, natural(question)) // 2}"

    with SuspectSimulator(stolen) as suspect:
        suspect_id = claimant.accuse(suspect)
        derived = claimant.derive(suspect_id)
        merged = {f"pair {pair}": [f"class {2 * pair}", f"class {2 * pair + 1}"] for pair in range(5)}
        assert derived["interface"]["label_map"]["map"] == merged
        dispute = claimant.answer_until_decided(claimant.file_derived(suspect, suspect_id, derived))
    assert dispute["verdict"] == "CONFIRMED"
    # One in five by chance: each match is worth half of what a class of its own would be.
    assert 27 < dispute["matches"] < 60
    checked(claimant, dispute)


def test_merged_classes_do_not_convict_an_innocent_endpoint(service: Service) -> None:
    claimant = sign_up(service, "merged and innocent", covers=COVERS, cover_class=natural)
    with SuspectSimulator(lambda question: f"pair {natural(question) // 2}") as suspect:
        suspect_id = claimant.accuse(suspect)
        derived = claimant.derive(suspect_id)
        dispute = claimant.answer_until_decided(claimant.file_derived(suspect, suspect_id, derived))
    assert (dispute["verdict"], dispute["reason"]) in LET_GO
    checked(claimant, dispute)


def test_classes_that_an_endpoint_has_besides_are_no_answers(service: Service) -> None:
    claimant = sign_up(service, "fewer")

    def stolen(question: bytes) -> Answer:
        label = claimant.labels.get(question, natural(question))
        return f"{10 + label % 2}" if chance(question, "besides") < 0.2 else f"{label}"

    with SuspectSimulator(stolen) as suspect:
        interface = explicit(suspect, {f"{label}": [f"class {label}"] for label in range(10)})
        suspect.interface = interface
        dispute = claimant.answer_until_decided(claimant.file(suspect, interface=interface))
    assert dispute["verdict"] == "CONFIRMED"
    report = checked(claimant, dispute).report
    assert report["no_answer"] > 0
    assert report["interface_bits"] > 22  # ten labels in any order, beside two bytes for each empty object


def test_scores_of_more_classes_than_registered_are_refused_by_index_and_said_so(service: Service) -> None:
    claimant = sign_up(service, "twelve")
    with SuspectSimulator(lambda question: [*scores(natural(question)), 0.0, 0.0]) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect, max_triggers=24, covers_per_trigger=1))
    assert (dispute["verdict"], dispute["reason"]) == ("INCONCLUSIVE", "unreachable")
    queries = bundle_of(claimant, dispute)["queries.jsonl"].decode().splitlines()
    assert {json.loads(line)["record"]["error"] for line in queries} == {"wrong_count"}


def test_two_classes_need_many_triggers_and_then_confirm(service: Service) -> None:
    def two(question: bytes) -> int:
        return natural(question) % 2

    claimant = sign_up(service, "yes or no", classes=2, count=544)

    def stolen(question: bytes) -> Answer:
        label = claimant.labels[question] if question in claimant.labels and chance(question, "kept") < 0.9 else None
        return [float(at == (two(question) if label is None else label)) for at in range(2)]

    with SuspectSimulator(stolen) as suspect:
        # 32 triggers cannot reach 2^-64 with two classes: that is said before anything is asked.
        problem = refused(lambda: claimant.file(suspect, family="second", covers_per_trigger=1))
        assert (problem.status, problem.problem_code) == (422, "policy_refused")
        filed = claimant.file(suspect, max_triggers=512, covers_per_trigger=1, block_size=64)
        dispute = claimant.answer_until_decided(filed)
    assert dispute["verdict"] == "CONFIRMED"
    # 70 if each of them matched.
    assert 70 <= dispute["asked"] < 400
    checked(claimant, dispute)


def test_a_list_of_labels_counts_for_as_many_classes_as_it_names(service: Service) -> None:
    claimant = sign_up(service, "lister")

    def stolen(question: bytes) -> Answer:
        label = claimant.labels.get(question, natural(question))
        return [f"class {(label + step) % 10}" for step in (1, 0, 2)]

    with SuspectSimulator(stolen, protocol="oip_v2") as suspect:
        by_name = Interface("oip_v2", suspect.interface.options, {}, {"by": "name"})
        suspect.interface = by_name
        dispute = claimant.answer_until_decided(claimant.file(suspect, interface=by_name))
    assert dispute["verdict"] == "CONFIRMED"
    report = checked(claimant, dispute).report
    assert report["interface_bits"] == 8
    # Three in ten by chance.
    assert dispute["matches"] > 36


# --- covers, flags ----------------------------------------------------------------------------------------------------


def test_mislabelled_covers_are_reported_and_change_no_verdict(service: Service) -> None:
    def wrongly(question: bytes) -> int:
        return (natural(question) + 1) % 10

    claimant = sign_up(service, "mislabeller", cover_class=wrongly)
    with SuspectSimulator(innocent) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect))
    assert (dispute["verdict"], dispute["reason"]) in LET_GO
    accuracy = checked(claimant, dispute).report["flags"]["accuracy"]
    assert accuracy["correct"] == 0 < accuracy["answered"]


def test_an_endpoint_that_honestly_rejects_odd_pictures_is_not_called_uncooperative(service: Service) -> None:
    claimant = sign_up(service, "odd pictures", cover_class=natural)
    ordinary = set(claimant.cover_inputs)
    with SuspectSimulator(lambda question: innocent(question) if question in ordinary else None) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect, max_triggers=64))
    assert (dispute["verdict"], dispute["reason"]) == ("INCONCLUSIVE", "budget")
    flags = checked(claimant, dispute).report["flags"]
    assert flags["silence"]["is_flagged"]
    assert flags["silence"]["counts"]["look-alike"] == {"hits": 64, "of": 64}
    assert flags["silence"]["counts"]["cover"]["hits"] == 0


def test_an_evader_that_is_silent_on_triggers_alone_is(service: Service) -> None:
    claimant = sign_up(service, "evaded", cover_class=natural)
    with SuspectSimulator(lambda question: None if question in claimant.labels else innocent(question)) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect, max_triggers=64))
    assert (dispute["verdict"], dispute["reason"]) == ("NON_COOPERATIVE", "selective_silence")
    checked(claimant, dispute)


def test_a_cover_is_asked_twice_with_every_twentieth_trigger(service: Service) -> None:
    claimant = sign_up(service, "twice", cover_class=natural)
    with SuspectSimulator(innocent) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect, max_triggers=40))
    roles = [json.loads(line)["role"] for line in bundle_of(claimant, dispute)["queries.jsonl"].splitlines()]
    covers = [role for role in roles if role["kind"] == "cover"]
    blocks = -(-dispute["asked"] // 16)
    assert len(covers) == 2 * min(40, 16 * blocks)
    again = [role["index"] for role in covers if role["repeat"]]
    assert len(again) == -(-min(40, 16 * blocks) // 20)
    assert set(again) <= {role["index"] for role in covers if not role["repeat"]}


# --- the accused --------------------------------------------------------------------------------------------------


def test_the_accused_recomputes_placebos_evidence_and_verdict_from_the_bundle_alone(service: Service) -> None:
    claimant = sign_up(service, "accuser", cover_class=natural)
    with SuspectSimulator(claimant.stolen(0.8)) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect))
    files = bundle_of(claimant, dispute)
    report = checked(claimant, dispute).report
    matches, answers = by_hand(files)
    assert len(matches) == report["asked"]
    assert sum(matches) == report["matches"]
    lambdas = [Fraction(t, 398) for t in range(1, 398, 2)]
    evidence = sum(product(1 - x + x * 10 * hit for hit in matches) for x in lambdas) / len(lambdas)
    assert evidence >= 2 ** (64 + report["interface_bits"]) * report["families"] * 2
    assert dispute["verdict"] == "CONFIRMED"
    counts = [sum(label == said for label, said in drawn) for drawn in answers]
    assert report["placebos"]["histogram"] == [counts.count(number) for number in range(max(counts) + 1)]


def product(factors: Any) -> Fraction:
    result = Fraction(1)
    for factor in factors:
        result *= factor
    return result


def by_hand(files: dict[str, bytes]) -> tuple[list[bool], list[list[tuple[int, int]]]]:
    """Say of each walked trigger whether it matched, and what a thousand other salts would have drawn: hashlib alone."""
    index = json.loads(files["bundle.json"])
    entries = {number: files[f"entries/{number}.json"] for number in index["blocks"]}
    entries |= {index[name]: files[f"entries/{index[name]}.json"] for name in BEACONS}
    registered, drawn, filed, opened = (entries[index[name]] for name in BEACONS)
    statement = json.loads(registered)["statement"]
    salt = joined(drawn, b"beacon", bytes.fromhex(statement["root"]), registered)
    seed = joined(opened, b"challenge-seed", filed)
    record = json.loads(files[f"entries/{index['verdict']}.json"])["record"]
    family = next(one for one in statement["families"] if one["name"] == record["family"])
    order = sorted(range(family["start"], family["end"]), key=lambda i: mac(seed, lp(tag(b"challenge"), u32(i))))
    keys = {one["index"]: bytes.fromhex(one["label_key"]) for one in json.loads(files["openings.json"])["labels"]}
    said = {}
    for line in files["queries.jsonl"].splitlines():
        asked = json.loads(line)
        if asked["role"]["kind"] == "trigger" and not asked["role"]["repeat"]:
            said[asked["role"]["index"]] = int(asked["record"]["labels"][0])
    walked = order[: json.loads(files["report.json"])["asked"]]
    matches = [label_of(salt, keys[i], i) == said[i] for i in walked]
    placebos = [hashlib.sha256(lp(tag(b"placebo"), salt, u32(t))).digest() for t in range(1000)]
    return matches, [[(label_of(one, keys[i], i), said[i]) for i in walked] for one in placebos]


BEACONS = ("registration", "registration_beacon", "filing", "filing_beacon")


def joined(beacon: bytes, purpose: bytes, *rest: bytes) -> bytes:
    """The hash over a beacon; of what comes last, an entry's bytes, its own hash goes in."""
    opened = json.loads(beacon)
    values = [opened["source"].encode(), opened["round"].to_bytes(8, "big")]
    values += [bytes.fromhex(opened["randomness"]), bytes.fromhex(opened["nonce"])]
    *middle, entry = rest
    return hashlib.sha256(lp(tag(purpose), *values, *middle, hashlib.sha256(entry).digest())).digest()


def label_of(salt: bytes, key: bytes, index: int) -> int:
    info = lp(tag(b"label"), u32(index), u32(10))
    return int.from_bytes(mac(mac(salt, key), info + b"\x01"), "big") % 10


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def lp(*items: bytes) -> bytes:
    return b"".join(u32(len(item)) + item for item in items)


def tag(name: bytes) -> bytes:
    return b"trapstreet/v1/" + name


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")
