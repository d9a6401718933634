"""API keys: how a program says for which vendor it speaks, and what it may do.

    ts_<id, 12 characters>_<secret, 43 characters>

Invariants: a secret is shown once, when it is made; of one vendor at most two keys live at a time, one of them about to
be replaced; whether a key exists cannot be told from the refusal of a wrong one.
Trust: only SHA-256 of the secret is stored; 256 random bits need no slow hash.
"""

import base64
import hmac
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from app.canonical import sha256
from app.db.tables import ApiKeyRow, VendorRow
from app.errors import Conflict, Malformed, NotFound, Unauthenticated

READ, REGISTER, EMBED, DISPUTE, ADMIN = "read", "register", "embed", "dispute", "admin"
SCOPES = {
    READ: "read what is the vendor's",
    REGISTER: "register statements, commit to models",
    EMBED: "upload artifacts, place and cancel orders for embeddings, survival reports and white-box checks",
    DISPUTE: "upload covers, name suspects, file disputes, open triggers",
    ADMIN: "make and revoke API keys, change the vendor's key, say where webhooks go",
}

# A new key beside the old one, so that programs can change over.
MAX_LIVE_KEYS = 2

# 8 bytes give 12 characters of base32, 32 bytes give 43 of base64.
ID_CHARACTERS, ID_BYTES, SECRET_BYTES = 12, 8, 32
RANDOM_BYTES = ID_BYTES + SECRET_BYTES
KEY_PATTERN = re.compile(r"ts_([a-z2-7]{12})_([A-Za-z0-9_-]{43})", re.ASCII)

# Two live ones, and what came before them.
LISTED_KEYS = 50

# `last_used_at` is written at most this often, so that reading stays reading.
LAST_USED_SECONDS = 60


@dataclass(frozen=True)
class Caller:
    """For which vendor somebody calls, and what they may do."""

    vendor_id: UUID
    scopes: frozenset[str]
    # A person in a page of the portal, and no program with an API key.
    is_person: bool = False


@dataclass(frozen=True)
class MadeApiKey:
    """A new key; `text` is never to be had again."""

    row: ApiKeyRow
    text: str = field(repr=False)


def make_api_key(
    session: Session,
    vendor_id: UUID,
    name: str,
    scopes: Collection[str],
    *,
    expires_at: datetime | None,
    randomness: bytes,
    now: datetime,
) -> MadeApiKey:
    """Make a key for a vendor from 40 random bytes.

    Raises: Conflict if two are alive; Malformed if scopes or time make no sense.
    """
    if not scopes or not set(scopes) <= SCOPES.keys():
        raise Malformed(f"scopes are {', '.join(SCOPES)}: name at least one", pointer="/scopes")
    if expires_at is not None and expires_at <= now:
        raise Malformed("this time has passed", pointer="/expires_at")
    # The vendor's row is the lock: two that make keys at once count one after the other.
    session.execute(select(VendorRow.id).where(VendorRow.id == vendor_id).with_for_update(key_share=True)).one()
    if len(_live(session, vendor_id, now)) >= MAX_LIVE_KEYS:
        raise Conflict(f"{MAX_LIVE_KEYS} keys are alive: revoke one first", state="two_live_keys")
    key_id = base64.b32encode(randomness[:ID_BYTES]).decode().lower()[:ID_CHARACTERS]
    secret = base64.urlsafe_b64encode(randomness[ID_BYTES:RANDOM_BYTES]).decode().rstrip("=")
    row = ApiKeyRow(
        id=key_id,
        vendor_id=vendor_id,
        secret_sha256=sha256(secret.encode()),
        name=name,
        scopes=sorted(scopes),
        created_at=now,
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    return MadeApiKey(row, f"ts_{key_id}_{secret}")


def authenticate(session: Session, api_key_text: str, now: datetime) -> Caller:
    """Say who holds this key.

    Raises: Unauthenticated if it is no key, or none that lives.
    """
    match = KEY_PATTERN.fullmatch(api_key_text)
    row = session.get(ApiKeyRow, match[1]) if match else None
    if match is None or row is None or not hmac.compare_digest(row.secret_sha256, sha256(match[2].encode())):
        raise Unauthenticated("this is no API key of this service")
    if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        raise Unauthenticated("this API key was revoked or has expired")
    if row.last_used_at is None or now - row.last_used_at >= timedelta(seconds=LAST_USED_SECONDS):
        _note_use(session, row.id, now)
    return Caller(row.vendor_id, frozenset(row.scopes))


def list_api_keys(session: Session, vendor_id: UUID) -> Sequence[ApiKeyRow]:
    """Read a vendor's live keys and the newest of the revoked ones."""
    query = select(ApiKeyRow).where(ApiKeyRow.vendor_id == vendor_id)
    return session.scalars(
        query.order_by(ApiKeyRow.revoked_at.is_not(None), ApiKeyRow.created_at.desc()).limit(LISTED_KEYS)
    ).all()


def revoke_api_key(session: Session, vendor_id: UUID, key_id: str, now: datetime) -> None:
    """Revoke a key for good; revoking it again changes nothing.

    Raises: NotFound if it is none of the vendor's.
    """
    row = session.get(ApiKeyRow, key_id, with_for_update=True)
    if row is None or row.vendor_id != vendor_id:
        raise NotFound
    row.revoked_at = row.revoked_at or now
    session.flush()


def _live(session: Session, vendor_id: UUID, now: datetime) -> Sequence[str]:
    alive = or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > now)
    query = select(ApiKeyRow.id).where(ApiKeyRow.vendor_id == vendor_id, ApiKeyRow.revoked_at.is_(None), alive)
    return session.scalars(query).all()


def _note_use(session: Session, key_id: str, now: datetime) -> None:
    # If another request is noting it, that is enough: nobody waits for this row.
    free = select(ApiKeyRow.id).where(ApiKeyRow.id == key_id).with_for_update(skip_locked=True)
    used_at = func.greatest(ApiKeyRow.last_used_at, now)
    statement = update(ApiKeyRow).where(ApiKeyRow.id.in_(free)).values(last_used_at=used_at)
    session.execute(statement, execution_options={"synchronize_session": False})
