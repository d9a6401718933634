"""A secret of fixed length in a file: hex, one line, readable by its owner alone.

Invariants: a file is whole or absent, also after a crash; of several processes that find none one makes it, and all go on
with the same.
Trust: whoever reads the file is its owner's equal; a file that others may read is refused rather than mended, because it
may have been read.
"""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from app.errors import Malformed, PolicyRefused


def load_secret(path: Path, length: int, *, create_from: bytes | None = None) -> bytes:
    """Read a secret; if there is none and `create_from` is given, that becomes it.

    Raises: PolicyRefused if it is missing or others may read it; Malformed if it is damaged.
    """
    if not path.exists():
        if create_from is None:
            raise PolicyRefused(f"{path} is missing: put {2 * length} hex digits there (chmod 600)")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_once(path, create_from)
    _refuse_open_file(path)
    try:
        secret = bytes.fromhex(path.read_text("ascii"))
    except ValueError as error:
        raise Malformed(f"{path} does not hold hex digits") from error
    if len(secret) != length:
        raise Malformed(f"{path} holds {len(secret)} bytes, not {length}")
    return secret


def load_line(path: Path) -> str:
    """Read a secret that somebody else made, such as a password: one line of text.

    Raises: PolicyRefused if it is missing or others may read it; Malformed if it is not one line.
    """
    if not path.exists():
        raise PolicyRefused(f"{path} is missing: put the secret there, on one line (chmod 600)")
    _refuse_open_file(path)
    line = path.read_text("utf-8").removesuffix("\n")
    if not (line and line.isprintable()):
        raise Malformed(f"{path} does not hold one line of text")
    return line


def _refuse_open_file(path: Path) -> None:
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise PolicyRefused(f"{path} may be read by others: chmod 600 it, and replace it if they may have done so")


def _write_once(path: Path, secret: bytes) -> None:
    # Linking fails if another process was quicker, and its secret is then everybody's.
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secret.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(partial, path)
    finally:
        partial.unlink()
