"""Vendors: who holds which Ed25519 key, as the log says it.

Invariants: nobody is a vendor without having signed a fresh challenge with its key; a key belongs to one vendor; a key
changes only by the signature of the one it replaces, and every key a vendor ever had stands in the log.
Source: docs/protocol.md section 2 (vendor-key entries).
Trust: the vendor's private key never comes here.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.canonical import PROTOCOL, encode_json
from app.db.tables import SigningChallengeRow, VendorRow, new_id
from app.errors import Conflict, TooMany
from app.log.store import Appended, LogIdentity, append, entry_time
from app.protocol.records import VendorKeyEntry
from app.signature import verify_signature

CHALLENGE_BYTES = 32
CHALLENGE_SECONDS = 600

# Anyone may ask for challenges; so many wait at most.
MAX_WAITING_CHALLENGES = 10_000


@dataclass(frozen=True)
class VendorClaim:
    """What a newcomer says of itself, and the challenge that it signs with it."""

    challenge: bytes
    contact: str
    name: str
    public_key: bytes

    def signed_bytes(self) -> bytes:
        """Give the bytes that the newcomer signs."""
        return encode_json(
            {
                "type": f"{PROTOCOL}/vendor-registration",
                "challenge": self.challenge.hex(),
                "contact": self.contact,
                "name": self.name,
                "public_key": self.public_key.hex(),
            }
        )


@dataclass(frozen=True)
class KeyedVendor:
    """A vendor and the log entry of its newest key."""

    row: VendorRow
    appended: Appended


def make_challenge(session: Session, nonce: bytes, now: datetime) -> SigningChallengeRow:
    """Give out a challenge that can be signed once, for ten minutes.

    Raises: TooMany if too many wait.
    """
    is_over = (SigningChallengeRow.expires_at <= now) | SigningChallengeRow.used_at.is_not(None)
    session.execute(delete(SigningChallengeRow).where(is_over))
    waiting = session.scalars(select(func.count()).select_from(SigningChallengeRow)).one()
    if waiting >= MAX_WAITING_CHALLENGES:
        raise TooMany("too many challenges wait to be signed: try again in some minutes")
    row = SigningChallengeRow(nonce=nonce, expires_at=now + timedelta(seconds=CHALLENGE_SECONDS))
    session.add(row)
    session.flush()
    return row


def register_vendor(
    session: Session, identity: LogIdentity, claim: VendorClaim, signature: bytes, randomness: bytes, now: datetime
) -> KeyedVendor:
    """Make a vendor of whoever signed a challenge.

    Raises: Conflict if challenge or key was used; SignatureInvalid.
    """
    verify_signature(claim.public_key, signature, claim.signed_bytes())
    _use_challenge(session, claim.challenge, now)
    time = entry_time(session, now)  # takes the log's lock: of two with one key the second sees the first
    _check_key_is_free(session, claim.public_key)
    row = VendorRow(
        id=new_id(now, randomness),
        name=claim.name,
        contact=claim.contact,
        public_key=claim.public_key,
        created_at=now,
    )
    session.add(row)
    session.flush()
    entry = VendorKeyEntry(time=time, public_key=claim.public_key, vendor=str(row.id), signature=b"")
    return KeyedVendor(row, append(session, identity, entry, now))


def rotate_key(
    session: Session,
    identity: LogIdentity,
    vendor_id: UUID,
    public_key: bytes,
    *,
    signature: bytes,
    possession: bytes,
    now: datetime,
) -> KeyedVendor:
    """Replace a vendor's key: the old one signs the change, and so does the new one.

    Raises: SignatureInvalid; Conflict if the new key is taken.
    """
    time = entry_time(session, now)  # takes the log's lock, under which a vendor's present key stays what it is
    row = session.get_one(VendorRow, vendor_id, populate_existing=True)
    signed = VendorKeyEntry.signed_bytes(public_key, str(vendor_id))
    verify_signature(row.public_key, signature, signed)
    verify_signature(public_key, possession, signed)
    _check_key_is_free(session, public_key)
    row.public_key = public_key
    entry = VendorKeyEntry(time=time, public_key=public_key, vendor=str(vendor_id), signature=signature)
    return KeyedVendor(row, append(session, identity, entry, now))


def _use_challenge(session: Session, nonce: bytes, now: datetime) -> None:
    row = session.get(SigningChallengeRow, nonce, with_for_update=True)
    if row is None or row.expires_at <= now:
        raise Conflict("this challenge was never given out or has expired: ask for a new one", state="no_challenge")
    if row.used_at is not None:
        raise Conflict("this challenge was used: ask for a new one", state="challenge_used")
    row.used_at = now


def _check_key_is_free(session: Session, public_key: bytes) -> None:
    if session.scalar(select(VendorRow.id).where(VendorRow.public_key == public_key)) is not None:
        raise Conflict("a vendor with this public key is registered", state="key_taken")
