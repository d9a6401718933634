"""Every parser, whatever the bytes: a value that prints back as the same bytes, or Malformed and nothing else."""

import json
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.canonical import encode_json
from app.errors import Malformed, OpeningInvalid
from app.keys.commitment import InputOpening, LabelOpening, MarkingKey
from app.keys.cover_set import CoverSet, encode_cover_set, parse_cover_set
from app.keys.key_file import SealedKey, encode_key_file, encode_sealed_key_file, parse_key_file
from app.keys.statement import Statement, parse_statement
from app.keys.trigger_set import ImageInput, TensorInput, parse_input
from app.protocol.bundle import Course, EvidenceList, Index, Openings
from app.protocol.records import AnswerRecord, FilingRecord, NoticeRecord, parse_entry
from app.protocol.steps import StepList
from app.protocol.transcript import AskedQuery, Query
from tests.unit.protocol.examples import ANSWER, ENTRY_EXAMPLES, FILES, NOTICE, SMALL, STEP_LIST


class Parser(NamedTuple):
    parse: Callable
    encode: Callable
    example: bytes


def record(kind, example):
    return Parser(kind.parse, kind.encode, example)


KEY = SMALL.key
SMALL_KEY = MarkingKey(bytes(32), (TensorInput.of((1,), [1]).encode(),))
SMALL_KEY_B = MarkingKey(bytes(32), SMALL_KEY.inputs, (1,))
SEALED = encode_sealed_key_file(SMALL_KEY, "passphrase", salt=bytes(16), nonce=bytes(12))
PARSERS = {
    "image": Parser(parse_input, ImageInput.encode, ImageInput(2, 1, 3, bytes(6)).encode()),
    "tensor": Parser(parse_input, TensorInput.encode, TensorInput.of((2, 1), [0.5, -1]).encode()),
    "statement": Parser(parse_statement, Statement.encode, SMALL.evidence.statement.encode()),
    "input-opening": record(InputOpening, KEY.open_input(0).encode()),
    "label-opening": record(LabelOpening, KEY.open_label(0).encode()),
    "filing-record": record(FilingRecord, SMALL.evidence.record.encode()),
    "notice-record": record(NoticeRecord, NOTICE.encode()),
    "answer-record": record(AnswerRecord, ANSWER.encode()),
    "step-list": record(StepList, STEP_LIST.encode()),
    "query": record(Query, SMALL.evidence.queries[0].record.encode()),
    "asked-query": record(AskedQuery, SMALL.evidence.queries[0].encode()),
    "cover-set": Parser(parse_cover_set, CoverSet.encode, encode_cover_set(KEY.inputs[:1])),
    "key-file": Parser(parse_key_file, encode_key_file, encode_key_file(SMALL_KEY)),
    "key-file-b": Parser(parse_key_file, encode_key_file, encode_key_file(SMALL_KEY_B)),
    "sealed-key-file": record(SealedKey, SEALED),
    "bundle-index": record(Index, FILES["bundle.json"]),
    "course": record(Course, FILES["course.json"]),
    "openings": record(Openings, FILES["openings.json"]),
    "evidence-list": record(EvidenceList, FILES["evidence.json"]),
} | {
    f"{entry.NAME}-entry": Parser(parse_entry, lambda entry: entry.encode(), entry.encode()) for entry in ENTRY_EXAMPLES
}

every_parser = pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS)
few = settings(deadline=None, max_examples=15)


def check(parser, data):
    try:
        value = parser.parse(data)
    except Malformed:
        return
    assert parser.encode(value) == data


@every_parser
def test_the_example_reads_and_prints_back(parser):
    assert parser.encode(parser.parse(parser.example)) == parser.example


@every_parser
@given(data=st.binary(max_size=40))
@few
def test_any_bytes(parser, data):
    check(parser, data)


@every_parser
@given(at=st.integers(0), bit=st.integers(0, 7))
@few
def test_a_flipped_bit(parser, at, bit):
    data = bytearray(parser.example)
    data[at % len(data)] ^= 1 << bit
    check(parser, bytes(data))


@every_parser
@given(start=st.integers(0), length=st.integers(1, 8), inserted=st.binary(max_size=4))
@few
def test_bytes_cut_out_or_put_in(parser, start, length, inserted):
    data = parser.example
    start %= len(data)
    check(parser, data[:start] + inserted + data[start + length :])


def places(value, path=()):
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


def with_value(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = with_value(value[path[0]], path[1:], new)
    return copy


odd_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(0, 2**53 - 1),
    st.sampled_from([0, 1, 65_535, 65_536, 2**32 - 1, 2**32]),
    st.text(max_size=5),
    st.sampled_from(["", "00", "00" * 32, "AB" * 32, "image", "tensor", "2026-01-31T12:00:00Z", "local"]),
    st.lists(st.integers(0, 9), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=2),
)


@pytest.mark.parametrize("name", [name for name in PARSERS if name not in ("image", "tensor")])
@given(place=st.integers(0), new=odd_values)
@few
def test_canonical_json_with_one_value_replaced(name, place, new):
    parser = PARSERS[name]
    value = json.loads(parser.example)
    paths = list(places(value))
    check(parser, encode_json(with_value(value, paths[place % len(paths)], new)))


@given(at=st.integers(0), difference=st.integers(1, 255))
@few
def test_a_sealed_key_file_without_its_passphrase_never_opens(at, difference):
    data = bytearray(SEALED)
    data[at % len(data)] ^= difference
    with pytest.raises((Malformed, OpeningInvalid)):
        parse_key_file(bytes(data))
