"""Gradio through the real probe over HTTP: the answer is fetched where the question went, whatever the server says."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from app.protocol.interface import Interface
from app.suspects.probe import Manner, Suspect, ask
from app.suspects.transport import Limits
from tests.integration.asking import RULES, now, question

MANNER = Manner(attempts=1, limits=Limits(connect_seconds=1, read_seconds=5, total_seconds=10))


class Page:
    """What one page answers: the event's identifier, and the outcome of a picture's first pixel."""

    def __init__(self, name, outcome):
        self.name = name
        self.outcome = outcome
        self.fetched = []
        self.pixels = {}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@contextmanager
def serving(page: Page) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def log_message(self, *args: object) -> None:
            """Print nothing."""

        def do_POST(self) -> None:
            (picture,) = json.loads(self.rfile.read(int(self.headers["content-length"])))["data"]
            data = base64.b64decode(picture["url"].removeprefix("data:image/png;base64,"), validate=True)
            with Image.open(io.BytesIO(data)) as opened:
                name = page.name.format(opened.getpixel((0, 0)))
                page.pixels[name] = opened.getpixel((0, 0))
            self.reply("application/json", json.dumps({"event_id": name}))

        def do_GET(self) -> None:
            page.fetched.append(self.path)
            name = self.path.rsplit("/", 1)[-1]
            self.reply("text/event-stream", page.outcome(page.pixels[name]))

        def reply(self, kind: str, text: str) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def asked_of(page, options=None):
    with serving(page) as url:
        suspect = Suspect(url, Interface("gradio", options or {}, {}, {"by": "index"}), 10)
        return ask([question(n) for n in range(10)], suspect, RULES, MANNER, now)


def complete(pixel):
    return f'event: heartbeat\ndata: null\n\nevent: complete\ndata: [{{"label": "{pixel}"}}]\n\n'


@pytest.mark.parametrize("options", [{}, {"route": "call/classify"}])
def test_an_outcome_is_fetched_below_the_route_of_the_question(options):
    page = Page("event{:08}", complete)
    asked = asked_of(page, options)
    assert [(each.labels, each.error) for each in asked] == [((str(n),), "") for n in range(10)]
    route = options.get("route", "gradio_api/call/predict")
    assert sorted(page.fetched) == [f"/{route}/event{n:08}" for n in range(10)]


@pytest.mark.parametrize("name", ["../../admin{}", "{}", "http://127.0.0.1:1/{:08}", "{:065}"])
def test_an_identifier_of_another_form_is_not_followed(name):
    page = Page(name, complete)
    assert {each.error for each in asked_of(page)} == {"wrong_shape"}
    assert page.fetched == []


def test_an_error_of_the_page_is_its_own():
    page = Page("event{:08}", lambda pixel: 'event: error\ndata: {"error": null}\n\n')
    assert {each.error for each in asked_of(page)} == {"reported_error"}
