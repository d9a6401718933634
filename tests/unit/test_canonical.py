import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.canonical import (
    MAX_INTEGER,
    Record,
    as_form,
    below,
    choice,
    encode_json,
    flag,
    integer,
    json_object,
    lp,
    nullable,
    octets,
    parse_json,
    parse_loose_json,
    seconds_of,
    sequence,
    sha256,
    tag,
    text,
    time_text,
    timestamp,
    u32,
    u64,
)
from app.errors import Malformed

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(0, MAX_INTEGER) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def refusal(act):
    with pytest.raises(Malformed) as caught:
        act()
    return caught.value


@given(json_values)
@settings(deadline=None)
def test_what_is_encoded_reads_back_and_is_what_any_json_reader_reads(value):
    data = encode_json(value)
    assert parse_json(data) == value == json.loads(data)


@given(st.binary(max_size=64) | st.text(alphabet='{}[]",:0123456789.eE-+ntfaulsr \\u', max_size=24).map(str.encode))
@settings(deadline=None)
def test_any_bytes_read_as_a_value_that_prints_the_same_or_are_malformed(data):
    try:
        value = parse_json(data)
    except Malformed:
        return
    assert encode_json(value) == data


def test_keys_are_sorted_by_utf_16_units_and_strings_are_shortest():
    # RFC 8785 section 3.2.3: U+10000 sorts before U+E000, since its first unit is a surrogate.
    assert encode_json({"\ue000": 1, "\U00010000": 2, "é": "\x07\n/"}) == (
        '{"é":"\\u0007\\n/","\U00010000":2,"\ue000":1}'.encode()
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b' {"a":1}',
        b'{"a":1}\n',
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":01}',
        b'{"a":-0}',
        b'{"a":-1}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":NaN}',
        b"Infinity",
        b"9007199254740992",
        b"1" * 5000,
        b'"\\u0041"',
        b'"\\/"',
        b'"\\ud800"',
        b'{"\\ud800":1}',
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        b"[" * 40 + b"]" * 40,
        b"[" * 200_000,
    ],
    ids=lambda data: repr(data[:20]),
)
def test_bytes_that_are_not_the_one_form_of_their_value_are_malformed(data):
    refusal(lambda: parse_json(data))


def test_nesting_ends_at_32_levels():
    nested = []
    for _ in range(32):
        nested = [nested]
    assert parse_json(encode_json(nested)) == nested
    assert refusal(lambda: encode_json([nested])).message == "nested deeper than 32 levels"


def test_a_body_over_the_limit_is_refused_before_it_is_read():
    assert parse_loose_json(b"[1.5]", max_bytes=5) == [1.5]
    assert "over the limit of 4" in refusal(lambda: parse_loose_json(b"[1.5]", max_bytes=4)).message


@pytest.mark.parametrize("value", [1.0, b"", {1: 2}, {None: 2}, {1, 2}, MAX_INTEGER + 1, -1, object()])
def test_values_outside_the_protocol_are_not_written(value):
    assert refusal(lambda: encode_json({"a/b": [value]})).pointer in ("/a~1b/0", "")


def test_pointers_escape_what_rfc_6901_escapes():
    assert below("/map", "a/b~c") == "/map/a~1b~0c"


def test_items_are_preceded_by_their_length_so_that_no_two_lists_look_alike():
    assert lp("a", b"", "é") == b"\0\0\0\x01a\0\0\0\0\0\0\0\x02\xc3\xa9"
    assert lp("ab", "c") != lp("a", "bc")
    assert lp() == b""


def test_numbers_are_big_endian():
    assert (u32(1), u64(2)) == (bytes(3) + b"\x01", bytes(7) + b"\x02")
    assert tag("x") == b"trapstreet/v1/x"
    assert sha256(b"").hex().startswith("e3b0c44298fc1c14")


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        (text(1, 3), ["a", "\U0001f600" * 3], ["", "abcd", 1, None]),
        (text(0, 9, pattern="[a-z]*"), ["", "abc"], ["A", "a\n", "é", "ab1"]),
        (integer(1, 3), [1, 3], [0, 4, True, "1", None, 1.0]),
        (octets(), ["", "00ff"], ["0", "0G", "AB", "00 ff", 1]),
        (octets(2), ["abcd"], ["", "ab", "abcdef", "ABCD"]),
        (octets(2, or_empty=True), ["", "abcd"], ["ab"]),
        (choice("a", 1, None), ["a", 1, None], ["b", True, 1.0, 0]),
        (flag(), [True, False], [0, 1, None, "true"]),
        (nullable(integer(1)), [None, 1], [0, "1"]),
        (sequence(integer(0), 1, 2), [[0], [1, 2]], [[], [1, 2, 3], [None], "ab", None]),
        (json_object(), [{}, {"a": [1, {"b": None}]}], [[], None, {"a": 1.5}, {"a": -1}]),
        (
            timestamp(),
            ["2026-01-31T12:00:00Z", "2024-02-29T23:59:59Z"],
            [
                "2026-02-29T12:00:00Z",
                "2026-01-31T24:00:00Z",
                "2026-01-31T23:59:60Z",
                "2026-01-31 12:00:00Z",
                "2026-01-31T12:00:00",
                "2026-01-31T12:00:00Z\n",
                "٢٠٢٦-01-31T12:00:00Z",
                "0000-01-01T00:00:00Z",
                5,
            ],
        ),
    ],
)
def test_a_form_takes_its_values_prints_them_back_and_refuses_others(form, good, bad):
    for value in good:
        assert form.show(form.parse(value, "")) == value
    for value in bad:
        assert refusal(lambda value=value: form.parse(value, "/here")).pointer.startswith("/here")


def test_times_are_cut_to_the_second_in_utc():
    moment = datetime(2026, 1, 31, 1, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert time_text(moment) == "2026-01-30T23:00:00Z"
    assert seconds_of("1970-01-02T00:00:01Z") == 86_401
    assert seconds_of(time_text(datetime(2026, 3, 29, 2, 30, tzinfo=UTC))) % 60 == 0


@dataclass(frozen=True)
class Inner(Record):
    low: int = field(metadata=as_form(integer(0)))
    high: int = field(metadata=as_form(integer(0)))

    def check(self, pointer):
        if self.low > self.high:
            raise Malformed("low is over high", pointer=f"{pointer}/low")


@dataclass(frozen=True)
class Outer(Record):
    NAME = "outer"

    inner: Inner = field(metadata=as_form(Inner.form()))


def test_a_record_is_its_keys_and_its_type():
    outer = Outer(Inner(1, 2))
    data = b'{"inner":{"high":2,"low":1},"type":"trapstreet/v1/outer"}'
    assert outer.encode() == data
    assert Outer.parse(data) == outer


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ([], ""),
        (None, ""),
        ({"inner": {"low": 1, "high": 2}}, "/type"),
        ({"inner": {"low": 1, "high": 2}, "type": "trapstreet/v1/inner"}, "/type"),
        ({"inner": {"low": 1, "high": 2}, "type": 1}, "/type"),
        ({"type": "trapstreet/v1/outer"}, "/inner"),
        ({"inner": [], "type": "trapstreet/v1/outer"}, "/inner"),
        ({"inner": {"low": 1}, "type": "trapstreet/v1/outer"}, "/inner/high"),
        ({"inner": {"low": 1, "high": -2}, "type": "trapstreet/v1/outer"}, "/inner/high"),
        ({"inner": {"low": 3, "high": 2}, "type": "trapstreet/v1/outer"}, "/inner/low"),
        ({"inner": {"low": 1, "high": 2, "a/b": 1}, "type": "trapstreet/v1/outer"}, "/inner/a~1b"),
        ({"inner": {"low": 1, "high": 2}, "type": "trapstreet/v1/outer", "x": 1}, "/x"),
    ],
)
def test_a_record_refuses_missing_extra_and_wrong_keys_and_points_at_them(value, pointer):
    assert refusal(lambda: Outer.from_json(value)).pointer == pointer
