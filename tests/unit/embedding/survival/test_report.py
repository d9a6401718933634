from dataclasses import replace

import pytest

from app.embedding.survival.order import (
    MAX_ATTACKS,
    Measured,
    SurvivalOrder,
    SurvivalReport,
    SurvivalSettings,
)
from app.embedding.survival.page import render_page
from app.embedding.survival.report import MARKED, PLAIN, Terms, summary_line, survival_of
from app.errors import Malformed
from app.keys.statement import Statement
from app.keys.trigger_set import Family
from app.protocol.evidence import Outcome, Step, threshold, walk

FAMILIES = (Family("abstract", 0, 64), Family("noise", 64, 128))
TERMS = Terms(FAMILIES, 10, "A", 64, 8)


def measured(attack=MARKED, task=950, matches=(64, 64), **changes):
    return replace(Measured(attack, task, 1000, matches, matches, None, 5), **changes)


def statement():
    return Statement(
        log="log.example/test",
        vendor_key=bytes(32),
        root=bytes(32),
        count=128,
        kind="image",
        shape=(8, 8, 1),
        classes=tuple("0123456789"),
        families=FAMILIES,
        label_source="beacon",
        beacon="local",
        covers=None,
        unmarked_model=None,
    )


def order_json(**changes):
    order = SurvivalOrder(
        statement=statement(),
        salt=bytes(32),
        settings=SurvivalSettings(attacks=("int8",)),
        weights_path="w",
        data_path="d",
        test_path=None,
        attacker_path=None,
        plain_path=None,
        transfer_path=None,
        transfer_classes=(),
        output_path="o",
        key_form="plain",
    )
    return replace(order, **changes)


def report(*attacks, plain=None):
    marked = measured()
    rows = tuple(survival_of(attack, TERMS, marked) for attack in attacks)
    unattacked = survival_of(marked, TERMS, marked)
    return SurvivalReport(
        root=bytes(32),
        weights_sha256=bytes(32),
        assurance_class="A",
        classes=10,
        families=FAMILIES,
        settings=SurvivalSettings(attacks=tuple(attack.attack for attack in attacks) or ("int8",)),
        marked=unattacked,
        plain=plain,
        attacks=rows,
        skipped=(),
        needed=TERMS.needed(),
        summary=summary_line(unattacked, rows),
        device="cpu: 1 threads",
        torch_version="2",
    )


def test_settings_order_and_report_read_back_as_themselves():
    settings = SurvivalSettings.from_options({"attacks": ["ftal-1e-2+prune-50+int8"], "epochs": 3})
    assert SurvivalSettings.parse(settings.encode()) == settings
    order = order_json(settings=settings)
    assert SurvivalOrder.parse(order.encode()) == order
    made = report(measured("int8", matches=(60, 12)), measured("transfer", matches=None))
    assert SurvivalReport.parse(made.encode()) == made


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({}, "/attacks"),
        ({"attacks": []}, "/attacks"),
        ({"attacks": ["int8", "nonsense"]}, "/attacks/1"),
        ({"attacks": ["int8", "int8"]}, "/attacks"),
        ({"attacks": ["int8"] * (MAX_ATTACKS + 1)}, "/attacks"),
        ({"attacks": ["int8"], "attacker_percent": 0}, "/attacker_percent"),
        ({"attacks": ["int8"], "bits": 63}, "/bits"),
        ({"attacks": ["int8"], "spent": ["noise", "noise"]}, "/spent"),
        ({"attacks": ["int8"], "speed": 1}, "/speed"),
    ],
)
def test_settings_that_say_nothing_sensible_are_refused_with_a_pointer(options, pointer):
    with pytest.raises(Malformed) as refused:
        SurvivalSettings.from_options(options)
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"salt": b""}, "/salt"),
        ({"settings": SurvivalSettings(attacks=("int8", "transfer"))}, "/settings/attacks/1"),
        ({"settings": SurvivalSettings(attacks=("int8",), spent=("portraits",))}, "/settings/spent"),
        ({"settings": SurvivalSettings(attacks=("int8",), spent=("abstract", "noise"))}, "/settings/spent"),
        ({"transfer_path": "t"}, "/transfer_classes"),
        ({"transfer_path": "t", "transfer_classes": ("one",)}, "/transfer_classes"),
        ({"transfer_classes": ("one", "two")}, "/transfer_classes"),
        (
            {"statement": replace(statement(), kind="tensor"), "settings": SurvivalSettings(attacks=("jpeg-70",))},
            "/settings/attacks/0",
        ),
    ],
)
def test_orders_whose_parts_do_not_fit_are_refused_with_a_pointer(changes, pointer):
    with pytest.raises(Malformed) as refused:
        SurvivalOrder.parse(order_json(**changes).encode())
    assert refused.value.pointer == pointer


def test_needed_matches_are_where_the_protocols_walk_confirms():
    bound = threshold(64, 8, 2, 1)
    needed = TERMS.needed()
    assert needed[0] == needed[1]
    for matches, end in ((needed[0], True), (needed[0] - 1, False)):
        # Misses first and matches last: E is at its highest at the end, and no futility is looked for before.
        steps = [Step(Outcome.MATCH, 1, 10)] * matches + [Step(Outcome.MISMATCH, 1, 10)] * (64 - matches)
        ended = walk(steps[::-1] if matches > 60 else steps, bound)
        evidence = ended.evidence
        assert (ended.end == "CONFIRMED") is end or evidence[0] >= bound * evidence[1]


def test_a_family_too_small_to_ever_confirm_needs_nothing_that_it_has():
    assert replace(TERMS, families=(Family("few", 0, 20),)).needed() == (None,)


def test_a_network_that_kept_the_mark_is_confirmed_and_breaks_nothing():
    row = survival_of(measured("int8", matches=(63, 64)), TERMS, measured())
    assert (row.verdict, row.is_useful, row.breaks) == ("CONFIRMED", True, False)
    assert row.together.chance_micros == 1_000_000
    assert 24_000 < row.together.expected_millis < 26_000


def test_one_family_that_kept_the_mark_is_enough():
    row = survival_of(measured("int8", matches=(6, 64)), TERMS, measured())
    assert row.verdict == "CONFIRMED"
    assert [chances.chance_micros for chances in row.families] == [0, 1_000_000]


def test_a_network_that_lost_the_mark_and_kept_the_task_breaks_it():
    row = survival_of(measured("distill", task=901, matches=(8, 6)), TERMS, measured())
    assert (row.verdict, row.is_useful, row.breaks) == ("NOT_CONFIRMED", True, True)
    assert row.together.chance_micros == 0


def test_five_points_lost_are_still_useful_and_more_are_not():
    five, more = (survival_of(measured("int8", task=task, matches=(0, 0)), TERMS, measured()) for task in (900, 899))
    assert (five.is_useful, five.breaks) == (True, True)
    assert (more.is_useful, more.breaks) == (False, False)


def test_between_sure_and_impossible_a_verdict_is_uncertain_and_counts_as_broken():
    terms = replace(TERMS, families=(Family("all", 0, 512),))
    needed = terms.needed()[0]
    row = survival_of(measured("int8", matches=(needed - 1,)), terms, measured(matches=(512,)))
    assert (row.verdict, row.breaks) == ("UNCERTAIN", True)
    assert 10_000 < row.together.chance_micros < 990_000


def test_power_is_that_of_the_families_which_no_dispute_has_spent():
    later = replace(TERMS, spent=("abstract",))
    lost, whole = survival_of(measured(matches=(64, 6)), later, measured()), survival_of(measured(), later, measured())
    assert (lost.verdict, whole.verdict) == ("NOT_CONFIRMED", "CONFIRMED")
    assert survival_of(measured(matches=(64, 6)), TERMS, measured()).verdict == "CONFIRMED"
    assert lost.families[0].power_micros == 0
    assert later.needed()[0] is None
    # The second filing of a registration has to reach more than its first.
    weak = measured(matches=(64, 55))
    second, first = (survival_of(weak, terms, measured()).families[1] for terms in (later, TERMS))
    assert second == survival_of(weak, later, measured()).together
    assert second.expected_millis > first.expected_millis
    chosen = replace(later, assurance_class="B")
    assert survival_of(measured(matches=(64, 6)), chosen, measured()).verdict == "NOT_SUPPORTED"


def test_a_network_for_another_task_is_no_evidence_and_breaks_nothing():
    row = survival_of(measured("transfer", matches=None), TERMS, measured())
    assert (row.verdict, row.families, row.together, row.breaks) == ("NO_EVIDENCE", None, None, False)


def test_the_control_and_the_marked_network_itself_are_no_attacks():
    assert not survival_of(measured(PLAIN, matches=(6, 7)), TERMS, measured()).breaks
    assert not survival_of(measured(MARKED, matches=(6, 7)), TERMS, measured(matches=(6, 7))).breaks


def test_labels_of_the_vendors_own_know_the_papers_rule_and_no_chances():
    terms = replace(TERMS, assurance_class="B")
    kept, lost = (survival_of(measured("int8", matches=(58, m)), terms, measured()) for m in (58, 57))
    assert (kept.verdict, kept.families, kept.together, kept.breaks) == ("INDICATIVE", None, None, False)
    assert (lost.verdict, lost.breaks) == ("NOT_SUPPORTED", True)
    assert terms.needed() is None


def test_the_summary_counts_useful_attacks_and_names_what_broke_the_mark():
    attacks = (
        measured("int8"),
        measured("prune-90", task=500, matches=(3, 4)),
        measured("distill", matches=(8, 9)),
        measured("transfer", matches=None),
    )
    assert report(*attacks).summary == (
        "survives 1 of 2 attacks that leave the task within 5 points; broken by distill; "
        "unattacked: task accuracy 95.0 %, 128 triggers match, CONFIRMED"
    )


def test_the_page_shows_every_attack_and_says_beforehand_what_breaks_the_mark():
    page = render_page(report(measured("int8"), measured("distill", matches=(8, 9)), measured("pirate", pirate=(5, 9))))
    assert "Attacks that break this mark" in page
    assert all(f"</span>{name}</td>" in page for name in ("none", "int8", "distill", "pirate"))
    assert "5 of 9" in page
    assert page.count("<circle") == 4
    assert "Not evidence" in page


def test_a_page_without_a_broken_mark_claims_none():
    assert "Attacks that break" not in render_page(report(measured("int8")))


def test_the_page_escapes_names_and_loads_nothing():
    families = (Family("<script>alert(1)</script>", 0, 128),)
    terms = replace(TERMS, families=families)
    rows = (survival_of(measured("int8", matches=(128,)), terms, measured(matches=(128,))),)
    made = replace(report(), families=families, marked=rows[0], attacks=rows, needed=terms.needed())
    page = render_page(made)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert " src=" not in page
    assert "@import" not in page
    assert "url(" not in page
