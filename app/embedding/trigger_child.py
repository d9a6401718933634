"""Make trigger inputs in a process of its own: `python -m app.embedding.trigger_child`.

One JSON order comes in on standard input, one JSON answer goes out: the canonical inputs in base64, never on disk, for
they are secret until opened. Either families by program, or a folder archive whose folders are the families.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

from app.embedding.archives import DataForm, LabelledArrays, load_dataset
from app.embedding.triggers import FamilyOrder, generate
from app.errors import Malformed, TrapstreetError
from app.keys.trigger_set import ImageInput


def main() -> int:
    """Read an order, write the answer."""
    order = json.load(sys.stdin)
    try:
        answer = _make(order)
    except TrapstreetError as error:
        answer = {"error": error.code, "message": error.message}
    sys.stdout.write(json.dumps(answer))
    return 0


def _make(order: dict[str, Any]) -> dict[str, Any]:
    shape = tuple(order["shape"])
    if order["images"]:
        arrays = _load(order["images"], shape, order["family_names"])
        images = arrays.inputs[arrays.labels.argsort(kind="stable")]
        families = [[name, int((arrays.labels == index).sum())] for index, name in enumerate(order["family_names"])]
    else:
        base = _load(order["data"], shape, order["classes"]).inputs if order["data"] else None
        orders = [FamilyOrder(*family) for family in order["families"]]
        images = generate(orders, shape, int(order["seed"], 16), base)
        families = [[family.name, family.count] for family in orders]
    if not all(count for _, count in families):
        raise Malformed("every family needs at least one trigger")
    height, width, channels = shape
    inputs = [ImageInput(height, width, channels, image.tobytes()).encode() for image in images]
    return {"inputs": [base64.b64encode(data).decode() for data in inputs], "families": families}


def _load(path: str, shape: tuple[int, ...], classes: list[str]) -> LabelledArrays:
    return load_dataset(Path(path), DataForm("image", shape, tuple(classes), resize=True))


if __name__ == "__main__":
    sys.exit(main())
