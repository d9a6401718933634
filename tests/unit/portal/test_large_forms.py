"""Who may send a large file, how many at once, and how slowly."""

import re

import anyio
import pytest
from fastapi import Request
from fastapi.routing import APIRoute

from app.errors import TooSlow, Unavailable
from app.portal.application import ROUTERS, WITH_WEIGHTS
from app.portal.large_forms import (
    GRACE_SECONDS,
    MIN_BYTES_PER_SECOND,
    MOST_SECONDS,
    PacedBody,
    Places,
    read_large_files,
)
from app.web import status_of


class Line:
    """A line whose bytes come when they are put on it, and a clock that stands until it is set."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces, self.now = list(pieces), 100.0

    async def receive(self) -> dict[str, object]:
        if not self.pieces:
            await anyio.sleep_forever()
        return {"type": "http.request", "body": self.pieces.pop(0), "more_body": True}

    def paced(self) -> PacedBody:
        return PacedBody(Request({"type": "http"}, self.receive), lambda: self.now)


async def take(body: PacedBody, count: int) -> None:
    for _ in range(count):
        await body.receive()


def test_a_body_that_stops_is_given_up_when_its_time_is_over():
    line = Line(b"first")
    body = line.paced()
    anyio.run(take, body, 1)
    line.now += GRACE_SECONDS + 1
    with pytest.raises(TooSlow, match="64 kB a second"):
        anyio.run(take, body, 1)


def test_every_byte_buys_time_until_there_is_no_more():
    line = Line(bytes(10 * MIN_BYTES_PER_SECOND), bytes(int(MOST_SECONDS) * MIN_BYTES_PER_SECOND))
    body = line.paced()
    assert body.seconds_left == GRACE_SECONDS
    anyio.run(take, body, 1)
    assert body.seconds_left == GRACE_SECONDS + 10
    anyio.run(take, body, 1)
    assert body.seconds_left == MOST_SECONDS


def test_what_has_come_already_is_read_even_late():
    line = Line(b"waiting")
    body = line.paced()
    line.now += GRACE_SECONDS + 1
    anyio.run(take, body, 1)
    assert line.pieces == []


def test_who_sends_too_slowly_is_told_that_the_request_timed_out():
    assert status_of(TooSlow("")) == 408


def test_one_link_holds_one_place_and_places_come_back():
    places = Places(2)
    with places.hold("/d/a/weights"):
        with pytest.raises(Unavailable, match="already"), places.hold("/d/a/weights"):
            pass
        with places.hold("/d/b/weights"), pytest.raises(Unavailable, match="too many"), places.hold("/d/c/weights"):
            pass
        with places.hold("/d/c/weights"):
            pass
    with places.hold("/d/a/weights"):
        pass


def test_every_page_that_takes_large_files_may_be_sent_them():
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    takers = {
        route.path for route in routes for needed in route.dependant.dependencies if needed.call is read_large_files
    }
    assert len(takers) >= 2
    for path in takers:
        assert WITH_WEIGHTS.fullmatch(re.sub(r"{[^}]*}", "x", path)), path
