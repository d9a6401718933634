"""Signing up, in and out: by passkey, recovery code, one-time link.

Invariants: a passkey's challenge and a guess at a code count even if the answer is refused: these pages refuse by what
they show, and so commit; nobody is told whether a person exists.
"""

import secrets
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from app.errors import Refused
from app.people.ceremonies import CHALLENGE_BYTES
from app.people.links import look_at_link, use_link
from app.people.passkeys import Party, begin_sign_in, begin_sign_up, finish_sign_in, finish_sign_up
from app.people.persons import PERSON_RANDOM_BYTES, load_person, vendors_of
from app.people.recovery import use_code
from app.people.sessions import end_everywhere, end_session
from app.portal.entering import Entering, left
from app.portal.forms import Form, Typed
from app.portal.rendering import render
from app.portal.visitors import Anyone, SignedIn, safe_next
from app.web import InTransaction, Now, ServiceOf, status_of

router = APIRouter()

Next = Annotated[str, Query(max_length=2000, alias="next")]
# Also whoever is signed in already is asked.
Again = Annotated[bool, Query()]
Token = Annotated[str, Path(max_length=64)]

RECOVERED = "/account/passkeys/new"
SIGNED_UP = "/account/recovery-codes"


@router.get("/sign-up")
def sign_up(request: Request, visitor: Anyone, address: Next = "/") -> Response:
    """Ask for a name and a passkey."""
    if visitor is not None:
        return RedirectResponse(safe_next(address), 303)
    return render(request, "sign_up.html", typed=Typed({"next": [safe_next(address)]}))


@router.post("/passkeys/sign-up")
def sign_up_options(request: Request, typed: Form, session: InTransaction, service: ServiceOf, now: Now) -> Response:
    """Tell a newcomer's browser which passkey to make."""
    party, name = Party(service.portal_origin), typed.get("name")
    challenge, person = secrets.token_bytes(CHALLENGE_BYTES), secrets.token_bytes(PERSON_RANDOM_BYTES)
    return options(lambda: begin_sign_up(session, party, address_of(request), name, challenge, person, now))


@router.post("/sign-up")
def finish_signing_up(entrance: Entering, typed: Form) -> Response:
    """Make a person of whoever made a passkey, and sign it in."""
    with typed.keeping():
        party = Party(entrance.service.portal_origin)
        person_id = finish_sign_up(entrance.session, party, typed.get("credential"), entrance.now)
        address = safe_next(typed.get("next", "/"))
        return entrance.enter(person_id, address if address != "/" else SIGNED_UP)
    return render(entrance.request, "sign_up.html", status=422, typed=typed)


@router.get("/sign-in")
def sign_in(request: Request, visitor: Anyone, address: Next = "/", *, again: Again = False) -> Response:
    """Ask who is there; `again` also whoever is signed in."""
    if visitor is not None and not again:
        return RedirectResponse(safe_next(address), 303)
    return render(request, "sign_in.html", typed=Typed({"next": [safe_next(address)]}))


@router.post("/passkeys/sign-in")
def sign_in_options(request: Request, session: InTransaction, service: ServiceOf, now: Now) -> Response:
    """Tell a browser to ask for any passkey of ours."""
    party, challenge = Party(service.portal_origin), secrets.token_bytes(CHALLENGE_BYTES)
    return options(lambda: begin_sign_in(session, party, address_of(request), challenge, now))


@router.post("/sign-in")
def finish_signing_in(entrance: Entering, typed: Form) -> Response:
    """Sign in whoever has answered by a passkey."""
    with typed.keeping():
        party = Party(entrance.service.portal_origin)
        person_id = finish_sign_in(entrance.session, party, typed.get("credential"), entrance.now)
        return entrance.enter(person_id, safe_next(typed.get("next", "/")))
    return render(entrance.request, "sign_in.html", status=422, typed=typed)


@router.get("/recover")
def recover(request: Request) -> Response:
    """Ask for a recovery code."""
    return render(request, "recover.html", typed=Typed())


@router.post("/recover")
def use_recovery_code(entrance: Entering, typed: Form) -> Response:
    """Sign in by a recovery code, and lead to a new passkey."""
    code, address = typed.get("code"), address_of(entrance.request)
    with typed.keeping():
        return entrance.enter(use_code(entrance.session, code, address, entrance.now), RECOVERED)
    return render(entrance.request, "recover.html", status=422, typed=typed)


@router.get("/sign-in/{token}")
def confirm_link(request: Request, session: InTransaction, token: Token, now: Now) -> Response:
    """Say whose link it is and ask before it is used up: programs open links, too, and somebody may send another's."""
    person_id = look_at_link(session, token, now)
    vendors = [vendor.name for vendor, _ in vendors_of(session, person_id)]
    return render(request, "confirm_link.html", token=token, name=load_person(session, person_id).name, vendors=vendors)


@router.post("/sign-in/{token}")
def use_sign_in_link(entrance: Entering, token: Token) -> Response:
    """Sign in with a one-time link."""
    return entrance.enter(use_link(entrance.session, token, entrance.now), "/")


@router.post("/sign-out")
def sign_out(visitor: SignedIn, session: InTransaction, service: ServiceOf) -> Response:
    """Sign this browser out."""
    end_session(session, visitor)
    return left(service, "/")


@router.post("/sign-out-everywhere")
def sign_out_everywhere(visitor: SignedIn, session: InTransaction, service: ServiceOf) -> Response:
    """Sign this person out in every browser."""
    end_everywhere(session, visitor.person_id)
    return left(service, "/sign-in")


def options(begin: Callable[[], str]) -> Response:
    """Answer passkeys.js: a browser's options, or what to change, as JSON."""
    try:
        return Response(begin(), media_type="application/json")
    except Refused as error:
        return JSONResponse({"problem": error.message}, status_of(error))


def address_of(request: Request) -> str:
    """Give the address that a request comes from."""
    return request.client.host if request.client else ""
