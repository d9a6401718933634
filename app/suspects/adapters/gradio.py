"""Gradio: a demonstration's page and its API, which answers later.

`POST {endpoint}/{route}` with `{"data": [input]}` is answered by `{"event_id": ID}`; `GET {endpoint}/{route}/ID` then by
server-sent events, of which `complete` holds the outputs. The first output counts: of a Label component the labels with
their confidences, else any of the usual shapes.
Options: `route`, by default `gradio_api/call/predict` (Gradio 5 and later; 4 has no `gradio_api/`; part of the address);
`encoding`, by default the picture as a data URL, as Image components take it, or numbers where no picture can be.
Source: Gradio documentation, "Querying Gradio apps with curl"; HTML standard, section 9.2; observed on gradio 6.31.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.canonical import Record, as_form, choice, nullable, text
from app.errors import SuspectMisbehaved
from app.suspects.adapters.answers import answer_from, field_of, item_of, parse_answer_body
from app.suspects.adapters.codec import Preprocessing
from app.suspects.adapters.contract import About, Answer, Request
from app.suspects.adapters.frame import HOLE, ROUTE, Frame, FramedAdapter, parse_options
from app.suspects.adapters.inputs import NUMBER_ENCODINGS, usual_encoding

PICTURE_ENCODINGS = ("png_data_url", "jpeg_data_url")

_EVENT_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
# One event: its name and its data on one line each, as Gradio writes them.
_EVENT = re.compile(rb"event: ([a-z_]{1,20})\r?\ndata: ?([^\r\n]*)\r?\n(?:\r?\n|\Z)")
# Events that only say that the answer is still to come.
_WAITING = frozenset({b"heartbeat", b"generating"})


@dataclass(frozen=True)
class GradioOptions(Record):
    """Which function, and what its component takes."""

    route: str = field(default="gradio_api/call/predict", metadata=as_form(text(1, 200, pattern=ROUTE)))
    encoding: str | None = field(
        default=None, metadata=as_form(nullable(choice(*PICTURE_ENCODINGS, *NUMBER_ENCODINGS)))
    )


class Gradio(FramedAdapter):
    """The adapter `gradio`."""

    about = About(
        serves="Gradio apps, Hugging Face Spaces made with it",
        unknown="the classes that a Label component leaves out; how the page's own code changes a picture",
        tried="live (Gradio 6.31.0)",
    )

    def frame(self, options: Mapping[str, Any], rules: Preprocessing, kind: str, shape: tuple[int, ...]) -> Frame:
        """Ask for an event about one input."""
        known = parse_options(GradioOptions, options)
        encoding = known.encoding or usual_encoding("png_data_url", rules, kind)
        is_picture = encoding in PICTURE_ENCODINGS
        value: Any = {"url": HOLE, "meta": {"_type": "gradio.FileData"}} if is_picture else HOLE
        return Frame(f"/{known.route}", {"data": [value]}, encoding)

    def next_request(self, options: Mapping[str, Any], status: int, body: bytes) -> Request | None:
        """Ask for the outcome of the event."""
        if status != 200 or is_event_stream(body):
            return None
        name = field_of(parse_answer_body(status, body), "event_id")
        if not isinstance(name, str) or not _EVENT_ID.fullmatch(name):
            raise SuspectMisbehaved("the event has no identifier of the usual form", reason="wrong_shape")
        route = parse_options(GradioOptions, options).route
        return Request(f"/{route}/{name}", b"", "GET", (("accept", "text/event-stream"),))

    def parse_response(
        self, options: Mapping[str, Any], status: int, body: bytes, *, score_count: int | None = None
    ) -> Answer:
        """Read the outputs of an event that is complete."""
        if status == 200 and is_event_stream(body):
            body = completed_data(body)
        return self.read(options, parse_answer_body(status, body), score_count)

    def read(self, options: Mapping[str, Any], response: Any, score_count: int | None) -> Answer:
        """Read the first output."""
        if isinstance(response, dict) and "event_id" in response:
            raise SuspectMisbehaved("the event's outcome was not fetched", reason="unfinished")
        output = item_of(response, 0)
        if isinstance(output, dict) and isinstance(output.get("confidences"), list):
            # A Label component: all that it shows, and under `label` the highest once more.
            return answer_from(output["confidences"], score_count)
        return answer_from(output, score_count)


def is_event_stream(body: bytes) -> bool:
    """Say whether these are server-sent events and no JSON."""
    return body.startswith(b"event:")


def completed_data(body: bytes) -> bytes:
    """Give the data of the event `complete`, with which a stream ends.

    Raises: SuspectMisbehaved `wrong_shape`, `reported_error` or `unfinished`.
    """
    at = 0
    while at < len(body):
        event = _EVENT.match(body, at)
        if event is None:
            raise SuspectMisbehaved("the event stream is not of Gradio's form", reason="wrong_shape")
        at = event.end()
        name, data = event.groups()
        if name == b"complete" and at == len(body):
            return data
        if name == b"error":
            raise SuspectMisbehaved("the endpoint reports an error of its own", reason="reported_error")
        if name not in _WAITING:
            raise SuspectMisbehaved(
                "the event stream goes on after its end, or has an unknown event", reason="wrong_shape"
            )
    raise SuspectMisbehaved("the event stream ends before the answer", reason="unfinished")
