"""Which protocol an endpoint speaks: what well-known routes tell of it, and which interfaces follow.

A guess: whoever serves may tell anything. So a person sees what was seen, and one harmless question shows whether a guess is
answered; whether the preprocessing is right no answer shows (`suspect derive` finds that out from labelled covers).

Invariants: pure; the same answers give the same interfaces in the same order; of what a server tells, only names that its
adapter's options take, numbers of pixels and known words are used; what is shown to a person holds no control character.
Source: Open Inference Protocol, "model metadata", "model repository extension"; TensorFlow Serving, "RESTful API"; what the
servers of tests/interop told.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.errors import Refused
from app.protocol.interface import Interface
from app.suspects.adapters import check_interface
from app.suspects.descriptions import (
    bentoml_options,
    field_in,
    gradio_options,
    is_mlflow_version,
    litserve_options,
    ray_serve_options,
    read_told,
    segments_in,
    tf_serving_input,
)

MAX_TOLD_BYTES: Final = 256 * 1024
SHOWN_BYTES: Final = 200

# Python refuses to read numbers of thousands of digits, with an error that is none of ours.
MAX_SIDE_DIGITS: Final = 9
# Interfaces that are proposed.
MAX_CANDIDATES: Final = 12

BY_INDEX: Final = {"by": "index"}
FLOATS: Final = {"dtype": "float32", "scale": "0..1"}
# What models take as numbers where nobody says: pixels as they are, and two usual forms of torch and TensorFlow.
USUAL_NUMBERS: Final[tuple[dict[str, Any], ...]] = ({}, FLOATS | {"layout": "chw"}, FLOATS)


@dataclass(frozen=True)
class Look:
    """A request for metadata; it changes nothing at any server that knows the route."""

    path: str
    method: str = "GET"
    body: bytes = b""


@dataclass(frozen=True)
class Seen:
    """What came of a look; `error` is a transport's word, or empty."""

    look: Look
    status: int | None
    body: bytes
    error: str = ""

    @property
    def shown(self) -> str:
        """Give the first bytes of the answer for a person's screen."""
        return self.error or escaped(self.body)


FIRST_LOOKS: Final = (
    Look("/v2"),
    Look("/v2/models"),
    Look("/v2/repository/index", "POST", b"{}"),
    Look("/v1/models"),
    Look("/gradio_api/info"),
    Look("/info"),
    Look("/schema.json"),
    Look("/-/routes"),
    Look("/ping"),
    Look("/version"),
    Look("/health"),
)


def escaped(data: bytes) -> str:
    """Give the first bytes as one line; what is not printable is written as a JSON escape."""
    text = data[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
    return "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in text) + (
        "…" if len(data) > SHOWN_BYTES else ""
    )


def second_looks(seen: Sequence[Seen], model: str | None = None) -> list[Look]:
    """Name the routes at which models describe themselves, once it is known which there are."""
    told = _told(seen)
    paths = [f"/v2/models/{name}" for name in _models_v2(told, model)]
    for name in _models_v1(told, model):
        paths += [f"/v1/models/{name}", f"/v1/models/{name}/metadata"]
    return [Look(path) for path in paths]


def candidates(
    seen: Sequence[Seen], kind: str, shape: tuple[int, ...], model: str | None = None
) -> Sequence[Interface]:
    """List the interfaces that follow from what was seen, the likeliest first, for inputs of this kind and shape."""
    told = _told(seen)
    found: list[Interface] = []
    for adapter, rule in _RULES:
        for options, preprocessing in rule(told, model):
            interface = Interface(adapter, dict(options), _fitting(preprocessing, shape), BY_INDEX)
            if interface not in found and _is_possible(interface, kind, shape):
                found.append(interface)
    return found[:MAX_CANDIDATES]


# What a server told, by path: JSON, or else text.
Told = Mapping[str, Any]
Proposals = Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]


def _gradio(told: Told, model: str | None) -> Proposals:  # noqa: ARG001  # the rules' one form
    for path, prefix in (("/gradio_api/info", "gradio_api/"), ("/info", "")):
        for options in gradio_options(told.get(path), prefix):
            yield from ((options, rules) for rules in (USUAL_NUMBERS if "encoding" in options else ({},)))


def _oip_v2(told: Told, model: str | None) -> Proposals:
    if not any(isinstance(told.get(path), dict | list) for path in ("/v2", "/v2/models", "/v2/repository/index")):
        return
    for name in _models_v2(told, model):
        about = told.get(f"/v2/models/{name}")
        inputs = field_in(about, "inputs")
        tensor = inputs[0] if isinstance(inputs, list) and len(inputs) == 1 else None
        options: dict[str, Any] = {"model": name}
        if isinstance(named := field_in(tensor, "name"), str) and named != "input":
            options["input_name"] = named
        described = _preprocessing(field_in(tensor, "datatype"), field_in(tensor, "shape"))
        for rules in USUAL_NUMBERS if described is None else (described,):
            yield options, rules


def _kserve_v1(told: Told, model: str | None) -> Proposals:
    if isinstance(field_in(told.get("/v1/models"), "models"), list):
        yield from (({"model": name}, rules) for name in _models_v1(told, model) for rules in USUAL_NUMBERS)


def _tf_serving(told: Told, model: str | None) -> Proposals:
    for name in _models_v1(told, model):
        if not isinstance(field_in(told.get(f"/v1/models/{name}"), "model_version_status"), list):
            continue
        tensor = tf_serving_input(told.get(f"/v1/models/{name}/metadata"))
        if field_in(tensor, "dtype") == "DT_STRING":
            yield {"model": name, "encoding": "png_base64"}, {}
        sizes = field_in(field_in(tensor, "tensor_shape"), "dim")
        shape = [field_in(size, "size") for size in sizes] if isinstance(sizes, list) else None
        words = {"DT_FLOAT": "FP32", "DT_UINT8": "UINT8"}
        described = _preprocessing(words.get(str(field_in(tensor, "dtype"))), shape)
        for rules in USUAL_NUMBERS if described is None else (described,):
            yield {"model": name}, rules


def _torchserve(told: Told, model: str | None) -> Proposals:
    # Its inference port lists no models: whoever asks must name one.
    if isinstance(field_in(told.get("/ping"), "status"), str) and model is not None:
        yield {"model": model}, {}
        yield from (({"model": model, "encoding": "nested"}, rules) for rules in USUAL_NUMBERS)


def _mlflow(told: Told, model: str | None) -> Proposals:  # noqa: ARG001
    if is_mlflow_version(told.get("/version")):
        yield from (({}, rules) for rules in USUAL_NUMBERS)


def _bentoml(told: Told, model: str | None) -> Proposals:  # noqa: ARG001
    for options in bentoml_options(told.get("/schema.json")):
        yield from ((options, rules) for rules in (USUAL_NUMBERS if "encoding" in options else ({},)))


def _litserve(told: Told, model: str | None) -> Proposals:  # noqa: ARG001
    yield from ((options, rules) for options in litserve_options(told.get("/info")) for rules in USUAL_NUMBERS)


def _ray_serve(told: Told, model: str | None) -> Proposals:  # noqa: ARG001
    yield from ((options, {}) for options in ray_serve_options(told.get("/-/routes")))


_RULES: Final[tuple[tuple[str, Callable[[Told, str | None], Proposals]], ...]] = (
    ("gradio", _gradio),
    ("oip_v2", _oip_v2),
    ("kserve_v1", _kserve_v1),
    ("tf_serving", _tf_serving),
    ("bentoml", _bentoml),
    ("mlflow", _mlflow),
    ("litserve", _litserve),
    ("ray_serve", _ray_serve),
    ("torchserve", _torchserve),
)


def _models_v2(told: Told, model: str | None) -> list[str]:
    listed = field_in(told.get("/v2/models"), "models")
    index = told.get("/v2/repository/index")
    names = listed if isinstance(listed, list) else []
    names = names + [field_in(item, "name") for item in index] if isinstance(index, list) else names
    return segments_in([model] if model is not None else names)


def _models_v1(told: Told, model: str | None) -> list[str]:
    listed = field_in(told.get("/v1/models"), "models")
    return segments_in([model] if model is not None else listed if isinstance(listed, list) else [])


def _preprocessing(datatype: Any, shape: Any) -> Mapping[str, Any] | None:
    """Read dtype, layout and size out of a tensor's description; None where it says too little."""
    if datatype not in ("FP32", "UINT8") or not isinstance(shape, list) or len(shape) != 4:
        return None
    sides = [_side(size) for size in shape]
    is_chw = sides[1] in (1, 3) and sides[3] not in (1, 3)
    height, width = sides[2:] if is_chw else sides[1:3]
    rules: dict[str, Any] = dict(FLOATS) if datatype == "FP32" else {}
    if is_chw:
        rules["layout"] = "chw"
    return rules | ({"size": [height, width]} if min(height, width) > 0 else {})


def _side(size: Any) -> int:
    """Read a size, a number or one in a string; what is none, or longer than any picture, is -1: unknown."""
    text = str(size) if isinstance(size, str) or type(size) is int else ""
    return int(text) if len(text) <= MAX_SIDE_DIGITS and text.isdecimal() else -1


def _fitting(preprocessing: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """Leave a size out to which pixels of this shape need not, or cannot, be repeated."""
    size = preprocessing.get("size")
    larger = (
        size is not None and len(shape) == 3 and size != [*shape[:2]] and size[0] >= shape[0] and size[1] >= shape[1]
    )
    return {name: value for name, value in preprocessing.items() if name != "size" or larger}


def _is_possible(interface: Interface, kind: str, shape: tuple[int, ...]) -> bool:
    try:
        # Through its own bytes: what a stranger tells may be longer than an option takes, or no text at all.
        check_interface(Interface.parse(interface.encode()), kind, shape)
    except Refused:
        return False
    return True


def _told(seen: Sequence[Seen]) -> dict[str, Any]:
    return {
        each.look.path: read_told(each.body, MAX_TOLD_BYTES) for each in seen if each.status == 200 and not each.error
    }
