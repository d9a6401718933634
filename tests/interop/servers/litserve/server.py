"""LitServe: `server.py PORT`."""

import sys

import litserve as ls
import numpy as np
from net import digits


class Api(ls.LitAPI):
    """Pixels in, scores out."""

    def setup(self, device):
        """Load the network."""
        self.network = digits()

    def decode_request(self, request):
        """Take the pixels."""
        return np.asarray(request["input"])

    def predict(self, x):
        """Ask the network."""
        return self.network.probabilities(x)[0]

    def encode_response(self, output):
        """Give the scores."""
        return {"output": output}


if __name__ == "__main__":
    server = ls.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, num_api_servers=1)
