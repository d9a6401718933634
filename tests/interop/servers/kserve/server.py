"""KServe, both of its protocols: `server.py PORT`."""

import sys

import kserve
import numpy as np
from kserve import InferOutput, InferRequest, InferResponse
from kserve.utils.utils import generate_uuid
from net import digits


class Model(kserve.Model):
    """Instances in, predictions out; tensors in, tensors out."""

    def load(self) -> bool:
        """Load the network."""
        self.network = digits()
        self.ready = True
        return True

    def predict(self, payload, headers=None, response_headers=None):
        """Answer either protocol."""
        if not isinstance(payload, InferRequest):
            return {"predictions": self.network.probabilities(payload["instances"])}
        scores = np.array(self.network.probabilities(payload.inputs[0].as_numpy()), dtype=np.float32)
        output = InferOutput(name="probabilities", shape=list(scores.shape), datatype="FP32")
        output.set_data_from_numpy(scores)
        return InferResponse(
            model_name=self.name,
            infer_outputs=[output],
            response_id=payload.id or generate_uuid(),
            requested_outputs=payload.request_outputs,
            use_binary_outputs=payload.use_binary_outputs,
        )


if __name__ == "__main__":
    model = Model("digits")
    model.load()
    kserve.ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, workers=1).start([model])
