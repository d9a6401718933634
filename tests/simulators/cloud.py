"""Cloud services as their documentation describes their wire form: keys, headers, bodies, answers, and answers later.

Nothing here uses the adapters: pictures are read by Pillow and JSON by hand, so that an adapter that speaks wrongly is
refused here as it would be there. Each service serves one classifier of ten classes; `answer` gives its scores for the
pixels that arrived.
"""

import base64
import io
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

TOKEN = "Bearer hush"
NAMES = [f"class {index}" for index in range(10)]
VERSION = "5c7d5dc6dd8bf75c1acaa8565735e7986bc5b66206b55cca93cb72c9bf15ccaa"


class Wrong(Exception):
    """The service refuses a request with this status."""

    def __init__(self, status: int, message: str) -> None:
        """Say why."""
        super().__init__(message)
        self.status = status


def pixels_of(data: bytes) -> bytes:
    """Read a picture as a service would, whatever its format."""
    with Image.open(io.BytesIO(data)) as picture:
        return picture.tobytes()


def pixels_of_text(text: str) -> bytes:
    """Read a picture in base64."""
    return pixels_of(base64.b64decode(text, validate=True))


def require(is_met: bool, status: int, message: str) -> None:
    """Refuse the request unless this holds."""
    if not is_met:
        raise Wrong(status, message)


def ranked(scores: list[float]) -> list[tuple[str, float]]:
    """Pair names and scores, highest first."""
    return sorted(zip(NAMES, scores, strict=True), key=lambda pair: -pair[1])


class CloudService:
    """One service at `url`; use it as a context manager. `seen` is what was asked: method, path and headers.

    All who ask at the same time must ask in the same way: what `read` finds out about that is kept for `write`.
    """

    path = ""

    def __init__(self, answer: Callable[[bytes], list[float]]) -> None:
        """Serve this classifier."""
        self.answer = answer
        self.seen: list[tuple[str, str, dict[str, str]]] = []

    def __enter__(self) -> "CloudService":
        """Start serving on a free loopback port."""
        service = self

        class Handler(_Handler):
            cloud = service

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """The URL that the service's console would show."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{self.path}"

    def respond(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        """Answer a request, or raise Wrong."""
        require(headers.get("authorization") == TOKEN, 401, "no token")
        require((method, path) == ("POST", self.path), 404, "no such route")
        return 200, self.write(self.answer(self.read(headers, body)))

    def read(self, headers: dict[str, str], body: bytes) -> bytes:
        """Read the pixels out of a request, or raise Wrong."""
        raise NotImplementedError

    def write(self, scores: list[float]) -> Any:
        """Write the answer."""
        raise NotImplementedError


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    cloud: CloudService

    def log_message(self, *args: Any) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers["content-length"])))

    def do_GET(self) -> None:
        self._serve(b"")

    def _serve(self, body: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.cloud.seen.append((self.command, self.path, headers))
        try:
            status, response = self.cloud.respond(self.command, self.path, headers, body)
        except Wrong as wrong:
            status, response = wrong.status, {"error": str(wrong)}
        data = json.dumps(response).encode()
        self.send_response_only(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()


class HuggingFace(CloudService):
    """The first `top_k` labels, five unless asked; `loading` requests find the model not loaded yet."""

    path = "/hf-inference/models/owner/classifier"
    loading = 0

    def respond(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        """Say that the model is loading, or answer."""
        if len(self.seen) <= self.loading:
            return 503, {"error": "Model owner/classifier is currently loading", "estimated_time": 20.0}
        return super().respond(method, path, headers, body)

    def read(self, headers: dict[str, str], body: bytes) -> bytes:
        """Take raw bytes, or base64 with parameters."""
        self.top_k = 5
        if headers["content-type"].startswith("image/"):
            return pixels_of(body)
        require(headers["content-type"] == "application/json", 415, "content type")
        request = json.loads(body)
        require(set(request) <= {"inputs", "parameters"}, 422, "unknown field")
        self.top_k = request.get("parameters", {}).get("top_k", 5)
        return pixels_of_text(request["inputs"])

    def write(self, scores: list[float]) -> Any:
        """Give labels and scores."""
        return [{"label": label, "score": score} for label, score in ranked(scores)[: self.top_k]]


class SageMaker(CloudService):
    """A container of the built-in algorithm, or one that takes numbers, behind one endpoint with two variants."""

    path = "/endpoints/digits/invocations"

    def read(self, headers: dict[str, str], body: bytes) -> bytes:
        """Take a picture, or instances."""
        variant = headers.get("x-amzn-sagemaker-target-variant", "AllTraffic")
        require(variant in ("AllTraffic", "Canary"), 400, "variant not found")
        self.is_json = headers["content-type"] == "application/json"
        if not self.is_json:
            require(headers["content-type"] in ("image/png", "image/jpeg", "application/x-image"), 415, "content type")
            return pixels_of(body)
        (instance,) = json.loads(body)["instances"]
        return bytes(pixel for row in instance for column in row for pixel in column)

    def write(self, scores: list[float]) -> Any:
        """Give the scores as the container does."""
        return {"predictions": [scores]} if self.is_json else scores


class Vertex(CloudService):
    """An AutoML image model."""

    path = "/v1/projects/1/locations/us-central1/endpoints/2:predict"

    def read(self, headers: dict[str, str], body: bytes) -> bytes:
        """Take one instance with its parameters."""
        require(headers["content-type"] == "application/json", 400, "content type")
        request = json.loads(body)
        self.parameters = request.get("parameters", {})
        require(set(self.parameters) <= {"confidenceThreshold", "maxPredictions"}, 400, "unknown parameter")
        (instance,) = request["instances"]
        return pixels_of_text(instance["content"])

    def write(self, scores: list[float]) -> Any:
        """Give three arrays, cut off as asked."""
        pairs = [pair for pair in ranked(scores) if pair[1] >= self.parameters.get("confidenceThreshold", 0)]
        pairs = pairs[: self.parameters.get("maxPredictions", 10)]
        prediction = {
            "ids": [str(hash(label) % 10**6) for label, _ in pairs],
            "displayNames": [label for label, _ in pairs],
            "confidences": [score for _, score in pairs],
        }
        return {"predictions": [prediction], "deployedModelId": "7", "model": "projects/1/locations/us/models/3"}


class AzureML(CloudService):
    """An AutoML model, with the deployments `blue` and `green` behind one endpoint."""

    path = "/score"

    def read(self, headers: dict[str, str], body: bytes) -> bytes:
        """Take a table of one column."""
        require(headers.get("azureml-model-deployment", "blue") in ("blue", "green"), 404, "no such deployment")
        require(headers["content-type"] == "application/json", 415, "content type")
        table = json.loads(body)["input_data"]
        require(table["columns"] == ["image"], 400, "one column, `image`")
        (cell,) = table["data"]
        return pixels_of_text(cell)

    def write(self, scores: list[float]) -> Any:
        """Give labels and probabilities, in the order of the classes."""
        return [{"filename": "/tmp/x", "probs": scores, "labels": NAMES, "visualizations": None, "attributions": None}]


class Roboflow(CloudService):
    """A single-label model, or one with several labels at once."""

    path = "/digits/3"
    is_multi_label = False

    def read(self, headers: dict[str, str], body: bytes) -> bytes:
        """Take base64 that calls itself a form."""
        require(headers["content-type"] == "application/x-www-form-urlencoded", 400, "content type")
        return pixels_of_text(body.decode())

    def write(self, scores: list[float]) -> Any:
        """Give the predictions of either kind of model."""
        pairs = ranked(scores)
        if self.is_multi_label:
            predictions = {label: {"confidence": score, "class_id": 0} for label, score in sorted(pairs)}
            return {"time": 0.1, "predictions": predictions, "predicted_classes": [pairs[0][0]]}
        items = [{"class": label, "class_id": 0, "confidence": score} for label, score in pairs]
        return {"time": 0.1, "predictions": items, "top": pairs[0][0], "confidence": pairs[0][1]}


class Replicate(CloudService):
    """A community model whose predictions are finished only when they were looked at `looks` times.

    Each answer names a URL to look at; whoever follows it is counted in `lured`.
    """

    looks = 2
    ends_as = "succeeded"
    lured = 0

    def __init__(self, answer: Callable[[bytes], list[float]]) -> None:
        """Begin without predictions."""
        super().__init__(answer)
        self.predictions: dict[str, tuple[int, Any]] = {}
        self.inputs: dict[str, Any] = {}

    def respond(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        """Create a prediction or look at one."""
        require(headers.get("authorization") == TOKEN, 401, "no token")
        if method == "POST":
            return self.create(path, headers, body)
        if path.startswith("/lure/"):
            self.lured += 1
        name = path.removeprefix("/v1/predictions/")
        require(name in self.predictions, 404, "no such prediction")
        left, output = self.predictions[name]
        self.predictions[name] = (left - 1, output)
        return 200, self.show(name, left - 1, output)

    def create(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        """Begin a prediction."""
        require(path == "/v1/predictions", 404, "no such route")
        require(headers["content-type"] == "application/json" and headers["prefer"].startswith("wait"), 400, "headers")
        request = json.loads(body)
        require(set(request) == {"version", "input"} and request["version"] == VERSION, 422, "no such version")
        start, _, text = request["input"]["image"].partition(",")
        require(start == "data:image/png;base64", 422, "input.image: must be a URI")
        output = dict(ranked(self.answer(pixels_of_text(text))))
        name = f"gm3qorzdhgbfurvjtv{len(self.predictions):08}"
        self.predictions[name] = (self.looks, output)
        self.inputs[name] = request["input"]
        return 201, self.show(name, self.looks, output)

    def show(self, name: str, left: int, output: Any) -> Any:
        """Write a prediction as it stands."""
        status = self.ends_as if left <= 0 else ("processing" if left < self.looks else "starting")
        return {
            "id": name,
            "version": VERSION,
            "input": self.inputs[name],
            "status": status,
            "output": output if status == "succeeded" else None,
            "error": "out of memory" if status == "failed" else None,
            "urls": {"get": f"{self.url}/lure/{name}", "cancel": f"{self.url}/lure/{name}/cancel"},
        }
