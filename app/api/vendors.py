"""Vendors: sign up with a key that signs a challenge, read oneself, change the key."""

import secrets
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import Field

from app.api.dependencies import Reader, require
from app.api.fields import Answer, Body, Hex32, Hex64, Line, Moment, Proven
from app.api.problems import WITH_KEY, problems
from app.db.tables import ID_RANDOM_BYTES, VendorRow
from app.log.store import receipt_for
from app.registry.api_keys import ADMIN, RANDOM_BYTES, SCOPES, Caller, make_api_key
from app.registry.vendors import CHALLENGE_BYTES, VendorClaim, make_challenge, register_vendor, rotate_key
from app.web import InTransaction, Now, ServiceOf

router = APIRouter(prefix="/vendors", tags=["vendors"])


class Challenge(Answer):
    """Sign it together with the claim, once, before it expires."""

    challenge: Hex32
    expires_at: Moment


class VendorRegistration(Body):
    """A newcomer's claim.

    `signature` is over the canonical JSON of the other keys and the type `trapstreet/v1/vendor-registration`.
    """

    name: Line = Field(examples=["Example Vision Ltd"])
    contact: Line = Field(examples=["watermarks@example.org"])
    public_key: Hex32
    challenge: Hex32
    signature: Hex64


class NewVendor(Proven):
    """A vendor with its first API key, which is shown this once; the entry is the vendor's key."""

    id: UUID
    api_key: str = Field(examples=["ts_abcdefghijkl_0123456789012345678901234567890123456789012"])


class Vendor(Answer):
    """A vendor."""

    id: UUID
    name: str
    contact: str
    public_key: Hex32
    created_at: Moment


class KeyRotation(Body):
    """A new key; both keys sign the canonical JSON {type `trapstreet/v1/vendor-key-change`, public_key, vendor}."""

    public_key: Hex32 = Field(description="The new public key.")
    signature: Hex64 = Field(description="By the old key.")
    possession: Hex64 = Field(description="By the new key.")


@router.post("/challenges", status_code=201, operation_id="make_challenge", responses=problems(429))
def post_challenge(session: InTransaction, now: Now) -> Challenge:
    """Give a challenge to sign with a new vendor's key."""
    row = make_challenge(session, secrets.token_bytes(CHALLENGE_BYTES), now)
    return Challenge(challenge=row.nonce, expires_at=row.expires_at)


@router.post("", status_code=201, operation_id="register_vendor", responses=problems(409))
def post_vendor(body: VendorRegistration, session: InTransaction, service: ServiceOf, now: Now) -> NewVendor:
    """Register as a vendor."""
    claim = VendorClaim(body.challenge, body.contact, body.name, body.public_key)
    identity = service.identity
    vendor = register_vendor(session, identity, claim, body.signature, secrets.token_bytes(ID_RANDOM_BYTES), now)
    randomness = secrets.token_bytes(RANDOM_BYTES)
    key = make_api_key(session, vendor.row.id, "first", SCOPES, expires_at=None, randomness=randomness, now=now)
    return NewVendor(
        id=vendor.row.id,
        api_key=key.text,
        entry_index=vendor.appended.index,
        entry=vendor.appended.entry.decode(),
        receipt=receipt_for(session, vendor.appended.index, vendor.appended.size),
    )


@router.get("/me", operation_id="read_vendor", responses=WITH_KEY)
def get_vendor(caller: Reader, session: InTransaction) -> Vendor:
    """Read the vendor that calls."""
    return Vendor.model_validate(session.get_one(VendorRow, caller.vendor_id))


@router.post("/me/key-rotations", status_code=201, operation_id="rotate_vendor_key", responses=WITH_KEY | problems(409))
def post_key_rotation(
    body: KeyRotation,
    caller: Annotated[Caller, Depends(require(ADMIN), scope="function")],
    session: InTransaction,
    service: ServiceOf,
    now: Now,
) -> Proven:
    """Replace the vendor's key; registrations made with the old one stay its own."""
    vendor = rotate_key(
        session,
        service.identity,
        caller.vendor_id,
        body.public_key,
        signature=body.signature,
        possession=body.possession,
        now=now,
    )
    return Proven(
        entry_index=vendor.appended.index,
        entry=vendor.appended.entry.decode(),
        receipt=receipt_for(session, vendor.appended.index, vendor.appended.size),
    )
