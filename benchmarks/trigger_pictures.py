"""The paper's 100 abstract pictures and their labels, as triggers for CIFAR-10.

The published script cuts 32x32 pixels out of the middle of each picture, and 14 of the 100 cuts are nearly of one
colour, some of them alike with different labels. Here the whole middle square is scaled to 32x32, which keeps what the
pictures show: any two lie far apart.

Source: Adi et al. 2018 section 5.1; github.com/adiyoss/WatermarkNN, data/trigger_set (line n of the labels belongs to the
n-th name in lexicographic order).
"""

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.embedding.archives import LabelledArrays
from app.embedding.data import LabelledSet, labelled_set
from benchmarks.cifar10 import SIDE, data_file

LABELS = "labels-cifar.txt"


def load(count: int = 100) -> LabelledSet:
    """Read the first so many triggers: (N, 3, 32, 32) uint8.

    Raises: DataMissing.
    """
    return read(data_file("adi-trigger-set.zip"), count)


def read(path: Path, count: int = 100) -> LabelledSet:
    """Read triggers from a zip of pictures and one list of labels.

    Raises: ValueError if pictures and labels do not pair.
    """
    with zipfile.ZipFile(path) as archive:
        listed = next(name for name in archive.namelist() if name.rpartition("/")[2] == LABELS)
        labels = [int(float(line)) for line in archive.read(listed).decode().split()]
        names = sorted(name for name in archive.namelist() if name.lower().endswith((".jpg", ".png")))
        if len(names) != len(labels):
            raise ValueError(f"{path.name} has {len(names)} pictures and {len(labels)} labels")
        pictures = np.stack([_square(archive.read(name)) for name in names[:count]])
    return labelled_set("image", LabelledArrays(pictures, np.array(labels[:count], np.int64)))


def _square(data: bytes) -> NDArray[np.uint8]:
    """Scale the middle square of a picture of any mode to (32, 32, 3)."""
    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGB")  # two of the .jpg are RGBA PNGs
    width = min(picture.size)
    left, top = ((size - width) // 2 for size in picture.size)
    square = picture.crop((left, top, left + width, top + width))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.uint8)
