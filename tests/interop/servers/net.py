"""The network behind every server of these tests, as whoever was handed the weights would write it: no Trapstreet in it."""

import io
import os
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

CLASSES = [str(label) for label in range(10)]


class Digits:
    """A perceptron over 8x8 grey pictures, its normalisation inside."""

    def __init__(self, path: str) -> None:
        """Read the weights."""
        torch.set_num_threads(1)
        self.weights = load_file(Path(path))

    def probabilities(self, pixels: np.ndarray) -> list[list[float]]:
        """Answer pixels (N, 8, 8, 1), 0 to 255, with a probability for each class."""
        with torch.no_grad():
            inputs = torch.tensor(np.asarray(pixels, dtype=np.float32)).reshape(-1, 1, 8, 8) / 255
            hidden = ((inputs - self.weights["normalise.mean"]) / self.weights["normalise.std"]).flatten(1)
            for layer in ("body.1", "body.3", "body.5"):
                if layer != "body.1":
                    hidden = hidden.relu()
                hidden = hidden @ self.weights[f"{layer}.weight"].T + self.weights[f"{layer}.bias"]
            return hidden.softmax(dim=1).tolist()

    def of_picture(self, data: bytes) -> list[float]:
        """Answer a picture file."""
        from PIL import Image

        with Image.open(io.BytesIO(data)) as picture:
            return self.probabilities(np.asarray(picture.convert("L")))[0]


def digits() -> Digits:
    """Load the network that the environment names."""
    return Digits(os.environ["DIGITS_WEIGHTS"])
