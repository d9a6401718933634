"""Compare this implementation with a file of the protocol's test vectors.

The file holds canonical inputs, commitments with their labels and challenge, walks of the evidence, its printed values, and
the planning thresholds. Anyone with another implementation can run both over one file.

Invariants: None only if every value of every section was recomputed and is the same; a section may not be empty; free
names of cases are the only thing that is not compared.
Source: docs/protocol.md sections 3 to 8.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

from app.canonical import PROTOCOL, sha256, u32
from app.errors import Malformed, ProofError
from app.keys.commitment import MarkingKey, commit_label
from app.keys.labels import BeaconValue, draw_labels, salt_of
from app.keys.trigger_set import Family, ImageInput, TensorInput
from app.merkle.tree import leaf_hash, verify_inclusion
from app.protocol.challenge import challenge_order, seed_of
from app.protocol.evidence import Outcome, Step, evidence_path, log2_text, needed, threshold, walk

# How the images of a commitment vector are made; other words in a file would mean other images.
IMAGE_DATA = "shake_256(seed || u32be(i), {size} bytes)"

# Where a walk does not say another.
DEFAULT_BITS = 64

# What a check yields: the name of a value, the one found here, and the one in the file.
Compared = tuple[str, Any, Any]


def find_difference(vectors: Mapping[str, Any]) -> str | None:
    """Give the first value of the file that comes out otherwise here, in words, or None."""
    if vectors.keys() != {"protocol", *SECTIONS}:
        return "the file must have exactly the keys protocol, " + ", ".join(SECTIONS)
    if vectors["protocol"] != PROTOCOL:
        return f"these are vectors of {vectors['protocol']!r}, not of {PROTOCOL!r}"
    for section, check in SECTIONS.items():
        cases = vectors[section]
        if not isinstance(cases, list) or not cases:
            return f"{section} must be a non-empty array"
        for number, case in enumerate(cases):
            if difference := _difference_in(case, check):
                return f"{section}[{number}]: {difference}"
    return None


def _difference_in(case: Any, check: Callable[[Mapping[str, Any]], Iterator[Compared]]) -> str | None:
    try:
        for name, found, stated in check(case):
            if found != stated or type(found) is not type(stated):
                return f"{name} is {found!r} here, {stated!r} in the file"
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, Malformed, ProofError) as error:
        return f"cannot be read: {error!r}"
    return None


def _compare_input(case: Mapping[str, Any]) -> Iterator[Compared]:
    made = _input_of(case["kind"], case["shape"], case["values"])
    yield "canonical_sha256", sha256(made.encode()).hex(), case["canonical_sha256"]


def _input_of(kind: str, shape: list[int], values: list[float]) -> ImageInput | TensorInput:
    match kind:
        case "tensor":
            return TensorInput.of(shape, values)
        case "image":
            height, width, channels = shape
            return ImageInput(height, width, channels, bytes(values))  # type: ignore[arg-type]  # refuses what is no byte
        case _:
            raise Malformed("inputs are of kind image or tensor")


def _compare_commitment(case: Mapping[str, Any]) -> Iterator[Compared]:
    key = _marking_key_of(case)
    size = case["image"]["height"] * case["image"]["width"] * case["image"]["channels"]
    yield "image.data", IMAGE_DATA.format(size=size), case["image"]["data"]
    yield "leaf_0", key.leaf(0).hex(), case["leaf_0"]
    yield "input_key_0", key.input_key(0).hex(), case["input_key_0"]
    yield "label_key_0", key.label_key(0).hex(), case["label_key_0"]
    yield "root", key.root().hex(), case["root"]
    path = key.open_input(key.count - 1).path
    yield "path_last", [value.hex() for value in path], case["path_last"]
    verify_inclusion(leaf_hash(key.leaf(key.count - 1)), key.count - 1, key.count, path, key.root())
    yield from _compare_draws(case, key)


def _compare_draws(case: Mapping[str, Any], key: MarkingKey) -> Iterator[Compared]:
    salt = salt_of(_beacon_of(case["beacon"]), key.root(), bytes.fromhex(case["beacon"]["entry_hash"]))
    yield "salt", salt.hex(), case["salt"]
    yield "labels", draw_labels(key, salt, case["classes"]), case["labels"]
    seed = seed_of(_beacon_of(case["challenge"]), bytes.fromhex(case["challenge"]["entry_hash"]))
    yield "challenge_seed", seed.hex(), case["challenge_seed"]
    start, end = case["order_range"]
    yield "order", challenge_order(seed, Family("all", start, end)), case["order"]
    index, label = case["class_b"]["index"], case["class_b"]["label"]
    commitment = commit_label(key.label_key(index), label)
    yield "class_b.commitment", commitment.hex(), case["class_b"]["commitment"]


def _marking_key_of(case: Mapping[str, Any]) -> MarkingKey:
    image = case["image"]
    height, width, channels, seed = image["height"], image["width"], image["channels"], bytes.fromhex(image["seed"])
    inputs = tuple(
        ImageInput(
            height, width, channels, hashlib.shake_256(seed + u32(index)).digest(height * width * channels)
        ).encode()
        for index in range(case["count"])
    )
    return MarkingKey(bytes.fromhex(case["master"]), inputs)


def _beacon_of(value: Mapping[str, Any]) -> BeaconValue:
    randomness, nonce = bytes.fromhex(value["randomness"]), bytes.fromhex(value["nonce"])
    return BeaconValue(value["source"], value["round"], randomness, nonce)


def _compare_walk(case: Mapping[str, Any]) -> Iterator[Compared]:
    steps = [_step_of(step) for step in case["steps"]]
    bits = case.get("bits", DEFAULT_BITS)
    ended = walk(steps, threshold(bits, case.get("interface_bits", 0), case.get("families", 1), case.get("ordinal", 1)))
    yield "ends", [ended.end, ended.asked], case["ends"]


def _step_of(answer: tuple[bool, int, int] | None) -> Step:
    if answer is None:
        return Step(Outcome.NO_ANSWER, 1, 2)
    is_match, group, classes = answer
    return Step(Outcome.MATCH if is_match else Outcome.MISMATCH, group, classes)


def _compare_evidence(case: Mapping[str, Any]) -> Iterator[Compared]:
    group, classes = case["p"]
    outcomes = {"1": Outcome.MATCH, "0": Outcome.MISMATCH}
    path = [Fraction(*e) for e in evidence_path(Step(outcomes[x], group, classes) for x in case["matched"])]
    first = next((n for n, value in enumerate(path, start=1) if value >= 1 << DEFAULT_BITS), None)
    yield "log2_e_last", log2_text(*path[-1].as_integer_ratio()), case["log2_e_last"]
    yield "log2_e_max", log2_text(*max(path).as_integer_ratio()), case["log2_e_max"]
    yield "first_at_64_bits", first, case["first_at_64_bits"]


def _compare_threshold(case: Mapping[str, Any]) -> Iterator[Compared]:
    yield "needed", needed(case["n"], case["k"], case["bits"]), case["needed"]


SECTIONS: Final[Mapping[str, Callable[[Mapping[str, Any]], Iterator[Compared]]]] = {
    "inputs": _compare_input,
    "commitments": _compare_commitment,
    "walks": _compare_walk,
    "evidence": _compare_evidence,
    "thresholds": _compare_threshold,
}
