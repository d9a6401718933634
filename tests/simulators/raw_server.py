"""A server that writes whatever bytes a test wants, to show what the service makes of them."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator

# What the server writes, a piece at a time; an iterator may wait or never end.
Script = Callable[[threading.Event], Iterable[bytes]]


class RawServer:
    """Read one request a connection, write a script, close; use it as a context manager."""

    def __init__(self, script: Script, *, reset: bool = False) -> None:
        self.script = script
        self.reset = reset
        self.requests: list[bytes] = []
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> "RawServer":
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._start(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        # Closing alone does not wake a thread that accepts.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join()

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._start(self._answer, self._socket.accept()[0])

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        with connection, contextlib.suppress(OSError):
            self.requests.append(_read_request(connection))
            for piece in self.script(self._closing):
                if self._closing.is_set():
                    return
                connection.sendall(piece)
            if self.reset:
                # Linger for no time: the connection ends with RST instead of FIN.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def _read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (piece := connection.recv(65_536)):
            return data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    wanted = int(lengths[0].split(b":")[1]) if lengths else 0
    while len(body) < wanted and (piece := connection.recv(65_536)):
        body += piece
    return head + b"\r\n\r\n" + body


def always(data: bytes) -> Script:
    """Write these bytes at once."""
    return lambda closing: [data]


def forever(first: bytes, then: bytes, *, every_seconds: float = 0.0) -> Script:
    """Write a beginning, and then the same again until nobody reads it."""

    def script(closing: threading.Event) -> Iterator[bytes]:
        yield first
        while not closing.wait(every_seconds):
            yield then

    return script


def response(body: bytes, *, status: str = "200 OK", headers: bytes = b"", length: bytes | None = None) -> Script:
    """Write a response with a body, and a length that may lie."""
    stated = str(len(body)).encode() if length is None else length
    return always(
        b"HTTP/1.1 " + status.encode() + b"\r\ncontent-length: " + stated + b"\r\n" + headers + b"\r\n" + body
    )


def chunked(body: bytes) -> Script:
    """Write a response whose body is said to come in chunks, as given."""
    return always(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body)
