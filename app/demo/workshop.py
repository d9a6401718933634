"""What the people of the demonstration do with torch, each call a child process: `python -m app.demo.workshop FOLDER TASK`.

The owner prepares data; a thief copies, fine-tunes and prunes the marked network; an outsider trains networks apart, from
other scans; a liar makes transferable adversarial examples against surrogates of his own and never sees the accused.

Invariants: seeded; the outsider's and the liar's scans are disjoint from the owner's.
Source: Adi et al. 2018 section 5 (fine-tuning); Liu et al. 2024, "False Claims against Model Ownership Resolution".
"""

import io
import json
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import cross_entropy

from app.embedding.answering import count_correct
from app.embedding.data import LabelledSet, TrainingData
from app.embedding.networks import MarkedNetwork, build, load_network, save_weights
from app.embedding.recipe import Recipe
from app.embedding.train import prepare_torch, train
from app.keys.cover_set import encode_cover_set
from app.keys.trigger_set import ImageInput

CLASSES = 10
SHAPE = (8, 8, 1)

# Rows of the 1,797 scans: the owner's, those that hide triggers, the outsider's, the liar's; the rest measures accuracy.
OWNER, COVERS, OUTSIDER, LIAR = slice(0, 1050), slice(1050, 1110), slice(1110, 1330), slice(1330, 1550)
TEST = slice(1550, 1797)

# Strength of the liar's perturbation, as a share of full scale: strong, but the pictures still look like digits to him.
LIE_EPSILON = 0.4
LIE_STEPS = 60
# Twice a family: with 128 triggers one innocent in 35 is neither confirmed nor let go, with 256 one in 5,400
# (computed exactly in tests/unit/protocol/test_soundness.py).
LIES = 256


def scans() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the scans in one fixed order: images (1797, 8, 8, 1) uint8, labels (1797,)."""
    digits = load_digits()
    order = np.random.default_rng(7).permutation(len(digits.target))
    images = (digits.images * (255 / 16)).round().astype(np.uint8)[..., None]
    return images[order], digits.target.astype(np.int64)[order]


def prepare(folder: Path) -> dict[str, Any]:
    """Write the owner's training and test archives and the covers."""
    images, labels = scans()
    _write_archive(folder / "train.zip", images[OWNER], labels[OWNER])
    _write_archive(folder / "test.zip", images[TEST], labels[TEST])
    ordinary = np.concatenate([images[COVERS], images[TEST]])
    covers = [ImageInput(*SHAPE, image.tobytes()).encode() for image in _moved(ordinary)]
    (folder / "covers.json").write_bytes(encode_cover_set(covers))
    return {"train": len(labels[OWNER]), "test": len(labels[TEST]), "covers": len(covers)}


def _moved(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give each scan (N, 8, 8, 1), and it moved by a pixel to each side: enough covers for ten a trigger, none twice."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    return np.concatenate([padded[:, y : y + 8, x : x + 8] for y, x in places])


def _write_archive(path: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            archive.writestr(f"{label}/{number}.png", _png(image))


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[:, :, 0]).save(buffer, "PNG")
    return buffer.getvalue()


def steal(folder: Path) -> dict[str, Any]:
    """Take the marked network: a copy, one fine-tuned on the outsider's scans, one with half its weights pruned away."""
    marked = load_network(folder / "marked.safetensors")
    test = _part(TEST)
    accuracies = {"stolen": _publish(marked, folder, "stolen", test)}
    tuned = load_network(folder / "marked.safetensors")
    recipe = Recipe(network=tuned.name, epochs=5, batch_size=50, learning_rate_micros=1_000, schedule="constant")
    _learn(tuned, recipe, OUTSIDER)
    accuracies["fine-tuned"] = _publish(tuned, folder, "fine-tuned", test)
    pruned = load_network(folder / "marked.safetensors")
    _prune(pruned, share=0.5)
    accuracies["pruned"] = _publish(pruned, folder, "pruned", test)
    return accuracies


@torch.no_grad()
def _prune(network: MarkedNetwork, share: float) -> None:
    """Set the smallest weights of the whole network to zero."""
    matrices = [weights for weights in network.body.parameters() if weights.dim() > 1]
    sizes = torch.cat([weights.abs().flatten() for weights in matrices])
    threshold = sizes.kthvalue(max(int(share * sizes.numel()), 1)).values
    for weights in matrices:
        weights.mul_(weights.abs() > threshold)


def train_apart(folder: Path) -> dict[str, Any]:
    """Train two innocent networks on the outsider's scans."""
    test = _part(TEST)
    accuracies = {}
    for name, network, seed in (("independent", "small_cnn", 11), ("framed", "mlp", 12)):
        innocent = build(network, (SHAPE[2], *SHAPE[:2]), CLASSES, seed=seed)
        _learn(innocent, replace(_SURROGATE, network=network, seed=seed), OUTSIDER)
        accuracies[name] = _publish(innocent, folder, name, test)
    return accuracies


def lie(folder: Path) -> dict[str, Any]:
    """Make triggers that most networks answer alike: adversarial examples against surrogates trained on other scans.

    Writes `lies.zip`, one folder of pictures, and `lie-labels.json`, the labels that the liar would choose.
    """
    surrogates = []
    for seed in range(6):
        network = "mlp" if seed % 2 else "small_cnn"
        surrogate = build(network, (SHAPE[2], *SHAPE[:2]), CLASSES, seed=100 + seed)
        _learn(surrogate, replace(_SURROGATE, network=network, seed=100 + seed), LIAR)
        surrogates.append(surrogate.eval())
    part = _part(LIAR)
    # Each of his scans twice, towards two classes that it is not.
    steps = torch.arange(part.count) % (CLASSES - 1)
    targets = torch.cat([part.labels + 1 + steps, part.labels + 1 + (steps + 4) % (CLASSES - 1)]) % CLASSES
    pictures = _perturb(part.inputs.repeat(2, 1, 1, 1).float() / 255, targets, surrogates[:4])
    # Two surrogates stay out of the making: what deceives them best will deceive a stranger.
    rows = torch.arange(len(targets))
    strangers = [network(pictures).softmax(1)[rows, targets] for network in surrogates[4:]]
    best = torch.stack(strangers).amin(0).argsort(descending=True)[:LIES]
    lies = (pictures[best] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    with zipfile.ZipFile(folder / "lies.zip", "w") as archive:
        for number, image in enumerate(lies):
            archive.writestr(f"lies/{number:03}.png", _png(image))
    (folder / "lie-labels.json").write_text(json.dumps(targets[best].tolist()))
    return {"lies": len(best)}


def _perturb(clean: Tensor, targets: Tensor, surrogates: Sequence[MarkedNetwork]) -> Tensor:
    pictures = clean.clone()
    for _ in range(LIE_STEPS):
        pictures.requires_grad_()
        loss = torch.stack([cross_entropy(network(pictures), targets) for network in surrogates]).sum()
        (gradient,) = torch.autograd.grad(loss, pictures)
        pictures = pictures.detach() - 0.02 * gradient.sign()
        pictures = clean + (pictures - clean).clamp(-LIE_EPSILON, LIE_EPSILON)
        pictures = (pictures.clamp(0, 1) * 255).round() / 255
    return pictures


_SURROGATE = Recipe(
    network="mlp", method="append", epochs=25, batch_size=50, learning_rate_micros=50_000, schedule="cosine"
)


def _learn(network: MarkedNetwork, recipe: Recipe, rows: slice) -> None:
    part = _part(rows)
    data = TrainingData(task=part, test=part, triggers=LabelledSet(part.inputs[:1], part.labels[:1]))
    train(recipe, network, data, marked=False, on_progress=lambda _: None)


def _part(rows: slice) -> LabelledSet:
    images, labels = scans()
    inputs = torch.from_numpy(images[rows]).permute(0, 3, 1, 2).contiguous()
    return LabelledSet(inputs, torch.from_numpy(labels[rows]))


def _publish(network: MarkedNetwork, folder: Path, name: str, test: LabelledSet) -> str:
    save_weights(network, folder / f"{name}.safetensors", (SHAPE[2], *SHAPE[:2]), CLASSES)
    return f"{count_correct(network, test) / test.count:.3f}"


TASKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "prepare": prepare,
    "steal": steal,
    "train-apart": train_apart,
    "lie": lie,
}


def main() -> None:
    """Do one task in a folder and print what came of it as JSON."""
    prepare_torch(threads=1)
    sys.stdout.write(json.dumps(TASKS[sys.argv[2]](Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
