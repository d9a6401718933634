"""The account: a person's passkeys, recovery codes, sessions, and the vendors it acts for."""

import base64
import binascii
import secrets
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Request
from fastapi.responses import RedirectResponse, Response

from app.errors import NotFound
from app.people.ceremonies import CHALLENGE_BYTES
from app.people.passkeys import Party, begin_adding, finish_adding, list_passkeys, remove_passkey, rename_passkey
from app.people.persons import remove_member, vendors_of
from app.people.recovery import CODES_RANDOM_BYTES, count_codes, make_codes
from app.people.sessions import Visitor, act_for, end_other_session, list_sessions
from app.portal.forms import Form, Typed
from app.portal.pages_sign_in import options
from app.portal.rendering import render
from app.portal.visitors import Fresh, SignedIn
from app.web import InTransaction, Now, ServiceOf

router = APIRouter(prefix="/account")

ACCOUNT = "/account"

CredentialId = Annotated[str, Path(max_length=2000)]


@router.get("")
def account(request: Request, visitor: SignedIn, session: InTransaction, now: Now) -> Response:
    """Show how one signs in, where one is signed in, and for whom one acts."""
    return _account(request, visitor, session, now, Typed())


def _account(
    request: Request, visitor: Visitor, session: InTransaction, now: Now, typed: Typed, status: int = 200
) -> Response:
    person_id = visitor.person_id
    return render(
        request,
        "account.html",
        status=status,
        typed=typed,
        passkeys=[(row, _text_of(row.credential_id)) for row in list_passkeys(session, person_id)],
        codes=count_codes(session, person_id),
        sessions=list_sessions(session, person_id, now),
        vendors=vendors_of(session, person_id),
    )


@router.get("/passkeys/new", dependencies=[Fresh])
def new_passkey(request: Request, _visitor: SignedIn) -> Response:
    """Ask for one more passkey."""
    return render(request, "passkey_new.html", typed=Typed())


@router.post("/passkeys/options")
def passkey_options(visitor: SignedIn, session: InTransaction, service: ServiceOf, now: Now) -> Response:
    """Tell a browser which passkey to make."""
    party, challenge = Party(service.portal_origin), secrets.token_bytes(CHALLENGE_BYTES)
    return options(lambda: begin_adding(session, party, visitor.person_id, challenge, now))


@router.post("/passkeys/new", dependencies=[Fresh])
def add_passkey(
    request: Request, visitor: SignedIn, typed: Form, session: InTransaction, service: ServiceOf, now: Now
) -> Response:
    """Add a passkey."""
    with typed.keeping():
        party, name, answer = Party(service.portal_origin), typed.get("name"), typed.get("credential")
        finish_adding(session, party, visitor.person_id, name, answer, now)
        return RedirectResponse(ACCOUNT, 303)
    return render(request, "passkey_new.html", status=422, typed=typed)


@router.post("/passkeys/{credential_id}/name")
def name_passkey(
    request: Request, visitor: SignedIn, typed: Form, credential_id: CredentialId, session: InTransaction, now: Now
) -> Response:
    """Give a passkey another name."""
    with typed.keeping():
        rename_passkey(session, visitor.person_id, _bytes_of(credential_id), typed.get("name"))
        return RedirectResponse(ACCOUNT, 303)
    return _refused(request, visitor, session, now, typed)


@router.post("/passkeys/{credential_id}/remove", dependencies=[Fresh])
def forget_passkey(
    request: Request, visitor: SignedIn, typed: Form, credential_id: CredentialId, session: InTransaction, now: Now
) -> Response:
    """Forget a passkey."""
    with typed.keeping():
        remove_passkey(session, visitor.person_id, _bytes_of(credential_id))
        return RedirectResponse(ACCOUNT, 303)
    return _refused(request, visitor, session, now, typed)


def _refused(request: Request, visitor: Visitor, session: InTransaction, now: Now, typed: Typed) -> Response:
    # Several small forms stand on this page: what is refused stands above them all.
    return _account(request, visitor, session, now, Typed({}, {"form": next(iter(typed.errors.values()))}), 422)


@router.get("/recovery-codes")
def recovery_codes(request: Request, visitor: SignedIn, session: InTransaction) -> Response:
    """Say what recovery codes are, before new ones replace the old."""
    return render(request, "recovery_codes.html", codes=count_codes(session, visitor.person_id))


@router.post("/recovery-codes", dependencies=[Fresh])
def make_recovery_codes(request: Request, visitor: SignedIn, session: InTransaction) -> Response:
    """Make ten codes, and show them this once."""
    made = make_codes(session, visitor.person_id, secrets.token_bytes(CODES_RANDOM_BYTES))
    return render(request, "recovery_codes_made.html", made=made)


@router.post("/sessions/{digest}/end")
def end_one(visitor: SignedIn, session: InTransaction, digest: Annotated[str, Path(max_length=64)]) -> Response:
    """Sign out elsewhere."""
    end_other_session(session, visitor.person_id, digest_of(digest))
    return RedirectResponse(ACCOUNT, 303)


@router.post("/vendor")
def switch_vendor(visitor: SignedIn, typed: Form, session: InTransaction) -> Response:
    """Act for another vendor in this browser."""
    act_for(session, visitor, id_of(typed.get("vendor")))
    return RedirectResponse("/", 303)


@router.post("/vendors/{vendor_id}/leave")
def leave_vendor(
    request: Request,
    visitor: SignedIn,
    vendor_id: Annotated[str, Path(max_length=64)],
    session: InTransaction,
    now: Now,
) -> Response:
    """Act for a vendor no more."""
    typed = Typed()
    with typed.keeping():
        remove_member(session, visitor.person_id, id_of(vendor_id))
        return RedirectResponse(ACCOUNT, 303)
    return _refused(request, visitor, session, now, typed)


def id_of(text: str) -> UUID:
    """Read the id of a person or a vendor.

    Raises: NotFound if it is none.
    """
    try:
        return UUID(text)
    except ValueError:
        raise NotFound from None


def digest_of(text: str) -> bytes:
    """Read a digest from an address.

    Raises: NotFound if it is none.
    """
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise NotFound from None


def _text_of(credential_id: bytes) -> str:
    return base64.urlsafe_b64encode(credential_id).decode().rstrip("=")


def _bytes_of(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text.encode("ascii", "replace") + b"==")
    except (binascii.Error, ValueError):
        raise NotFound from None
