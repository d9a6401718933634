"""The model that a claimant delivers to be tested with another registrant's triggers, from its dispute's page.

Invariants: whether a model would be taken is asked before a byte of it is read, and whether the log holds its digest as this
vendor's before one is kept; no transaction is open while it comes.
Trust: the files are a stranger's; nobody can download them here.
"""

import secrets
from collections.abc import Mapping
from typing import Annotated, BinaryIO
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from app.db.engine import transaction
from app.db.tables import ID_RANDOM_BYTES
from app.disputes.course import load_dispute
from app.disputes.cross_tests import (
    deliver_model,
    find_committed,
    list_cross_tests,
    load_cross_test,
    verify_may_deliver,
)
from app.disputes.weights import Delivered
from app.errors import Conflict, Malformed, Refused
from app.people.sessions import Visitor
from app.portal.forms import Typed
from app.portal.large_forms import LargeFiles
from app.portal.pages_disputes import show_dispute
from app.portal.pages_weights import digest_of, pieces
from app.portal.rendering import render
from app.portal.verdict_words import CROSS_REASONS
from app.portal.visitors import MayRead, may_beforehand, vendor_of
from app.registry.api_keys import DISPUTE
from app.storage.objects import put_stream
from app.web import InTransaction, Now, Service, ServiceOf

router = APIRouter(prefix="/disputes/{dispute_id:uuid}/cross-tests")

FIELDS = ("sha256", "program")

MayDeliver = Annotated[Visitor, Depends(may_beforehand(DISPUTE))]


def admit(dispute_id: UUID, cross_test_id: UUID, visitor: MayDeliver, service: ServiceOf, now: Now) -> None:
    """Refuse a model that would not be taken, before it is read."""
    with transaction(service.engine) as session:
        dispute = load_dispute(session, vendor_of(visitor), dispute_id)
        verify_may_deliver(session, dispute, load_cross_test(session, dispute, cross_test_id), now)


@router.get("")
def read_part(
    request: Request, dispute_id: UUID, visitor: MayRead, session: InTransaction, service: ServiceOf, now: Now
) -> Response:
    """Show the part of a dispute's page that changes while a model is asked."""
    row = load_dispute(session, vendor_of(visitor), dispute_id)
    return render(
        request,
        "cross_tests_list.html",
        visitor=visitor,
        row=row,
        may_file=DISPUTE in visitor.scopes,
        cross_tests=list_cross_tests(session, row, now),
        cross_reasons=CROSS_REASONS,
        files_bytes=service.max_artifact_bytes,
        typed=Typed(),
        refused=None,
    )


@router.post("/{cross_test_id:uuid}/model")
def send_model(  # what a request is given
    request: Request,
    dispute_id: UUID,
    cross_test_id: UUID,
    visitor: MayDeliver,
    _admitted: Annotated[None, Depends(admit)],
    files: LargeFiles,
    service: ServiceOf,
    now: Now,
) -> Response:
    """Take a model, and with it the program that it needs, if it does."""
    # An empty value a field, so that a message finds its place beside it.
    typed = Typed({name: [""] for name in FIELDS})
    with typed.keeping():
        try:
            _take(service, vendor_of(visitor), (dispute_id, cross_test_id), files, now)
        except Conflict as error:
            raise Refused(error.message) from error
    if not typed.errors:
        return RedirectResponse(f"/disputes/{dispute_id}#cross-tests", 303)
    return show_dispute(request, visitor, service, dispute_id, now, (cross_test_id, typed))


def _take(service: Service, vendor_id: UUID, of: tuple[UUID, UUID], files: Mapping[str, BinaryIO], now: Now) -> None:
    dispute_id, cross_test_id = of
    if "weights" not in files:
        raise Malformed("choose the file with the model", pointer="/sha256")
    digest = digest_of(files["weights"])
    with transaction(service.engine) as session:
        dispute = load_dispute(session, vendor_id, dispute_id)
        row = load_cross_test(session, dispute, cross_test_id)
        verify_may_deliver(session, dispute, row, now)
        find_committed(session, dispute, row, digest)
    stored = {name: put_stream(service.store, pieces(files[name]), service.max_artifact_bytes) for name in files}
    # A crash here leaves blobs that nobody refers to.
    sha256, size_bytes = stored["weights"]
    program = stored["program"][0] if "program" in stored else None
    with transaction(service.engine) as session:
        load_dispute(session, vendor_id, dispute_id)
        delivered = Delivered(sha256, size_bytes, program)
        deliver_model(session, dispute_id, cross_test_id, delivered, now, secrets.token_bytes(ID_RANDOM_BYTES))
