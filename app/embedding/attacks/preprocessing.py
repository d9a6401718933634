"""Input preprocessing: a thief changes every input on its way to the stolen network, which stays as it is.

Images are (N, C, H, W) uint8 in and out.

Invariants: the same seed gives the same noise; the given images are not changed.
Source: Guo et al. 2018 (input transformations); Lukas et al. 2022 (input reconstruction, noising, JPEG).
"""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from app.embedding.data import seeded


def preprocess(images: Tensor, kind: str, number: int, seed: int) -> Tensor:
    """Give the images as the network behind the preprocessing sees them."""
    return PREPROCESSING[kind](images, number, seed)


def _jpeg(images: Tensor, quality: int, _seed: int) -> Tensor:
    """Write and read each image as JPEG."""
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()  # (N, H, W, C)
    decoded = np.stack([_through_jpeg(image, quality) for image in pixels])
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).contiguous().to(images.device)


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as decoded:
        return np.asarray(decoded, dtype=np.uint8).reshape(image.shape)


def _noise(images: Tensor, deviation: int, seed: int) -> Tensor:
    """Add Gaussian noise; `deviation` in steps of a pixel's 256."""
    noise = torch.randn(images.shape, generator=seeded(seed)).to(images.device) * deviation
    return _to_pixels(images.float() + noise)


def _resize(images: Tensor, percent: int, _seed: int) -> Tensor:
    """Scale down to a share of the side and up again."""
    height, width = images.shape[2:]
    small = (max(1, height * percent // 100), max(1, width * percent // 100))
    values = interpolate(images.float().cpu(), small, mode="bilinear", antialias=True)
    return _to_pixels(interpolate(values, (height, width), mode="bilinear")).to(images.device)


def _median(images: Tensor, _number: int, _seed: int) -> Tensor:
    """Take the median of each pixel's 3x3 neighbourhood."""
    padded = pad(images.float(), (1, 1, 1, 1), mode="replicate")
    around = padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)  # (N, C, H, W, 9)
    return _to_pixels(around.sort(dim=4).values[..., 4])


def _to_pixels(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


PREPROCESSING: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "jpeg": _jpeg,
    "noise": _noise,
    "resize": _resize,
    "median": _median,
}
