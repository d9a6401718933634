"""Every vector file of the protocol that is not the log's: accepted and printed back, or refused with a reason."""

import json
import runpy
from pathlib import Path

import pytest

from app.errors import TrapstreetError
from app.keys.commitment import InputOpening, LabelOpening, verify_input_opening, verify_label_opening
from app.keys.cover_set import CoverTable, cover_leaf
from app.keys.statement import Statement, parse_statement
from app.keys.trigger_set import Family, check_families, parse_input
from app.protocol.bundle import check_bundle
from app.protocol.interface import BY_CLAIMANT, Interface, LabelMap, interface_bits
from app.protocol.records import AnswerRecord, FilingRecord, NoticeRecord, parse_entry, verify_hidden
from app.protocol.steps import StepList
from app.protocol.transcript import AskedQuery, Query
from app.signature import verify_signature
from tests.unit.protocol.dispute_in_memory import JsonCodec

VECTORS = Path(__file__).parents[2] / "vectors"
MAKER = runpy.run_path(str(VECTORS / "make_protocol_vectors.py"))
FOLDERS = MAKER["FOLDERS"]
PARSERS = {
    "filing-record": FilingRecord.parse,
    "notice-record": NoticeRecord.parse,
    "answer-record": AnswerRecord.parse,
    "step-list": StepList.parse,
    "query": Query.parse,
    "asked-query": AskedQuery.parse,
    "statement": Statement.parse,
}


def check_record(case):
    data = case["text"].encode()
    assert PARSERS.get(case["kind"], parse_entry)(data).encode() == data


def check_input(case):
    data = bytes.fromhex(case["hex"])
    assert parse_input(data).encode() == data


def check_statement(case):
    statement = parse_statement(case["statement"].encode())
    assert statement.encode() == case["statement"].encode()
    # Whose log it is, the service asks when registering and `check_bundle` asks of every bundle.
    if statement.log != case["log"]:
        raise TrapstreetError(f"for the log {statement.log}")


def check_families_of(case):
    families = [Family.from_json(family) for family in case["families"]]
    check_families(families, case["count"])


def check_opening(case):
    statement = parse_statement(case["statement"].encode())
    opening = InputOpening.parse(case["input_opening"].encode())
    verify_input_opening(statement, opening)
    label = LabelOpening.parse(case["label_opening"].encode())
    assert label.index == opening.index
    verify_label_opening(statement, opening.label_commitment, label)


def check_covers(case):
    table = CoverTable.parse(case["table"].encode())
    assert table.encode() == case["table"].encode()
    table.verify(parse_statement(case["statement"].encode()))
    assert cover_leaf(0, table.digests[0], table.labels[0]).hex() == case["leaf_0"]


def check_interface(case):
    statement = parse_statement(case["statement"].encode())
    interface = Interface.parse(case["interface"].encode())
    LabelMap(interface, statement)
    assert interface_bits(interface, BY_CLAIMANT, statement, endpoint="", beacon_index=0) == case["bits"]


def check_signature(case):
    key, signature = bytes.fromhex(case["public_key"]), bytes.fromhex(case["signature"])
    verify_signature(key, signature, case["text"].encode())


def check_hidden(case):
    entry = parse_entry(case["entry"].encode())
    verify_hidden(entry, PARSERS[case["kind"]](case["text"].encode()), bytes.fromhex(case["blind"]))


def check_files(case):
    files = {name: text.encode() for name, text in case["files"].items()}
    assert check_bundle(files, JsonCodec(), log_key=bytes.fromhex(case["log_key"])).is_authenticated


CHECKS = {
    "record": check_record,
    "input": check_input,
    "statement": check_statement,
    "families": check_families_of,
    "opening": check_opening,
    "covers": check_covers,
    "interface": check_interface,
    "signature": check_signature,
    "hidden": check_hidden,
    "bundle": check_files,
}


def cases():
    for folder in FOLDERS:
        for file in sorted((VECTORS / folder).glob("*.json")):
            must_fail = file.stem.endswith("_fail")
            yield pytest.param(folder, json.loads(file.read_bytes()), must_fail, id=f"{folder}/{file.stem}")


def test_vector_files_are_exactly_what_the_maker_writes():
    made = {f"{folder}/{file.name}": file.read_bytes() for folder in FOLDERS for file in (VECTORS / folder).iterdir()}
    assert made == MAKER["vectors"]()


@pytest.mark.parametrize(("folder", "case", "must_fail"), list(cases()))
def test_vector(folder, case, must_fail):
    if must_fail:
        with pytest.raises(TrapstreetError):
            CHECKS[folder](case)
    else:
        CHECKS[folder](case)


def test_each_refused_bundle_is_refused_for_its_own_reason():
    reasons = {
        "other_log_key_fail": "names the log key",
        "forged_with_another_key_fail": "names the log key",
        "statement_for_another_log_fail": "the statement is for the log other.example",
        "label_opened_before_its_head_fail": "before a head over its block was logged",
        "trigger_outside_the_challenge_fail": "outside the challenge",
        "block_not_in_the_log_fail": "not the blocks that were asked",
        "covers_with_another_label_fail": "not the covers that the registration commits to",
        "derivation_cut_short_fail": "does not hold this derivation",
    }
    files = {file.stem: file for file in (VECTORS / "bundle").glob("*_fail.json")}
    assert files.keys() == reasons.keys()
    for name, reason in reasons.items():
        with pytest.raises(TrapstreetError, match=reason):
            check_files(json.loads(files[name].read_bytes()))
