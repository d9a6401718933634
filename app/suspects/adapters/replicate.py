"""Replicate: predictions that may come later.

`POST {endpoint}/v1/predictions` with `{"version", "input": {name: input}}`, or `…/v1/models/OWNER/NAME/predictions` without
a version; answered by a prediction with an `id` and a `status`. While it is `starting` or `processing` it is asked for
again at `{endpoint}/v1/predictions/ID`; the URL that the answer names for this is never used.
Options: `version` or `model` (part of the address: a hash, or OWNER/NAME); `input_name`; `encoding`.
Source: Replicate HTTP API reference, "predictions.create", "predictions.get"; "Create a prediction", sync mode.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.canonical import Record, as_form, choice, nullable, text
from app.errors import Malformed, SuspectMisbehaved
from app.suspects.adapters.answers import answer_to_one, field_of, parse_answer_body, unwrapped
from app.suspects.adapters.codec import Preprocessing
from app.suspects.adapters.contract import About, Answer, Request
from app.suspects.adapters.frame import HOLE, SEGMENT, Frame, FramedAdapter, parse_options
from app.suspects.adapters.inputs import NUMBER_ENCODINGS, TEXT_ENCODINGS

# A created prediction comes with 201, an unfinished one perhaps with 202, one asked for again with 200.
STATUSES = (200, 201, 202)
# How long the service may hold the first request, in seconds: less than we wait for a read.
WAIT_SECONDS = 20

_ID = re.compile(r"[A-Za-z0-9]{8,64}")


@dataclass(frozen=True)
class ReplicateOptions(Record):
    """Which model, and what it calls its input."""

    version: str | None = field(default=None, metadata=as_form(nullable(text(64, 64, pattern=r"[0-9a-f]{64}"))))
    model: str | None = field(default=None, metadata=as_form(nullable(text(3, 200, pattern=f"{SEGMENT}/{SEGMENT}"))))
    input_name: str = field(default="image", metadata=as_form(text(1, 200)))
    encoding: str = field(default="png_data_url", metadata=as_form(choice(*TEXT_ENCODINGS, *NUMBER_ENCODINGS)))

    def check(self, pointer: str) -> None:
        """Refuse an address that is none, or two."""
        if (self.version is None) == (self.model is None):
            raise Malformed("name the version (64 hex digits) or the model (OWNER/NAME)", pointer=f"{pointer}/version")


class Replicate(FramedAdapter):
    """The adapter `replicate`."""

    about = About(
        serves="Replicate: community models by version, official models by name",
        unknown="what the model's output means; which version an official model has",
        tried="recorded bodies; never live",
    )
    is_question_repeated = True

    def frame(self, options: Mapping[str, Any], rules: Preprocessing, kind: str, shape: tuple[int, ...]) -> Frame:
        """Ask for a prediction and wait a little."""
        known = parse_options(ReplicateOptions, options)
        body: dict[str, Any] = {"input": {known.input_name: HOLE}}
        path = f"/v1/models/{known.model}/predictions"
        if known.version is not None:
            body["version"] = known.version
            path = "/v1/predictions"
        return Frame(path, body, known.encoding, more_headers=(("prefer", f"wait={WAIT_SECONDS}"),))

    def next_request(self, options: Mapping[str, Any], status: int, body: bytes) -> Request | None:
        """Ask again for a prediction that is not finished."""
        if status not in STATUSES:
            return None
        prediction = parse_answer_body(status, body, statuses=STATUSES)
        if field_of(prediction, "status") not in ("starting", "processing"):
            return None
        name = field_of(prediction, "id")
        if not isinstance(name, str) or not _ID.fullmatch(name):
            raise SuspectMisbehaved("the prediction has no identifier of the usual form", reason="wrong_shape")
        return Request(f"/v1/predictions/{name}", b"", "GET", (("accept", "application/json"),))

    def parse_response(
        self, options: Mapping[str, Any], status: int, body: bytes, *, score_count: int | None = None
    ) -> Answer:
        """Read a finished prediction."""
        return self.read(options, parse_answer_body(status, body, statuses=STATUSES), score_count)

    def read(self, options: Mapping[str, Any], response: Any, score_count: int | None) -> Answer:
        """Read the output of a prediction that succeeded."""
        match field_of(response, "status"):
            case "succeeded":
                return answer_to_one(unwrapped(field_of(response, "output")), score_count)
            case "starting" | "processing":
                raise SuspectMisbehaved("the prediction is not finished", reason="unfinished")
            case "failed" | "canceled" | "aborted":
                raise SuspectMisbehaved("the endpoint reports that the prediction failed", reason="reported_error")
            case _:
                raise SuspectMisbehaved("the prediction has no known status", reason="wrong_shape")
