"""A service that lies: hands every request on to the real one, and changes what comes back.

`lie(path, body)` turns the real service's answer into the one that is given, and `status(path)` may give another status;
until they are set, everything passes untouched. `sent` are the paths that something was sent to: what an agent gave away.
"""

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Lie = Callable[[str, bytes], bytes]


def truth(_path: str, body: bytes) -> bytes:
    """Change nothing."""
    return body


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    service: "LyingService"


class LyingService:
    """A running proxy before the service at `url`; use it as a context manager and ask at `url`."""

    def __init__(self, url: str) -> None:
        """Prepare the proxy; it says the truth until `lie` is set."""
        self.upstream = urlsplit(url)
        self.lie: Lie = truth
        self.status: Callable[[str], int | None] = lambda path: None
        self.sent: list[str] = []

    def __enter__(self) -> "LyingService":
        """Start serving on a free loopback port."""
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.service = self
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
        """The address at which it lies."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        """Ask the real service; give status, media type and body."""
        connection = http.client.HTTPConnection(self.upstream.hostname or "", self.upstream.port, timeout=30)
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers["content-type"], answer.read()
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Header and body leave in one segment: two would wait 40 ms for each other.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *args: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self.hand_on(b"")

    def do_POST(self) -> None:
        self.server.service.sent.append(self.path)
        self.hand_on(self.rfile.read(int(self.headers["content-length"])))

    def hand_on(self, body: bytes) -> None:
        service = self.server.service
        kept = ("authorization", "content-type")
        headers = {name: value for name, value in self.headers.items() if name.lower() in kept}
        status, media_type, answer = service.ask(self.command, self.path, headers, body)
        answer = service.lie(self.path, answer)
        self.send_response_only(service.status(self.path) or status)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.wfile.flush()
