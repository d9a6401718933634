"""MLServer's model; settings are in the environment."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from net import digits


class Model(MLModel):
    """Tensors in, tensors out."""

    async def load(self) -> bool:
        """Load the network."""
        self.network = digits()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer the first input."""
        pixels = NumpyCodec.decode_input(payload.inputs[0])
        scores = np.array(self.network.probabilities(pixels), dtype=np.float32)
        output = NumpyCodec.encode_output("probabilities", scores)
        return InferenceResponse(model_name=self.name, outputs=[output])
