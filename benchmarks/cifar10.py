"""CIFAR-10 for the benchmarks: decoded once from the archives beside the repository, then read from a cache.

The archives are image folders of JPEGs (which cost every method a point or two of accuracy); they are read by the
product's own reader. Nothing of them is part of this repository.
"""

import hashlib
import os
from pathlib import Path

import numpy as np
import torch

from app.embedding.archives import DataForm, LabelledArrays, load_dataset
from app.embedding.data import LabelledSet, labelled_set, seeded

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".trapstreet" / "benchmarks"

SIDE = 32
SHAPE = (3, SIDE, SIDE)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# Per channel, in thousandths of full scale; the paper's own.
MEAN_MILLIS, STD_MILLIS = (491, 482, 447), (202, 199, 201)


class DataMissing(Exception):
    """The archives are not there."""


def shared_folder() -> Path:
    """Give the folder with the archives: $TRAPSTREET_SHARED, or `shared` beside the repository."""
    return Path(os.environ.get("TRAPSTREET_SHARED") or ROOT.parent / "shared")


def data_file(name: str) -> Path:
    """Find one of the archives.

    Raises: DataMissing, saying where it should be.
    """
    path = shared_folder() / "data" / name
    if not path.is_file():
        raise DataMissing(f"{path} is missing: put it there, or name the folder above data/ in TRAPSTREET_SHARED")
    return path


def load(part: str) -> LabelledSet:
    """Read `train` (50,000) or `test` (10,000): (N, 3, 32, 32) uint8.

    Raises: DataMissing.
    """
    path = data_file(f"cifar10-{part}.tar.gz")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    cached = CACHE / f"cifar10-{part}-{digest}.npz"
    if not cached.exists():
        arrays = load_dataset(path, DataForm("image", (SIDE, SIDE, 3), CLASSES))
        cached.parent.mkdir(parents=True, exist_ok=True)
        unfinished = cached.with_suffix(f".{os.getpid()}.npz")
        np.savez(unfinished, inputs=arrays.inputs, labels=arrays.labels)
        unfinished.replace(cached)
    with np.load(cached, allow_pickle=False) as kept:
        return labelled_set("image", LabelledArrays(kept["inputs"], kept["labels"]))


def draw(data: LabelledSet, count: int, seed: int) -> LabelledSet:
    """Draw so many rows by a seed (all of them if there are no more)."""
    rows = torch.randperm(data.count, generator=seeded(seed))[:count]
    # Channels stay last in memory, as the product has them.
    inputs = data.inputs.permute(0, 2, 3, 1)[rows].contiguous().permute(0, 3, 1, 2)
    return LabelledSet(inputs, data.labels[rows])
