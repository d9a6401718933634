"""Whatever a suspect writes is one word in the transcript: never a crash, never a match, never more than its caps."""

import gzip
import json
import re
import time
from dataclasses import replace

import pytest

from app.canonical import sha256
from app.keys.statement import Family, Statement
from app.protocol.interface import Interface, LabelMap
from app.protocol.transcript import Query
from app.suspects.adapters import read_answer
from app.suspects.probe import Suspect, ask_once
from app.suspects.transport import TRANSPORT_ERRORS
from tests.integration.asking import BRIEF, ONCE, RULES, now, question
from tests.simulators.raw_server import RawServer, always, chunked, forever, response
from tests.write_docs import ROOT

INTERFACE = Interface(adapter="kserve_v1", options={"model": "m"}, preprocessing={}, label_map={"by": "index"})
STATEMENT = Statement(
    log="test.localhost/log",
    vendor_key=bytes(32),
    root=bytes(32),
    count=8,
    kind="image",
    shape=(8, 8, 1),
    classes=tuple(map(str, range(10))),
    families=(Family("all", 0, 8),),
    label_source="beacon",
    beacon="local",
    covers=None,
    unmarked_model=None,
)
GOOD = b'{"predictions": [7]}'
OK = b"HTTP/1.1 200 OK\r\n"


def says(prediction, **lies):
    return response(json.dumps({"predictions": [prediction]}).encode(), **lies)


def raw(text):
    return response(b'{"predictions": [' + text + b"]}")


BOMB = gzip.compress(bytes(50_000_000))

# What it writes, the word, the status.
SCRIPTS = {
    # time
    "one byte of the body now and then": (
        forever(OK + b"content-length: 1000\r\n\r\n", b" ", every_seconds=0.1),
        "timeout",
        None,
    ),
    "one byte of the head now and then": (forever(OK + b"x: ", b"y", every_seconds=0.1), "timeout", None),
    "one header now and then": (forever(OK, b"x: y\r\n", every_seconds=0.1), "timeout", None),
    "nothing": (forever(b"", b"", every_seconds=0.1), "timeout", None),
    "a flood of 100 Continue": (forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "timeout", None),
    "103 Early Hints now and then": (
        forever(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", every_seconds=0.1),
        "timeout",
        None,
    ),
    # size
    "a body without an end": (forever(OK + b"\r\n", b" " * 65_536), "too_large", 200),
    "chunks without an end": (
        forever(OK + b"transfer-encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65_536 + b"\r\n"),
        "too_large",
        200,
    ),
    "small chunks without an end": (
        forever(OK + b"transfer-encoding: chunked\r\n\r\n", b"40\r\n" + b" " * 64 + b"\r\n"),
        "too_large",
        200,
    ),
    "headers without an end": (forever(OK, b"x: y\r\n" * 1000), "not_http", None),
    "one header without an end": (forever(OK + b"x: ", b"y" * 65_536), "not_http", None),
    "a status line without an end": (forever(b"HTTP/1.1 200 ", b"O" * 65_536), "not_http", None),
    "trailers without an end": (
        forever(OK + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n" * 1000),
        "not_http",
        None,
    ),
    "a good answer behind a megabyte of spaces": (response(b" " * 1_000_000 + GOOD), "too_large", 200),
    # compression
    "a gzip bomb": (response(BOMB, headers=b"content-encoding: gzip\r\n"), "encoded_body", 200),
    "a small gzip body": (response(gzip.compress(GOOD), headers=b"content-encoding: gzip\r\n"), "encoded_body", 200),
    "a plain body that says it is compressed": (
        response(GOOD, headers=b"content-encoding: br\r\n"),
        "encoded_body",
        200,
    ),
    "two encodings": (response(GOOD, headers=b"content-encoding: identity, gzip\r\n"), "encoded_body", 200),
    "two encoding headers": (
        response(GOOD, headers=b"content-encoding: identity\r\ncontent-encoding: gzip\r\n"),
        "encoded_body",
        200,
    ),
    "a gzip body that does not say so": (response(gzip.compress(GOOD)), "not_json", 200),
    "gzip in transfer": (always(OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), "not_http", None),
    # what is not JSON
    "a page": (response(b"<html>7</html>"), "not_json", 200),
    "nothing in the body": (response(b""), "not_json", 200),
    "bytes that are no text": (response(b'{"predictions": ["\xff\xfe"]}'), "not_json", 200),
    "a byte order mark": (response(b"\xef\xbb\xbf" + GOOD), "not_json", 200),
    "UTF-16": (response(GOOD.decode().encode("utf-16")), "not_json", 200),
    "two values": (response(GOOD + GOOD), "not_json", 200),
    "a key twice": (response(b'{"predictions": [7], "predictions": [3]}'), "not_json", 200),
    "arrays thousands deep": (response(b"[" * 30_000 + b"]" * 30_000), "too_deep", 200),
    "objects thousands deep": (response(b'{"a":' * 10_000 + b"7" + b"}" * 10_000), "too_deep", 200),
    # what is no answer
    "an error with status 200": (response(b'{"error": "KeyError"}'), "missing_field", 200),
    "null": (response(b"null"), "missing_field", 200),
    "no prediction": (response(b'{"predictions": []}'), "wrong_count", 200),
    "two predictions": (response(b'{"predictions": [7, 7]}'), "wrong_count", 200),
    "one score too few": (says([0.1] * 9), "wrong_count", 200),
    "one score too many": (says([0.1] * 11), "wrong_count", 200),
    "one score": (says([0.7]), "wrong_count", 200),
    "a score that is NaN": (says([float("nan")] + [0.1] * 9), "nan_score", 200),
    "a score that is infinite": (raw(b"[1e999" + b",0.1" * 9 + b"]"), "nan_score", 200),
    "a score of hundreds of digits": (raw(b"[" + b"9" * 400 + b",0.1" * 9 + b"]"), "nan_score", 200),
    "a number of thousands of digits": (raw(b"[" + b"9" * 5000 + b",0.1" * 9 + b"]"), "not_json", 200),
    "a score that is true": (says([True] * 10), "wrong_shape", 200),
    "scores as text and number": (says(["0.1"] + [0.1] * 9), "wrong_shape", 200),
    "a label that is true": (says(True), "wrong_shape", 200),
    "a label that is a fraction": (says(7.0), "wrong_shape", 200),
    "a label twice": (says(["7", "7"]), "duplicate_label", 200),
    "a number and a text that are one label": (response(b'{"predictions": [{"7": 1, "7": 2}]}'), "not_json", 200),
    "a lone surrogate": (raw(b'"\\ud800"'), "bad_label", 200),
    "a label of 201 characters": (says("7" * 201), "bad_label", 200),
    "a label of 60,000 characters": (says("7" * 60_000), "bad_label", 200),
    # status
    "204 with an answer": (response(GOOD, status="204 No Content"), "status_204", 204),
    "201 with an answer": (response(GOOD, status="201 Created"), "status_201", 201),
    "206 with an answer": (response(GOOD, status="206 Partial Content"), "status_206", 206),
    "304 with an answer": (response(GOOD, status="304 Not Modified"), "status_304", 304),
    "418 with an answer": (response(GOOD, status="418 Teapot"), "status_418", 418),
    "500 with an answer": (response(GOOD, status="500 Oops"), "status_500", 500),
    "599 with an answer": (response(GOOD, status="599 What"), "status_599", 599),
    "600 with an answer": (response(GOOD, status="600 What"), "status_600", 600),
    "999 with an answer": (response(GOOD, status="999 What"), "status_999", 999),
    "099": (response(GOOD, status="099 Low"), "not_http", None),
    "1000": (response(GOOD, status="1000 High"), "not_http", None),
    "a status in other digits": (always("HTTP/1.1 \uff12\uff10\uff10 OK\r\n\r\n".encode()), "not_http", None),
    "101 and another protocol": (
        always(b"HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n" + GOOD),
        "not_http",
        None,
    ),
    # what is no HTTP
    "HTTP/0.9": (always(GOOD + b"\r\n\r\n"), "not_http", None),
    "HTTP/0.9 without a line": (always(GOOD), "connection_lost", None),
    "HTTP/2": (always(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)), "not_http", None),
    "TLS": (always(b"\x15\x03\x01\x00\x02\x02\x28\r\n\r\n"), "not_http", None),
    "another protocol": (always(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "not_http", None),
    "zeros": (always(bytes(100_000) + b"\r\n\r\n"), "not_http", None),
    "empty lines": (always(b"\r\n" * 50), "not_http", None),
    # lies about the length
    "fewer bytes than it says": (response(GOOD, length=b"1000"), "connection_lost", None),
    "more bytes than it says": (response(GOOD, length=b"10"), "not_json", 200),
    "a negative length": (response(GOOD, length=b"-1"), "not_http", None),
    "a length with a plus": (response(GOOD, length=b"+20"), "not_http", None),
    "a length in hex": (response(GOOD, length=b"0x14"), "not_http", None),
    "two lengths": (response(GOOD, headers=b"content-length: 10\r\n"), "not_http", None),
    "two lengths in one": (response(GOOD, length=b"20, 10"), "not_http", None),
    "a length beyond all": (response(GOOD, length=b"9" * 30), "not_http", None),
    "a chunk shorter than it says": (chunked(b"ff\r\n" + GOOD), "connection_lost", None),
    "a chunk longer than it says": (chunked(b"5\r\n" + GOOD + b"\r\n0\r\n\r\n"), "not_http", None),
    "no last chunk": (chunked(b"14\r\n" + GOOD + b"\r\n"), "connection_lost", None),
    "a chunk of negative length": (chunked(b"-14\r\n" + GOOD + b"\r\n0\r\n\r\n"), "not_http", None),
    "a chunk beyond all": (chunked(b"f" * 40 + b"\r\n"), "not_http", None),
    "a chunk with a long extension": (chunked(b"14;" + b"x" * 200_000 + b"\r\n"), "not_http", None),
    "a header folded over lines": (response(GOOD, headers=b"content-length:\r\n 10\r\n"), "not_http", None),
    "a NUL in a header": (response(GOOD, headers=b"x: \0\r\n"), "not_http", None),
}


def ask(server):
    return ask_once(question(1), Suspect(server.url, INTERFACE, 10), RULES, ONCE, now)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_hostile_response_is_a_word(name):
    script, error, status = SCRIPTS[name]
    started = time.monotonic()
    with RawServer(script) as server:
        asked = ask(server)
    assert (asked.error, asked.status, asked.labels) == (error, status, ())
    assert time.monotonic() - started < BRIEF.total_seconds + 15
    assert len(asked.response) <= 64 * 1024 + 64 * 10
    assert f"`{re.sub('^status_.*', 'status_<n>', error)}`" in (ROOT / "docs" / "errors.md").read_text()
    verify_record(asked)


def verify_record(asked):
    """The transcript can hold it, and who rereads the bytes finds the same word."""
    record = Query(
        **{name: getattr(asked, name) for name in vars(asked) if name not in ("request", "response")},
        role_commitment=bytes(32),
    )
    assert Query.parse(record.encode()) == record
    if asked.error in TRANSPORT_ERRORS:
        assert (asked.response, asked.response_sha256) == (b"", b"")
    else:
        assert asked.response_sha256 == sha256(asked.response)
        assert read_answer(INTERFACE, 10, asked.status, asked.response) == (asked.labels, asked.error)


def test_a_connection_that_is_reset_is_lost():
    with RawServer(always(OK + b"content-length: 20\r\n\r\n{"), reset=True) as server:
        assert ask(server).error == "connection_lost"


STRANGE = ("7\0", "\u202e7", "7\u200f", "\u0667", "\uff17", "\u2466", "7\u20e3", "07", "+7", "7.0", "7e0", "-7", "1_0",
           "7\u0308", "\ufeff7", "\u00a07", " 7", "7\n", "9" * 200, "\U0001f37a" * 200, "0x7", "10", "\u2028")  # fmt: skip


@pytest.mark.parametrize("label", STRANGE)
def test_a_strange_label_is_written_down_and_is_no_class_by_index(label):
    with RawServer(says(label)) as server:
        asked = ask(server)
    assert (asked.labels, asked.error) == ((label,), "")
    verify_record(asked)
    assert LabelMap(INTERFACE, STATEMENT).classes_of(asked.labels) == frozenset()
    by_name = replace(INTERFACE, label_map={"by": "name"})
    assert LabelMap(by_name, STATEMENT).classes_of(asked.labels) <= frozenset({7})
