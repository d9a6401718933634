"""The rule on answers that are made up, and what a check of it finds."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from math import comb

import pytest

from app.canonical import encode_json, sha256
from app.errors import Malformed, ProofError
from app.keys.cover_set import CoverTable
from app.protocol.derivation import ASKED_A_CLASS, MIN_ANSWERS, MetadataAnswer, Rule, parse_derivation
from app.protocol.derivation_price import DerivationPrice, later_bits, open_bits, price_derivation, set_bits
from app.protocol.faults import find_fault
from app.protocol.interface import Interface
from app.protocol.rederivation import verify_derivation, verify_derivation_entry
from tests.unit.protocol.altered_evidence import reasked, relogged, resealed
from tests.unit.protocol.dispute_in_memory import (
    ARBITER_PUBLIC,
    LOG_PUBLIC,
    VENDOR_KEY,
    JsonCodec,
    MemoryLog,
    Plan,
    bundle_of,
    innocent,
    log_derivation,
    marking_key,
    play,
    statement_of,
)
from tests.unit.protocol.test_bundle import check

CLASSES = 4
STATEMENT = statement_of(Plan(classes=CLASSES), marking_key(4, CLASSES, "A"))
WAYS = [Interface("kserve_v1", {"model": "m"}, {"way": way}, {"by": "name"}) for way in range(3)]

PLAN = Plan(classes=2, triggers=80, block_size=40, covers_per_trigger=2, origin="derived", labelled=True)
PLAYED = play(PLAN)
EVIDENCE, DERIVATION = PLAYED.evidence, PLAYED.evidence.derivation


def table(counts):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    digests = [sha256(str(number).encode()) for number in range(len(labels))]
    return CoverTable(tuple(digests), tuple(labels))


def run(rule, answer):
    """Answer by `answer(candidate, cover, label)` until the rule asks nothing more."""
    answers, asked = {}, []
    while pairs := rule.next_pairs(answers):
        asked += pairs
        answers |= {pair: answer(*pair, rule.covers.labels[pair[1]]) for pair in pairs}
    return answers, asked


def rule_of(counts=(25, 25, 25, 25)):
    return Rule(STATEMENT, table(counts), WAYS)


def right(candidate, cover, label):
    return (f"label {label}",)


def test_the_purest_candidate_is_taken_and_its_majorities_are_the_map():
    rule = rule_of()

    def answer(candidate, cover, label):
        return (f"label {label if candidate == 1 else cover % 7}",)

    answers, _ = run(rule, answer)
    assert rule.best(answers) == 1
    assert rule.purity(answers, 1) == 1
    found = rule.interface(answers)
    assert found.preprocessing == {"way": 1}
    expected = {f"label {label}": [f"class {label}"] for label in range(CLASSES)}
    assert found.label_map == {"by": "explicit", "map": expected}


def test_of_equally_pure_candidates_the_first_is_taken():
    rule = rule_of()
    answers, _ = run(rule, right)
    assert rule.best(answers) == 0


def test_an_endpoint_that_always_says_the_same_is_not_pure():
    rule = rule_of()
    answers, _ = run(rule, lambda candidate, cover, label: ("same",) if candidate == 0 else right(0, cover, label))
    assert rule.purity(answers, 0) == Fraction(1, CLASSES)
    assert rule.best(answers) == 1


def test_who_answers_none_of_the_first_five_is_asked_no_more():
    rule = rule_of()
    answers, asked = run(rule, lambda candidate, cover, label: () if candidate == 2 else right(0, cover, label))
    assert Counter(candidate for candidate, _ in asked)[2] == 5
    assert rule.speaking(answers) == [0, 1]


def test_nobody_who_answers_leads_to_no_interface():
    rule = rule_of()
    answers, asked = run(rule, lambda candidate, cover, label: ())
    assert rule.interface(answers) is None
    assert len(asked) == 5 * len(WAYS)


def test_a_class_without_a_majority_of_twenty_answers_is_not_mapped():
    rule = rule_of((25, 19, 25, 25))

    def answer(candidate, cover, label):
        if label == 2:  # half of them: not more than half
            return ("label 2",) if cover % 2 else (f"odd {cover}",)
        if label == 3 and cover % 4 == 0:
            return ()  # too few answers are left
        return right(0, cover, label)

    answers, _ = run(rule, answer)
    assert set(rule.interface(answers).label_map["map"]) == {"label 0"}
    found = {one.index: one for one in rule.classes_found(answers, 0, rule.asked_of_best)}
    assert (found[1].answered, found[1].is_mapped) == (19, False)
    assert found[3].answered < MIN_ANSWERS


def test_nothing_mapped_is_no_interface():
    rule = rule_of()
    answers, _ = run(rule, lambda candidate, cover, label: (f"only {cover}",))
    assert rule.interface(answers) is None


def test_classes_that_an_endpoint_merges_share_its_label():
    rule = rule_of()
    answers, _ = run(rule, lambda candidate, cover, label: (f"pair {label // 2}", "less likely"))
    merged = {"pair 0": ["class 0", "class 1"], "pair 1": ["class 2", "class 3"]}
    assert rule.interface(answers).label_map["map"] == merged
    assert rule.purity(answers, 0) == Fraction(1, 2)


def test_no_class_is_asked_more_than_forty_covers_of_the_candidate_taken():
    rule = rule_of((200, 30, 25, 3))
    _, asked = run(rule, right)
    counts = Counter(rule.covers.labels[cover] for candidate, cover in asked if candidate == 0)
    assert counts == {0: ASKED_A_CLASS, 1: 30, 2: 25, 3: 3}
    assert len(asked) == len(set(asked))


def test_too_few_covers_of_every_class_are_refused():
    with pytest.raises(Malformed, match="no class has 20"):
        rule_of((19, 19, 19, 19)).next_pairs({})


def test_the_first_derivation_is_free_and_all_later_ones_add_little():
    assert [later_bits(ordinal) for ordinal in (1, 2, 3, 4, 5, 9)] == [0, 8, 10, 10, 12, 14]
    assert sum(Fraction(1, 2 ** later_bits(ordinal)) for ordinal in range(2, 1025)) < Fraction(1, 128)


def test_silence_chooses_no_label_for_a_class():
    # Half of its covers get one label and half another: whoever silences one half must not choose the other.
    def silenced(half):
        def answer(candidate, cover, label):
            return (
                () if label == 0 and cover % 2 == half else (f"half {cover % 2}" if label == 0 else f"label {label}",)
            )

        rule = rule_of((44, 25, 25, 25))
        return rule, run(rule, answer)[0]

    for half in (0, 1):
        rule, answers = silenced(half)
        assert set(rule.interface(answers).label_map["map"]) == {"label 1", "label 2", "label 3"}
        assert rule.open_classes(answers) == 1


def test_a_class_that_no_answer_could_map_is_not_open():
    def answer(candidate, cover, label):
        return (f"odd {cover}",) if label == 0 else () if label == 1 and cover % 25 == 0 else right(0, cover, label)

    rule = rule_of((25, 25, 19, 25))
    answers, _ = run(rule, answer)
    assert set(rule.interface(answers).label_map["map"]) == {"label 1", "label 3"}
    assert rule.open_classes(answers) == 0


def test_nobody_who_answers_leaves_no_class_open():
    rule = rule_of()
    answers, _ = run(rule, lambda candidate, cover, label: ())
    assert rule.open_classes(answers) == 0


@pytest.mark.parametrize("classes", [2, 3, 10, 100, 1000])
def test_all_sets_of_open_classes_together_add_little(classes):
    sets = [comb(classes, count) * Fraction(1, 2 ** open_bits(count, classes)) for count in range(1, classes + 1)]
    assert sum(sets) < Fraction(1, 128)


# --- the price --------------------------------------------------------------------------------------------------------

SAID = (MetadataAnswer("kserve_v1", "/v1/models", 200, b"{}", "192.0.2.1", b""),)


def priced(answer, status=200, metadata=SAID, adapter=None, ordinal=1):
    """Give the price where `answer` gives labels, or none and `status`, or none and a status of its own."""
    rule, statuses = rule_of(), {}

    def noted(candidate, cover, label):
        got = answer(candidate, cover, label)
        statuses[candidate, cover] = got if isinstance(got, int | None) else 200 if got else status
        return got if isinstance(got, tuple) else ()

    answers, _ = run(rule, noted)
    return price_derivation(ordinal, adapter, metadata, rule, answers, statuses)


def test_what_was_answered_or_plainly_refused_is_free():
    assert priced(right) == DerivationPrice()
    for status in (200, 302, 400, 404, 415, 422, 500):
        assert (
            priced(lambda candidate, cover, label: () if candidate == 0 else right(0, cover, label), status).bits == 0
        )


@pytest.mark.parametrize("status", [None, 401, 402, 403, 408, 425, 429, 502, 503, 504])
def test_a_way_of_asking_that_met_silence_has_a_price(status):
    # Three candidates: whoever silences may have any of them chosen.
    found = priced(lambda candidate, cover, label: status if candidate == 0 else right(0, cover, label))
    assert found == DerivationPrice(unheard=8 + 2)
    assert 3 * Fraction(1, 2**found.bits) < Fraction(1, 256)


def test_a_way_of_asking_that_is_answered_at_times_has_a_price_whatever_it_says():
    found = priced(lambda candidate, cover, label: 400 if (candidate, cover) == (0, 3) else right(0, cover, label))
    assert found.unheard == 10


def test_silence_beyond_the_comparison_costs_what_it_leaves_open_and_no_more():
    compared = set(rule_of().first_part)
    found = priced(lambda candidate, cover, label: right(0, cover, label) if cover in compared or label else None)
    assert found == DerivationPrice(open=open_bits(1, CLASSES))


@pytest.mark.parametrize("status", [None, 403, 429, 503])
def test_descriptions_that_met_silence_have_a_price(status):
    silent = replace(SAID[0], status=status, response=b"")
    assert priced(right, metadata=(silent,)).unsaid == 10 + 1
    assert priced(right, metadata=(*SAID, silent, *SAID * 7)).unsaid == 10 + 4
    assert priced(right, metadata=(replace(SAID[0], status=404),)).bits == 0


@pytest.mark.parametrize("asked", range(1, 12))
def test_all_sets_of_silent_descriptions_together_add_little(asked):
    sets = [comb(asked, count) * Fraction(1, 2 ** (10 + set_bits(count, asked))) for count in range(1, asked + 1)]
    assert sum(sets) < Fraction(1, 256)


def test_naming_one_of_fifteen_adapters_adds_little_and_prices_add_up():
    assert 15 * Fraction(1, 2 ** priced(right, adapter="vertex", metadata=()).bits) < Fraction(1, 256)
    assert priced(right, adapter="vertex", metadata=(), ordinal=2).bits == 12 + 8


# --- what a check finds -----------------------------------------------------------------------------------------------


def test_a_derived_interface_confirms_for_nothing_and_its_bundle_checks():
    assert PLAYED.assessment.case.interface_bits == 0
    checked = check(bundle_of(PLAYED))
    assert checked.decision.verdict == "CONFIRMED"
    assert checked.assessment.evidence == EVIDENCE
    accuracy = checked.report["flags"]["accuracy"]
    assert accuracy["correct"] == accuracy["answered"] == accuracy["asked"] > 0
    assert checked.report["flags"]["elsewhere"] == {
        "answered": len(EVIDENCE.queries),
        "other_address": 0,
        "other_certificate": 0,
        "says": checked.report["flags"]["elsewhere"]["says"],
    }


def test_a_later_derivation_costs_its_bits():
    assert play(replace(PLAN, derivations=2)).assessment.case.interface_bits == 8


def test_an_innocent_endpoint_is_let_go_through_the_interface_that_it_gave_itself():
    played = play(replace(PLAN, endpoint=innocent, triggers=128, block_size=64, end="exhausted"))
    assert played.assessment.decision.verdict in ("NOT_SUPPORTED", "INCONCLUSIVE")


def fault_of(evidence):
    return find_fault(evidence, JsonCodec(), [ARBITER_PUBLIC], log_key=LOG_PUBLIC)


def rederived(**head):
    """Another derivation, logged by the service as if it were the one."""
    derivation = replace(DERIVATION, head=replace(DERIVATION.head, **head))
    return derivation_of(derivation)


def derivation_of(derivation, log_key=None):
    logged = (
        log_derivation(MemoryLog(), derivation) if log_key is None else log_derivation(MemoryLog(), derivation, log_key)
    )
    entry = relogged(logged, index=EVIDENCE.interface_entry.index)
    return replace(EVIDENCE, derivation=derivation, interface_entry=entry)


def other_queries(**changes):
    queries = list(DERIVATION.queries)
    at = next(number for number, query in enumerate(queries) if query.labels and query.candidate == 2)
    queries[at] = replace(queries[at], **changes)
    return derivation_of(replace(DERIVATION, queries=tuple(queries)))


FAULTS = {
    "no derivation": (replace(EVIDENCE, derivation=None), "are missing"),
    "no covers": (replace(EVIDENCE, covers=None), "are missing"),
    "no entry": (replace(EVIDENCE, interface_entry=None), "are missing"),
    "logged by somebody else": (derivation_of(DERIVATION, VENDOR_KEY), "as the service's own"),
    "another file than logged": (
        replace(EVIDENCE, derivation=replace(DERIVATION, head=replace(DERIVATION.head, ordinal=2))),
        "does not hold this derivation",
    ),
    "signature": (
        replace(EVIDENCE, interface_entry=relogged(EVIDENCE.interface_entry, signature=bytes(64))),
        "signature does not fit",
    ),
    "another endpoint": (rederived(endpoint="http://other.example"), "another endpoint"),
    "another registration": (rederived(registration=99), "another endpoint, registration"),
    "younger than the filing": (
        replace(
            resealed(EVIDENCE, interface_origin=replace(EVIDENCE.record.interface_origin, entry=99)),
            interface_entry=relogged(EVIDENCE.interface_entry, index=99),
        ),
        "younger than the filing",
    ),
    "metadata asked elsewhere": (rederived(metadata=()), "did not ask for metadata"),
    "asked in another order": (
        derivation_of(replace(DERIVATION, queries=DERIVATION.queries[::-1])),
        "asked otherwise than the rule",
    ),
    "asked too little": (
        derivation_of(replace(DERIVATION, queries=DERIVATION.queries[:-1])),
        "asked otherwise than the rule",
    ),
    "asked too much": (
        derivation_of(replace(DERIVATION, queries=(*DERIVATION.queries, DERIVATION.queries[0]))),
        "asked more than the rule",
    ),
    "asked something else": (other_queries(request=encode_json({"input": "00"})), "something else than cover"),
    "labels without a response": (other_queries(response=b""), "without its response"),
    "no answer without a word": (other_queries(response=b"", labels=()), "without its response"),
    "other labels": (other_queries(labels=("class 9",)), "not what the response says"),
    "a response that turns a majority": (
        other_queries(labels=("x",), response=encode_json({"labels": ["y"]})),
        "not what the response says",
    ),
    "another price": (rederived(bits=1), "costs something else"),
    "covers of another registration": (
        replace(EVIDENCE, covers=replace(EVIDENCE.covers, labels=(0,) * 60)),
        "not the covers that the registration commits to",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_of_a_derivation_is_found(name):
    evidence, expected = FAULTS[name]
    fault = fault_of(evidence)
    assert expected in fault


def test_what_got_no_answer_is_recorded_as_such_and_paid_for():
    silence = {"status": None, "error": "timeout", "response": b""}
    queries = tuple(replace(query, **silence) if query.candidate == 0 else query for query in DERIVATION.queries)
    given = (EVIDENCE.statement, EVIDENCE.covers, JsonCodec())
    paid = replace(DERIVATION.head, bits=8 + 2)
    verify_derivation(replace(DERIVATION, head=paid, queries=queries), *given)
    with pytest.raises(ProofError, match="costs something else"):
        verify_derivation(replace(DERIVATION, queries=queries), *given)
    wordless = tuple(replace(query, error="") if query.candidate == 0 else query for query in queries)
    with pytest.raises(ProofError, match="without its response"):
        verify_derivation(replace(DERIVATION, head=paid, queries=wordless), *given)


def test_an_interface_that_the_rule_does_not_give_is_found():
    label_map = {"by": "explicit", "map": {"class 0": ["class 1"], "class 1": ["class 0"]}}
    swapped = replace(DERIVATION.head.interface, label_map=label_map)
    with pytest.raises(ProofError, match="another interface"):
        verify_derivation(
            replace(DERIVATION, head=replace(DERIVATION.head, interface=swapped)),
            EVIDENCE.statement,
            EVIDENCE.covers,
            JsonCodec(),
        )


def test_an_entry_of_the_services_own_verifies():
    verify_derivation_entry(EVIDENCE.interface_entry.entry, DERIVATION, LOG_PUBLIC)


def test_a_derivation_prints_back_and_nothing_else_is_read():
    data = DERIVATION.encode()
    assert parse_derivation(data, max_bytes=1 << 20) == DERIVATION
    for bad in (b"", data[:-1], data + b"x", data.replace(b'"rule":1', b'"rule":2', 1)):
        with pytest.raises(Malformed):
            parse_derivation(bad, max_bytes=1 << 20)


def test_a_cover_that_is_not_the_committed_one_is_found_in_the_dispute_too():
    labelled = play(Plan(classes=100, labelled=True, covers_per_trigger=2))
    assert fault_of(labelled.evidence) == ""
    for index, expected in ((7, "not hold the committed cover"), (60, "only 60 are committed")):
        queries = list(labelled.evidence.queries)
        at = next(n for n, query in enumerate(queries) if query.role.kind == "cover" and query.role.index != 7)
        role = replace(queries[at].role, index=index)
        record = replace(queries[at].record, role_commitment=role.commit(queries[at].blind))
        queries[at] = replace(queries[at], role=role, record=record)
        assert expected in fault_of(reasked(labelled.evidence, queries))


def test_a_bundle_holds_a_derivation_exactly_if_the_interface_was_derived():
    files = bundle_of(PLAYED)
    plain = play(Plan(triggers=12, block_size=12))
    for played in (
        replace(PLAYED, evidence=replace(EVIDENCE, derivation=None)),
        replace(plain, evidence=replace(plain.evidence, derivation=DERIVATION)),
    ):
        with pytest.raises(ProofError, match="exactly if the interface was derived"):
            check(bundle_of(played))
    for name in ("derivation.jsonl", "covers.json"):
        with pytest.raises(ProofError, match=f"lacks {name}"):
            check({other: data for other, data in files.items() if other != name})
        with pytest.raises(ProofError, match=f"{name} was changed"):
            check(files | {name: files[name].replace(b"0", b"1", 1)})
