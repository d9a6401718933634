"""A dispute as whoever has its link sees it, without an account: the claim, an answer, a second run, what to download.

Invariants: a link that is wrong, of another dispute's part or too early is answered by the same bytes; no transaction is
open while a form comes or a verdict is read from the store; nothing here needs a script; what strangers wrote is escaped,
and their files are handed out as downloads that no browser opens.
"""

import secrets
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from app.db.engine import transaction
from app.disputes.answers import MAX_FILE_BYTES, Said, add_answer, load_file
from app.disputes.claim import Claim, load_claim
from app.disputes.links import load_linked
from app.disputes.second_runs import ask_second_run
from app.disputes.step_files import pack_steps
from app.disputes.weights import MAX_DELIVERIES
from app.errors import NotFound, Refused, TooLarge
from app.portal.forms import FormWithFile, Typed
from app.portal.rendering import render
from app.portal.verdict_told import VerdictShelf
from app.portal.verdict_words import CROSS_REASONS, REASONS, STEP_WORDS, VERDICT_WORDS
from app.portal.visitors import AnyoneBeforehand
from app.protocol.records import MAX_ANSWER_CHARACTERS, MAX_ANSWERS
from app.storage.objects import iterate
from app.web import InTransaction, Now, Service, ServiceOf

router = APIRouter(prefix="/d")

_verdicts = VerdictShelf()

NUMBERS = [str(number) for number in range(1, MAX_ANSWERS + 1)]

LIMITS = {
    "characters": MAX_ANSWER_CHARACTERS,
    "answers": MAX_ANSWERS,
    "file_bytes": MAX_FILE_BYTES,
    "deliveries": MAX_DELIVERIES,
}


@router.get("/{token}")
def read_claim(request: Request, _visitor: AnyoneBeforehand, token: str, service: ServiceOf, now: Now) -> Response:
    """Show the claim and what came of it."""
    return show_claim(request, service, token, _claim(service, token, now), Typed())


@router.get("/{token}/outcome")
def read_outcome(request: Request, token: str, service: ServiceOf, now: Now) -> Response:
    """Show the part of the page that changes while the verdict is computed."""
    claim = _claim(service, token, now)
    return render(request, "public_outcome.html", token=token, claim=claim, **_verdict(service, claim))


@router.post("/{token}/answers")
def answer(
    request: Request, _visitor: AnyoneBeforehand, token: str, sent: FormWithFile, service: ServiceOf, now: Now
) -> Response:
    """Keep an answer."""
    typed = sent.typed
    if sent.is_too_large:
        typed.errors["file"] = "this file is too large, and was not read to its end"
        return show_claim(request, service, token, _claim(service, token, now), typed, status=413)
    with transaction(service.engine) as session:
        dispute = load_linked(session, token, for_update=True)
        with typed.keeping():
            said = Said(typed.get("words"), typed.get("prior_art"), sent.file)
            add_answer(session, service.identity, service.store, dispute, said, secrets.token_bytes(32), now)
    if typed.errors:
        return show_claim(request, service, token, _claim(service, token, now), typed, status=422)
    return RedirectResponse(f"/d/{token}#answers", 303)


@router.post("/{token}/second-run")
def ask_again(request: Request, _visitor: AnyoneBeforehand, token: str, service: ServiceOf, now: Now) -> Response:
    """Log the wish for a second run."""
    typed = Typed()
    with transaction(service.engine) as session:
        dispute = load_linked(session, token, for_update=True)
        try:
            ask_second_run(session, service.identity, dispute, now)
        except Refused as error:
            typed.errors["second_run"] = error.message
    if typed.errors:
        return show_claim(request, service, token, _claim(service, token, now), typed, status=409)
    return RedirectResponse(f"/d/{token}#second-run", 303)


@router.get("/{token}/evidence")
def download_evidence(token: str, session: InTransaction, service: ServiceOf) -> Response:
    """Hand out the evidence bundle."""
    dispute = load_linked(session, token)
    if dispute.bundle_sha256 is None:
        raise NotFound("there is no verdict yet, and so no bundle: try again in a moment")
    content = iterate(service.store, dispute.bundle_sha256)
    return StreamingResponse(
        content, media_type="application/zip", headers=attached(f"trapstreet-{dispute.filing_index}.zip")
    )


@router.get("/{token}/steps")
def download_steps(token: str, session: InTransaction, service: ServiceOf) -> Response:
    """Hand out notice, answers and request with their entries and receipts."""
    dispute = load_linked(session, token)
    headers = attached(f"trapstreet-{dispute.filing_index}-steps.zip")
    return Response(pack_steps(session, service.identity, dispute), media_type="application/zip", headers=headers)


@router.get("/{token}/answers/{number}/file")
def download_file(token: str, number: str, session: InTransaction, service: ServiceOf) -> Response:
    """Hand out the file of an answer, under a name of ours and as nothing that a browser opens."""
    dispute = load_linked(session, token)
    if number not in NUMBERS:
        raise NotFound
    file = load_file(session, dispute, int(number))
    return StreamingResponse(
        iterate(service.store, file.sha256),
        media_type="application/octet-stream",
        headers=attached(f"answer-{number}.bin"),
    )


def attached(name: str) -> dict[str, str]:
    """Have a browser keep what it gets, and not open it."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _claim(service: Service, token: str, now: datetime) -> Claim:
    with transaction(service.engine) as session:
        return load_claim(session, load_linked(session, token), now)


def _verdict(service: Service, claim: Claim) -> dict[str, Any]:
    words = (VERDICT_WORDS.get(claim.verdict or "", ""), REASONS.get(claim.reason or "", claim.reason))
    try:
        told = None if claim.bundle_sha256 is None else _verdicts.read(service.store, claim.bundle_sha256)
    except TooLarge:
        told = None
    return {"told": told, "words": words}


def show_claim(
    request: Request, service: Service, token: str, claim: Claim, typed: Typed, *, status: int = 200
) -> Response:
    """Show the whole page of a claim."""
    return render(
        request,
        "public_dispute.html",
        status=status,
        headers={"X-Robots-Tag": "noindex"},
        token=token,
        claim=claim,
        typed=typed,
        limits=LIMITS | {"weights_bytes": service.max_artifact_bytes},
        step_words=STEP_WORDS,
        cross_reasons=CROSS_REASONS,
        **_verdict(service, claim),
    )
