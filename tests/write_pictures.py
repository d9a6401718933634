"""The picture of every trigger family in docs/triggers.md: `python -m tests.write_pictures` draws it anew.

The task is made up of 32x32 patches of the two photographs that scikit-learn brings; the network for the near-boundary
family learns to tell them apart. Everything is seeded; torch's and Pillow's versions may move a grey level.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_images

from app.embedding.archives import LabelledArrays
from app.embedding.data import TrainingData, labelled_set
from app.embedding.networks import MarkedNetwork, build
from app.embedding.recipe import Recipe
from app.embedding.train import prepare_torch, train
from app.embedding.trigger_order import FamilyOrder
from app.embedding.triggers.families import GENERATORS, generate
from app.embedding.triggers.network import answer_of
from app.embedding.triggers.source import Images, Source
from tests.write_docs import ROOT

PICTURE = ROOT / "docs" / "pictures" / "triggers.png"

SIDE, PATCHES = 32, 600
COLUMNS, SCALE, GAP, LABEL_WIDTH = 10, 2, 6, 110


def photographs() -> tuple[Images, NDArray[np.int64]]:
    """Cut patches of 60 to 200 pixels from the two photographs, scaled to 32x32: (N, 32, 32, 3), labels (N,)."""
    rng = np.random.default_rng(1)
    patches, labels = [], np.arange(PATCHES) % 2
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    for label in labels:
        width = int(rng.integers(60, 200))
        left, top = (int(rng.integers(0, size - width)) for size in photos[label].size)
        patch = photos[label].crop((left, top, left + width, top + width)).resize((SIDE, SIDE), Image.Resampling.BOX)
        patches.append(np.asarray(patch, np.uint8))
    return np.stack(patches), labels.astype(np.int64)


def plain_network(images: Images, labels: NDArray[np.int64]) -> MarkedNetwork:
    """Train a small network to tell the photographs apart."""
    network = build("small_cnn", (3, SIDE, SIDE), 2, seed=1)
    part = labelled_set("image", LabelledArrays(images, labels))
    recipe = Recipe.from_options(
        {"network": "small_cnn", "epochs": 4, "learning_rate_micros": 20_000, "schedule": "cosine"}
    )
    train(recipe, network, TrainingData(part, part, part), marked=False, on_progress=lambda _: None)
    return network.eval()


def sheet(rows: dict[str, Images]) -> Image.Image:
    """Put each row's images side by side, its name before them."""
    tile = SIDE * SCALE
    page = Image.new("RGB", (LABEL_WIDTH + COLUMNS * (tile + GAP), GAP + len(rows) * (tile + GAP)), "white")
    font, draw = ImageFont.load_default(14), ImageDraw.Draw(page)
    for line, (name, images) in enumerate(rows.items()):
        top = GAP + line * (tile + GAP)
        draw.text((GAP, top + tile // 2), name, "black", font, anchor="lm")
        for column, image in enumerate(images):
            large = Image.fromarray(image).resize((tile, tile), Image.Resampling.NEAREST)
            page.paste(large, (LABEL_WIDTH + column * (tile + GAP), top))
    return page


def main() -> None:
    """Draw the sheet."""
    prepare_torch(threads=1)
    images, labels = photographs()
    source = Source(images.shape[1:], images, answer_of(plain_network(images, labels)))
    rows = {"the task": images[:COLUMNS]}
    for name in GENERATORS:
        rows[name] = generate([FamilyOrder(name, COLUMNS)], source, seed=1)
    PICTURE.parent.mkdir(exist_ok=True)
    sheet(rows).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
