"""Servers whose owner writes the route and the JSON himself: BentoML, LitServe, Ray Serve.

They differ in what is usual: the route, the name under which the input stands, and how it is encoded.
Options: `route`, the path below the endpoint (part of the address); `input_name`, the field in which the input stands,
"" for the input by itself as the JSON; `batch`, whether it stands in an array of one; `encoding`: numbers, a picture in
text, the picture as the whole body, or as a form's file of that name (`png_file`, `jpeg_file`). By default an image that
needs no preprocessing is sent as its server's owners usually take pictures, and everything else as numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from app.canonical import Record, as_form, choice, flag, nullable, text
from app.errors import Malformed
from app.suspects.adapters.answers import answer_to_one, inside_envelope, refuse_reported_error
from app.suspects.adapters.codec import Preprocessing
from app.suspects.adapters.contract import Answer
from app.suspects.adapters.frame import HOLE, ROUTE, Frame, FramedAdapter, parse_options
from app.suspects.adapters.inputs import BODY_ENCODINGS, NUMBER_ENCODINGS, TEXT_ENCODINGS, usual_encoding

FILE_ENCODINGS: Mapping[str, str] = {f"{codec}_file": codec for codec in BODY_ENCODINGS}
ENCODINGS = (*NUMBER_ENCODINGS, *TEXT_ENCODINGS, *BODY_ENCODINGS, *FILE_ENCODINGS)

# Names that need no escape in a form's header.
FIELD_NAME = r"[^\x00-\x1f\x7f\"\\]*"


@dataclass(frozen=True)
class RoutedOptions(Record):
    """Where the input goes and how it stands there; null is what is usual with the server."""

    route: str | None = field(default=None, metadata=as_form(nullable(text(0, 200, pattern=f"(?:{ROUTE})?"))))
    input_name: str | None = field(default=None, metadata=as_form(nullable(text(0, 200, pattern=FIELD_NAME))))
    batch: bool = field(default=False, metadata=as_form(flag()))
    encoding: str | None = field(default=None, metadata=as_form(nullable(choice(*ENCODINGS))))


class RoutedAdapter(FramedAdapter, Protocol):
    """An adapter by what is usual with its server."""

    usual_route: ClassVar[str]
    usual_name: ClassVar[str]
    usual_picture: ClassVar[str]

    def frame(self, options: Mapping[str, Any], rules: Preprocessing, kind: str, shape: tuple[int, ...]) -> Frame:
        """Ask about one input."""
        known = parse_options(RoutedOptions, options)
        encoding = known.encoding or usual_encoding(self.usual_picture, rules, kind)
        route = self.usual_route if known.route is None else known.route
        path = f"/{route}" if route else ""
        if encoding in FILE_ENCODINGS:
            if known.input_name == "" or known.batch:
                raise Malformed("a form's file has a name and no array", pointer="/options/input_name")
            return Frame(path, None, FILE_ENCODINGS[encoding], form_field=known.input_name or self.usual_name)
        if encoding in BODY_ENCODINGS:
            if known.input_name is not None or known.batch:
                raise Malformed("a picture as the whole body has neither name nor array", pointer="/options/input_name")
            return Frame(path, None, encoding)
        name = self.usual_name if known.input_name is None else known.input_name
        value: Any = [HOLE] if known.batch else HOLE
        return Frame(path, {name: value} if name else value, encoding)

    def read(self, options: Mapping[str, Any], response: Any, score_count: int | None) -> Answer:
        """Read the one prediction, inside one of the usual envelopes or outside."""
        refuse_reported_error(response)
        return answer_to_one(inside_envelope(response), score_count)
