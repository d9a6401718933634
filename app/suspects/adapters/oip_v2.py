"""The Open Inference Protocol v2 (KServe, MLServer, Triton), over JSON, and with tensors as raw bytes behind it.

`POST {endpoint}/v2/models/{model}[/versions/{version}]/infer` with one input tensor of batch size one, answered by
one output tensor: scores, or one class index, or class names (`BYTES`). Options: `model`, `version` (the address),
`input_name`, `output_name` (needed where the model has several outputs; metadata may name none); `binary`, to send the
input's bytes behind the JSON and to ask for the outputs' bytes (they may still come as JSON).
Source: Open Inference Protocol, "inference request and response JSON", "binary tensor data extension"; observed on
kserve 0.21 and mlserver 1.7.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from app.canonical import Record, as_form, choice, encode_json, flag, nullable, text
from app.errors import Malformed, SuspectMisbehaved
from app.keys.trigger_set import ImageInput, TensorInput
from app.suspects.adapters.answers import field_of, label_answer, labels_answer, parse_answer_body, scores_answer
from app.suspects.adapters.codec import MAX_REQUEST_BYTES, Preprocessing, input_of, number_texts, sent_shape
from app.suspects.adapters.contract import About, Answer, Request
from app.suspects.adapters.frame import HOLE, SEGMENT, Frame, FramedAdapter, parse_options
from app.suspects.adapters.raw_tensors import ITEM_BYTES, numbers_of, raw_tensor, split_json, with_raw_data

DATATYPES = {"uint8": "UINT8", "float32": "FP32"}


@dataclass(frozen=True)
class OipV2Options(Record):
    """Where the model is, and the names of its tensors."""

    model: str = field(metadata=as_form(text(1, 200, pattern=SEGMENT)))
    version: str | None = field(default=None, metadata=as_form(nullable(text(1, 200, pattern=SEGMENT))))
    input_name: str = field(default="input", metadata=as_form(text(1, 200)))
    output_name: str | None = field(default=None, metadata=as_form(nullable(text(1, 200))))
    datatype: str | None = field(default=None, metadata=as_form(nullable(choice("FP32", "UINT8"))))
    binary: bool = field(default=False, metadata=as_form(flag()))


class OipV2(FramedAdapter):
    """The adapter `oip_v2`."""

    about = About(
        serves="KServe, MLServer, Triton",
        unknown="tensor names where the metadata is empty; whether scores are probabilities or logits",
        tried="live (KServe 0.21.0, raw tensors, too; MLServer 1.7.1); Triton by recorded bodies, never live",
    )

    def frame(self, options: Mapping[str, Any], rules: Preprocessing, kind: str, shape: tuple[int, ...]) -> Frame:
        """Ask about a batch of one."""
        known = parse_options(OipV2Options, options)
        datatype = DATATYPES[rules.dtype]
        if known.datatype not in (None, datatype):
            raise Malformed(
                f"the preprocessing gives {datatype}: change its dtype or this", pointer="/options/datatype"
            )
        dimensions = [1, *sent_shape(rules, kind, shape)]
        body: dict[str, Any] = {
            "inputs": [{"name": known.input_name, "shape": dimensions, "datatype": datatype, "data": HOLE}]
        }
        if known.output_name is not None:
            body["outputs"] = [{"name": known.output_name}]
        version = "" if known.version is None else f"/versions/{known.version}"
        return Frame(f"/v2/models/{known.model}{version}/infer", body, "flat")

    def encode_request(
        self, options: Mapping[str, Any], preprocessing: Mapping[str, Any], question: ImageInput | TensorInput
    ) -> Request:
        """Put the input into the frame, or behind it."""
        if not parse_options(OipV2Options, options).binary:
            return super().encode_request(options, preprocessing, question)
        rules = self.rules(options, preprocessing, question.kind, question.shape)
        frame = self.frame(options, rules, question.kind, question.shape)
        data = raw_tensor(number_texts(question, rules), rules.dtype)
        header = encode_json(_binary_header(frame.body, len(data)))
        headers = (
            ("content-type", "application/octet-stream"),
            ("accept", "application/json"),
            ("inference-header-content-length", str(len(header))),
        )
        return Request(frame.path, header + data, headers=headers)

    def decode_request(
        self,
        options: Mapping[str, Any],
        preprocessing: Mapping[str, Any],
        body: bytes,
        *,
        kind: str,
        shape: tuple[int, ...],
    ) -> bytes:
        """Read what stands in the frame's hole, or behind the frame."""
        if not parse_options(OipV2Options, options).binary:
            return super().decode_request(options, preprocessing, body, kind=kind, shape=shape)
        rules = self.rules(options, preprocessing, kind, shape)
        frame = self.frame(options, rules, kind, shape)
        count = math.prod(sent_shape(rules, kind, shape))
        size = count * ITEM_BYTES[rules.dtype]
        if len(body) > MAX_REQUEST_BYTES or len(body) < size:
            raise Malformed("the request does not hold the input's bytes")
        header, data = body[: len(body) - size], body[len(body) - size :]
        # Byte for byte: a server reads as far as we told it in a header that is not kept.
        if header != encode_json(_binary_header(frame.body, size)):
            raise Malformed("the request holds something other than the input and its fixed frame")
        return input_of(numbers_of(data, rules.dtype), rules, kind, shape)

    def parse_response(
        self, options: Mapping[str, Any], status: int, body: bytes, *, score_count: int | None = None
    ) -> Answer:
        """Read the response as JSON, with the outputs' bytes behind it if there are any."""
        if status != 200 or not parse_options(OipV2Options, options).binary:
            return super().parse_response(options, status, body, score_count=score_count)
        header, data = split_json(body)
        response = parse_answer_body(status, header)
        return self.read(options, with_raw_data(response, data), score_count)

    def read(self, options: Mapping[str, Any], response: Any, score_count: int | None) -> Answer:
        """Read the one output tensor."""
        output = _output(response, parse_options(OipV2Options, options).output_name)
        datatype, values = field_of(output, "datatype"), _values(output)
        if datatype == "BYTES":
            return labels_answer(values)
        if len(values) == 1 and isinstance(datatype, str) and datatype.removeprefix("U").startswith("INT"):
            return label_answer(values[0])
        return scores_answer(values, score_count)


def _binary_header(frame: Mapping[str, Any], size: int) -> dict[str, Any]:
    (tensor,) = frame["inputs"]
    named = {key: value for key, value in tensor.items() if key != "data"}
    outputs = [{**output, "parameters": {"binary_data": True}} for output in frame.get("outputs", [])]
    asked = {"outputs": outputs} if outputs else {"parameters": {"binary_data_output": True}}
    return {"inputs": [{**named, "parameters": {"binary_data_size": size}}], **asked}


def _output(response: Any, name: str | None) -> Any:
    outputs = field_of(response, "outputs")
    if not isinstance(outputs, list):
        raise SuspectMisbehaved("the outputs are no array", reason="wrong_shape")
    chosen = outputs if name is None else [item for item in outputs if field_of(item, "name") == name]
    if not chosen:
        raise SuspectMisbehaved("the response lacks the output", reason="missing_field")
    if len(chosen) > 1:
        raise SuspectMisbehaved("the response has several such outputs", reason="wrong_count")
    return chosen[0]


def _values(output: Any) -> list[Any]:
    shape, data = field_of(output, "shape"), field_of(output, "data")
    if not isinstance(shape, list) or not all(type(size) is int and 0 < size <= 65_536 for size in shape):
        raise SuspectMisbehaved("the output has no shape", reason="wrong_shape")
    # A batch of one, and one answer in it: Triton may keep the sides of a 1x1 picture.
    if (len(shape) > 1 and shape[0] != 1) or sum(size > 1 for size in shape) > 1:
        raise SuspectMisbehaved("the output is not one answer", reason="wrong_shape")
    # Servers send flat data, nested data, or either.
    is_nested = isinstance(data, list) and bool(data) and isinstance(data[0], list)
    level = [data]
    for size in shape if is_nested else [math.prod(shape)]:
        if not all(isinstance(item, list) and len(item) == size for item in level):
            raise SuspectMisbehaved("the output's data does not fit its shape", reason="wrong_shape")
        level = list(chain.from_iterable(level))
    return level
