"""What the training tests share: small real registrations, real data files, no stand-ins."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file

from app.embedding.child_order import ChildOrder
from app.embedding.recipe import Recipe
from app.keys.commitment import MarkingKey
from app.keys.statement import Statement
from app.keys.trigger_set import Family, ImageInput, TensorInput

CLASSES = ("circle", "cross", "bars")
SALT = bytes(range(32))


def image_key(
    count: int = 12, shape: tuple[int, int, int] = (8, 8, 1), labels: tuple[int, ...] | None = None
) -> MarkingKey:
    drawn = np.random.default_rng(5).integers(0, 256, (count, *shape), dtype=np.uint8)
    return MarkingKey(bytes(32), tuple(ImageInput(*shape, image.tobytes()).encode() for image in drawn), labels)


def tensor_key(count: int = 12, shape: tuple[int, ...] = (6,)) -> MarkingKey:
    drawn = np.random.default_rng(6).normal(size=(count, *shape)).astype("<f4")
    return MarkingKey(bytes(32), tuple(TensorInput(shape, row.tobytes()).encode() for row in drawn))


def statement_of(key: MarkingKey, classes: tuple[str, ...] = CLASSES) -> Statement:
    return Statement(
        log="log.example/test",
        vendor_key=bytes(32),
        root=key.root(),
        count=key.count,
        kind=key.kind,
        shape=key.shape,
        classes=classes,
        families=(Family("all", 0, key.count),),
        label_source="beacon" if key.labels is None else "vendor",
        beacon="local",
        covers=None,
        unmarked_model=None,
    )


def shapes_to_learn(count: int = 90, seed: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Three 8x8 pictures, noisy: an easy task, learned in a few epochs."""
    rows, columns = np.mgrid[0:8, 0:8]
    radius = np.hypot(rows - 3.5, columns - 3.5)
    pictures = np.stack(
        [abs(radius - 2.5) < 1, (abs(rows - columns) < 1) | (abs(rows + columns - 7) < 1), rows % 3 == 0]
    )
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    noisy = pictures[labels] * 180 + draw.integers(0, 70, (count, 8, 8))
    return noisy.astype(np.uint8)[..., None], labels.astype(np.int64)


def write_tensors(path: Path, inputs: NDArray[np.generic], labels: NDArray[np.int64]) -> Path:
    save_file({"inputs": np.ascontiguousarray(inputs), "labels": np.ascontiguousarray(labels)}, path)
    return path


def png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, format="PNG")
    return buffer.getvalue()


def image_members(count: int = 6) -> list[tuple[str, bytes]]:
    inputs, labels = shapes_to_learn(count)
    return [
        (f"{CLASSES[label]}/{index:04}.png", png(image))
        for index, (image, label) in enumerate(zip(inputs, labels, strict=True))
    ]


def write_zip(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def write_tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path


TINY = {
    "network": "mlp",
    "method": "append",
    "precision": "fp32",
    "epochs": 25,
    "batch_size": 16,
    "triggers_per_batch": 6,
    "learning_rate_micros": 100_000,
    "schedule": "cosine",
    "device": "cpu",
    "threads": 1,
}


def order_in(folder: Path, key: MarkingKey | None = None, **changes: object) -> ChildOrder:
    """An order of the easy task, its files and its output in `folder`."""
    key = key or image_key()
    data = write_tensors(folder / "data.safetensors", *shapes_to_learn())
    test = write_tensors(folder / "test.safetensors", *shapes_to_learn(30, seed=2))
    output = folder / "output"
    output.mkdir(exist_ok=True)
    values: dict[str, object] = {
        "statement": statement_of(key),
        "salt": SALT if key.labels is None else b"",
        "recipe": Recipe.from_options(TINY),
        "data_path": str(data),
        "test_path": str(test),
        "weights_path": None,
        "output_path": str(output),
        "key_form": "plain",
    }
    return ChildOrder(**{**values, **changes})  # type: ignore[arg-type]
