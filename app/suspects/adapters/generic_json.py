"""Any endpoint that takes a JSON object and answers with JSON.

Options: `template`, the request's body with exactly one placeholder object `{"$input": TYPE}`; `path`, where the
answer stands; `result`, what stands there: "scores", "label", "labels" (without scores), or "any" of the usual shapes
(`answers.answer_from`). The endpoint's URL is used as it is.
A path is field names, indices and `[*]`, a subset of JMESPath: whoever knows the labels could write a function,
filter, literal or alternative that answers in the endpoint's place.
Differs from JMESPath: an item that lacks the field is an error and not skipped, because skipping moves the indices.
Source: docs/protocol.md section 7; JMESPath specification.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from app.canonical import Record, as_form, choice, json_object, text
from app.errors import Malformed, SuspectMisbehaved
from app.suspects.adapters.answers import (
    answer_from,
    field_of,
    item_of,
    label_answer,
    labels_answer,
    scores_answer,
)
from app.suspects.adapters.codec import Preprocessing, parse_preprocessing
from app.suspects.adapters.contract import About, Answer
from app.suspects.adapters.frame import HOLE, Frame, FramedAdapter
from app.suspects.adapters.inputs import TEXT_ENCODINGS, tolerance_of

PLACEHOLDERS = ("pixels_nested", "pixels_flat", "floats_nested", "floats_flat", *TEXT_ENCODINGS)

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
    result: str = field(metadata=as_form(choice("scores", "label", "labels", "any")))


class GenericJson(FramedAdapter):
    """The adapter `generic_json`."""

    about = About(
        serves="any endpoint that takes a JSON object and answers with JSON",
        unknown="everything that the options do not say",
        tried="with servers of our own",
    )

    def rules(
        self, options: Mapping[str, Any], preprocessing: Mapping[str, Any], kind: str, shape: tuple[int, ...]
    ) -> Preprocessing:
        """Read the preprocessing; the placeholder itself says whole numbers or floats, so `dtype` may be left out."""
        encoding = find_placeholder(_parse(options).template)["$input"]
        if encoding.startswith("floats") and kind == "image":
            return parse_preprocessing({"dtype": "float32"} | dict(preprocessing), kind, shape)
        return parse_preprocessing(preprocessing, kind, shape)

    def frame(self, options: Mapping[str, Any], rules: Preprocessing, kind: str, shape: tuple[int, ...]) -> Frame:
        """Take the template, with the hole in the placeholder's place."""
        template = _parse(options).template
        placeholder = find_placeholder(template)
        return Frame("", _with_hole(template, placeholder), placeholder["$input"], "/options/template")

    def check_options(
        self, options: Mapping[str, Any], preprocessing: Mapping[str, Any], *, kind: str, shape: tuple[int, ...]
    ) -> None:
        """Accept a template with one typed placeholder and a path that selects and nothing more."""
        super().check_options(options, preprocessing, kind=kind, shape=shape)
        known = _parse(options)
        if known.result == "label" and None in parse_path(known.path):
            raise Malformed("one label cannot come from `[*]`: use labels", pointer="/options/path")

    def tolerance(self, options: Mapping[str, Any]) -> int:
        """Say how far a pixel read back may lie from the one sent."""
        return tolerance_of(find_placeholder(_parse(options).template)["$input"])

    def read(self, options: Mapping[str, Any], response: Any, score_count: int | None) -> Answer:
        """Follow the path and read what stands there."""
        known = _parse(options)
        value = _follow(response, parse_path(known.path))
        match known.result:
            case "scores":
                return scores_answer(value, score_count)
            case "label":
                return label_answer(value)
            case "labels":
                return labels_answer(value)
            case _:
                return answer_from(value, score_count)


def _parse(options: Mapping[str, Any]) -> GenericJsonOptions:
    return GenericJsonOptions.from_json(dict(options), "/options")


def _with_hole(value: Any, placeholder: dict[str, str]) -> Any:
    if value == placeholder:
        return HOLE
    if isinstance(value, list):
        return [_with_hole(item, placeholder) for item in value]
    if isinstance(value, dict):
        return {key: _with_hole(item, placeholder) for key, item in value.items()}
    return value


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
