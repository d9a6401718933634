"""TorchServe's handler: pictures answered by labels with probabilities, pixels by scores."""

import os
from pathlib import Path

import numpy as np
from net import CLASSES, digits


class Handler:
    """One network for both kinds of request."""

    def initialize(self, context) -> None:
        """Load the network; its weights lie in the archive."""
        os.environ["DIGITS_WEIGHTS"] = str(Path(context.system_properties["model_dir"]) / "digits.safetensors")
        self.network = digits()

    def handle(self, data, context):
        """Answer a batch."""
        return [self.answer(row.get("data") or row.get("body")) for row in data]

    def answer(self, body):
        """Answer one request."""
        if isinstance(body, bytes | bytearray):
            return dict(zip(CLASSES, self.network.of_picture(bytes(body)), strict=True))
        return self.network.probabilities(np.asarray(body))[0]
