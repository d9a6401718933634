"""What a training run leaves behind: files written whole or not at all, named by SHA-256. No torch here.

Invariants: a file under its final name is complete; `digest_of_file` reads in pieces, so size does not matter.
"""

import hashlib
from pathlib import Path

from app.errors import TrainingFailed

MARKED_WEIGHTS = "marked.safetensors"
REPORT = "report.json"

# Folder of runs that are not over yet, beside the results; empty and gone when these are written.
UNFINISHED = "unfinished"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that its name never shows half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)  # a crash here leaves a .partial that nobody reads
    partial.replace(path)


def digest_of_file(path: Path) -> bytes:
    """Give SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def check_artifact(path: Path, sha256: bytes) -> None:
    """Refuse a file that is missing or is not the one that the report names.

    Raises: TrainingFailed.
    """
    if not path.is_file():
        raise TrainingFailed(f"the training left no {path.name}")
    if digest_of_file(path) != sha256:
        raise TrainingFailed(f"{path.name} is not the file that the training reported")
