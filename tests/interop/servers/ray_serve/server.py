"""Ray Serve: a deployment that reads the picture out of the request's body, `server.py PORT`."""

import sys
import time

import ray
from net import CLASSES, digits
from ray import serve
from starlette.requests import Request


@serve.deployment
class Digits:
    """Pictures in, scores by label out."""

    def __init__(self) -> None:
        """Load the network."""
        self.network = digits()

    async def __call__(self, request: Request) -> dict[str, float]:
        """Answer one picture."""
        return dict(zip(CLASSES, self.network.of_picture(await request.body()), strict=True))


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", object_store_memory=100 * 1024**2)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Digits.bind(), name="digits", route_prefix="/")
    while True:
        time.sleep(60)
