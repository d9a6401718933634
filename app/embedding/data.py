"""Datasets and triggers as tensors on the device: order, augmentation, and one way from values to network input.

N rows, C channels, H rows of pixels, W columns. Images are (N, C, H, W) uint8, channels last in memory, until the moment
they enter the network, tensors (N, *shape) float32. Triggers pass through the same `network_input` as data.

Invariants: order and augmentation depend on the seed alone, not on the device and not on whether triggers are mixed in.
Source: Adi et al. 2018 section 5.1 (triggers appended, no augmentation on them).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from app.canonical import lp, sha256, u32
from app.embedding.archives import LabelledArrays
from app.embedding.networks import model_shape
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
        inputs = inputs.permute(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W); the bytes stay where they are
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


def seeded(seed: int, purpose: str = "") -> torch.Generator:
    """Give a generator on the CPU, so that every device sees the same draws; another one for each purpose.

    Seeds of purposes are hashed: counted on from `seed`, they would be those of the next seed's other purposes.
    """
    # The generator looks at 32 bits of its seed.
    return torch.Generator().manual_seed(int.from_bytes(sha256(lp(u32(seed), purpose))[:4], "big") if purpose else seed)


def shuffled_batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the row numbers of one epoch, batch by batch; a last batch of one is left out (batch norm needs two)."""
    for rows in torch.split(torch.randperm(count, generator=generator), size):
        if len(rows) > 1:
            yield rows


@dataclass
class RowStream:
    """`size` of `count` row numbers at a time for ever, every row once before any comes again; `rows` are still to come."""

    count: int
    size: int
    generator: torch.Generator
    rows: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def __next__(self) -> Tensor:
        """Give the next rows."""
        while len(self.rows) < self.size:
            self.rows = torch.cat([self.rows, torch.randperm(self.count, generator=self.generator)])
        chosen, self.rows = self.rows[: self.size], self.rows[self.size :]
        return chosen


@dataclass(frozen=True)
class Augmentation:
    """What is done to each image of a batch: whether it is flipped (N,) bool, and how far it is shifted (2, N) int64."""

    flips: Tensor | None
    offsets: Tensor | None
    padding: int = 0

    def pick(self, rows: Tensor) -> "Augmentation":
        """Give the part for some rows of the batch."""
        flips = None if self.flips is None else self.flips[rows]
        return Augmentation(flips, None if self.offsets is None else self.offsets[:, rows], self.padding)


def draw_augmentation(count: int, generator: torch.Generator, *, flip: bool, crop_padding: int) -> Augmentation:
    """Draw for each of `count` images whether it is flipped and how far it is shifted, at most `crop_padding` pixels."""
    flips = torch.rand(count, generator=generator) < 0.5 if flip else None
    offsets = None
    if crop_padding:
        offsets = torch.randint(0, 2 * crop_padding + 1, (2, count), generator=generator)
    return Augmentation(flips, offsets, crop_padding)


def augment(images: Tensor, drawn: Augmentation) -> Tensor:
    """Flip images left to right and shift them within a zero border: (N, C, H, W) uint8 on any device."""
    if drawn.flips is not None:
        images = torch.where(drawn.flips.to(images.device)[:, None, None, None], images.flip(3), images)
    return images if drawn.offsets is None else _shift(images, drawn.offsets.to(images.device), drawn.padding)


def _shift(images: Tensor, offsets: Tensor, padding: int) -> Tensor:
    count, channels, height, width = images.shape
    device = images.device
    padded = torch.nn.functional.pad(images, (padding,) * 4).permute(0, 2, 3, 1)  # (N, H + 2p, W + 2p, C)
    rows = offsets[0, :, None, None] + torch.arange(height, device=device)[:, None]
    columns = offsets[1, :, None, None] + torch.arange(width, device=device)
    image = torch.arange(count, device=device)[:, None, None] * padded.shape[1]
    pixels = ((image + rows) * padded.shape[2] + columns).flatten()
    shifted = padded.reshape(-1, channels).index_select(0, pixels)
    return shifted.view(count, height, width, channels).permute(0, 3, 1, 2)


def check_fits(data: LabelledSet, kind: str, shape: tuple[int, ...], classes: int) -> None:
    """Refuse rows that are not of the registered shape or labels that name no class.

    Raises: Malformed.
    """
    if tuple(data.inputs.shape[1:]) != model_shape(kind, shape):
        raise Malformed(f"inputs have the shape {tuple(data.inputs.shape[1:])}, not {model_shape(kind, shape)}")
    if not 0 <= int(data.labels.min()) <= int(data.labels.max()) < classes:
        raise Malformed(f"labels must lie between 0 and {classes - 1}")
