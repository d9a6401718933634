"""An endpoint under dispute, with knobs: what it answers, how slowly, and what it does wrong.

A plain threaded HTTP/1.1 server of the standard library, with kept connections. `answer` is called with the canonical
bytes of the input it was asked about and gives scores, one label, a list of labels, or None to abstain.
"""

import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from app.errors import Malformed
from app.protocol.interface import Interface
from app.suspects.adapters import load_adapter

Answer = list[float] | list[str] | str | int | None

# What the endpoint may do wrong; `faulty` says when.
FAULTS = frozenset(
    {
        "status_500",
        "status_503",
        "redirect",
        "hang",
        "drip",
        "endless",
        "gzip",
        "not_json",
        "too_deep",
        "wrong_count",
        "nan_score",
        "drop",
        "cut_short",
        "not_http",
        "cookie",
    }
)

OPTIONS: dict[str, dict[str, Any]] = {
    "kserve_v1": {"model": "digits"},
    "oip_v2": {"model": "digits"},
    "mlflow": {},
    "huggingface": {},
    "generic_json": {"template": {"image": {"$input": "pixels_nested"}}, "path": "result", "result": "scores"},
}


@dataclass(frozen=True)
class SeenRequest:
    """One request as the suspect saw it; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes
    client: tuple[str, int]
    # When its headers had come, in seconds of the monotonic clock; the header lines as they came, in their order.
    moment: float = 0.0
    header_lines: tuple[str, ...] = ()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    simulator: "SuspectSimulator"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: our faults and the service's cut-offs break connections on purpose."""


class SuspectSimulator:
    """A running endpoint; use it as a context manager and ask at `url`."""

    def __init__(
        self,
        answer: Callable[[bytes], Answer],
        *,
        kind: str = "image",
        shape: tuple[int, ...] = (8, 8, 1),
        protocol: str = "kserve_v1",
        options: dict[str, Any] | None = None,
        preprocessing: dict[str, Any] | None = None,
        latency_seconds: float = 0.0,
        fault: str = "",
        faulty: Callable[[bytes, int], bool] = lambda question, ordinal: True,
        rate_limit: tuple[int, float] | None = None,
        rate_status: int = 429,
        retry_after: str = "1",
        at_once: int | None = None,
        crash_after: int | None = None,
        key: str = "",
        location: str = "/elsewhere",
        redirect: int = 307,
        metadata: dict[str, Any] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare the endpoint.

        `faulty(question, ordinal)` says for which requests (0, 1, …) the `fault` happens; `rate_limit` is (requests,
        seconds), beyond which it answers 429 (`rate_status`) with `retry_after`, as to more than `at_once` requests at
        a time; after `crash_after` requests it is gone for good; without `key` as their `authorization` all get 401;
        `metadata` is what it answers to a GET, by path. What is no question in its protocol gets a 400.
        """
        assert not fault or fault in FAULTS
        self.answer = answer
        self.kind = kind
        self.shape = shape
        self.interface = Interface(
            adapter=protocol,
            options=OPTIONS[protocol] if options is None else options,
            preprocessing=preprocessing or {},
            label_map={"by": "index"},
        )
        self.latency_seconds = latency_seconds
        self.fault = fault
        self.faulty = faulty
        self.rate_limit = rate_limit
        self.rate_status = rate_status
        self.retry_after = retry_after
        self.places = threading.Semaphore(at_once or 1_000_000)
        self.crash_after = crash_after
        self.key = key
        # What it writes where it answers with an error.
        self.error_body = b"<html>"
        self.location = location
        self.redirect = redirect
        self.metadata = metadata or {}
        self.requests: list[SeenRequest] = []
        self.connections: set[tuple[str, int]] = set()
        self.closing = threading.Event()
        self._times: list[float] = []
        self._lock = threading.Lock()
        self._tls = tls

    def __enter__(self) -> "SuspectSimulator":
        """Start serving on a free loopback port."""
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.simulator = self
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop serving."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """The endpoint's base URL."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def note(self, seen: SeenRequest) -> int:
        """Remember a request and give its ordinal."""
        with self._lock:
            self.requests.append(seen)
            return len(self.requests) - 1

    def is_over_rate(self) -> bool:
        """Say whether this request is one too many."""
        if self.rate_limit is None:
            return False
        allowed, seconds = self.rate_limit
        with self._lock:
            moment = time.monotonic()
            self._times = [then for then in self._times if then > moment - seconds]
            if len(self._times) >= allowed:
                return True
            self._times.append(moment)
            return False

    def question_of(self, body: bytes) -> bytes:
        """Read the canonical input out of a request's body."""
        adapter = load_adapter(self.interface.adapter)
        return adapter.decode_request(
            self.interface.options, self.interface.preprocessing, body, kind=self.kind, shape=self.shape
        )

    def response_to(self, answer: Answer) -> bytes:
        """Write an answer as this protocol does."""
        match self.interface.adapter:
            case "kserve_v1" | "mlflow":
                return json.dumps({"predictions": [answer]}).encode()
            case "huggingface":
                return json.dumps([{"label": answer, "score": 0.9}]).encode()
            case "generic_json":
                return json.dumps({"result": answer}).encode()
            case _:
                return json.dumps({"model_name": "digits", "outputs": [_tensor(answer)]}).encode()


def _tensor(answer: Answer) -> dict[str, Any]:
    data = answer if isinstance(answer, list) else [answer]
    datatype = {str: "BYTES", int: "INT64"}.get(type(data[0]), "FP32")
    return {"name": "output", "shape": [1, len(data)], "datatype": datatype, "data": data}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Header and body leave in one segment: two would wait 40 ms for each other.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *args: Any) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        simulator = self.server.simulator
        moment = time.monotonic()
        body = self.rfile.read(int(self.headers["content-length"]))
        simulator.connections.add(self.client_address)
        lines = tuple(f"{name}: {value}" for name, value in self.headers.items())
        seen = SeenRequest(self.path, self.lower_headers(), body, self.client_address, moment, lines)
        ordinal = simulator.note(seen)
        if simulator.crash_after is not None and ordinal >= simulator.crash_after:
            self.close_connection = True
        elif simulator.key and self.headers["authorization"] != simulator.key:
            self.reply(401, b'{"error":"who are you?"}')
        elif simulator.is_over_rate() or not simulator.places.acquire(blocking=False):
            self.reply(simulator.rate_status, b'{"error":"slow down"}', {"retry-after": simulator.retry_after})
        else:
            try:
                self.answer(body, ordinal)
            finally:
                simulator.places.release()

    def answer(self, body: bytes, ordinal: int) -> None:
        simulator = self.server.simulator
        simulator.closing.wait(simulator.latency_seconds)
        try:
            question = simulator.question_of(body)
        except Malformed:
            self.reply(400, b'{"error":"not a question of mine"}')
            return
        if simulator.fault and simulator.faulty(question, ordinal):
            getattr(self, f"fault_{simulator.fault}")(question)
        else:
            self.reply(200, simulator.response_to(simulator.answer(question)))

    def do_GET(self) -> None:
        simulator = self.server.simulator
        simulator.note(SeenRequest(self.path, self.lower_headers(), b"", self.client_address))
        if self.path in simulator.metadata:
            self.reply(200, json.dumps(simulator.metadata[self.path]).encode())
        else:
            self.reply(404, b"{}")

    def lower_headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def fault_status_500(self, question: bytes) -> None:
        self.reply(500, self.server.simulator.error_body)

    def fault_status_503(self, question: bytes) -> None:
        self.reply(503, b"")

    def fault_redirect(self, question: bytes) -> None:
        self.reply(
            self.server.simulator.redirect,
            self.server.simulator.error_body,
            {"location": self.server.simulator.location},
        )

    def fault_hang(self, question: bytes) -> None:
        self.server.simulator.closing.wait()
        self.close_connection = True

    def fault_drip(self, question: bytes) -> None:
        self.start_body({"content-length": "1000000"})
        while not self.server.simulator.closing.wait(0.05):
            self.wfile.write(b" ")
            self.wfile.flush()

    def fault_endless(self, question: bytes) -> None:
        self.start_body({"transfer-encoding": "chunked"})
        while not self.server.simulator.closing.is_set():
            self.wfile.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")
            self.wfile.flush()

    def fault_gzip(self, question: bytes) -> None:
        self.reply(200, b"\x1f\x8b" + bytes(100), {"content-encoding": "gzip"})

    def fault_not_json(self, question: bytes) -> None:
        self.reply(200, self.server.simulator.error_body)

    def fault_too_deep(self, question: bytes) -> None:
        self.reply(200, b"[" * 30_000 + b"]" * 30_000)

    def fault_wrong_count(self, question: bytes) -> None:
        self.reply(200, self.server.simulator.response_to([0.1, 0.2]))

    def fault_nan_score(self, question: bytes) -> None:
        self.reply(200, self.server.simulator.response_to([float("nan")] * 10))

    def fault_drop(self, question: bytes) -> None:
        self.close_connection = True

    def fault_cut_short(self, question: bytes) -> None:
        self.start_body({"content-length": "1000"})
        self.close_connection = True

    def fault_not_http(self, question: bytes) -> None:
        self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        self.close_connection = True

    def fault_cookie(self, question: bytes) -> None:
        simulator = self.server.simulator
        self.reply(
            200,
            simulator.response_to(simulator.answer(question)),
            {"set-cookie": f"track={simulator.error_body.decode()}; Path=/"},
        )

    def start_body(self, headers: dict[str, str]) -> None:
        self.send_response_only(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"")
        self.wfile.flush()
