from dataclasses import replace
from fractions import Fraction

import pytest

from app.canonical import lp, sha256, tag, u32
from app.keys.labels import draw_label
from app.protocol.evidence import Outcome, Step
from app.protocol.figures import Standing, Trust, figures, is_placebo_sum_odd, placebo_matches
from app.protocol.verdict import Case, Trial, cooperation_tests, decide, is_paper_rule_met

STANDING = Standing(tree_size=9, registrations=2, filings=4)
TRUST = Trust("local", "operator trusted for time", "claimant", 1, 1)


def trials(outcome, count, *, look_alike_answered=True, differs=(None, None), group=1):
    step = Step(outcome, group, 10)
    answered = outcome is not Outcome.NO_ANSWER
    return tuple(Trial(index, step, answered, look_alike_answered, differs) for index in range(count))


MATCHES, MISMATCHES = trials(Outcome.MATCH, 21), trials(Outcome.MISMATCH, 28)
SILENT = trials(Outcome.NO_ANSWER, 40)
WAVERING = trials(Outcome.MATCH, 12, differs=(True, False))


def case(asked=(), **values):
    standard = {
        "assurance_class": "A",
        "classes": 10,
        "bits": 64,
        "interface_bits": 0,
        "families": 1,
        "ordinal": 1,
        "trials": tuple(asked),
        "covers_asked": 10,
        "covers_answered": 10,
        "end": "exhausted",
    }
    return Case(**(standard | values))


def verdict_of(case):
    decision = decide(case)
    return decision.verdict, decision.reason


# Everything that could speak against another verdict is there, and the first that applies is given.
@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        (case(MATCHES, void="check_failed", covers_answered=0), ("VOID", "check_failed")),
        (case(SILENT, void="opening_invalid"), ("VOID", "opening_invalid")),
        (case(MATCHES + SILENT, covers_answered=0), ("CONFIRMED", "evidence")),
        (case(MISMATCHES + SILENT, covers_answered=0), ("NON_COOPERATIVE", "selective_silence")),
        (case(MISMATCHES, covers_answered=0), ("NOT_SUPPORTED", "futile")),
        (case(MATCHES[:20], covers_answered=4), ("INCONCLUSIVE", "unreachable")),
        (case(MATCHES[:20], covers_answered=5), ("INCONCLUSIVE", "exhausted")),
        (case(MATCHES[:20], end="budget"), ("INCONCLUSIVE", "budget")),
        (case(MATCHES[:20], end="withheld"), ("INCONCLUSIVE", "withheld")),
        (case(MATCHES[:20], end="withdrawn"), ("INCONCLUSIVE", "withdrawn")),
        (case(end="withdrawn", covers_asked=0, covers_answered=0), ("INCONCLUSIVE", "withdrawn")),
    ],
)
def test_the_first_verdict_that_applies(case, verdict):
    assert verdict_of(case) == verdict


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        (case(MATCHES, void="check_failed"), ("VOID", "check_failed")),
        (case(MATCHES), ("INDICATIVE", "paper_rule")),
        (case(MATCHES, end="budget"), ("INDICATIVE", "paper_rule")),
        (case(MATCHES[:18] + MISMATCHES[:2]), ("INDICATIVE", "paper_rule")),
        (case(MATCHES[:17] + MISMATCHES[:2]), ("NOT_SUPPORTED", "paper_rule")),
        (case(MISMATCHES), ("NOT_SUPPORTED", "paper_rule")),
        (case(()), ("NOT_SUPPORTED", "paper_rule")),
        (case(SILENT), ("NON_COOPERATIVE", "selective_silence")),
        (case(MATCHES, covers_answered=4), ("INCONCLUSIVE", "unreachable")),
        (case(MATCHES, end="withheld"), ("INCONCLUSIVE", "withheld")),
        (case(MATCHES, end="withdrawn"), ("INCONCLUSIVE", "withdrawn")),
    ],
)
def test_class_b_is_never_confirmed(case, verdict):
    assert verdict_of(replace(case, assurance_class="B")) == verdict


def test_class_b_is_walked_to_its_last_trigger():
    assert decide(case(MATCHES * 3, assurance_class="B")).walk.asked == 63
    assert decide(case(MATCHES * 3)).walk.asked == 21


def test_a_costlier_interface_more_families_and_later_filings_need_more():
    for values in ({"bits": 80}, {"interface_bits": 8}, {"families": 4}, {"ordinal": 10}):
        assert decide(case(MATCHES, **values)).verdict == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("matches", "asked", "met"),
    [(0, 0, False), (9, 10, True), (8, 9, False), (90, 100, True), (89, 100, False), (1, 1, True)],
)
def test_the_papers_rule(matches, asked, met):
    assert is_paper_rule_met(matches, asked) is met


def test_silence_counts_only_if_look_alikes_are_answered():
    honest = trials(Outcome.NO_ANSWER, 40, look_alike_answered=False)
    assert verdict_of(case(honest)) == ("INCONCLUSIVE", "exhausted")
    assert Fraction(*cooperation_tests(case(honest))["selective_silence"]) > Fraction(1, 2)


def test_each_test_of_cooperation_decides_at_one_in_2_to_the_20():
    # All n triggers unanswered, all n look-alikes answered: p = 1 / C(2n, n); C(22, 11) < 2^20 < C(24, 12).
    assert verdict_of(case(SILENT[:11])) == ("INCONCLUSIVE", "exhausted")
    assert verdict_of(case(SILENT[:12])) == ("NON_COOPERATIVE", "selective_silence")
    assert verdict_of(case(WAVERING[:11])) == ("INCONCLUSIVE", "exhausted")
    assert verdict_of(case(WAVERING[:12])) == ("NON_COOPERATIVE", "selective_wavering")


def test_what_was_withheld_speaks_for_the_endpoint():
    # The claimant may have kept back just the pairs whose trigger is answered and whose look-alike is not.
    withheld = trials(Outcome.WITHHELD, 20, look_alike_answered=False)
    assert Fraction(*cooperation_tests(case(withheld))["selective_silence"]) == 1
    assert verdict_of(case(SILENT[:12] + withheld)) == ("INCONCLUSIVE", "exhausted")


def test_only_questions_answered_twice_tell_of_wavering():
    assert cooperation_tests(case(MATCHES))["selective_wavering"] == (1, 1)
    once = trials(Outcome.MATCH, 12, differs=(True, None))
    assert Fraction(*cooperation_tests(case(once))["selective_wavering"]) == 1


def test_placebos_are_drawn_like_labels_under_other_salts():
    salt, group = b"\x01" * 32, frozenset({3, 4})
    answers = [(index, sha256(u32(index)), group) for index in range(5)]
    counts = placebo_matches(salt, 10, answers)
    assert len(counts) == 1000
    for number in (0, 999):
        placebo = sha256(lp(tag("placebo"), salt, u32(number)))
        labels = [draw_label(placebo, key, index, 10) for index, key, _ in answers]
        assert counts[number] == sum(label in group for label in labels)
    assert not is_placebo_sum_odd(counts, [Fraction(2, 10)] * 5)


def test_a_placebo_sum_is_odd_beyond_six_deviations():
    # 100 answers at 1/2: mean of the sum 50,000, variance 25,000, six deviations 948.7.
    chances = [Fraction(1, 2)] * 100
    for total, odd in ((50_000, False), (50_948, False), (50_949, True), (49_051, True), (49_052, False)):
        assert is_placebo_sum_odd([total], chances) is odd
    assert not is_placebo_sum_odd([0] * 1000, [])


def figures_of(case, placebos=(), chances=()):
    return figures(case, decide(case), STANDING, placebos, chances, trust=TRUST)


def test_class_a_figures_are_those_of_the_walk():
    report = figures_of(case(MATCHES + MISMATCHES), [2, 0, 1, 2], [Fraction(1, 10)] * 21)
    assert (report["verdict"], report["asked"], report["matches"]) == ("CONFIRMED", 21, 21)
    assert (report["answered"], report["no_answer"], report["withheld"]) == (21, 0, 0)
    assert report["log2_e"] == "65.452493437558882063692"
    assert report["log2_threshold"] == "65"
    # 2 registrations and 4 filings: three bits less.
    assert float(report["log2_e_corrected"]) == pytest.approx(float(report["log2_e"]) - 3)
    assert report["tail"]["fraction"] == f"0x1/{10**21:#x}"
    assert report["tail"]["note"] == "valid only had n been fixed beforehand"
    assert report["placebos"]["histogram"] == [1, 1, 2]
    assert report["placebos"]["expected_mean"] == "2.1"
    assert float(report["placebos"]["expected_deviation"]) == pytest.approx(1.89**0.5, abs=1e-6)
    assert report["standing"] == {"tree_size": 9, "registrations": 2, "filings": 4}
    assert report["paper_rule"] == {"met": True, "natural_class_check": "not made"}


def test_a_log_said_to_hold_nothing_corrects_nothing():
    nothing = Standing(0, 0, 0)
    report = figures(case(MATCHES), decide(case(MATCHES)), nothing, [], [], trust=TRUST)
    assert report["log2_e_corrected"] == report["log2_e"]


def test_answers_that_name_every_class_say_nothing():
    report = figures_of(case(trials(Outcome.MATCH, 3, group=10)))
    assert (report["log2_e"], report["tail"]["fraction"], report["tail"]["minus_log2"]) == ("0", "0x3e8/0x3e8", "0")


def test_class_b_has_no_evidence_in_its_figures():
    report = figures_of(case(MATCHES, assurance_class="B"))
    assert {"log2_e", "log2_threshold", "log2_f", "tail", "placebos", "match_rate_lower"}.isdisjoint(report)
    assert report["verdict"] == "INDICATIVE"
