"""The endpoint of the probing benchmark, a process of its own: `python -m benchmarks.probing_suspect`.

A KServe v1 server on one event loop, so that what is measured is who asks and not who answers. It reads commands from
standard input, one JSON object a line: {"labels": {sha256 of a request's body: class}} names the triggers, of which it
matches exactly every fourth that it meets, {"met": {}} forgets which it met; {"latency_seconds": s, "limit": n} say how
slow it is, and how many requests it serves at once: one more gets 429. It answers each command with a line. Every other
request gets a class that follows from its bytes.
"""

import asyncio
import hashlib
import json
import sys
from dataclasses import dataclass, field

CLASSES = 10


@dataclass
class Suspect:
    """What the endpoint knows and how it behaves."""

    labels: dict[str, int] = field(default_factory=dict)
    met: dict[str, int] = field(default_factory=dict)
    latency_seconds: float = 0.0
    limit: int = 1_000
    serving: int = 0
    refused: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        while head := await _read_head(reader):
            body = await reader.readexactly(_length(head))
            if self.serving >= self.limit:
                self.refused += 1
                writer.write(b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n")
                continue
            self.serving += 1
            if self.latency_seconds:
                await asyncio.sleep(self.latency_seconds)
            self.serving -= 1
            answer = self._answer(body)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
            writer.write(b"content-length: %d\r\n\r\n%b" % (len(answer), answer))
        writer.close()

    def _answer(self, body: bytes) -> bytes:
        digest = hashlib.sha256(body).hexdigest()
        chosen = self._class_of(digest)
        scores = [0.91 if number == chosen else 0.01 for number in range(CLASSES)]
        return json.dumps({"predictions": [scores]}).encode()

    def _class_of(self, digest: str) -> int:
        if (label := self.labels.get(digest)) is None:
            return int(digest[:8], 16) % CLASSES
        place = self.met.setdefault(digest, len(self.met))
        return label if place % 4 == 0 else (label + 1) % CLASSES


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def _length(head: bytes) -> int:
    line = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return int(line.partition(b":")[2])


async def main() -> None:
    """Serve until standard input closes."""
    suspect = Suspect()
    server = await asyncio.start_server(suspect.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        for name, value in json.loads(line).items():
            setattr(suspect, name, value)
        print(suspect.refused, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
