"""Which interfaces the fixed rule of derivation compares: adapters, what their metadata says, a short list of preprocessing.

An adapter takes part if it is named in `ADAPTERS_OF_RULE`; it may say itself where its servers describe their models
(`Described`), and what options follow. An adapter that comes later needs a new rule: old bundles keep the list of theirs.

Invariants: no I/O; the same metadata gives the same candidates in the same order; whatever a server says of itself, only
names of models and tensors are taken from it.
Source: docs/protocol.md section 7.1; Open Inference Protocol, "model metadata"; KServe, "V1 protocol".
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, runtime_checkable

from app.canonical import encode_json, parse_loose_json
from app.errors import Malformed, Refused
from app.keys.cover_set import CoverTable
from app.keys.statement import Statement
from app.protocol.derivation import MAX_METADATA_BYTES, MetadataAnswer, Rule
from app.protocol.interface import ADDRESS_OPTIONS, Interface
from app.suspects.adapters import ADAPTERS, check_interface
from app.suspects.adapters.frame import SEGMENT

# The adapters of rule 1, in its order.
ADAPTERS_OF_RULE: Final = ("kserve_v1", "oip_v2")

# While covers are compared nothing is mapped; a map by name takes any number of scores.
UNMAPPED: Final = {"by": "name"}

MAX_NAMES: Final = 4
MAX_NAME_CHARACTERS: Final = 200

FLOATS: Final = {"dtype": "float32", "scale": "0..1"}
IMAGENET: Final = {"mean": [485, 456, 406], "std": [229, 224, 225]}
CIFAR_10: Final = {"mean": [491, 482, 447], "std": [247, 243, 262]}
MNIST: Final = {"mean": [131], "std": [308]}

# Preprocessing of images in the order of the rule; means and deviations by the number of channels.
_PLAIN: Final[tuple[dict[str, Any], ...]] = (
    {},
    FLOATS,
    FLOATS | {"layout": "chw"},
)
_NORMALISED: Final[Mapping[int, tuple[dict[str, Any], ...]]] = {
    1: (FLOATS | {"layout": "chw"} | MNIST, FLOATS | {"layout": "chw", "mean": [500], "std": [500]}),
    3: (
        FLOATS | {"layout": "chw"} | IMAGENET,
        FLOATS | {"layout": "chw"} | CIFAR_10,
        FLOATS | {"layout": "chw", "mean": [500, 500, 500], "std": [500, 500, 500]},
    ),
}
_LAST: Final[tuple[dict[str, Any], ...]] = (
    {"layout": "chw"},
    {"dtype": "float32"},
    FLOATS | {"layout": "flat"},
    {"layout": "flat"},
)
_OF_TENSORS: Final[tuple[dict[str, Any], ...]] = ({}, {"layout": "flat"})


@runtime_checkable
class Described(Protocol):
    """An adapter whose servers describe their models."""

    def metadata_paths(self, at: Mapping[str, Any]) -> Sequence[str]:
        """Say which paths to GET, below the endpoint; `at` holds what is known of the address: model, version."""

    def options_from_metadata(self, at: Mapping[str, Any], bodies: Sequence[bytes]) -> Sequence[Mapping[str, Any]]:
        """Give the options that follow, in a fixed order; a body is b"" where nothing came with status 200."""


class _KServeV1:
    """Models by name: `GET /v1/models` lists them where the server does."""

    def metadata_paths(self, at: Mapping[str, Any]) -> Sequence[str]:
        return () if "model" in at else ("/v1/models",)

    def options_from_metadata(self, at: Mapping[str, Any], bodies: Sequence[bytes]) -> Sequence[Mapping[str, Any]]:
        if "model" in at:
            return [{"model": at["model"]}]
        listed = _field(_json(bodies[0]), "models")
        return [{"model": name} for name in _names(listed if isinstance(listed, list) else [])]


class _OipV2:
    """Tensor names and datatypes of a model that the address names: `GET /v2/models/NAME[/versions/VERSION]`."""

    def metadata_paths(self, at: Mapping[str, Any]) -> Sequence[str]:
        if "model" not in at:
            return ()
        version = f"/versions/{at['version']}" if "version" in at else ""
        return (f"/v2/models/{at['model']}{version}",)

    def options_from_metadata(self, at: Mapping[str, Any], bodies: Sequence[bytes]) -> Sequence[Mapping[str, Any]]:
        if "model" not in at:
            return []
        address = {name: at[name] for name in ("model", "version") if name in at}
        said = _json(bodies[0])
        # A model of several inputs or outputs is none that the rule can ask; no names at all mean the protocol's own.
        inputs, outputs = (_field(said, part) for part in ("inputs", "outputs"))
        if not isinstance(inputs, list) or len(inputs) != 1:
            return [address]
        tensor: dict[str, Any] = {}
        if names := _names([_field(inputs[0], "name")]):
            tensor["input_name"] = names[0]
        if _field(inputs[0], "datatype") in ("FP32", "UINT8"):
            tensor["datatype"] = _field(inputs[0], "datatype")
        if isinstance(outputs, list) and len(outputs) == 1 and (names := _names([_field(outputs[0], "name")])):
            tensor["output_name"] = names[0]
        return [address | tensor]


_OWN: Final[Mapping[str, Described]] = {"kserve_v1": _KServeV1(), "oip_v2": _OipV2()}


def address_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Give the part of an adapter's options that is address: which model, which version."""
    return {name: value for name, value in sorted(options.items()) if name in ADDRESS_OPTIONS}


def verify_names(at: Mapping[str, Any]) -> None:
    """Refuse a model or version that is not one segment of a path: the rule asks for metadata below it.

    Raises: Malformed.
    """
    for name in ("model", "version"):
        value = at.get(name, "any")
        if not isinstance(value, str) or len(value) > MAX_NAME_CHARACTERS or not re.fullmatch(SEGMENT, value):
            raise Malformed(
                f"the rule asks for a {name} by a name that is one segment of a path: add the suspect with such a name, "
                "or without",
                pointer=f"/interface/options/{name}",
            )


def metadata_paths(at: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name adapter and path of every request for metadata, in the order of the rule."""
    return [(name, path) for name in ADAPTERS_OF_RULE for path in _described(name).metadata_paths(at)]


def candidates(at: Mapping[str, Any], metadata: Sequence[MetadataAnswer], statement: Statement) -> list[Interface]:
    """List the interfaces that the rule compares, in its order."""
    found = []
    for name in ADAPTERS_OF_RULE:
        described = _described(name)
        bodies = [answer.response if answer.status == 200 else b"" for answer in metadata if answer.adapter == name]
        bodies += [b""] * (len(described.metadata_paths(at)) - len(bodies))
        for options in described.options_from_metadata(at, bodies):
            for preprocessing in _preprocessing(statement):
                interface = Interface(name, dict(options), dict(preprocessing), UNMAPPED)
                if _is_possible(interface, statement):
                    found.append(interface)
    return found


def verify_size(at: Mapping[str, Any], statement: Statement, covers: CoverTable, most_bytes: int) -> None:
    """Refuse inputs so large that the requests of a derivation could fill more than `most_bytes` of its file.

    Raises: Malformed.
    """
    models = encode_json({"models": [f"model-{number}" for number in range(MAX_NAMES)]})
    said = [MetadataAnswer(adapter, path, 200, models, "", b"") for adapter, path in metadata_paths(at)]
    rule = Rule(statement, covers, candidates(at, said, statement))
    sizes = [math.prod(statement.shape) * _number_bytes(one, statement.kind) for one in rule.candidates]
    asked = len(rule.first_part) * sum(sizes) + len(rule.asked_of_best) * max(sizes, default=0)
    if asked * 4 // 3 > most_bytes:
        raise Malformed(
            f"inputs of this size make up to {asked * 4 // 3} bytes of requests, and a derivation holds {most_bytes}: name "
            "the model in the suspect's options, so that fewer ways are compared, or give the interface yourself",
            pointer="/covers",
        )


def _number_bytes(interface: Interface, kind: str) -> int:
    """Give the bytes of a number with its comma: of a pixel, or of a float with nine digits."""
    return 13 if kind == "tensor" or interface.preprocessing.get("dtype") == "float32" else 4


def _described(name: str) -> Described:
    adapter = ADAPTERS[name]
    return adapter if isinstance(adapter, Described) else _OWN[name]


def _preprocessing(statement: Statement) -> Sequence[Mapping[str, Any]]:
    if statement.kind == "tensor":
        return _OF_TENSORS
    return (*_PLAIN, *_NORMALISED[statement.shape[2]], *_LAST)


def _is_possible(interface: Interface, statement: Statement) -> bool:
    try:
        # Through its own bytes: names from a stranger may be longer than an option takes, or no text at all.
        check_interface(Interface.parse(interface.encode()), statement.kind, statement.shape)
    except Refused:
        return False
    return True


def _json(body: bytes) -> Any:
    try:
        return parse_loose_json(body, max_bytes=MAX_METADATA_BYTES)
    except Malformed:
        return None


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _names(values: Sequence[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARACTERS][:MAX_NAMES]
