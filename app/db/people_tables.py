"""The tables of people: who they are, how they prove it, for which vendor they act.

Invariants: those of `tables`. A person belongs to no vendor; a membership says where it acts, and as what.
Trust: secrets stand here as hashes only (sessions, links, invitations, recovery codes); a passkey is a public key.
"""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db.columns import Base, has_bytes, is_one_of
from app.db.tables import Id, VendorId

ROLES = ("owner", "engineer", "auditor")

PersonId = Annotated[UUID, mapped_column(ForeignKey("people.id"))]


class PersonRow(Base):
    """A person; `handle` is what passkeys know it by."""

    __tablename__ = "people"
    id: Mapped[Id]
    name: Mapped[str]
    handle: Mapped[bytes] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    __table_args__ = (has_bytes("handle", 32),)


class MembershipRow(Base):
    """What a person may do for a vendor."""

    __tablename__ = "memberships"
    person_id: Mapped[PersonId] = mapped_column(primary_key=True)
    vendor_id: Mapped[VendorId] = mapped_column(primary_key=True)
    role: Mapped[str]
    created_at: Mapped[datetime]
    __table_args__ = (is_one_of("role", ROLES), Index(None, "vendor_id"))


class PasskeyRow(Base):
    """A passkey (a WebAuthn credential) of a person; `public_key` is COSE."""

    __tablename__ = "passkeys"
    credential_id: Mapped[bytes] = mapped_column(primary_key=True)
    person_id: Mapped[PersonId]
    name: Mapped[str]
    public_key: Mapped[bytes]
    sign_count: Mapped[int]
    transports: Mapped[list[str]]
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    __table_args__ = (Index(None, "person_id"),)


class CeremonyRow(Base):
    """A challenge that a browser's authenticator answers once; `details` is what was asked for with it."""

    __tablename__ = "ceremonies"
    challenge: Mapped[bytes] = mapped_column(primary_key=True)
    purpose: Mapped[str]
    # Hash of the network or the person that asked for it.
    asker: Mapped[bytes]
    details: Mapped[dict[str, Any]]
    expires_at: Mapped[datetime]
    __table_args__ = (Index(None, "purpose", "asker"),)


class RecoveryCodeRow(Base):
    """A code that signs its person in once, for when every passkey is lost."""

    __tablename__ = "recovery_codes"
    code_sha256: Mapped[bytes] = mapped_column(primary_key=True)
    person_id: Mapped[PersonId]
    used_at: Mapped[datetime | None]
    __table_args__ = (has_bytes("code_sha256", 32), Index(None, "person_id"))


class WebSessionRow(Base):
    """A browser that is signed in, and the vendor that its person acts for."""

    __tablename__ = "web_sessions"
    token_sha256: Mapped[bytes] = mapped_column(primary_key=True)
    person_id: Mapped[PersonId]
    vendor_id: Mapped[UUID | None] = mapped_column(ForeignKey("vendors.id"))
    browser: Mapped[str]
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    __table_args__ = (has_bytes("token_sha256", 32), Index(None, "person_id"))


class SignInLinkRow(Base):
    """A link that signs its person in once."""

    __tablename__ = "sign_in_links"
    token_sha256: Mapped[bytes] = mapped_column(primary_key=True)
    person_id: Mapped[PersonId]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    __table_args__ = (has_bytes("token_sha256", 32), Index(None, "person_id"))


class InvitationRow(Base):
    """An invitation to act for a vendor; whoever has the link may accept it once."""

    __tablename__ = "invitations"
    token_sha256: Mapped[bytes] = mapped_column(primary_key=True)
    vendor_id: Mapped[VendorId]
    role: Mapped[str]
    note: Mapped[str]
    invited_by: Mapped[UUID] = mapped_column(ForeignKey("people.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    __table_args__ = (has_bytes("token_sha256", 32), is_one_of("role", ROLES), Index(None, "vendor_id"))


class GuessRow(Base):
    """From where codes were typed lately (a hash of the network), and until when that counts."""

    __tablename__ = "guesses"
    source_sha256: Mapped[bytes] = mapped_column(primary_key=True)
    counts_until: Mapped[datetime]
    __table_args__ = (has_bytes("source_sha256", 32), Index(None, "counts_until"))
