"""A receiver of webhooks, with knobs: what it answers, how slowly, where it sends one on to."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What is answered to one message."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    after_seconds: float = 0.0


@dataclass(frozen=True)
class Got:
    """One message as it came; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float


class Receiver:
    """A running receiver; `reply` is called with the number of the message (0, 1, …)."""

    def __init__(self, reply: Callable[[int], Reply] = lambda _: Reply()) -> None:
        self.reply = reply
        self.got: list[Got] = []
        self._arrived = threading.Condition()

    def __enter__(self) -> "Receiver":
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with receiver._arrived:
                    number = len(receiver.got)
                    receiver.got.append(Got(self.path, headers, body, time.monotonic()))
                    receiver._arrived.notify_all()
                reply = receiver.reply(number)
                if reply.after_seconds and receiver._closing.wait(reply.after_seconds):
                    return
                self.send_response(reply.status)
                for name, value in {"content-length": str(len(reply.body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *_: Any) -> None:
                """Stay silent."""

        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, count: int, seconds: float = 60.0) -> list[Got]:
        """Wait until so many messages have come, and give them."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.got) >= count, seconds), f"{len(self.got)} of {count}"
            return list(self.got)
