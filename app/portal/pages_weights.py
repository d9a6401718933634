"""Weights that the accused of a dispute delivers, on its page: taken, and told what came of them.

Invariants: whether weights would be taken is asked before a byte of them is read, and whether the log holds their digest
before one is kept; no transaction is open while they come.
Trust: the files are a stranger's; nobody can download them here.
"""

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from app.db.engine import transaction
from app.db.tables import ID_RANDOM_BYTES
from app.disputes.claim import load_claim
from app.disputes.links import load_linked
from app.disputes.weights import Delivered, deliver, find_older_entry, list_deliveries, verify_may_deliver
from app.errors import Conflict, Malformed, NotFound, Refused
from app.portal.forms import Typed
from app.portal.large_forms import LargeFiles
from app.portal.pages_public import attached, show_claim
from app.portal.rendering import render
from app.portal.visitors import AnyoneBeforehand
from app.storage.objects import READ_BYTES, iterate, put_stream
from app.web import InTransaction, Now, Service, ServiceOf

router = APIRouter(prefix="/d/{token}/weights")

FIELDS = ("weights", "program")


def admit(token: str, service: ServiceOf, now: Now) -> None:
    """Refuse weights that would not be taken, before they are read."""
    with transaction(service.engine) as session:
        verify_may_deliver(session, load_linked(session, token), now)


@router.post("")
def send_weights(  # what a request is given
    request: Request,
    _visitor: AnyoneBeforehand,
    token: str,
    _admitted: Annotated[None, Depends(admit)],
    files: LargeFiles,
    service: ServiceOf,
    now: Now,
) -> Response:
    """Take weights, and with them the program that they need, if they do."""
    # An empty value a field, so that a message finds its place beside it.
    typed = Typed({name: [""] for name in FIELDS})
    with typed.keeping():
        try:
            _take(service, token, files, now)
        except Conflict as error:
            raise Refused(error.message) from error
    if not typed.errors:
        return RedirectResponse(f"/d/{token}#weights", 303)
    with transaction(service.engine) as session:
        claim = load_claim(session, load_linked(session, token), now)
    return show_claim(request, service, token, claim, typed, status=422)


@router.get("")
def read_weights(request: Request, token: str, session: InTransaction, now: Now) -> Response:
    """Show the part of the page that changes while weights are compared."""
    claim = load_claim(session, load_linked(session, token), now)
    return render(request, "public_weights_list.html", token=token, claim=claim)


@router.get("/{number:int}/evidence")
def download_earlier_evidence(token: str, number: int, session: InTransaction, service: ServiceOf) -> Response:
    """Hand out the bundle of the verdict against which weights were delivered."""
    dispute = load_linked(session, token)
    for delivery in list_deliveries(session, dispute):
        if delivery.number == number:
            headers = attached(f"trapstreet-{dispute.filing_index}-earlier.zip")
            content = iterate(service.store, delivery.earlier_bundle)
            return StreamingResponse(content, media_type="application/zip", headers=headers)
    raise NotFound


def _take(service: Service, token: str, files: Mapping[str, BinaryIO], now: Now) -> None:
    if "weights" not in files:
        raise Malformed("choose the file with the weights", pointer="/weights")
    digest = digest_of(files["weights"])
    with transaction(service.engine) as session:
        dispute = load_linked(session, token)
        verify_may_deliver(session, dispute, now)
        find_older_entry(session, dispute, digest)
    stored = {name: put_stream(service.store, pieces(files[name]), service.max_artifact_bytes) for name in files}
    # A crash here leaves blobs that nobody refers to.
    sha256, size_bytes = stored["weights"]
    program = stored["program"][0] if "program" in stored else None
    with transaction(service.engine) as session:
        dispute = load_linked(session, token, for_update=True)
        delivered = Delivered(sha256, size_bytes, program)
        deliver(session, dispute, delivered, now, secrets.token_bytes(ID_RANDOM_BYTES))


def digest_of(file: BinaryIO) -> bytes:
    """Give the SHA-256 of an open file."""
    digest = hashlib.sha256()
    for piece in pieces(file):
        digest.update(piece)
    return digest.digest()


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """Read an open file from its beginning, piece by piece."""
    file.seek(0)
    while piece := file.read(READ_BYTES):
        yield piece
