"""Any endpoint that takes a JSON object and answers with JSON.

Options: `template`, the request's body with exactly one placeholder object `{"$input": TYPE}`; `path`, where the
answer stands; `result`, what stands there: "scores", "label" or "labels". The endpoint's URL is used as it is.
A path is field names, indices and `[*]`, a subset of JMESPath: whoever knows the labels could write a function,
filter, literal or alternative that answers in the endpoint's place.
Differs from JMESPath: an item that lacks the field is an error and not skipped, because skipping moves the indices.
Source: protocol.md section 5.2; JMESPath specification.
"""

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from app.canonical import Record, as_form, choice, encode_json, json_object, text
from app.errors import Malformed, SuspectMisbehaved
from app.keys.trigger_set import ImageInput, TensorInput
from app.suspects.adapters.answers import (
    field_of,
    item_of,
    label_answer,
    labels_answer,
    parse_answer_body,
    scores_answer,
)
from app.suspects.adapters.codec import (
    Preprocessing,
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
from app.suspects.adapters.png import decode_png, encode_png

PLACEHOLDERS = ("pixels_nested", "pixels_flat", "floats_nested", "floats_flat", "png_base64")

# What JMESPath has and a response path may not, with the name under which it is refused.
FORBIDDEN = (
    ("||", "alternatives"),
    ("&&", "conditions"),
    ("(", "functions"),
    ("[?", "filters"),
    ("`", "literals"),
    ("'", "literals"),
    ("|", "pipes"),
    ("{", "multi-selects"),
    ("[]", "flattening"),
    (".*", "wildcards over fields"),
    (":", "slices"),
    ("[-", "indices from the end"),
)
_STEP = re.compile(
    r'(?:(?:^|(?<!^)\.)(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<quoted>"(?:[^"\\]|\\.)*"))'
    r"|\[(?:(?P<index>0|[1-9][0-9]{0,5})|(?P<each>\*))\])"
)

# A step is a field name, an index, or None for `[*]`.
Path = tuple[str | int | None, ...]


@dataclass(frozen=True)
class GenericJsonOptions(Record):
    """How the request is built and where the answer stands."""

    template: dict[str, Any] = field(metadata=as_form(json_object()))
    path: str = field(metadata=as_form(text(1, 1000)))
    result: str = field(metadata=as_form(choice("scores", "label", "labels")))


class GenericJson:
    """The adapter `generic_json`."""

    def check_options(
        self, options: Mapping[str, Any], preprocessing: Mapping[str, Any], *, kind: str, shape: tuple[int, ...]
    ) -> None:
        """Accept a template with one typed placeholder and a path that selects and nothing more."""
        known = GenericJsonOptions.from_json(dict(options), "/options")
        placeholder = find_placeholder(known.template)
        rules = parse_preprocessing(preprocessing, kind, shape)
        if placeholder["$input"] == "png_base64" and (kind != "image" or rules != Preprocessing()):
            raise Malformed("a PNG carries an image's plain pixels", pointer="/options/template")
        if placeholder["$input"].startswith("pixels") and rules.dtype != "uint8":
            raise Malformed("pixels are whole numbers: use floats, or the dtype uint8", pointer="/options/template")
        steps = parse_path(known.path)
        if known.result == "label" and None in steps:
            raise Malformed("one label cannot come from `[*]`: use labels", pointer="/options/path")

    def encode_request(
        self, options: Mapping[str, Any], preprocessing: Mapping[str, Any], question: ImageInput | TensorInput
    ) -> Request:
        """Put the input into the template."""
        template = GenericJsonOptions.from_json(dict(options), "/options").template
        placeholder = find_placeholder(template)
        rules = _rules(placeholder, preprocessing, question.kind, question.shape)
        if placeholder["$input"] == "png_base64":
            if not isinstance(question, ImageInput):
                raise Malformed("only an image can be sent as PNG", pointer="/options/template")
            value = b'"' + base64.b64encode(encode_png(question)) + b'"'
        else:
            value = nest(number_texts(question, rules), _dimensions(placeholder, rules, question.kind, question.shape))
        # The placeholder's own quotes cannot stand inside a JSON string, so the frame holds these bytes once.
        return Request("", encode_json(template).replace(encode_json(placeholder), value))

    def decode_request(
        self,
        options: Mapping[str, Any],
        preprocessing: Mapping[str, Any],
        body: bytes,
        *,
        kind: str,
        shape: tuple[int, ...],
    ) -> bytes:
        """Read what stands at the placeholder's place."""
        template = GenericJsonOptions.from_json(dict(options), "/options").template
        placeholder = find_placeholder(template)
        rules = _rules(placeholder, preprocessing, kind, shape)
        value = sent_value(template, parse_body(body), placeholder)
        if placeholder["$input"] == "png_base64":
            return decode_png(_from_base64(value), shape).encode()
        return input_of(flatten(value, _dimensions(placeholder, rules, kind, shape)), rules, kind, shape)

    def parse_response(
        self, options: Mapping[str, Any], status: int, body: bytes, *, score_count: int | None = None
    ) -> Answer:
        """Follow the path and read what stands there."""
        known = GenericJsonOptions.from_json(dict(options), "/options")
        value = _follow(parse_answer_body(status, body), parse_path(known.path))
        if known.result == "scores":
            return scores_answer(value, score_count)
        return label_answer(value) if known.result == "label" else labels_answer(value)


def find_placeholder(template: Mapping[str, Any]) -> dict[str, str]:
    """Find the one placeholder of a template.

    Raises: Malformed unless there is exactly one, of a known type.
    """
    found: list[dict[str, str]] = []

    def visit(value: Any, pointer: str) -> None:
        if isinstance(value, list):
            for index, item in enumerate(value):
                visit(item, f"{pointer}/{index}")
        if not isinstance(value, dict):
            return
        if any(key.startswith("$") for key in value):
            found.append(_placeholder(value, pointer))
            return
        for key, item in value.items():
            visit(item, f"{pointer}/{key}")

    visit(template, "/options/template")
    if len(found) != 1:
        raise Malformed(f"must hold exactly one input placeholder, not {len(found)}", pointer="/options/template")
    return found[0]


def _placeholder(value: dict[str, Any], pointer: str) -> dict[str, str]:
    if set(value) != {"$input"} or value["$input"] not in PLACEHOLDERS:
        raise Malformed(f'a placeholder is {{"$input": TYPE}}, TYPE one of {", ".join(PLACEHOLDERS)}', pointer=pointer)
    return value


def _rules(
    placeholder: dict[str, str], preprocessing: Mapping[str, Any], kind: str, shape: tuple[int, ...]
) -> Preprocessing:
    # The placeholder itself says whole numbers or floats, so `dtype` may be left out with it.
    if placeholder["$input"].startswith("floats") and kind == "image":
        return parse_preprocessing({"dtype": "float32"} | dict(preprocessing), kind, shape)
    return parse_preprocessing(preprocessing, kind, shape)


def _dimensions(
    placeholder: dict[str, str], rules: Preprocessing, kind: str, shape: tuple[int, ...]
) -> tuple[int, ...]:
    return (math.prod(shape),) if placeholder["$input"].endswith("_flat") else sent_shape(rules, kind, shape)


def _from_base64(value: Any) -> bytes:
    if not isinstance(value, str):
        raise Malformed("the request holds no text where the PNG should stand")
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("the request's PNG is not base64") from error
    if base64.b64encode(data).decode() != value:
        raise Malformed("the request's PNG is not canonical base64")
    return data


@lru_cache(maxsize=64)
def parse_path(path: str) -> Path:
    """Read a response path: field names, indices, `[*]`; `@` alone is the whole response.

    Raises: Malformed, naming what is not allowed.
    """
    if path == "@":
        return ()
    unquoted = re.sub(r'"(?:[^"\\]|\\.)*"', '""', path)
    for sign, name in FORBIDDEN:
        if sign in unquoted:
            raise Malformed(f"{name} are not allowed: only field names, indices and [*]", pointer="/options/path")
    steps: list[str | int | None] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            raise Malformed(f"cannot be read from character {at}", pointer="/options/path")
        steps.append(_step(match))
        at = match.end()
    return tuple(steps)


def _step(match: re.Match[str]) -> str | int | None:
    if match["each"]:
        return None
    if match["index"]:
        return int(match["index"])
    if match["name"]:
        return match["name"]
    try:
        return str(json.loads(match["quoted"]))
    except ValueError as error:
        raise Malformed("holds a quoted name that is no JSON string", pointer="/options/path") from error


def _follow(value: Any, path: Path) -> Any:
    for at, step in enumerate(path):
        if step is None:
            if not isinstance(value, list):
                raise SuspectMisbehaved("the response has no array where the path needs one", reason="wrong_shape")
            return [_follow(item, path[at + 1 :]) for item in value]
        value = item_of(value, step) if isinstance(step, int) else field_of(value, step)
    return value
