"""TensorFlow Serving, REST.

`POST {endpoint}/v1/models/{model}[/versions/{version}|/labels/{version}]:predict` by rows, `{"instances": [input]}`,
answered by `{"predictions": [prediction]}`; or by columns, `{"inputs": [input]}`, answered by `{"outputs": [prediction]}`.
A signature with several inputs or outputs has objects with their names in these places. Bytes stand as `{"b64": text}`.
Options: `model`, `version` (the address: a number, or a label); `columnar`; `signature_name`; `input_name`, `output_name`
where the signature has several; `encoding` (pictures for models that decode them).
Source: TensorFlow Serving documentation, "RESTful API"; its json_tensor.cc.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.canonical import Record, as_form, choice, flag, nullable, text
from app.suspects.adapters.answers import answer_from, answer_to_one, field_of, only_item_of
from app.suspects.adapters.codec import Preprocessing
from app.suspects.adapters.contract import About, Answer
from app.suspects.adapters.frame import HOLE, SEGMENT, Frame, FramedAdapter, parse_options
from app.suspects.adapters.inputs import NUMBER_ENCODINGS

BYTES_ENCODINGS = ("png_base64", "jpeg_base64")


@dataclass(frozen=True)
class TFServingOptions(Record):
    """Where the model is, and how its signature is called."""

    model: str = field(metadata=as_form(text(1, 200, pattern=SEGMENT)))
    version: str | None = field(default=None, metadata=as_form(nullable(text(1, 200, pattern=SEGMENT))))
    columnar: bool = field(default=False, metadata=as_form(flag()))
    signature_name: str | None = field(default=None, metadata=as_form(nullable(text(1, 200))))
    input_name: str | None = field(default=None, metadata=as_form(nullable(text(1, 200))))
    output_name: str | None = field(default=None, metadata=as_form(nullable(text(1, 200))))
    encoding: str = field(default="nested", metadata=as_form(choice(*NUMBER_ENCODINGS, *BYTES_ENCODINGS)))


class TFServing(FramedAdapter):
    """The adapter `tf_serving`."""

    about = About(
        serves="TensorFlow Serving's REST API",
        unknown="which output is the classes', where there are several; whether scores are probabilities or logits",
        tried="recorded bodies; never live",
    )

    def frame(self, options: Mapping[str, Any], rules: Preprocessing, kind: str, shape: tuple[int, ...]) -> Frame:
        """Ask about one row, or about columns of one."""
        known = parse_options(TFServingOptions, options)
        value: Any = {"b64": HOLE} if known.encoding in BYTES_ENCODINGS else HOLE
        if known.columnar:
            body: dict[str, Any] = {"inputs": [value] if known.input_name is None else {known.input_name: [value]}}
        else:
            body = {"instances": [value if known.input_name is None else {known.input_name: value}]}
        if known.signature_name is not None:
            body["signature_name"] = known.signature_name
        return Frame(f"/v1/models/{known.model}{_at(known.version)}:predict", body, known.encoding)

    def read(self, options: Mapping[str, Any], response: Any, score_count: int | None) -> Answer:
        """Read the one prediction, or the named output of it."""
        known = parse_options(TFServingOptions, options)
        if known.columnar:
            outputs = field_of(response, "outputs")
            chosen = outputs if known.output_name is None else field_of(outputs, known.output_name)
            # One output stands by itself, as a batch of one; of several, unnamed, each is such a batch.
            if isinstance(chosen, dict):
                chosen = {name: only_item_of(column) for name, column in chosen.items()}
                return answer_from(chosen, score_count)
            return answer_from(only_item_of(chosen), score_count)
        prediction = only_item_of(field_of(response, "predictions"))
        if known.output_name is not None:
            prediction = field_of(prediction, known.output_name)
        return answer_to_one(prediction, score_count)


def _at(version: str | None) -> str:
    if version is None:
        return ""
    return f"/versions/{version}" if version.isdecimal() else f"/labels/{version}"
