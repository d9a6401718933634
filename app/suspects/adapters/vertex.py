"""Google Vertex AI: online prediction.

`POST {endpoint}`, the URL that the console shows (`…/endpoints/ID:predict`), with `{"instances": [instance]}`, answered by
`{"predictions": [prediction]}`. AutoML models take `{"content": picture in base64}` and parameters, and answer with the
arrays `displayNames` and `confidences`; custom containers take and give what they like.
Options: `encoding`; `input_name`, the field of the instance in which the input stands.
Source: Vertex AI reference, "endpoints.predict", "ImageClassificationPredictionParams", "ClassificationPredictionResult".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.canonical import Record, as_form, choice, nullable, text
from app.protocol.transcript import MAX_LABELS
from app.suspects.adapters.answers import answer_from, field_of, only_item_of, refuse_reported_error
from app.suspects.adapters.codec import Preprocessing
from app.suspects.adapters.contract import About, Answer
from app.suspects.adapters.frame import HOLE, Frame, FramedAdapter, parse_options
from app.suspects.adapters.inputs import NUMBER_ENCODINGS, TEXT_ENCODINGS

# AutoML gives the ten highest classes unless it is asked for more.
AUTOML_PARAMETERS = {"confidenceThreshold": 0, "maxPredictions": MAX_LABELS}


@dataclass(frozen=True)
class VertexOptions(Record):
    """What an instance is: null is AutoML's `content` for a picture, and the bare array for numbers."""

    encoding: str = field(default="png_base64", metadata=as_form(choice(*TEXT_ENCODINGS, *NUMBER_ENCODINGS)))
    input_name: str | None = field(default=None, metadata=as_form(nullable(text(1, 200))))


class Vertex(FramedAdapter):
    """The adapter `vertex`."""

    about = About(
        serves="Vertex AI endpoints: AutoML, prebuilt and custom containers",
        unknown="which of several deployed models answered; what a custom container's numbers mean",
        tried="recorded bodies; never live",
    )

    def frame(self, options: Mapping[str, Any], rules: Preprocessing, kind: str, shape: tuple[int, ...]) -> Frame:
        """Ask about one instance."""
        known = parse_options(VertexOptions, options)
        if known.input_name is not None:
            return Frame("", {"instances": [{known.input_name: HOLE}]}, known.encoding)
        if known.encoding in NUMBER_ENCODINGS:
            return Frame("", {"instances": [HOLE]}, known.encoding)
        body = {"instances": [{"content": HOLE}], "parameters": AUTOML_PARAMETERS}
        return Frame("", body, known.encoding)

    def read(self, options: Mapping[str, Any], response: Any, score_count: int | None) -> Answer:
        """Read the one prediction."""
        refuse_reported_error(response)
        return answer_from(only_item_of(field_of(response, "predictions")), score_count)
