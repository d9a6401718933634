"""Measure three promises: memory of the API while 1 GiB streams in, time of `check` on 256 triggers, time of 65,536 labels.

    python -m benchmarks.promises [--quick]

Everything is real: the API is a process of its own with its own Postgres, the bundle comes from a dispute in which all
256 triggers were asked with ten covers each over HTTP, and `check` runs as a person runs it, in a fresh process without
torch, database or socket. The last line printed is one JSON object of the figures. `--quick` streams 128 MiB and asks with
two covers a trigger.
"""

import argparse
import json
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2

from app.canonical import sha256
from app.cli.agent import Agent
from app.cli.client import ApiClient, file_dispute, register_statement, register_vendor
from app.cli.vendor import make_statement
from app.demo.stage import Stage
from app.embedding.trigger_order import FamilyOrder
from app.keys.commitment import MarkingKey
from app.keys.cover_set import encode_cover_set
from app.keys.labels import draw_labels
from app.keys.trigger_set import ImageInput
from app.protocol.interface import BY_CLAIMANT, Interface
from app.protocol.records import FilingRecord, Policy

MIB = 1024 * 1024
SHAPE = (32, 32, 3)
TRIGGERS = 256


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a smaller honest run")
    quick = parser.parse_args().quick
    figures: dict[str, Any] = {"labels_65536_seconds": measure_labels()}
    print("labels of 65,536 triggers:", figures["labels_65536_seconds"], "s", flush=True)
    with tempfile.TemporaryDirectory() as name, Stage(Path(name)) as stage:
        stage.start_service()
        figures |= measure_streaming(stage, (128 if quick else 1024) * MIB)
        print("API while streaming:", figures, flush=True)
        figures |= measure_check(stage, covers=2 if quick else 10)
    print(json.dumps(figures, sort_keys=True))


def measure_labels() -> float:
    """Time the labels of the largest trigger set there can be."""
    key = MarkingKey(bytes(32), tuple(ImageInput(1, 1, 3, n.to_bytes(3, "big")).encode() for n in range(65_536)))
    started = time.perf_counter()
    draw_labels(key, sha256(b"salt"), 1000)
    return round(time.perf_counter() - started, 3)


def measure_streaming(stage: Stage, size_bytes: int) -> dict[str, Any]:
    """Upload so many random bytes and read the API's peak resident memory from the kernel."""
    client = _sign_up(stage)
    chunk = secrets.token_bytes(MIB)

    def chunks() -> Iterator[bytes]:
        for _ in range(size_bytes // MIB):
            yield chunk

    before = _peak_mib(stage)
    started = time.perf_counter()
    headers = {"Authorization": f"Bearer {client.api_key}", "Content-Type": "application/octet-stream"}
    with httpx2.Client(base_url=stage.url, trust_env=False, timeout=600) as http:
        http.post("/v1/artifacts", content=chunks(), headers=headers).raise_for_status()
    return {
        "streamed_mib": size_bytes // MIB,
        "stream_seconds": round(time.perf_counter() - started, 1),
        "api_peak_mib_before": before,
        "api_peak_mib": _peak_mib(stage),
    }


def _peak_mib(stage: Stage) -> int:
    status = Path(f"/proc/{stage.process_id('api')}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1024


def _sign_up(stage: Stage) -> ApiClient:
    with ApiClient(stage.url) as stranger:
        answer = register_vendor(stranger, "Measure Ltd", "measure@example.org", secrets.token_bytes(32))
    return ApiClient(stage.url, answer["api_key"])


class _Suspect(BaseHTTPRequestHandler):
    """A KServe v1 endpoint that always answers class 0; enough to be asked."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"predictions": [[0.91] + [0.01] * 9]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Stay silent."""


def measure_check(stage: Stage, covers: int) -> dict[str, Any]:
    """Run a whole class B dispute over 256 triggers, then time `check` of its bundle in fresh processes."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Suspect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    started = time.perf_counter()
    bundle = stage.folder / "bundle.zip"
    bundle.write_bytes(_dispute(stage, f"http://127.0.0.1:{server.server_port}", covers))
    dispute_seconds = time.perf_counter() - started
    server.shutdown()
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "app.cli", "check", str(bundle)], stdout=subprocess.DEVNULL, check=False)
        seconds.append(time.perf_counter() - started)
    return {
        "check_seconds": round(sorted(seconds)[2], 2),
        "check_triggers": TRIGGERS,
        "check_covers_per_trigger": covers,
        "bundle_mib": round(bundle.stat().st_size / MIB, 1),
        "dispute_seconds": round(dispute_seconds, 1),
    }


def _dispute(stage: Stage, endpoint: str, covers: int) -> bytes:
    private_key = secrets.token_bytes(32)
    height, width, channels = SHAPE
    pictures = [ImageInput(height, width, channels, secrets.token_bytes(32 * 32 * 3)).encode() for _ in range(TRIGGERS)]
    key = MarkingKey(secrets.token_bytes(32), tuple(pictures), tuple(n % 10 for n in range(TRIGGERS)))
    with ApiClient(stage.url) as stranger:
        answer = register_vendor(stranger, "Check Ltd", "check@example.org", private_key)
    with ApiClient(stage.url, answer["api_key"]) as client:
        classes = [str(n) for n in range(10)]
        statement = make_statement(key, client.log.origin, private_key, classes, [FamilyOrder("all", TRIGGERS)])
        entry_index = register_statement(client, statement, private_key)["entry_index"]
        cover_file = stage.folder / "covers.json"
        cover_file.write_bytes(encode_cover_set(pictures[:32]))
        interface = Interface(adapter="kserve_v1", options={"model": "m"}, preprocessing={}, label_map={"by": "index"})
        suspect = client.post("/v1/suspects", {"name": "s", "endpoint": endpoint, "interface": interface.to_json()})
        policy = Policy(
            bits=64,
            max_triggers=TRIGGERS,
            covers_per_trigger=covers,
            block_size=32,
            attempts=3,
            answer="first",
            opening_seconds=600,
            lookahead=1,
        )
        record = FilingRecord(
            registration=entry_index,
            family="all",
            endpoint=endpoint,
            interface=interface,
            interface_origin=BY_CLAIMANT,
            evidence="label",
            policy=policy,
        )
        time.sleep(2)  # the registration's beacon
        filed = file_dispute(client, suspect["id"], record, private_key, client.upload(cover_file, "application/json"))
        agent = Agent(client, key, lambda _: None)
        while client.get(f"/v1/disputes/{filed['id']}")["verdict"] is None:
            agent.answer_all()
            time.sleep(0.2)
        return client.download(f"/v1/disputes/{filed['id']}/evidence")


if __name__ == "__main__":
    main()
