"""What it costs to ask with evidence: a dispute's wall time over that of a bare client that sends the same bytes.

    python -m benchmarks.probing [--quick]

Everything is real: API, Postgres, light worker and agent are processes of their own, the endpoint is another. A dispute asks
256 triggers with their look-alikes and ten covers each; then a bare concurrent client sends the same request bodies in the
same order over as many connections, and nothing else: no records, no log, no labels. Both take turns. The endpoint matches
exactly every fourth trigger that it meets, so neither rule ends the walk early. Wall time of a dispute is from its filing to
the labels of its last block; the verdict is not asking and is timed apart.
Last line: one JSON object. Results: benchmarks/results/probing.json, the table in docs/benchmarks.md.
"""

import argparse
import asyncio
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Self

import httpx2
import torch

from app.canonical import sha256
from app.cli.client import ApiClient, file_dispute, register_statement, register_vendor
from app.cli.vendor import make_statement
from app.demo.stage import Stage
from app.embedding.trigger_order import FamilyOrder
from app.keys.commitment import MarkingKey
from app.keys.cover_set import encode_cover_set
from app.keys.key_file import encode_key_file
from app.keys.labels import draw_labels, salt_of
from app.keys.trigger_set import ImageInput, parse_input
from app.protocol.assessment import beacon_value, expect
from app.protocol.interface import BY_CLAIMANT, Interface
from app.protocol.records import BeaconEntry, FilingRecord, Policy
from app.protocol.transcript import AskedQuery
from app.storage.archive import unpack
from app.suspects.adapters import load_adapter
from app.suspects.transport import Limits
from benchmarks.results import keep, machine, print_figures, say, table, write_section

CLASSES = tuple(str(number) for number in range(10))
SHAPE = (32, 32, 3)
COVERS_PER_TRIGGER, BLOCK_SIZE = 10, 32
INTERFACE = Interface(adapter="kserve_v1", options={"model": "m"}, preprocessing={}, label_map={"by": "index"})

# An endpoint that answers as fast as it can, and one that takes 50 ms and refuses a ninth request at once.
FAST = {"latency_seconds": 0.0, "limit": 1_000}
SLOW = {"latency_seconds": 0.05, "limit": 8}

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Scale:
    """How much is asked, and how often each is measured."""

    name: str
    triggers: int
    rounds: int


FULL, QUICK = Scale("full", 256, 3), Scale("quick", 64, 2)


class Endpoint:
    """The benchmark's suspect, running; use as a context manager."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.probing_suspect"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.url = f"http://127.0.0.1:{self._line()}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def tell(self, command: dict[str, Any]) -> int:
        """Change how it answers; give how many requests it has refused."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


@dataclass(frozen=True)
class Asked:
    """One dispute: seconds of asking and of deciding, and the request bodies in the order in which they were sent."""

    seconds: float
    decision_seconds: float
    bodies: tuple[bytes, ...]
    report: dict[str, Any]


class Claimant:
    """A vendor with as many families as there are disputes to come, and an agent that answers for them."""

    def __init__(self, stage: Stage, scale: Scale, disputes: int) -> None:
        self.stage, self.scale = stage, scale
        self.private_key = secrets.token_bytes(32)
        self.families = [f"family {number}" for number in range(disputes)]
        self.key = MarkingKey(secrets.token_bytes(32), tuple(_picture() for _ in range(disputes * scale.triggers)))
        with ApiClient(stage.url) as stranger:
            self.api_key = register_vendor(stranger, "Bench Ltd", "bench@example.org", self.private_key)["api_key"]
            self.log_key = stranger.text("/v1/log/key").strip()
        self.client = ApiClient(stage.url, self.api_key)
        families = [FamilyOrder(name, scale.triggers) for name in self.families]
        statement = make_statement(self.key, self.client.log.origin, self.private_key, list(CLASSES), families)
        self.statement = statement
        self.entry_index = register_statement(self.client, statement, self.private_key)["entry_index"]
        covers = stage.folder / "covers.json"
        covers.write_bytes(encode_cover_set([_picture() for _ in range(COVERS_PER_TRIGGER * scale.triggers)]))
        self.covers = self.client.upload(covers, "application/json")
        self.key_file = stage.folder / "marking.key"
        self.key_file.write_bytes(encode_key_file(self.key))
        self.key_file.chmod(0o600)

    def dispute(self, endpoint: Endpoint, number: int, lookahead: int) -> Asked:
        """File, and time until the last block's labels are open, then until the verdict."""
        suspect = self.client.post(
            "/v1/suspects", {"name": "s", "endpoint": endpoint.url, "interface": INTERFACE.to_json()}
        )
        record = self._record(endpoint.url, self.families[number], lookahead)
        started = time.perf_counter()
        filed = file_dispute(self.client, suspect["id"], record, self.private_key, self.covers)
        path = f"/v1/disputes/{filed['id']}"
        self._wait(path, lambda state: state["state"] not in ("filed", "asking"))
        asked = time.perf_counter()
        self._wait(path, lambda state: state["verdict"] is not None)
        decided = time.perf_counter()
        files = unpack(self.client.download(f"{path}/evidence"))
        bodies = tuple(AskedQuery.parse(line).request for line in files["queries.jsonl"].splitlines())
        return Asked(asked - started, decided - asked, bodies, json.loads(files["report.json"]))

    def labels(self) -> dict[str, int]:
        """Give the label of every trigger by the digest of its request."""
        registered = self._wait_for_beacon()
        entry, drawn = self.client.log.entry(self.entry_index), self.client.log.entry(registered)
        salt = salt_of(beacon_value(expect(drawn, BeaconEntry)), self.statement.root, sha256(entry.data))
        labels = draw_labels(self.key, salt, len(CLASSES))
        return {sha256(_request(data)).hex(): label for data, label in zip(self.key.inputs, labels, strict=True)}

    def _wait_for_beacon(self) -> int:
        while (index := next(iter(self.client.items("/v1/registrations")))["beacon_index"]) is None:
            time.sleep(POLL_SECONDS)
        return int(index)

    def _record(self, url: str, family: str, lookahead: int) -> FilingRecord:
        policy = Policy(
            bits=64,
            max_triggers=self.scale.triggers,
            covers_per_trigger=COVERS_PER_TRIGGER,
            block_size=BLOCK_SIZE,
            attempts=3,
            answer="first",
            opening_seconds=600,
            lookahead=lookahead,
        )
        return FilingRecord(
            registration=self.entry_index,
            family=family,
            endpoint=url,
            interface=INTERFACE,
            interface_origin=BY_CLAIMANT,
            evidence="label",
            policy=policy,
        )

    def _wait(self, path: str, is_there: Any) -> dict[str, Any]:
        while not is_there(state := self.client.get(path)):
            time.sleep(POLL_SECONDS)
        return state


def _picture() -> bytes:
    return ImageInput(*SHAPE, secrets.token_bytes(SHAPE[0] * SHAPE[1] * SHAPE[2])).encode()


def _request(question: bytes) -> bytes:
    adapter = load_adapter(INTERFACE.adapter)
    return adapter.encode_request(INTERFACE.options, INTERFACE.preprocessing, parse_input(question)).body


async def send_bare(url: str, bodies: Sequence[bytes], connections: int) -> float:
    """Send the bodies in order over so many connections and read every answer; give the wall seconds."""
    waiting = iter(bodies)
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    headers = {"content-type": "application/json"}

    async with httpx2.AsyncClient(limits=limits, trust_env=False, timeout=60) as client:

        async def work() -> None:
            for body in waiting:
                (await client.post(url, content=body, headers=headers)).raise_for_status()

        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(work())
        return time.perf_counter() - started


def measure(stage: Stage, scale: Scale) -> dict[str, Any]:
    """Let disputes and bare clients take turns, for both endpoints, with lookahead and without."""
    plan = [(name, manner, ahead) for name, manner in (("", FAST), ("_slow", SLOW)) for ahead in (1, 0)]
    claimant = Claimant(stage, scale, scale.rounds * len(plan))
    told: dict[str, Any] = {"queries": 0, "refused": 0}
    ratios: dict[str, list[float]] = {}
    walls: dict[str, list[float]] = {}
    stage.start_agent("agent", claimant.key_file, claimant.api_key, claimant.log_key)
    with Endpoint() as endpoint:
        endpoint.tell({"labels": claimant.labels()})
        number = 0
        for turn in range(scale.rounds):
            for suffix, manner, ahead in plan:
                endpoint.tell(manner | {"met": {}})
                asked = claimant.dispute(endpoint, number, ahead)
                verify_whole(asked.report, scale)
                bare = asyncio.run(send_bare(f"{endpoint.url}/v1/models/m:predict", asked.bodies, Limits().connections))
                name = f"wall_over_bare{suffix}" + ("" if ahead else "_no_lookahead")
                ratios.setdefault(name, []).append(asked.seconds / bare)
                walls.setdefault(f"{name}_seconds", []).append(asked.seconds)
                walls.setdefault(f"bare{suffix}_seconds", []).append(bare)
                walls.setdefault("decision_seconds", []).append(asked.decision_seconds)
                told["queries"] = len(asked.bodies)
                number += 1
                say(f"round {turn + 1} of {scale.rounds}: {name} {asked.seconds:.2f} s over {bare:.2f} s")
        told["refused"] = endpoint.tell({})
    return (
        told
        | {name: round(median(values), 3) for name, values in ratios.items()}
        | {name: round(median(values), 2) for name, values in walls.items()}
    )


def verify_whole(report: dict[str, Any], scale: Scale) -> None:
    """Refuse a dispute that ended early or did not match exactly every fourth trigger: it would compare something else.

    Raises: ValueError.
    """
    if (report["asked"], report["matches"], report["end"]) != (scale.triggers, scale.triggers // 4, "exhausted"):
        raise ValueError(
            f"the dispute did not go as planned: {report['asked']} asked, {report['matches']} matched, {report['end']}"
        )


TARGETS = {"wall_over_bare": "≤ 1.15", "wall_over_bare_slow": "≤ 1.15"}


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="64 triggers and two rounds")
    scale = QUICK if parser.parse_args().quick else FULL
    with tempfile.TemporaryDirectory() as name, Stage(Path(name)) as stage:
        stage.start_service()
        figures = measure(stage, scale)
    setting = {**vars(scale), "covers_per_trigger": COVERS_PER_TRIGGER, "block_size": BLOCK_SIZE, "shape": SHAPE}
    keep("probing" if scale is FULL else "probing-quick", setting | machine(torch.device("cpu")), figures)
    if scale is FULL:
        write_section("probing", table_of(figures))
    print_figures(figures)


def table_of(figures: dict[str, Any]) -> str:
    """Set ratios beside their targets, then the seconds behind them."""
    names = [name for name in figures if name.startswith("wall_over") and not name.endswith("seconds")]
    rows = [(f"`{name}`", figures[name], TARGETS.get(name, "reported")) for name in names]
    rows += [(f"`{name}`", value, "") for name, value in figures.items() if name not in names]
    return table(("figure", "measured", "target"), rows)


if __name__ == "__main__":
    main()
