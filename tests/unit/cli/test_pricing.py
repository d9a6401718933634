"""What is said before a filing."""

from dataclasses import replace

import pytest

from app.cli.pricing import confirm, tell_price, warn_of_repeated_covers
from app.errors import PolicyRefused
from app.keys.cover_set import encode_cover_set
from app.protocol.interface import BY_CLAIMANT, Interface
from tests.unit.protocol.dispute_in_memory import Plan, input_of, play

EVIDENCE = play(Plan(origin="claimant")).evidence
RECORD, STATEMENT = EVIDENCE.record, EVIDENCE.statement
DERIVED = play(Plan(classes=2, triggers=80, block_size=40, origin="derived", labelled=True, blocks=0)).evidence


def test_an_interface_of_ones_own_is_told_with_its_price_and_what_would_be_free(capsys):
    assert tell_price(RECORD, STATEMENT) == 8
    told = capsys.readouterr().err
    assert "costs 8 bits: the threshold is 2^72" in told
    assert "needs covers committed when registering" in told
    assert "countersigned" in told


def test_a_registration_with_committed_covers_is_told_to_derive(capsys):
    record = replace(DERIVED.record, interface_origin=BY_CLAIMANT)
    assert tell_price(record, DERIVED.statement) > 8
    assert "this registration has committed covers" in capsys.readouterr().err


def test_a_derived_interface_is_free_and_a_later_one_is_not(capsys):
    assert tell_price(DERIVED.record, DERIVED.statement) == 0
    assert tell_price(DERIVED.record, DERIVED.statement, 8) == 8
    told = capsys.readouterr().err
    assert "costs 0 bits" in told
    assert "only a registration's first is free" in told


def test_a_query_in_the_address_and_every_option_are_priced(capsys):
    record = replace(
        RECORD, endpoint="http://suspect.example/?seed=7", interface=Interface("kserve_v1", {}, {}, {"by": "name"})
    )
    assert tell_price(record, STATEMENT) == 8 + 8 * len("seed=7")
    assert "leave it out" in capsys.readouterr().err


def test_class_b_has_no_price(capsys):
    played = play(Plan(assurance_class="B", origin="claimant", end="exhausted"))
    assert tell_price(played.evidence.record, played.evidence.statement) == 0
    assert "class B" in capsys.readouterr().err


def test_covers_that_would_come_again_are_said_and_enough_are_not(tmp_path, capsys):
    path = tmp_path / "covers.json"
    path.write_bytes(encode_cover_set([input_of(number, "cover") for number in range(20)]))
    record = replace(RECORD, policy=replace(RECORD.policy, covers_per_trigger=10))
    warn_of_repeated_covers(path, record, STATEMENT)
    assert "20 covers for up to 160 cover questions: each may be asked 8 times" in capsys.readouterr().err
    warn_of_repeated_covers(path, replace(record, policy=replace(record.policy, max_triggers=2)), STATEMENT)
    warn_of_repeated_covers(None, record, STATEMENT)
    assert capsys.readouterr().err == ""


def test_covers_that_a_derivation_showed_are_said(tmp_path, capsys):
    path, covers = tmp_path / "covers.json", DERIVED.covers
    path.write_bytes(encode_cover_set([input_of(number, "cover") for number in range(60)], covers.labels))
    few = replace(DERIVED.record, policy=replace(DERIVED.record.policy, max_triggers=10, covers_per_trigger=2))
    warn_of_repeated_covers(path, few, DERIVED.statement)
    assert "60 of the 60 covers were asked when the interface was derived" in capsys.readouterr().err


def test_nobody_there_to_ask_is_a_refusal_unless_it_was_said_beforehand(monkeypatch, tmp_path):
    confirm(yes=True, as_json=False)
    confirm(yes=False, as_json=True)
    with (tmp_path / "empty").open("w+") as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        with pytest.raises(PolicyRefused, match="--yes"):
            confirm(yes=False, as_json=False)
