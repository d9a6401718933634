"""The panels' disputes, liars and evaders, on networks of seconds and endpoints that are plain functions."""

import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
import torch

from app.canonical import sha256
from app.embedding.data import LabelledSet
from app.embedding.networks import build
from app.embedding.train import prepare_torch
from app.keys.commitment import MarkingKey
from app.keys.trigger_set import Family, parse_input
from app.protocol.challenge import is_repeated, look_alike
from app.protocol.evidence import Outcome, Step
from benchmarks import panels, panels_picture
from benchmarks.evasion import EVADERS, Wavering, caught, evaders_of, junk, silent, summary, told, vote
from benchmarks.evasion_models import Scene, shuffled
from benchmarks.false_claim_fitting import FITTERS, _fitted, coarse, fine_labels, label_sets
from benchmarks.false_claim_inputs import adversarial_examples, noise
from benchmarks.false_claim_models import SEEN, Innocent, classes_of, suspect_of
from benchmarks.false_claim_tally import Tally
from benchmarks.false_claims import (
    ACCUSERS,
    MASTER,
    NAMES,
    Accusers,
    Withdrawer,
    Withholder,
    accuracy_by_kind,
    copied_answers,
    grinding,
    tiny_families,
    withholding_labels,
)
from benchmarks.false_claims import Scale as LiarScale
from benchmarks.panel_disputes import Claim, Claimant, canonical, highest_log2_e, play, register

TRIGGERS = 64


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    prepare_torch(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=False)


@pytest.fixture(scope="module")
def inputs():
    return noise(TRIGGERS)


@pytest.fixture(scope="module")
def network():
    return build("mlp", SEEN, 10, seed=3).eval()


def registered(inputs, number=1, labels=None):
    return register(MarkingKey(MASTER, tuple(inputs), labels), NAMES, [Family("f0", 0, len(inputs))], number)


def knowing(registered, wrong=frozenset()):
    """An endpoint that answers every trigger with its label, but for those named, and all else by chance."""
    labels = {
        data: (label + (index in wrong)) % 10
        for index, (data, label) in enumerate(zip(registered.key.inputs, registered.labels, strict=True))
    }

    def suspect(asked):
        return [(str(labels.get(data, sha256(data)[0] % 10)),) for data in asked]

    return suspect


def ignorant(asked):
    return [(str(sha256(b"ignorant" + data)[0] % 10),) for data in asked]


class Recorder:
    """Passes questions on and keeps them."""

    def __init__(self, suspect):
        self.suspect, self.asked = suspect, []

    def __call__(self, asked):
        self.asked += asked
        return self.suspect(asked)


# Disputes.


def test_a_stolen_network_is_confirmed_after_the_least_number_of_triggers(inputs):
    one = registered(inputs)
    played = play(one, Claim("f0", block_size=1), knowing(one))
    assert played.verdict == "CONFIRMED"
    asked = len(played.assessment.case.trials)
    match = Step(Outcome.MATCH, 1, 10)
    assert highest_log2_e([match] * asked) >= 64 + 8 + 1 > highest_log2_e([match] * (asked - 1))
    assert played.log2_t == pytest.approx(73)
    assert played.paper_rule


def test_who_knows_nothing_is_let_go_and_another_registration_draws_other_labels(inputs):
    labels = [registered(inputs, number).labels for number in range(4)]
    assert len(set(labels)) == 4
    # 64 triggers are few: an innocent endpoint is let go or nothing is decided.
    verdicts = {play(registered(inputs, number), Claim("f0"), ignorant).verdict for number in range(20)}
    assert "NOT_SUPPORTED" in verdicts
    assert verdicts <= {"NOT_SUPPORTED", "INCONCLUSIVE"}


def test_filings_of_one_registration_are_asked_in_different_orders(inputs):
    one = registered(inputs)
    orders = set()
    for number in range(3):
        played = play(one, Claim("f0", number=number), ignorant)
        orders.add(tuple(trial.index for trial in played.assessment.case.trials))
    assert len(orders) == 3


def test_every_trigger_is_asked_with_its_look_alike_and_covers_and_the_first_of_twenty_twice(inputs):
    one = registered(inputs)
    covers = noise(200)[-8:]
    recorder = Recorder(knowing(one))
    played = play(one, Claim("f0", block_size=8, covers_per_trigger=2), recorder, covers)
    evidence = played.assessment.evidence
    asked = [index for position, index in enumerate(evidence.due) for _ in range(1 + is_repeated(position))]
    assert len(asked) > len(evidence.due)
    expected = [one.key.inputs[index] for index in asked]
    expected += [look_alike(evidence.seed, index, one.key.inputs[index]) for index in asked]
    assert sorted(data for data in recorder.asked if data not in covers) == sorted(expected)
    assert sum(data in covers for data in recorder.asked) == 2 * len(evidence.due)
    assert played.assessment.case.covers_asked == 2 * len(evidence.due)


def test_errors_on_triggers_alone_are_not_cooperation_and_errors_everywhere_are_no_verdict(inputs):
    one = registered(inputs)
    known = set(inputs)
    selective = play(one, Claim("f0"), lambda asked: [() if data in known else ("1",) for data in asked])
    assert selective.verdict == "NON_COOPERATIVE"
    nothing = play(one, Claim("f0"), lambda asked: [()] * len(asked))
    assert nothing.verdict == "INCONCLUSIVE"


def test_a_filing_that_cannot_be_confirmed_is_refused_and_played_all_the_same(inputs):
    one = registered(inputs[:20])
    played = play(one, Claim("f0"), knowing(one))
    assert played.verdict == "REFUSED"
    assert played.assessment.decision.walk.matches == 20
    assert played.paper_rule


def test_class_b_is_indicative_at_most(inputs):
    chosen = tuple(int(labels[0]) for labels in ignorant(inputs))
    played = play(registered(inputs, labels=chosen), Claim("f0"), ignorant)
    assert played.verdict == "INDICATIVE"
    assert played.paper_rule
    wrong = play(registered(inputs, labels=tuple((label + 1) % 10 for label in chosen)), Claim("f0"), ignorant)
    assert (wrong.verdict, wrong.paper_rule) == ("NOT_SUPPORTED", False)


# Liars.


class Silent(Claimant):
    def opens_labels(self, indices, withheld_in_a_row):
        return False


def test_three_withheld_blocks_in_a_row_end_a_dispute(inputs):
    one = registered(inputs)
    played = play(one, Claim("f0", block_size=4), knowing(one), claimant=Silent())
    assert played.assessment.decision.reason == "withheld"
    assert len(played.assessment.case.trials) == 12


@pytest.mark.parametrize("labels", [False, True])
def test_withholding_counts_as_a_mismatch_and_two_in_a_row_is_all_a_liar_keeps_back(inputs, labels):
    one = registered(inputs)
    claimant = Withholder(frozenset(), labels=labels)
    played = play(one, Claim("f0", block_size=1), ignorant, claimant=claimant)
    outcomes = [trial.step.outcome for trial in played.assessment.case.trials]
    assert [outcome is Outcome.WITHHELD for outcome in outcomes[:6]] == [True, True, False] * 2
    all_match = Withholder(frozenset(range(TRIGGERS)), labels=labels)
    honest = play(one, Claim("f0", block_size=1), knowing(one), claimant=all_match)
    assert honest.verdict == "CONFIRMED"


def test_who_withdraws_does_so_when_evidence_speaks_against_him(inputs):
    one = registered(inputs)
    against = play(one, Claim("f0", block_size=4), ignorant, claimant=Withdrawer())
    assert against.assessment.decision.reason == "withdrawn"
    assert play(one, Claim("f0", block_size=4), knowing(one), claimant=Withdrawer()).verdict == "CONFIRMED"


@pytest.fixture
def liars():
    scale = LiarScale("tiny", each=1, attempts=2, registrations=3)
    return Accusers(scale, [], ((), ()), ((), ()), noise(512), iter(range(1, 100)))


def test_labels_copied_from_the_accused_pass_the_papers_rule_and_nothing_in_class_a(liars, network):
    tally = copied_answers(liars, Innocent("mlp", network, 0.1))
    assert (tally.paper_accepts, tally.paper_claims) == (1, 1)
    assert tally.claims == 2
    assert tally.verdicts["CONFIRMED"] == 0
    assert tally.log2_t == pytest.approx(73)


def test_who_grinds_files_the_best_family_first_and_pays_for_each_filing(liars, network):
    tally = grinding(liars, Innocent("mlp", network, 0.1))
    assert tally.claims == 3 * 4
    assert tally.verdicts["CONFIRMED"] == 0
    assert tally.most[1] == 64
    # Four families, and the ordinal's j(j + 1): 2 for the first and 20 for the last.
    assert math.log2(4 * 2) <= tally.log2_t - 72 <= math.log2(4 * 20)


def test_families_of_two_pass_the_papers_rule_now_and_then_and_are_refused_here(liars, network):
    tally = tiny_families(replace(liars, scale=replace(liars.scale, registrations=6)), Innocent("mlp", network, 0.1))
    assert 0 < tally.paper_accepts < 6 * 64 / 10
    assert dict(tally.verdicts) == {"REFUSED": tally.paper_accepts}


def test_what_is_withheld_would_be_a_proof_if_it_did_not_count(liars, network):
    tally = withholding_labels(liars, Innocent("mlp", network, 0.1))
    assert tally.unpaid == tally.paper_accepts == 2
    assert tally.verdicts["CONFIRMED"] == 0


@pytest.mark.parametrize("name", FITTERS)
def test_a_fitted_interface_matches_no_less_than_the_plain_one_and_its_price_is_too_high(name, inputs, network):
    one = registered(inputs)
    fitted = FITTERS[name](one, network)
    played = play(one, Claim("f0", interface=fitted.interface), fitted.suspect)
    assert played.verdict != "CONFIRMED"
    assert played.log2_t > 64 + 8 + 1
    if name not in ("path", "preprocessing"):  # they need not find the plain one among theirs
        known = zip(classes_of(network, inputs), one.labels, strict=True)
        assert fitted.matches >= sum(answer == label for answer, label in known)


def test_a_map_of_thousands_of_labels_matches_nearly_all_and_sets_match_all(inputs, network):
    one = registered(inputs)
    assert fine_labels(one, network).matches > TRIGGERS * 0.8
    assert label_sets(one, network).matches == TRIGGERS


def test_matches_of_a_fit_are_those_of_the_map(inputs, network):
    one = registered(inputs)
    shifted = {str(label): [str((label + 1) % 10)] for label in range(10)}
    interface = replace(Claim("f0").interface, label_map={"by": "explicit", "map": shifted})
    known = zip(classes_of(network, inputs), one.labels, strict=True)
    assert _fitted(one, interface, coarse(network)).matches == sum((a + 1) % 10 == b for a, b in known)


def test_adversarial_examples_deceive_the_networks_they_are_made_with():
    networks = [build("mlp", SEEN, 10, seed=seed).eval() for seed in (1, 2, 1, 2)]
    made, targets = adversarial_examples(networks, 16)
    assert len(made) == 16
    assert parse_input(made[0]).shape == (8, 8, 1)
    assert sum(a == b for a, b in zip(classes_of(networks[0], made), targets, strict=True)) >= 14


def test_a_tally_counts_confirmed_and_keeps_the_claim_nearest_to_its_threshold(inputs, network):
    one, tally, other = registered(inputs), Tally(), Tally()
    tally.add(play(one, Claim("f0"), ignorant))
    other.add(play(one, Claim("f0"), knowing(one)))
    other.add_paper(accepts=True)
    assert tally.note(57, 64) is False
    assert other.note(58, 64) is True
    tally.merge(other)
    figures = tally.figures()
    assert figures["class_a_confirmed"] == 1
    assert figures["log2_e_over_t_max"] >= 0
    assert figures["most_matches"] == [58, 64]
    assert (figures["claims"], figures["paper_rule_accepts"], figures["paper_rule_accepts_drawn_labels"]) == (2, 1, 1)


def test_a_suspect_answers_as_its_network(inputs, network):
    assert [int(labels[0]) for labels in suspect_of(network)(inputs)] == classes_of(network, inputs)


# Evaders.

DIGESTS = [sha256(bytes([number])) for number in range(200)]
IMAGES = torch.zeros(200, 3, 8, 8, dtype=torch.uint8)


def test_a_told_detector_finds_its_share_of_triggers_and_of_the_rest_always_the_same():
    detector = told(frozenset(DIGESTS[:100]), 0.5, 0.05)
    found = detector(IMAGES, DIGESTS)
    assert 35 <= int(found[:100].sum()) <= 65
    assert 0 <= int(found[100:].sum()) <= 15
    assert torch.equal(found, detector(IMAGES, DIGESTS))
    assert bool(told(frozenset(DIGESTS), 1.0, 0.0)(IMAGES, DIGESTS).all())


def test_only_what_is_caught_is_answered_otherwise():
    def usual(images, digests):
        return torch.full((len(digests),), 7)

    answer = caught(usual, told(frozenset(DIGESTS[:50]), 1.0, 0.0), silent)
    assert answer(IMAGES, DIGESTS).tolist() == [-1] * 50 + [7] * 150


def test_junk_is_steady_and_wavering_is_not():
    assert torch.equal(junk(IMAGES, DIGESTS), junk(IMAGES, DIGESTS))
    assert len(set(junk(IMAGES, DIGESTS).tolist())) == 10
    wavering = Wavering()
    assert not bool((wavering(IMAGES, DIGESTS) == wavering(IMAGES, DIGESTS)).any())


class Always(torch.nn.Module):
    def __init__(self, number):
        super().__init__()
        self.number = number

    def forward(self, inputs):
        return torch.nn.functional.one_hot(torch.full((len(inputs),), self.number), 10).float()


@pytest.mark.parametrize(("votes", "elected"), [((1, 2, 2), 2), ((3, 2, 3), 3), ((4, 5, 6), 4)])
def test_a_vote_is_the_majoritys_and_the_firsts_where_all_differ(votes, elected):
    assert set(vote(*map(Always, votes))(IMAGES, DIGESTS).tolist()) == {elected}


def test_shuffled_images_keep_their_tiles():
    images = torch.arange(2 * 3 * 8 * 8, dtype=torch.uint8).reshape(2, 3, 8, 8)
    mixed = shuffled(images, 1)
    tiles = [sorted(one[:, y : y + 4, x : x + 4].flatten().tolist() for y in (0, 4) for x in (0, 4)) for one in images]
    mixed_tiles = [
        sorted(one[:, y : y + 4, x : x + 4].flatten().tolist() for y in (0, 4) for x in (0, 4)) for one in mixed
    ]
    assert mixed_tiles == tiles
    assert any(not torch.equal(shuffled(images, seed), images) for seed in range(3))


def test_a_summary_counts_verdicts_and_means_only_over_the_confirmed(inputs):
    one = registered(inputs)
    confirmed = play(one, Claim("f0"), knowing(one))
    row = summary([confirmed, play(one, Claim("f0"), ignorant)])
    assert row["verdicts"]["CONFIRMED"] == 1
    assert sum(row["verdicts"].values()) == 2
    assert row["triggers_to_confirmed"] == confirmed.assessment.decision.walk.asked
    assert summary([play(one, Claim("f0"), ignorant)])["triggers_to_confirmed"] is None


def test_canonical_inputs_are_the_pictures_row_by_row():
    images = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 3, 4, 5)
    opened = parse_input(canonical(images)[1])
    assert opened.shape == (4, 5, 3)
    assert opened.pixels[:3] == bytes(images[1, :, 0, 0].tolist())


# What is written.


@pytest.fixture
def figures(inputs):
    one, tally = registered(inputs), Tally()
    tally.add(play(one, Claim("f0"), ignorant))
    tally.add_paper(accepts=True)
    refused = Tally()
    refused.add_refused()
    family = summary([play(one, Claim("f0"), knowing(one)), play(one, Claim("f0"), ignorant)]) | {"match_rate": 0.5}
    return {
        "accuracy": {"robust": 0.9},
        "accusers": {"copied_answers": tally.figures(), "withdrawing": refused.figures()},
        "claims": 2,
        "false_claims_confirmed": 0,
        "evaders": {"<none>": {"does": "nothing", "task_accuracy": 0.7, "families": {"abstract": family}}},
        "trained_detector_finds": {"abstract": 0.99, "ordinary": 0.01},
    }


def test_tables_say_what_was_measured(figures):
    liars = panels.false_claims_table(figures)
    assert "| `copied_answers` | 1, 0 | 0 |" in liars
    assert "1 of 1" in liars
    assert "| `withdrawing` | 1, 1 | 0 | - |" in liars
    thieves = panels.evasion_table(figures)
    assert "| 70.0% | 50%; 1 CONFIRMED, 1 " in thieves
    assert "99.0% of abstract" in thieves


def test_rows_stand_in_the_order_of_the_panels_and_none_is_lost():
    kept = {"accusers": dict.fromkeys(sorted(ACCUSERS), 1), "evaders": dict.fromkeys(sorted(EVADERS), 2), "claims": 3}
    shown = panels.in_order(kept)
    assert shown == kept
    assert list(shown["accusers"]) == list(ACCUSERS)
    assert list(shown["evaders"]) == list(EVADERS)


def test_every_evader_has_its_place():
    network = build("mlp", SEEN, 10)
    one = registered(noise(4))
    scene = Scene(one, (), LabelledSet(IMAGES, torch.zeros(200)), network, network, network, (network,) * 2, network)
    assert tuple(evader.name for evader in evaders_of(scene)) == EVADERS


def test_accuracy_is_the_mean_of_a_kind(network):
    accused = [Innocent("a", network, 0.5), Innocent("b", network, 0.1), Innocent("a", network, 0.7)]
    assert accuracy_by_kind(accused) == {"a": 0.6, "b": 0.1}


def test_the_picture_is_svg_with_a_row_for_each(figures):
    drawn = ET.fromstring(panels_picture.draw(figures))
    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"copied answers", "withdrawing", "<none>"} <= set(texts)
    assert any("0 of 2 claims CONFIRMED" in text for text in texts)
    colours = [element.get("fill") for element in drawn.iter("{http://www.w3.org/2000/svg}rect")]
    assert colours.count(panels_picture.COLOURS["CONFIRMED"]) >= 2  # the legend, and half a bar


def test_labelled_sets_of_the_panel_are_disjoint():
    from benchmarks.false_claim_models import ACCUSER, STRANGER, TEST, part

    rows = [set(range(*piece.indices(1797))) for piece in (ACCUSER, STRANGER, TEST)]
    assert not (rows[0] & rows[1] | rows[0] & rows[2] | rows[1] & rows[2])
    assert isinstance(part(TEST), LabelledSet)
    assert part(TEST).count == 397
