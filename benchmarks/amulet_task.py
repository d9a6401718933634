"""Run the peer on one task. Started by `benchmarks.amulet` with the Python of the peer's own environment, which lacks ours.

    python amulet_task.py FOLDER SEEDS EPOCHS

FOLDER holds task.npz (inputs and labels to train on and to test with) and, for every seed, ours-SEED.npz: the weights of our
marked network and its triggers. For every seed the peer trains a plain network and a marked one, and its own extraction
attack is run on its marked network and on ours. Prints one JSON line a seed.
"""

import contextlib
import io
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

# The CPU build of torchvision on PyPI lacks two operators that its import asks for; nothing here uses them.
if not hasattr(torch.ops.torchvision, "nms"):
    LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        LIBRARY.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from amulet.unauth_model_ownership.attacks import ModelExtraction
from amulet.unauth_model_ownership.defenses import WatermarkNN

WIDTH, CLASSES, BATCH, TRIGGER_BATCH = 512, 10, 64, 32
RATE, MOMENTUM, WEIGHT_DECAY = 0.05, 0.9, 0.0005


def network(seed: int) -> nn.Module:
    """Give the same network as ours, with fresh weights."""
    torch.manual_seed(seed)
    layers = [nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES)]
    return nn.Sequential(nn.Flatten(), *layers)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """Give the optimizer that every training here uses."""
    return torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def train_plain(model: nn.Module, loader: DataLoader, epochs: int) -> None:
    """Train without a mark, as the peer's own loop does with one."""
    optimizer, criterion = optimizer_of(model), nn.CrossEntropyLoss()
    model.train()
    for _ in range(epochs):
        for inputs, labels in loader:
            optimizer.zero_grad()
            criterion(model(inputs), labels).backward()
            optimizer.step()


def share(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Give the share of inputs answered with their labels."""
    model.eval()
    with torch.no_grad():
        return float((model(inputs).argmax(dim=1) == labels).float().mean())


def extract(target: nn.Module, loader: DataLoader, epochs: int, seed: int) -> nn.Module:
    """Steal a network by the peer's own attack."""
    surrogate = network(seed + 100)
    # At the rate of the others the squared error of logits diverges for some seeds, and a thief would notice.
    optimizer = torch.optim.Adam(surrogate.parameters(), lr=0.001)
    return ModelExtraction(target, surrogate, optimizer, loader, "cpu", epochs, "mse").attack()


def measure(folder: Path, seed: int, epochs: int) -> dict[str, float]:
    """Measure one seed."""
    with np.load(folder / "task.npz", allow_pickle=False) as kept:
        inputs, labels, test_inputs, test_labels = (
            torch.from_numpy(kept[name]) for name in ("inputs", "labels", "test_inputs", "test_labels")
        )
    torch.manual_seed(seed)
    np.random.seed(seed)
    loader = DataLoader(TensorDataset(inputs, labels), BATCH, shuffle=True)
    plain, marked = network(seed), network(seed)
    began = time.process_time()
    train_plain(plain, loader, epochs)
    plain_seconds = time.process_time() - began
    peer = WatermarkNN(
        marked,
        nn.CrossEntropyLoss(),
        optimizer_of(marked),
        loader,
        "cpu",
        wm_path=folder,
        tabular=True,
        num_classes=CLASSES,
        epochs=epochs,
        batch_size=TRIGGER_BATCH,
    )
    began = time.process_time()
    marked = peer.watermark()
    marked_seconds = time.process_time() - began
    triggers = tuple(torch.cat(parts) for parts in zip(*peer.wm_loader, strict=True))
    with np.load(folder / f"ours-{seed}.npz", allow_pickle=False) as kept:
        ours = network(seed)
        ours.load_state_dict({name: torch.from_numpy(kept[name]) for name in ours.state_dict()})
        our_triggers = tuple(torch.from_numpy(kept[name]) for name in ("trigger_inputs", "trigger_labels"))
    stolen, stolen_ours = extract(marked, loader, epochs, seed), extract(ours, loader, epochs, seed)
    return {
        "plain_seconds": plain_seconds,
        "marked_seconds": marked_seconds,
        "plain_accuracy": share(plain, test_inputs, test_labels),
        "marked_accuracy": share(marked, test_inputs, test_labels),
        "trigger_accuracy": share(marked, *triggers),
        "extracted_accuracy": share(stolen, test_inputs, test_labels),
        "extracted_trigger_accuracy": share(stolen, *triggers),
        "ours_extracted_accuracy": share(stolen_ours, test_inputs, test_labels),
        "ours_extracted_trigger_accuracy": share(stolen_ours, *our_triggers),
        "ours_trigger_accuracy_there": share(ours, *our_triggers),
    }


def main() -> None:
    """Measure every seed."""
    folder, seeds, epochs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    for seed in range(seeds):
        with contextlib.redirect_stdout(io.StringIO()):  # the peer prints as it goes
            found = measure(folder, seed, epochs)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
