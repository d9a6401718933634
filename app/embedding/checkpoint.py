"""A training run on disk, so that a killed process goes on where it was and ends at the same weights.

One safetensors file: the network's tensors, the optimizer's momentum, the generators' states and the triggers still to
come; counters and what the run belongs to stand in the metadata. No key is in it, but part of the marked weights are:
the file is as secret as they are.

Invariants: the file is whole or absent; a file of another run (recipe, data, network or number of ranks) is not used.
Trust: written and read by training children of one order in a folder that only they and the worker can open; nothing is
unpickled.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, contiguous_format

from app.embedding.artifacts import write_whole

COUNTERS = "counters"
OWNER = "run"


@dataclass(frozen=True)
class Snapshot:
    """What a run needs to go on: tensors by name, and counters."""

    tensors: dict[str, Tensor]
    counters: dict[str, int]


@dataclass(frozen=True)
class Checkpoint:
    """Where one run is kept; `owner` tells its recipe, data and network apart from every other's."""

    path: Path
    owner: str
    every_seconds: float

    def write(self, snapshot: Snapshot) -> None:
        """Keep a snapshot in place of the last one."""
        # Copies: safetensors refuses tied weights, which an exported program may have.
        tensors = {
            name: value.detach().cpu().clone(memory_format=contiguous_format)
            for name, value in snapshot.tensors.items()
        }
        metadata = {COUNTERS: json.dumps(snapshot.counters), OWNER: self.owner}
        write_whole(self.path, save(tensors, metadata=metadata))

    def read(self) -> Snapshot | None:
        """Give the last snapshot, or None if there is none of this run."""
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get(OWNER) != self.owner:
                    return None
                return Snapshot({name: file.get_tensor(name) for name in file.keys()}, json.loads(metadata[COUNTERS]))  # noqa: SIM118  # no dict
        except (FileNotFoundError, SafetensorError):
            return None

    def remove(self) -> None:
        """Forget the run: it has ended."""
        self.path.unlink(missing_ok=True)
