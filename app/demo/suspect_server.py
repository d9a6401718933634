"""An ordinary model server: one network behind the KServe v1 protocol. It knows nothing of watermarks or disputes.

`python -m app.demo.suspect_server WEIGHTS NAME` prints its port and serves until its standard input closes.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch

from app.embedding.networks import MarkedNetwork, load_network

MAX_BODY_BYTES = 1024 * 1024


def predict(network: MarkedNetwork, body: bytes) -> list[list[float]]:
    """Answer a request body with a probability for each class: instances (H, W, C) of numbers 0..255."""
    instances = torch.tensor(json.loads(body)["instances"], dtype=torch.float32)
    with torch.no_grad():
        scores = network(instances.permute(0, 3, 1, 2) / 255).softmax(dim=1)
    return [[round(score, 6) for score in row] for row in scores.tolist()]


def make_handler(network: MarkedNetwork, path: str) -> type[BaseHTTPRequestHandler]:
    """Make the handler class of one model."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Without it every answer on a kept connection waits 40 ms for the peer's acknowledgement.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            size_bytes = int(self.headers.get("Content-Length", "0"))
            if self.path != path or not 0 < size_bytes <= MAX_BODY_BYTES:
                self._answer(404, {"error": "no such model"})
                return
            try:
                self._answer(200, {"predictions": predict(network, self.rfile.read(size_bytes))})
            except (ValueError, KeyError, TypeError, RuntimeError) as error:
                self._answer(400, {"error": type(error).__name__})

        def _answer(self, status: int, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            """Stay silent."""

    return Handler


def main() -> None:
    """Serve until standard input closes."""
    torch.set_num_threads(1)
    network = load_network(Path(sys.argv[1])).eval()
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(network, f"/v1/models/{sys.argv[2]}:predict"))
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
