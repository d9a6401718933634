"""BentoML: a method for a picture and a method for numbers."""

import io

import bentoml
import numpy as np
from net import digits
from PIL.Image import Image


@bentoml.service
class Digits:
    """Two ways to ask the same network."""

    def __init__(self) -> None:
        """Load the network."""
        self.network = digits()

    @bentoml.api
    def predict(self, image: Image) -> list[float]:
        """Answer a picture with scores."""
        data = io.BytesIO()
        image.save(data, format="PNG")
        return self.network.of_picture(data.getvalue())

    @bentoml.api
    def classify(self, images: np.ndarray) -> list[str]:
        """Answer pixels with the highest class of each."""
        return [str(int(np.argmax(row))) for row in self.network.probabilities(images)]
