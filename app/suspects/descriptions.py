"""Which adapters a server's own description names, and with what options: read for detection and for the rule of derivation.

Invariants: pure; whatever a server says of itself, only names of models, routes, fields and tensors are taken from it, a few
of each, and only segments of a path where they go into one; the same description gives the same options in the same order.
Source: docs/protocol.md section 7.1; Open Inference Protocol, "model metadata"; KServe, "V1 protocol"; TensorFlow Serving,
"RESTful API"; what the servers of tests/interop told.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from app.canonical import parse_loose_json
from app.errors import Malformed
from app.protocol.derivation import MAX_METADATA_BYTES
from app.suspects.adapters.answers import MAX_DEPTH, depth_of
from app.suspects.adapters.frame import SEGMENT

Options = dict[str, Any]

# Models, routes or functions of one server.
MAX_NAMES: Final = 4
MAX_NAME_CHARACTERS: Final = 200


class Described(Protocol):
    """An adapter whose servers describe their models."""

    def metadata_paths(self, at: Mapping[str, Any]) -> Sequence[str]:
        """Say which paths to GET, below the endpoint; `at` holds what is known of the address: model, version, route."""

    def options_from_metadata(self, at: Mapping[str, Any], bodies: Sequence[bytes]) -> Sequence[Options]:
        """Give the options that follow, in a fixed order; a body is b"" where nothing came with status 200."""


# --- what a description says -------------------------------------------------------------------------------------------


def read_told(body: bytes, max_bytes: int) -> Any:
    """Read what a server told: JSON of a usual depth, or else the start of a text."""
    if depth_of(body) <= MAX_DEPTH:
        with suppress(Malformed):
            return parse_loose_json(body, max_bytes=max_bytes)
    return body[:MAX_NAME_CHARACTERS].decode("utf-8", "replace")


def field_in(value: Any, name: str) -> Any:
    """Give a field of an object, None where there is none."""
    return value.get(name) if isinstance(value, dict) else None


def segments_in(values: Iterable[Any]) -> list[str]:
    """Give the first names among these that can stand in a path."""
    return list(dict.fromkeys(value for value in values if isinstance(value, str) and _is_segment(value)))[:MAX_NAMES]


def bentoml_options(schema: Any) -> list[Options]:
    """Read BentoML's /schema.json: each method with its first field, a form's file or numbers."""
    routes = field_in(schema, "routes")
    found: list[Options] = []
    for route in routes[:MAX_NAMES] if isinstance(routes, list) else ():
        fields, path = field_in(field_in(route, "input"), "properties"), field_in(route, "route")
        if not isinstance(path, str) or not isinstance(fields, dict) or not fields:
            continue
        name, form = next(iter(fields.items()))
        options: Options = {} if path == "/predict" else {"route": path.removeprefix("/")}
        if name != "image":
            options["input_name"] = name
        if field_in(form, "type") == "file":
            found.append(options)
        else:
            found += [options | {"encoding": "nested", "batch": True}, options | {"encoding": "nested"}]
    return found


def gradio_options(info: Any, prefix: str) -> list[Options]:
    """Read Gradio's list of functions: each with a picture or with numbers."""
    functions = field_in(info, "named_endpoints")
    found: list[Options] = []
    for name in segments_in(key.removeprefix("/") for key in functions) if isinstance(functions, dict) else ():
        parameters = field_in(functions.get(f"/{name}"), "parameters")
        first = parameters[0] if isinstance(parameters, list) and parameters else None
        route = f"{prefix}call/{name}"
        options: Options = {} if route == "gradio_api/call/predict" else {"route": route}
        found.append(options if field_in(first, "component") == "Image" else options | {"encoding": "nested"})
    return found


def litserve_options(info: Any) -> list[Options]:
    """Read LitServe's /info: its routes."""
    routes = field_in(field_in(info, "server"), "stream")
    names = segments_in(path.removeprefix("/") for path in routes) if isinstance(routes, dict) else []
    return [{} if route == "predict" else {"route": route} for route in names]


def ray_serve_options(routes: Any) -> list[Options]:
    """Read Ray Serve's list of route prefixes."""
    found = [prefix.strip("/") for prefix in list(routes)[:MAX_NAMES]] if isinstance(routes, dict) else []
    return [{"route": route} if route else {} for route in found]


def is_mlflow_version(version: Any) -> bool:
    """Tell whether this is what MLflow's scoring server says at /version, and few others do."""
    if isinstance(version, float):  # "3.17", read as JSON
        return 1 <= version < 1000
    return isinstance(version, str) and re.match(r"[ \t\r\n]*[0-9]", version) is not None


def tf_serving_input(metadata: Any) -> Any:
    """Find the one input's description in TensorFlow Serving's metadata, None where there are several or none."""
    for part in ("metadata", "signature_def", "signature_def", "serving_default", "inputs"):
        metadata = field_in(metadata, part)
    return next(iter(metadata.values())) if isinstance(metadata, dict) and len(metadata) == 1 else None


# --- each server, for the rule -----------------------------------------------------------------------------------------


class _KServeV1:
    """Models by name: `GET /v1/models` lists them where the server does."""

    def metadata_paths(self, at: Mapping[str, Any]) -> Sequence[str]:
        return () if "model" in at else ("/v1/models",)

    def options_from_metadata(self, at: Mapping[str, Any], bodies: Sequence[bytes]) -> Sequence[Options]:
        if "model" in at:
            return [{"model": at["model"]}]
        listed = field_in(_json(bodies[0]), "models")
        return [{"model": name} for name in _names(listed if isinstance(listed, list) else [])]


class _OipV2:
    """Tensor names and datatypes of a model that the address names: `GET /v2/models/NAME[/versions/VERSION]`."""

    def metadata_paths(self, at: Mapping[str, Any]) -> Sequence[str]:
        if "model" not in at:
            return ()
        version = f"/versions/{at['version']}" if "version" in at else ""
        return (f"/v2/models/{at['model']}{version}",)

    def options_from_metadata(self, at: Mapping[str, Any], bodies: Sequence[bytes]) -> Sequence[Options]:
        if "model" not in at:
            return []
        address = {name: at[name] for name in ("model", "version") if name in at}
        said = _json(bodies[0])
        # A model of several inputs or outputs is none that the rule can ask; no names at all mean the protocol's own.
        inputs, outputs = (field_in(said, part) for part in ("inputs", "outputs"))
        if not isinstance(inputs, list) or len(inputs) != 1:
            return [address]
        tensor: Options = {}
        if names := _names([field_in(inputs[0], "name")]):
            tensor["input_name"] = names[0]
        if field_in(inputs[0], "datatype") in ("FP32", "UINT8"):
            tensor["datatype"] = field_in(inputs[0], "datatype")
        if isinstance(outputs, list) and len(outputs) == 1 and (names := _names([field_in(outputs[0], "name")])):
            tensor["output_name"] = names[0]
        return [address | tensor]


class _TFServing:
    """A model that the address names, if its status is TensorFlow Serving's."""

    def metadata_paths(self, at: Mapping[str, Any]) -> Sequence[str]:
        return (f"/v1/models/{at['model']}", f"/v1/models/{at['model']}/metadata") if "model" in at else ()

    def options_from_metadata(self, at: Mapping[str, Any], bodies: Sequence[bytes]) -> Sequence[Options]:
        if "model" not in at or not isinstance(field_in(_json(bodies[0]), "model_version_status"), list):
            return []
        address = {name: at[name] for name in ("model", "version") if name in at}
        takes_pictures = field_in(tf_serving_input(_json(bodies[1])), "dtype") == "DT_STRING"
        return [address | {"encoding": "png_base64"}] if takes_pictures else [address]


class _TorchServe:
    """A model that the address names, where /ping is answered as TorchServe does: its inference port lists none."""

    def metadata_paths(self, at: Mapping[str, Any]) -> Sequence[str]:
        return ("/ping",) if "model" in at else ()

    def options_from_metadata(self, at: Mapping[str, Any], bodies: Sequence[bytes]) -> Sequence[Options]:
        if "model" not in at or not isinstance(field_in(_json(bodies[0]), "status"), str):
            return []
        return [{"model": at["model"]}, {"model": at["model"], "encoding": "nested"}]


class _MLflow:
    def metadata_paths(self, at: Mapping[str, Any]) -> Sequence[str]:  # noqa: ARG002  # the adapters' one form
        return ("/version",)

    def options_from_metadata(self, at: Mapping[str, Any], bodies: Sequence[bytes]) -> Sequence[Options]:  # noqa: ARG002
        if not is_mlflow_version(read_told(bodies[0], MAX_METADATA_BYTES)):
            return []
        return [{}, {"envelope": "dataframe_split", "encoding": "png_base64"}]


class _Routed:
    """A server whose description lists its routes; an address that names one leaves the others out."""

    def __init__(self, path: str, read: Any) -> None:
        self._path, self._read = path, read

    def metadata_paths(self, at: Mapping[str, Any]) -> Sequence[str]:  # noqa: ARG002
        return (self._path,)

    def options_from_metadata(self, at: Mapping[str, Any], bodies: Sequence[bytes]) -> Sequence[Options]:
        found: list[Options] = self._read(_json(bodies[0]))
        return [options for options in found if at.get("route") in (None, options.get("route"))]


# The adapters of rule 1 in its order, of which each server's description tells.
DESCRIBED: Final[Mapping[str, Described]] = {
    "kserve_v1": _KServeV1(),
    "oip_v2": _OipV2(),
    "tf_serving": _TFServing(),
    "torchserve": _TorchServe(),
    "mlflow": _MLflow(),
    "bentoml": _Routed("/schema.json", bentoml_options),
    "litserve": _Routed("/info", litserve_options),
    "ray_serve": _Routed("/-/routes", ray_serve_options),
    "gradio": _Routed("/gradio_api/info", lambda info: gradio_options(info, "gradio_api/")),
}


def _json(body: bytes) -> Any:
    return read_told(body, MAX_METADATA_BYTES)


def _names(values: Sequence[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARACTERS][:MAX_NAMES]


def _is_segment(value: str) -> bool:
    return 0 < len(value) <= MAX_NAME_CHARACTERS and re.fullmatch(SEGMENT, value) is not None
