"""The KServe v1 protocol, which TensorFlow Serving and MLServer's older clients speak too.

`POST {endpoint}/v1/models/{model}:predict` with `{"instances": [input]}`, answered by `{"predictions": [prediction]}`.
A prediction is an array of scores, a class index or a class name. Options: `model` (the address of the model).
Source: KServe documentation, "V1 protocol"; observed on kserve 0.21.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.canonical import Record, as_form, text
from app.keys.trigger_set import ImageInput, TensorInput
from app.suspects.adapters.answers import answer_from, field_of, only_item_of, parse_answer_body
from app.suspects.adapters.codec import (
    flatten,
    input_of,
    nest,
    number_texts,
    parse_body,
    parse_preprocessing,
    sent_shape,
    sent_value,
)
from app.suspects.adapters.contract import Answer, Request

# One segment of a path: nothing that a server or proxy could read as another path.
MODEL_NAME = r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*"

HOLE = {"$input": "nested"}
TEMPLATE = {"instances": [HOLE]}


@dataclass(frozen=True)
class KServeV1Options(Record):
    """Where the model is."""

    model: str = field(metadata=as_form(text(1, 200, pattern=MODEL_NAME)))


class KServeV1:
    """The adapter `kserve_v1`."""

    def check_options(
        self, options: Mapping[str, Any], preprocessing: Mapping[str, Any], *, kind: str, shape: tuple[int, ...]
    ) -> None:
        """Accept the options of this protocol."""
        KServeV1Options.from_json(dict(options), "/options")
        parse_preprocessing(preprocessing, kind, shape)

    def encode_request(
        self, options: Mapping[str, Any], preprocessing: Mapping[str, Any], question: ImageInput | TensorInput
    ) -> Request:
        """Ask about one instance."""
        model = KServeV1Options.from_json(dict(options), "/options").model
        rules = parse_preprocessing(preprocessing, question.kind, question.shape)
        array = nest(number_texts(question, rules), sent_shape(rules, question.kind, question.shape))
        return Request(f"/v1/models/{model}:predict", b'{"instances":[' + array + b"]}")

    def decode_request(
        self,
        options: Mapping[str, Any],  # noqa: ARG002  # the contract of all adapters; the body does not name the model
        preprocessing: Mapping[str, Any],
        body: bytes,
        *,
        kind: str,
        shape: tuple[int, ...],
    ) -> bytes:
        """Read the one instance back."""
        rules = parse_preprocessing(preprocessing, kind, shape)
        array = sent_value(TEMPLATE, parse_body(body), HOLE)
        return input_of(flatten(array, sent_shape(rules, kind, shape)), rules, kind, shape)

    def parse_response(
        self,
        options: Mapping[str, Any],  # noqa: ARG002  # the contract of all adapters
        status: int,
        body: bytes,
        *,
        score_count: int | None = None,
    ) -> Answer:
        """Read the one prediction."""
        predictions = field_of(parse_answer_body(status, body), "predictions")
        return answer_from(only_item_of(predictions), score_count)
