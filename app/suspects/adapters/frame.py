"""A JSON request with the input in one place: what nearly every protocol is.

An adapter says where the request goes, what surrounds the input, how the input is encoded there, and how the answer
is read; everything else is here.

Invariants: the body is the frame with the input in its one hole, and nothing else; decoding refuses any other frame.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Protocol, TypeVar

from app.canonical import Record, encode_json
from app.keys.trigger_set import ImageInput, TensorInput
from app.suspects.adapters import multipart
from app.suspects.adapters.answers import parse_answer_body
from app.suspects.adapters.codec import Preprocessing, parse_body, parse_preprocessing, sent_value
from app.suspects.adapters.contract import Adapter, Answer, Request
from app.suspects.adapters.inputs import (
    MEDIA_TYPES,
    check_encoding,
    read_body,
    read_input,
    tolerance_of,
    write_body,
    write_input,
)

R = TypeVar("R", bound=Record)

# One segment of a path: nothing that a server or proxy could read as another path.
SEGMENT = r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*"

# A path of such segments, without the slash in front.
ROUTE = f"{SEGMENT}(?:/{SEGMENT})*"

# Where the input goes. Its quotes cannot stand inside a JSON string, so an encoded frame holds these bytes at most once.
HOLE = {"$input": ""}


@dataclass(frozen=True)
class Frame:
    """Where a request goes, and its JSON body with `HOLE` in the input's place; None is the picture as the whole body.

    `media_type` stands where the body's own does not fit; `more_headers` are the same for every input. With `form_field` the
    picture is no whole body, but a form's file of this name.
    """

    path: str
    body: Any
    encoding: str
    pointer: str = "/options/encoding"
    media_type: str | None = None
    more_headers: tuple[tuple[str, str], ...] = ()
    form_field: str | None = None

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Give the headers of the request."""
        own = "application/json" if self.body is not None else MEDIA_TYPES.get(self.encoding, "text/plain")
        own = own if self.form_field is None else multipart.CONTENT_TYPE
        return (("content-type", self.media_type or own), ("accept", "application/json"), *self.more_headers)

    def file(self, name: str) -> tuple[str, str, str]:
        """Give name, file name and media type of a form's file."""
        return name, f"image.{self.encoding}", MEDIA_TYPES[self.encoding]


def parse_options(form: type[R], options: Mapping[str, Any]) -> R:
    """Read options; a key left out has its default.

    Raises: Malformed with a pointer.
    """
    known = fields(form)  # type: ignore[arg-type]  # subclasses are dataclasses
    defaults = {item.name: item.metadata["form"].show(item.default) for item in known if item.default is not MISSING}
    return form.from_json(defaults | dict(options), "/options")


class FramedAdapter(Adapter, Protocol):
    """An adapter by its frame and its way to read an answer."""

    def frame(self, options: Mapping[str, Any], rules: Preprocessing, kind: str, shape: tuple[int, ...]) -> Frame:
        """Give the frame of a request about inputs of this kind and shape.

        Raises: Malformed with a pointer.
        """
        ...

    def read(self, options: Mapping[str, Any], response: Any, score_count: int | None) -> Answer:
        """Read the labels out of a parsed response.

        Raises: SuspectMisbehaved with a stable reason.
        """
        ...

    def rules(
        self, options: Mapping[str, Any], preprocessing: Mapping[str, Any], kind: str, shape: tuple[int, ...]
    ) -> Preprocessing:
        """Read the preprocessing."""
        return parse_preprocessing(preprocessing, kind, shape)

    def check_options(
        self, options: Mapping[str, Any], preprocessing: Mapping[str, Any], *, kind: str, shape: tuple[int, ...]
    ) -> None:
        """Accept options whose encoding can carry what the preprocessing makes of an input."""
        rules = self.rules(options, preprocessing, kind, shape)
        frame = self.frame(options, rules, kind, shape)
        check_encoding(frame.encoding, rules, kind, frame.pointer)

    def encode_request(
        self, options: Mapping[str, Any], preprocessing: Mapping[str, Any], question: ImageInput | TensorInput
    ) -> Request:
        """Put the input into the frame."""
        rules = self.rules(options, preprocessing, question.kind, question.shape)
        frame = self.frame(options, rules, question.kind, question.shape)
        if frame.body is None:
            data = write_body(frame.encoding, rules, question)
            if frame.form_field is not None:
                data = multipart.write_form(*frame.file(frame.form_field), data)
            return Request(frame.path, data, headers=frame.headers)
        value = write_input(frame.encoding, rules, question)
        body = encode_json(frame.body).replace(encode_json(HOLE), value)
        return Request(frame.path, body, headers=frame.headers)

    def decode_request(
        self,
        options: Mapping[str, Any],
        preprocessing: Mapping[str, Any],
        body: bytes,
        *,
        kind: str,
        shape: tuple[int, ...],
    ) -> bytes:
        """Read what stands in the frame's hole."""
        rules = self.rules(options, preprocessing, kind, shape)
        frame = self.frame(options, rules, kind, shape)
        if frame.body is None:
            if frame.form_field is not None:
                body = multipart.read_form(*frame.file(frame.form_field), body)
            return read_body(frame.encoding, rules, body, kind, shape)
        value = sent_value(frame.body, parse_body(body), HOLE)
        return read_input(frame.encoding, rules, value, kind, shape)

    def tolerance(self, options: Mapping[str, Any]) -> int:
        """Say how far a pixel read back may lie from the one sent."""
        encoding = options.get("encoding")
        return tolerance_of(encoding) if isinstance(encoding, str) else 0

    def parse_response(
        self, options: Mapping[str, Any], status: int, body: bytes, *, score_count: int | None = None
    ) -> Answer:
        """Read the response as JSON, and the answer out of it."""
        return self.read(options, parse_answer_body(status, body), score_count)
