"""Make trigger inputs in a process of its own: `python -m app.embedding.trigger_child`.

One order (app.embedding.trigger_order) comes in on standard input, one JSON answer goes out: the canonical inputs in
base64, never on disk, for they are secret until opened.

Started by app.embedding.trigger_process and by nobody else.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from app.canonical import MAX_RECORD_BYTES
from app.embedding.archives import DataForm, LabelledArrays, load_dataset
from app.embedding.trigger_order import FamilyOrder, TriggerOrder
from app.embedding.triggers.distance import check_apart
from app.embedding.triggers.families import generate
from app.embedding.triggers.source import Images, Source
from app.errors import Malformed, TrapstreetError
from app.keys.trigger_set import ImageInput

MILLI = 1_000


def main() -> int:
    """Read an order, write the answer."""
    try:
        answer = _make(TriggerOrder.parse(sys.stdin.buffer.readline(MAX_RECORD_BYTES + 1).removesuffix(b"\n")))
    except TrapstreetError as error:
        answer = {"error": error.code, "message": error.message}
    sys.stdout.write(json.dumps(answer))
    return 0


def _make(order: TriggerOrder) -> dict[str, Any]:
    source = _source(order)
    own, families = _own(order, source)
    images = generate(order.families, source, int.from_bytes(order.seed, "big"), own)
    height, width, channels = order.shape
    inputs = [ImageInput(height, width, channels, image.tobytes()).encode() for image in images]
    return {
        "inputs": [base64.b64encode(data).decode() for data in inputs],
        "families": [family.to_json() for family in (*families, *order.families)],
    }


def _own(order: TriggerOrder, source: Source) -> tuple[Images, list[FamilyOrder]]:
    """Read the vendor's own images, folder by folder.

    Raises: Malformed if a folder is empty or two images are too alike.
    """
    if order.images_path is None:
        return np.zeros((0, *order.shape), np.uint8), []
    arrays = _load(order.images_path, order.shape, order.folders)
    counts = np.bincount(arrays.labels, minlength=len(order.folders))
    if not counts.all():
        raise Malformed("every family needs at least one trigger")
    rows = arrays.labels.argsort(kind="stable")
    names = arrays.names or tuple(f"row {row}" for row in range(len(rows)))
    if order.apart:
        check_apart(arrays.inputs[rows], [names[row] for row in rows], source.std)
    families = [FamilyOrder(name, int(count)) for name, count in zip(order.folders, counts, strict=True)]
    return arrays.inputs[rows], families


def _source(order: TriggerOrder) -> Source:
    pictures = _load(order.data_path, order.shape, order.classes).inputs if order.data_path else None
    source = Source(order.shape, pictures, std=tuple(value / MILLI for value in order.std_millis))
    if order.model_path is None:
        return source
    from app.embedding.triggers.network import with_network  # noqa: PLC0415  # torch only where a network is asked

    return with_network(source, Path(order.model_path), len(order.classes))


def _load(path: str, shape: tuple[int, ...], classes: tuple[str, ...]) -> LabelledArrays:
    return load_dataset(Path(path), DataForm("image", shape, classes, resize=True))


if __name__ == "__main__":
    sys.exit(main())
