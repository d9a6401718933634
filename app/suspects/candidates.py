"""Which interfaces the fixed rule of derivation compares: adapters, what their metadata says, a short list of preprocessing.

An adapter takes part if the server's description names it (`descriptions.DESCRIBED`); or the claimant named one, and then
that one alone takes part, without any description. An adapter that comes later needs a new rule: old bundles keep the list
of theirs.

Invariants: no I/O; the same metadata gives the same candidates in the same order; no two send the same to be read alike.
Source: docs/protocol.md section 7.1.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from app.canonical import encode_json
from app.errors import Malformed, Refused
from app.keys.cover_set import CoverTable
from app.keys.statement import Statement
from app.protocol.bundle import MAX_FILE_BYTES
from app.protocol.derivation import MetadataAnswer, Rule
from app.protocol.interface import ADDRESS_OPTIONS, Interface
from app.suspects.adapters import check_interface, load_adapter
from app.suspects.adapters.frame import ROUTE, SEGMENT
from app.suspects.descriptions import DESCRIBED, MAX_NAME_CHARACTERS

# While covers are compared nothing is mapped; a map by name takes any number of scores.
UNMAPPED: Final = {"by": "name"}

# How an adapter that the claimant named may put an input, in the order of the rule; what it does not take is left out.
FORMS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"encoding": "nested"},
    {"encoding": "nested", "batch": True},
    {"encoding": "png_base64"},
)

# Of a derivation's file requests may fill so much; answers share the rest.
MAX_REQUESTED_BYTES: Final = MAX_FILE_BYTES * 3 // 4

# Of a line of that file, all but request and answer.
ENVELOPE_BYTES: Final = 1024

# Says everything in its options, so there is no short list of ways to use it.
WITHOUT_RULE: Final = "generic_json"

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


def address_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Give the part of an adapter's options that is address: which model, which version."""
    return {name: value for name, value in sorted(options.items()) if name in ADDRESS_OPTIONS}


def verify_adapter(adapter: str | None, at: Mapping[str, Any], statement: Statement) -> None:
    """Refuse an address whose names stand in no path as they are, and an adapter that the rule has no ways to use.

    Raises: Malformed.
    """
    _verify_names(at)
    if adapter is not None and not candidates(at, adapter, (), statement):
        raise Malformed(
            f"the rule knows no way to ask by {adapter} alone: log the interface in advance, have it countersigned, or "
            "derive by what the endpoint says of itself",
            pointer="/interface/adapter",
        )


def _verify_names(at: Mapping[str, Any]) -> None:
    for name in ("model", "version", "route"):
        # A model of Replicate's has an owner; a route may have any number of segments, or none.
        pattern = SEGMENT if name == "version" else ROUTE if name == "model" else f"(?:{ROUTE})?"
        value = at.get(name, "any")
        if not isinstance(value, str) or len(value) > MAX_NAME_CHARACTERS or not re.fullmatch(pattern, value):
            raise Malformed(
                f"the rule asks for a {name} by a name that stands in a path as it is: add the suspect with such a name, "
                "or without",
                pointer=f"/interface/options/{name}",
            )


def metadata_paths(at: Mapping[str, Any], adapter: str | None) -> list[tuple[str, str]]:
    """Name adapter and path of every request for metadata, in the order of the rule; none where an adapter was named."""
    if adapter is not None:
        return []
    return [(name, path) for name, described in DESCRIBED.items() for path in described.metadata_paths(at)]


def rule_of(
    at: Mapping[str, Any],
    adapter: str | None,
    metadata: Sequence[MetadataAnswer],
    statement: Statement,
    covers: CoverTable,
) -> Rule:
    """Give the rule over the interfaces that it compares, in order as many as it can ask."""
    found = candidates(at, adapter, metadata, statement)
    count = len(found)
    while count > 1 and requested_bytes(Rule(statement, covers, found[:count])) > MAX_REQUESTED_BYTES:
        count -= 1
    return Rule(statement, covers, found[:count])


def candidates(
    at: Mapping[str, Any], adapter: str | None, metadata: Sequence[MetadataAnswer], statement: Statement
) -> list[Interface]:
    """List the interfaces that the metadata or the adapter's name propose, in the rule's order."""
    found: dict[tuple[str | None, ...], Interface] = {}
    proposed = _by_metadata(at, metadata) if adapter is None else _by_name(at, adapter)
    for name, options in proposed:
        for preprocessing in _preprocessing(statement):
            interface = Interface(name, dict(options), dict(preprocessing), UNMAPPED)
            if _is_possible(interface, statement):
                found.setdefault((name, *_sent(interface, statement)), interface)
    return list(found.values())


def _by_metadata(at: Mapping[str, Any], metadata: Sequence[MetadataAnswer]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, described in DESCRIBED.items():
        bodies = [answer.response if answer.status == 200 else b"" for answer in metadata if answer.adapter == name]
        bodies += [b""] * (len(described.metadata_paths(at)) - len(bodies))
        for options in described.options_from_metadata(at, bodies):
            yield name, options


def _by_name(at: Mapping[str, Any], adapter: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for form in FORMS if adapter != WITHOUT_RULE else ():
        yield adapter, dict(at) | form


def _sent(interface: Interface, statement: Statement) -> tuple[str | None, ...]:
    """Tell by what a request differs from others: its frame, and how an input is written into it."""
    adapter, options, shape = load_adapter(interface.adapter), interface.options, statement.shape
    rules = adapter.rules(options, interface.preprocessing, statement.kind, shape)
    frame = adapter.frame(options, rules, statement.kind, shape)
    written = encode_json([frame.body, interface.preprocessing]).decode()
    return frame.path, written, frame.encoding, frame.form_field


def verify_size(statement: Statement, covers: CoverTable) -> None:
    """Refuse inputs of which a derivation could not even ask about one way.

    Raises: Malformed.
    """
    largest = Interface("kserve_v1", {"model": "m"}, FLOATS if statement.kind == "image" else {}, UNMAPPED)
    asked = requested_bytes(Rule(statement, covers, [largest]))
    if asked > MAX_REQUESTED_BYTES:
        raise Malformed(
            f"inputs of this size make up to {asked} bytes of requests, and a derivation asks {MAX_REQUESTED_BYTES} at "
            "most: give the interface yourself",
            pointer="/covers",
        )


def requested_bytes(rule: Rule) -> int:
    """Bound the bytes that the requests of a derivation fill in its file."""
    statement = rule.statement
    sizes = [math.prod(statement.shape) * _number_bytes(one, statement.kind) for one in rule.candidates]
    asked = len(rule.first_part) * sum(sizes) + len(rule.asked_of_best) * max(sizes, default=0)
    return asked * 4 // 3


def answer_bytes(rule: Rule) -> int:
    """Give how long each answer may be, so that a derivation's file can be read again."""
    questions = len(rule.first_part) * len(rule.candidates) + len(rule.asked_of_best)
    return (MAX_FILE_BYTES - requested_bytes(rule)) * 3 // 4 // questions - ENVELOPE_BYTES


def _number_bytes(interface: Interface, kind: str) -> int:
    """Give the bytes of a number with its comma: of a pixel, or of a float with nine digits."""
    return 13 if kind == "tensor" or interface.preprocessing.get("dtype") == "float32" else 4


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
