"""Key files on a vendor's machine: private by mode, never half-written, never overwritten."""

import os
import secrets
import stat
from pathlib import Path
from typing import Any

from app.canonical import parse_loose_json
from app.errors import Conflict, Malformed, NotFound, PolicyRefused
from app.keys.commitment import MarkingKey
from app.keys.key_file import parse_key_file
from app.signature import PRIVATE_KEY_BYTES
from app.suspects.credentials import parse_credentials


def write_private(path: Path, data: bytes) -> None:
    """Write a new file that only its owner may read.

    Raises: Conflict if the file is already there: a key that is overwritten is lost.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Conflict(f"{path} is already there; choose another name or move it away") from error
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_key_file(path: Path, passphrase_file: Path | None = None) -> MarkingKey:
    """Read a marking key from its file.

    Raises: NotFound, Malformed, OpeningInvalid.
    """
    passphrase = passphrase_file.read_text().splitlines()[0] if passphrase_file else None
    return parse_key_file(read_file(path), passphrase)


def read_vendor_key(path: Path, *, create: bool = False) -> bytes:
    """Read a vendor's Ed25519 private key (64 hex digits), or make one.

    Raises: NotFound, Malformed.
    """
    if create and not path.exists():
        write_private(path, secrets.token_hex(PRIVATE_KEY_BYTES).encode() + b"\n")
    text = read_file(path).decode("ascii", "replace").strip()
    try:
        key = bytes.fromhex(text)
    except ValueError as error:
        raise Malformed(f"{path} holds no private key: 64 hex digits are expected") from error
    if len(key) != PRIVATE_KEY_BYTES:
        raise Malformed(f"{path} holds {len(key)} bytes; a private key has {PRIVATE_KEY_BYTES}")
    return key


def read_credentials(path: Path) -> dict[str, Any]:
    """Read an endpoint's credentials from a file that nobody else may read; arguments would show them to everybody.

    Raises: NotFound; PolicyRefused if others may read it; Malformed, without a word of what stands there.
    """
    data = read_file(path)
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise PolicyRefused(f"{path} may be read by others: chmod 600 it, and replace what it holds if they may have")
    try:
        value = parse_loose_json(data)
    except Malformed:
        value = None
    if not isinstance(value, dict):
        raise Malformed(f'{path} must hold a JSON object: {{"kind": "headers", "headers": {{"Authorization": "…"}}}}')
    parse_credentials(value, "/credentials")
    return value


def check_readable(*paths: Path | None) -> None:
    """Refuse a file that cannot be read, before long work begins.

    Raises: NotFound with the path.
    """
    for path in paths:
        if path is not None and not os.access(path, os.R_OK):
            raise NotFound(f"cannot read {path}")


def check_writable(path: Path) -> None:
    """Refuse a place that cannot be written to, before anything irrevocable is done.

    Raises: NotFound with the folder.
    """
    if not os.access(path.absolute().parent, os.W_OK):
        raise NotFound(f"cannot write to the folder {path.absolute().parent}")


def read_file(path: Path) -> bytes:
    """Read a file whole.

    Raises: NotFound with the path.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}") from error
