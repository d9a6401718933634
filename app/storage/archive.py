"""An evidence bundle as one file: a zip with fixed order, times and no compression, so the same bundle is the same bytes.

Invariants: `pack(unpack(b)) == b` or Malformed, so not one byte of the file is free.
Source: PKWARE APPNOTE 6.3 (stored entries only).
"""

import io
import zipfile
from collections.abc import Mapping

from app.errors import Malformed

# The format's first day: a bundle's times are in the log, not in its container.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


def pack(files: Mapping[str, bytes]) -> bytes:
    """Write named files as one zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _NO_TIME), files[name])
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """Read what `pack` wrote.

    Raises: Malformed unless packing the files again gives exactly `data`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise Malformed("a bundle's files are stored, not compressed")
            files = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError, RuntimeError) as error:
        raise Malformed(f"not a bundle: {error}") from error
    if pack(files) != data:
        raise Malformed("not a bundle as it was written: the archive around its files was changed")
    return files
