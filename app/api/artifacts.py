"""Artifacts: data, weights and covers as blobs, streamed in and out.

Invariants: memory stays bounded whatever the size; what is cut short, over the limit or refused leaves nothing; no
transaction is open while a body streams.
"""

from collections.abc import Iterator
from threading import BoundedSemaphore
from typing import Annotated, Any

import anyio.from_thread
from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from app.api.dependencies import Reader, require_beforehand
from app.api.fields import Answer, Hex32
from app.api.problems import WITH_KEY, problems
from app.db.engine import transaction
from app.errors import Unavailable
from app.registry.api_keys import DISPUTE, EMBED, Caller
from app.registry.artifacts import load_artifact, record_artifact
from app.storage.objects import iterate, put_stream, size_of
from app.web import InTransaction, Now, ServiceOf

router = APIRouter(prefix="/artifacts", tags=["artifacts"], responses=WITH_KEY)

MEDIA_TYPES = (
    "application/octet-stream",
    "application/gzip",
    "application/zip",
    "application/json",
    "application/x-tar",
)

# Each holds a thread and two parts of 8 MiB: so many at once leave threads for everybody else, and memory under 300 MB.
UPLOADS_AT_ONCE = 6
_uploads = BoundedSemaphore(UPLOADS_AT_ONCE)

BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
UPLOAD_BODY = {"requestBody": {"required": True, "content": {name: {"schema": BINARY} for name in MEDIA_TYPES}}}
DOWNLOAD: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": {"schema": BINARY}}}}


class Artifact(Answer):
    """A blob, named by its digest."""

    sha256: Hex32
    size_bytes: int = Field(examples=[1048576])


@router.post(
    "", status_code=201, operation_id="upload_artifact", openapi_extra=UPLOAD_BODY, responses=problems(413, 415)
)
def post_artifact(
    request: Request,
    caller: Annotated[Caller, Depends(require_beforehand(EMBED, DISPUTE))],
    service: ServiceOf,
    now: Now,
) -> Artifact:
    """Upload a blob; the same bytes again change nothing."""
    if not _uploads.acquire(blocking=False):
        raise Unavailable("too many uploads run at once: try again in a moment")
    try:
        digest, size_bytes = put_stream(service.store, _chunks(request), service.max_artifact_bytes)
    finally:
        _uploads.release()
    media_type = request.headers.get("content-type", MEDIA_TYPES[0]).partition(";")[0].strip().lower()
    # A crash here leaves a blob that nobody refers to.
    with transaction(service.engine) as session:
        record_artifact(session, caller.vendor_id, digest, size_bytes, media_type, now)
    return Artifact(sha256=digest, size_bytes=size_bytes)


@router.get("/{sha256}", operation_id="download_artifact", response_class=Response, responses=DOWNLOAD | problems(404))
def get_artifact(
    sha256: Annotated[Hex32, Path()], caller: Reader, session: InTransaction, service: ServiceOf
) -> StreamingResponse:
    """Download a blob that the vendor uploaded or that was made for it."""
    row = load_artifact(session, caller.vendor_id, sha256)
    size_of(service.store, sha256)  # a blob that is away is refused before the answer begins
    headers = {"Content-Length": str(row.size_bytes), "X-Content-Type-Options": "nosniff"}
    return StreamingResponse(_held_back(iterate(service.store, sha256)), media_type=row.media_type, headers=headers)


def _chunks(request: Request) -> Iterator[bytes]:
    """Bring the body, which the event loop reads, into this endpoint's thread piece by piece."""
    stream = request.stream()

    async def next_chunk() -> bytes | None:
        return await anext(stream, None)

    while (chunk := anyio.from_thread.run(next_chunk)) is not None:
        yield chunk


def _held_back(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Give each piece when the next is there: the last one then follows the check of the whole, or not at all."""
    held = b""
    for piece in pieces:
        if held:
            yield held
        held = piece
    yield held
