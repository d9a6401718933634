"""Blobs in a folder or a bucket, named by their digest: `sha256/ab/cdef…`.

Invariants: an object under its final name is whole and its bytes have that digest; it never changes; the same bytes are
stored once; reading checks the digest, so a damaged blob is never handed out as whole; memory stays bounded whatever
the size.
What a crash leaves behind: parts of an upload under `incoming/`, which nothing refers to.
Trust: the store is not trusted with secrets; marking keys stand here sealed or not at all.
"""

import hashlib
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore, from_url

from app.errors import Malformed, NotFound, TooLarge, Unavailable

# S3 takes parts of at least 5 MiB; two in flight at once keep an upload under 20 MiB of memory.
PART_BYTES = 8 * 1024 * 1024
PARTS_AT_ONCE = 2
READ_BYTES = 1024 * 1024


def open_store(url: str) -> ObjectStore:
    """Open `file:///folder` (made if missing), `s3://bucket/prefix` (the usual AWS variables) or `memory:///`."""
    if url.startswith("file:"):
        return from_url(url, mkdir=True)
    return from_url(url)


def path_of(sha256: bytes) -> str:
    """Give the name under which a digest's bytes are stored."""
    name = sha256.hex()
    return f"sha256/{name[:2]}/{name[2:]}"


def put_stream(store: ObjectStore, chunks: Iterable[bytes], max_bytes: int) -> tuple[bytes, int]:
    """Store a stream and give its digest and size.

    Raises: TooLarge as soon as it exceeds `max_bytes`; nothing is stored then, nor if `chunks` itself raises.
    """
    digest, size = hashlib.sha256(), 0

    def measured() -> Iterator[bytes]:
        nonlocal size
        for chunk in chunks:
            size += len(chunk)
            if size > max_bytes:
                raise TooLarge(f"more than {max_bytes} bytes")
            digest.update(chunk)
            yield chunk

    # The digest is known only at the end, so the bytes first lie under a name of their own.
    incoming = f"incoming/{secrets.token_hex(16)}"
    with _told_apart():
        obstore.put(store, incoming, measured(), chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)
        # Overwriting is harmless: whatever bears this name has these bytes.
        obstore.rename(store, incoming, path_of(digest.digest()), overwrite=True)
    return digest.digest(), size


def put_bytes(store: ObjectStore, data: bytes) -> bytes:
    """Store bytes and give their digest."""
    sha256 = hashlib.sha256(data).digest()
    with _told_apart(), suppress(AlreadyExistsError):
        obstore.put(store, path_of(sha256), data, mode="create")
    return sha256


def size_of(store: ObjectStore, sha256: bytes) -> int:
    """Give the size of an object in bytes.

    Raises: NotFound.
    """
    with _told_apart():
        return obstore.head(store, path_of(sha256))["size"]


def iterate(store: ObjectStore, sha256: bytes) -> Iterator[bytes]:
    """Give an object's bytes in pieces; the last step checks the digest of the whole.

    Raises: NotFound; Malformed at the end, if the bytes are not those of the digest.
    """
    digest = hashlib.sha256()
    with _told_apart():
        for piece in obstore.get(store, path_of(sha256)).stream(min_chunk_size=READ_BYTES):
            data = bytes(piece)
            digest.update(data)
            yield data
    if digest.digest() != sha256:
        raise Malformed("a stored object is damaged: its bytes do not have its digest")


def get_bytes(store: ObjectStore, sha256: bytes, max_bytes: int) -> bytes:
    """Read an object whole.

    Raises: NotFound; TooLarge before anything is read; Malformed if it is damaged.
    """
    if (size := size_of(store, sha256)) > max_bytes:
        raise TooLarge(f"{size} bytes, over the limit of {max_bytes}")
    return b"".join(iterate(store, sha256))


def download(store: ObjectStore, sha256: bytes, path: Path) -> None:
    """Write an object to a file, which exists only if it is whole.

    Raises: NotFound; Malformed if it is damaged.
    """
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("wb") as file:
            for piece in iterate(store, sha256):
                file.write(piece)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _told_apart() -> Iterator[None]:
    """Tell an object that is not there from a store that does not answer."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound from error
    except (BaseError, PermissionError) as error:
        raise Unavailable(f"the object store failed: {error}") from error
