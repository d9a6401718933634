"""Where the benchmarks write what they measured: JSON beside the code, a table in docs/benchmarks.md, one last line.

Full runs write `results/NAME.json` and the table; runs at another scale write `results/NAME-SCALE.json` alone.
"""

import json
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.cifar10 import ROOT

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"

_started = time.monotonic()


def say(text: str) -> None:
    """Tell how far the run is, with the seconds since the start, on stderr."""
    print(f"{time.monotonic() - _started:7.1f} s  {text}", file=sys.stderr, flush=True)


def machine(device: torch.device) -> dict[str, Any]:
    """Say what the figures were measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": name,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor()


def keep(name: str, setting: Mapping[str, Any], figures: Mapping[str, Any], part: str = "") -> Path:
    """Write a run's setting and figures as JSON; give the path. `part`: which of the figures are new, if not all of them."""
    RESULTS.mkdir(exist_ok=True)
    today = datetime.now(UTC).date().isoformat()
    content = {"figures": dict(figures), "measured_on": today, "setting": dict(setting)}
    if part:
        content["measured_on"] = {**_read(name, "measured_on"), part: today}
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    return path


def read(name: str) -> dict[str, Any]:
    """Read the figures of an earlier run; none if there was none."""
    return _read(name, "figures")


def _read(name: str, key: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text())[key] if path.exists() else {}
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Set a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def write_section(name: str, content: str, page: Path = PAGE) -> None:
    """Put a run's table between the page's marks of this name.

    Raises: ValueError if the page has no such marks.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    text = page.read_text()
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{page.name} needs {begin} and {end} once each")
    before, rest = text.split(begin)
    page.write_text(f"{before}{begin}\n\n{content}\n\n{end}{rest.split(end)[1]}")


def print_figures(figures: Mapping[str, Any]) -> None:
    """Print the figures as the last line: one JSON object."""
    print(json.dumps(dict(figures), sort_keys=True), flush=True)
