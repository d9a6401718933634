"""Hugging Face: hosted inference and dedicated endpoints.

`POST {endpoint}`, the URL that the service's page shows, with a picture as the whole body, or, where there are
parameters, `{"inputs": picture in base64, "parameters": {…}}`; answered by `[{"label", "score"}]`, highest first and
perhaps only the first few, of a batch of one by the same in an array.
Options: `top_k`, how many labels to ask for; `encoding`, how the picture stands in the request. The token is a credential
and no option.
Source: Hugging Face documentation, "Inference Providers, image classification" and "Inference Endpoints, autoscaling".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.canonical import Record, as_form, choice, integer, nullable
from app.errors import Malformed
from app.protocol.transcript import MAX_LABELS
from app.suspects.adapters.answers import answer_to_one, refuse_reported_error
from app.suspects.adapters.codec import Preprocessing
from app.suspects.adapters.contract import About, Answer
from app.suspects.adapters.frame import HOLE, Frame, FramedAdapter, parse_options
from app.suspects.adapters.inputs import BODY_ENCODINGS

# How long the service's proxy may hold a request until a sleeping model is up, in seconds: less than we wait for a read.
SCALE_UP_SECONDS = 25

# What transformers calls the classes of a model that names none: their indices, which a map by index takes.
_UNNAMED = re.compile("LABEL_(?:0|[1-9][0-9]*)", re.ASCII)


@dataclass(frozen=True)
class HuggingFaceOptions(Record):
    """How much to ask for, and how the picture is sent; null is raw, or base64 where `top_k` is asked for."""

    top_k: int | None = field(default=None, metadata=as_form(nullable(integer(1, MAX_LABELS))))
    encoding: str | None = field(
        default=None, metadata=as_form(nullable(choice(*BODY_ENCODINGS, "png_base64", "jpeg_base64")))
    )

    def check(self, pointer: str) -> None:
        """Refuse parameters beside a picture that is the whole body."""
        if self.top_k is not None and self.encoding in BODY_ENCODINGS:
            raise Malformed("top_k needs an encoding in base64", pointer=f"{pointer}/top_k")


class HuggingFace(FramedAdapter):
    """The adapter `huggingface`."""

    about = About(
        serves="Hugging Face Inference Providers and Inference Endpoints",
        unknown="the classes below the first few, which it leaves out; which function made the scores",
        tried="recorded bodies; never live",
    )

    def frame(self, options: Mapping[str, Any], rules: Preprocessing, kind: str, shape: tuple[int, ...]) -> Frame:
        """Send the picture, and wait for a model that sleeps."""
        known = parse_options(HuggingFaceOptions, options)
        encoding = known.encoding or ("png" if known.top_k is None else "png_base64")
        body: Any = None if encoding in BODY_ENCODINGS else {"inputs": HOLE}
        if known.top_k is not None:
            body["parameters"] = {"top_k": known.top_k}
        return Frame("", body, encoding, more_headers=(("x-scale-up-timeout", str(SCALE_UP_SECONDS)),))

    def read(self, options: Mapping[str, Any], response: Any, score_count: int | None) -> Answer:
        """Read the ranking; classes without names are their indices where indices are wanted."""
        refuse_reported_error(response)
        answer = answer_to_one(response, score_count)
        if score_count is None or not all(map(_UNNAMED.fullmatch, answer.labels)):
            return answer
        return Answer(answer.kind, tuple(label.removeprefix("LABEL_") for label in answer.labels))
