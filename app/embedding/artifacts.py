"""What a training run leaves behind: files written whole or not at all, named by SHA-256. No torch here.

Invariants: a file under its final name is complete; `digest_of_file` reads in pieces, so size does not matter.
"""

import hashlib
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import TrainingFailed

MARKED_WEIGHTS = "marked.safetensors"
REPORT = "report.json"

# Begins the name of a run that is not over yet, beside the results; gone when these are written.
UNFINISHED_RUN = "unfinished-"

# Begins the name of a folder for what is not delivered.
SCRATCH = ".scratch-"

# A zip archive: exported programs are such, and safetensors never are.
PROGRAM_MAGIC = b"PK\x03\x04"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that its name never shows half of it."""
    partial = path.with_name(path.name + ".partial")
    # A child that was killed while writing may have left one, and it may have been another user.
    partial.unlink(missing_ok=True)
    partial.write_bytes(data)  # a crash here leaves a .partial that nobody reads
    partial.replace(path)


def digest_of_file(path: Path) -> bytes:
    """Give SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def is_program(path: Path) -> bool:
    """Say whether a file of weights is an exported program rather than safetensors; what is not there is neither."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(PROGRAM_MAGIC)) == PROGRAM_MAGIC


def check_artifact(path: Path, sha256: bytes) -> None:
    """Refuse a file that is missing or is not the one that the report names.

    A link is none: a training could name another vendor's model, whose digest is public.
    Raises: TrainingFailed.
    """
    status = path.lstat() if path.exists() else None
    if status is None or not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise TrainingFailed(f"the training left no {path.name}")
    if digest_of_file(path) != sha256:
        raise TrainingFailed(f"{path.name} is not the file that the training reported")


@contextmanager
def scratch_folder(output: Path) -> Iterator[Path]:
    """Give a folder in a training's output folder for what it does not deliver; it goes when this ends."""
    folder = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=output))
    try:
        yield folder
    finally:
        remove_tree(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder that a stranger's program may have filled; what cannot be removed stays.

    By the system's own program, which follows no link and goes as deep as folders can lie in each other.
    """
    subprocess.run(["rm", "-rf", "--", str(folder)], env={"PATH": os.defpath}, capture_output=True, check=False)  # noqa: S607
