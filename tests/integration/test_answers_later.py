"""Endpoints that answer later: what is asked next, for how long, and which response counts."""

import json
import re
import time

import pytest

from app.errors import SuspectMisbehaved
from app.protocol.interface import Interface
from app.suspects.adapters import ADAPTERS, read_answer
from app.suspects.adapters.contract import Request
from app.suspects.adapters.kserve_v1 import KServeV1
from app.suspects.credentials import HeaderCredentials
from app.suspects.probe import Manner, Suspect, ask
from app.suspects.transport import Limits
from tests.integration.asking import RULES, now, question
from tests.simulators.raw_server import RawServer

KEY = HeaderCredentials(kind="headers", headers={"authorization": "Bearer hush"})
PATIENT = Limits(connect_seconds=1, read_seconds=1, total_seconds=1.5, connections=1)
MANNER = Manner(attempts=1, limits=PATIENT)


class Later(KServeV1):
    """KServe, but the first answer is a ticket: `{"id": …}`, to be shown at /later/ID."""

    def next_request(self, options, status, body):
        if status not in (200, 202) or b'"id"' not in body:
            return None
        ticket = json.loads(body)["id"]
        if not re.fullmatch("[a-z0-9]{1,20}", ticket):
            raise SuspectMisbehaved("no ticket", reason="bad_label")
        return Request(f"/later/{ticket}", b"", method="GET", headers=(("accept", "application/json"),))


@pytest.fixture(autouse=True)
def adapter(monkeypatch):
    monkeypatch.setitem(ADAPTERS, "later", Later())


class Queue:
    """Answers `ready_after` looks later; `looks` are what it answers to them before."""

    def __init__(self, ready_after, ticket="abc", look=(200, b'{"id": "abc"}')):
        self.ready_after = ready_after
        self.ticket = ticket
        self.look = look
        self.seen = 0

    def __call__(self, closing):
        self.seen += 1
        if self.seen == 1:
            status, body = 202, json.dumps({"id": self.ticket}).encode()
        elif self.seen <= self.ready_after:
            status, body = self.look
        else:
            status, body = 200, b'{"predictions": [7]}'
        yield b"HTTP/1.1 %d X\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


def ask_later(queue, **changes):
    with RawServer(queue) as server:
        interface = Interface(adapter="later", options={"model": "m"}, preprocessing={}, label_map={"by": "index"})
        suspect = Suspect(f"{server.url}/base", interface, 10, credentials=KEY)
        manner = Manner(**{"attempts": 1, "limits": PATIENT} | changes)
        return ask([question(7)], suspect, RULES, manner, now)[0], server.requests


def test_the_last_response_counts_and_the_first_request_is_recorded():
    asked, requests = ask_later(Queue(ready_after=3))
    assert (asked.status, asked.labels, asked.error, asked.attempt) == (200, ("7",), "", 1)
    assert asked.response == b'{"predictions": [7]}'
    lines = [request.split(b"\r\n")[0] for request in requests]
    assert lines == [b"POST /base/v1/models/m:predict HTTP/1.1"] + [b"GET /base/later/abc HTTP/1.1"] * 3
    assert requests[0].endswith(asked.request)
    assert all(request.endswith(b"\r\n\r\n") and b"content-length" not in request.lower() for request in requests[1:])
    assert all(b"authorization: Bearer hush" in request for request in requests)


def test_what_never_ends_is_unfinished_within_the_time_of_one_question():
    started = time.monotonic()
    asked, _ = ask_later(Queue(ready_after=1000))
    assert (asked.error, asked.labels, asked.status) == ("unfinished", (), 200)
    assert asked.response == b'{"id": "abc"}'
    assert time.monotonic() - started < PATIENT.total_seconds + 15


def test_looks_are_counted():
    asked, requests = ask_later(Queue(ready_after=1000), follow_ups=2)
    assert (asked.error, len(requests)) == ("unfinished", 3)


def test_a_look_that_fails_in_passing_is_taken_again():
    asked, requests = ask_later(Queue(ready_after=3, look=(503, b"busy")))
    assert (asked.labels, len(requests)) == (("7",), 4)


def test_a_ticket_that_names_another_place_is_not_followed():
    asked, requests = ask_later(Queue(ready_after=1, ticket="../../admin"))
    assert (asked.error, asked.labels, len(requests)) == ("bad_label", (), 1)


def test_an_auditor_reads_an_unfinished_answer_as_unfinished():
    interface = Interface(adapter="later", options={"model": "m"}, preprocessing={}, label_map={"by": "index"})
    assert read_answer(interface, 10, 200, b'{"id": "abc", "predictions": [7]}') == ((), "unfinished")
