"""Compressed archives within bounds: what the standard library would read without asking how much.

`tarfile` reads extended headers of any declared size into memory and `zipfile` reads a whole central directory before
the first member can be looked at. Both happen before our own checks, so they are bounded underneath.

Invariants: no single read is larger than MAX_MEMBER_BYTES; no more than MAX_UNPACKED_BYTES ever come out of a file, and
not more than MAX_RATIO times its size once that is over RATIO_GRACE_BYTES.
"""

import gzip
import os
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from app.errors import Malformed, TooLarge

# An image of 4096 x 4096 x 3 as BMP has 48 MiB.
MAX_MEMBER_BYTES = 64 * 1024**2

# ImageNet has 1.3 million.
MAX_MEMBERS = 2_000_000

# Everything an archive unpacks to, headers and padding included: 1.3 million images of 110 KB are 143 GB.
MAX_UNPACKED_BYTES = 256 * 1024**3

# A tar of tiny images is mostly zero padding and shrinks about 20 times; deflate's own limit is 1,032.
MAX_RATIO = 200
RATIO_GRACE_BYTES = 256 * 1024**2

# About 130 bytes a member for two million.
MAX_DIRECTORY_BYTES = 256 * 1024**2


class BoundedReader:
    """A file, decompressed if it is gzip, that `tarfile` reads forwards within the module's bounds."""

    def __init__(self, file: BinaryIO) -> None:
        """Look at the first two bytes to tell gzip from plain."""
        self.file_bytes = os.fstat(file.fileno()).st_size
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self.last_read = b""
        self.inner = cast(BinaryIO, gzip.GzipFile(fileobj=file, mode="rb")) if compressed else file

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes.

        Raises: TooLarge beyond a bound.
        """
        if not 0 <= size <= MAX_MEMBER_BYTES:
            raise TooLarge(f"a header or member of the archive is over {MAX_MEMBER_BYTES} bytes")
        data = self.inner.read(size)
        self._check_position(self.inner.tell())
        self.last_read = data
        return data

    def seek(self, position: int) -> int:
        """Go on to a later position, in steps, so that a bomb is noticed on the way."""
        self._check_position(position)
        while (at := self.inner.tell()) < position:
            if not self.read(min(position - at, 1024**2)):
                return at
        return self.inner.seek(position)

    def tell(self) -> int:
        """Give the position in the decompressed stream."""
        return self.inner.tell()

    def _check_position(self, position: int) -> None:
        ratio_is_wrong = position > RATIO_GRACE_BYTES and position > MAX_RATIO * self.file_bytes
        if position > MAX_UNPACKED_BYTES or ratio_is_wrong:
            raise TooLarge(f"the archive unpacks to more than {position - 1} bytes from {self.file_bytes}")


def read_tar(file: BinaryIO) -> Iterator[tuple[tarfile.TarInfo, Callable[[], bytes]]]:
    """Yield the members of a tar or tar.gz in order, each with a function that reads its content (names are UTF-8).

    Raises: TooLarge beyond a bound; Malformed if the archive has no proper end; what tarfile and gzip raise.
    """
    reader = BoundedReader(file)
    with tarfile.open(fileobj=cast(BinaryIO, reader), mode="r:", encoding="utf-8", errors="strict") as archive:
        while (member := archive.next()) is not None:
            yield member, partial(_content, archive, member)
            cast(Any, archive).members.clear()  # tarfile keeps every header otherwise
    # tarfile takes a damaged header for the end; a true end is a block of zeros.
    if len(reader.last_read) != tarfile.BLOCKSIZE or any(reader.last_read):
        raise Malformed("the archive is broken: it stops without an end mark")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member)
    return content.read() if content else b""


def check_zip_directory(path: Path) -> None:
    """Refuse a zip whose central directory would not fit in memory, before `zipfile` reads it.

    Raises: Malformed if there is no end record; TooLarge.
    """
    # After the end record stands a comment of up to 65,535 bytes; before it a zip64 record (56) and locator (20).
    with path.open("rb") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(max(0, size_bytes - 65_535 - 22 - 76))
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or end + 22 > len(tail):
        raise Malformed("the zip archive has no end record: it is cut short")
    directory_bytes = int.from_bytes(tail[end + 12 : end + 16], "little")
    if end >= 76 and tail[end - 76 : end - 72] == b"PK\x06\x06":  # where zipfile, too, looks for a zip64 record
        directory_bytes = max(directory_bytes % 0xFFFFFFFF, int.from_bytes(tail[end - 36 : end - 28], "little"))
    if directory_bytes > MAX_DIRECTORY_BYTES:
        raise TooLarge(f"the zip archive's directory has over {MAX_DIRECTORY_BYTES} bytes")


def check_member(count: int, name: str, size_bytes: int) -> None:
    """Refuse the `count`-th member by its header, before its content is read.

    Raises: Malformed or TooLarge.
    """
    if not name:
        raise Malformed(f"member {count} of the archive has no name")
    if count > MAX_MEMBERS:
        raise TooLarge(f"an archive may have {MAX_MEMBERS} members; {name!r} is one too many")
    if size_bytes > MAX_MEMBER_BYTES:
        raise TooLarge(f"{name!r} says it has {size_bytes} bytes: a member may have {MAX_MEMBER_BYTES}")
