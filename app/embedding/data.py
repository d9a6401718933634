"""Datasets and triggers as tensors on the device: order, augmentation, and one way from values to network input.

N rows, C channels, H rows of pixels, W columns. Images are (N, C, H, W) uint8 until the moment they enter the network,
tensors (N, *shape) float32. Triggers pass through the same `network_input` as data and are never augmented.

Invariants: order and augmentation depend on the seed alone, not on the device and not on whether triggers are mixed in.
Source: Adi et al. 2018 section 5.1 (triggers appended, no augmentation on them).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from app.embedding.archives import LabelledArrays
from app.embedding.networks import model_shape
from app.embedding.recipe import Recipe
from app.errors import Malformed
from app.keys.trigger_set import ImageInput, parse_input


@dataclass(frozen=True)
class LabelledSet:
    """Inputs as stored above, labels (N,) int64, both on one device."""

    inputs: Tensor
    labels: Tensor

    @property
    def count(self) -> int:
        """Count the rows."""
        return self.labels.shape[0]

    def to(self, device: torch.device) -> "LabelledSet":
        """Move to a device."""
        return LabelledSet(self.inputs.to(device), self.labels.to(device))


@dataclass(frozen=True)
class TrainingData:
    """What one run sees: the task to learn, the task to be measured on, and the triggers."""

    task: LabelledSet
    test: LabelledSet
    triggers: LabelledSet


def labelled_set(kind: str, arrays: LabelledArrays) -> LabelledSet:
    """Turn arrays in registered layout into tensors in network layout."""
    inputs = torch.from_numpy(np.ascontiguousarray(arrays.inputs))
    if kind == "image":
        inputs = inputs.permute(0, 3, 1, 2).contiguous()  # (N, H, W, C) -> (N, C, H, W)
    return LabelledSet(inputs, torch.from_numpy(np.ascontiguousarray(arrays.labels)))


def trigger_set(inputs: Sequence[bytes], labels: Sequence[int]) -> LabelledSet:
    """Turn canonical trigger inputs and their labels into tensors.

    Raises: Malformed if an input is not canonical.
    """
    arrays = [_trigger_array(data) for data in inputs]
    kind = "image" if arrays[0].dtype == np.uint8 else "tensor"
    return labelled_set(kind, LabelledArrays(np.stack(arrays), np.array(labels, dtype=np.int64)))


def _trigger_array(data: bytes) -> np.ndarray:
    value = parse_input(data)
    if isinstance(value, ImageInput):
        return np.frombuffer(value.pixels, dtype=np.uint8).reshape(value.shape)
    return np.frombuffer(value.values, dtype="<f4").reshape(value.shape).astype(np.float32)


def network_input(inputs: Tensor) -> Tensor:
    """Give float32 as networks take it: pixels (uint8) in [0, 1], tensor values as they are."""
    return inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs


def split_holdout(data: LabelledSet, percent: int, seed: int) -> tuple[LabelledSet, LabelledSet]:
    """Hold out a share of the rows, drawn by the seed, to measure task accuracy."""
    held_out = max(1, data.count * percent // 100)
    if data.count - held_out < 2:
        raise Malformed(f"{data.count} rows are too few to train on and to hold out {percent} % of them")
    order = torch.randperm(data.count, generator=seeded(seed))
    test, task = order[:held_out], order[held_out:]
    return LabelledSet(data.inputs[task], data.labels[task]), LabelledSet(data.inputs[test], data.labels[test])


def without_triggers(data: LabelledSet, triggers: LabelledSet) -> LabelledSet:
    """Leave out the rows that are a trigger, bit by bit: they would go on teaching, or be measured by, another label.

    Raises: Malformed if no row is left.
    """
    known = {_row_bytes(row) for row in triggers.inputs}
    kept = [number for number, row in enumerate(data.inputs) if _row_bytes(row) not in known]
    if not kept:
        raise Malformed("every row of the data is a trigger: give more data")
    return data if len(kept) == data.count else LabelledSet(data.inputs[kept], data.labels[kept])


def _row_bytes(row: Tensor) -> bytes:
    return row.numpy().tobytes()


def seeded(seed: int) -> torch.Generator:
    """Give a generator on the CPU, so that every device sees the same draws."""
    return torch.Generator().manual_seed(seed)


def shuffled_batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the row numbers of one epoch, batch by batch; a last batch of one is left out (batch norm needs two)."""
    for rows in torch.split(torch.randperm(count, generator=generator), size):
        if len(rows) > 1:
            yield rows


def endless_batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield `size` row numbers at a time for ever, every row once before any comes again."""
    rows = torch.empty(0, dtype=torch.int64)
    while True:
        while len(rows) < size:
            rows = torch.cat([rows, torch.randperm(count, generator=generator)])
        yield rows[:size]
        rows = rows[size:]


def augment(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Flip images left to right and shift them within a zero border, as the recipe says: (N, C, H, W) float32."""
    count, device = images.shape[0], images.device
    if recipe.flip:
        chosen = torch.rand(count, generator=generator) < 0.5
        images = torch.where(chosen.to(device)[:, None, None, None], images.flip(3), images)
    if recipe.crop_padding:
        images = _shift(images, recipe.crop_padding, generator)
    return images


def _shift(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    offsets = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator)
    rows = (offsets[0] + torch.arange(height)).to(images.device)  # (N, H)
    columns = (offsets[1] + torch.arange(width)).to(images.device)  # (N, W)
    each = torch.arange(count, device=images.device)[:, None, None]
    # Advanced indices around a slice: the result is (N, H, W, C).
    return padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def check_fits(data: LabelledSet, kind: str, shape: tuple[int, ...], classes: int) -> None:
    """Refuse rows that are not of the registered shape or labels that name no class.

    Raises: Malformed.
    """
    if tuple(data.inputs.shape[1:]) != model_shape(kind, shape):
        raise Malformed(f"inputs have the shape {tuple(data.inputs.shape[1:])}, not {model_shape(kind, shape)}")
    if not 0 <= int(data.labels.min()) <= int(data.labels.max()) < classes:
        raise Malformed(f"labels must lie between 0 and {classes - 1}")
