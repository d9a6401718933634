"""Roboflow: hosted classification models.

`POST {endpoint}`, the URL of a model's version (`…/MODEL/VERSION`), with a picture in base64 as the whole body, declared
as a form; answered by `{"predictions": [{"class", "confidence"}], "top", "confidence"}`, and by models with several labels
at once by `{"predictions": {class: {"confidence"}}}`.
Options: `encoding`, PNG or JPEG. The key is a credential (`authorization`), never part of the URL.
Source: Roboflow documentation, "Serverless hosted API", classification; Roboflow inference, classification responses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.canonical import Record, as_form, choice
from app.suspects.adapters.answers import answer_from, field_of, refuse_reported_error, scored_answer
from app.suspects.adapters.codec import Preprocessing
from app.suspects.adapters.contract import About, Answer
from app.suspects.adapters.frame import Frame, FramedAdapter, parse_options


@dataclass(frozen=True)
class RoboflowOptions(Record):
    """How the picture is sent."""

    encoding: str = field(default="png_base64", metadata=as_form(choice("png_base64", "jpeg_base64")))


class Roboflow(FramedAdapter):
    """The adapter `roboflow`."""

    about = About(
        serves="Roboflow's serverless API, dedicated deployments and inference server",
        unknown="classes under the confidence at which it cuts off; how it resizes a picture",
        tried="recorded bodies; never live",
    )

    def frame(self, options: Mapping[str, Any], rules: Preprocessing, kind: str, shape: tuple[int, ...]) -> Frame:
        """Send the picture's text."""
        encoding = parse_options(RoboflowOptions, options).encoding
        return Frame("", None, encoding, media_type="application/x-www-form-urlencoded")

    def read(self, options: Mapping[str, Any], response: Any, score_count: int | None) -> Answer:
        """Read the ranking: an empty one abstains."""
        refuse_reported_error(response)
        predictions = field_of(response, "predictions")
        if isinstance(predictions, dict):
            pairs = [(label, field_of(scored, "confidence")) for label, scored in predictions.items()]
            return scored_answer(pairs)
        return scored_answer([]) if predictions == [] else answer_from(predictions, score_count)
