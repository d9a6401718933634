"""Mail that somebody is to get: written in the step's transaction, sent by a worker if the operator named a mail server.

Invariants: an address is one plain address and a subject one line, so that no text becomes a header; whoever gets mail from
here gets it sparingly, whatever vendors do.
Source: RFC 5321 sections 4.1.2 and 4.5.3; RFC 5322.
"""

import re
import secrets
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.canonical import lp, sha256, tag
from app.db.notice_tables import MailRow
from app.db.tables import ID_RANDOM_BYTES, new_id
from app.errors import Malformed

MAX_ADDRESS, MAX_LOCAL, MAX_SUBJECT, MAX_TEXT = 254, 64, 200, 20_000

# A stranger's address may stand in many filings: more than this a day it does not get.
MAX_A_DAY = 10

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"(?P<local>{_ATOM}(?:\.{_ATOM})*)@{_LABEL}(?:\.{_LABEL})+")


def checked_address(text: str, pointer: str = "") -> str:
    """Give a mail address without the spaces around it.

    Raises: Malformed if it is none in plain ASCII.
    """
    address = text.strip(" ")
    match = _ADDRESS.fullmatch(address) if len(address) <= MAX_ADDRESS else None
    if match is None or len(match["local"]) > MAX_LOCAL:
        raise Malformed("write one mail address in plain ASCII, like legal@example.org", pointer=pointer)
    return address


def queue_mail(session: Session, to: str, subject: str, text: str, now: datetime) -> UUID | None:
    """Have a mail sent once this transaction is committed; None if the address had enough of them today.

    Raises: Malformed if address, subject or text are none; check them (`checked_address`) where they are typed.
    """
    address = checked_address(to, "/to")
    if not (subject and len(subject) <= MAX_SUBJECT and subject.isprintable()):
        raise Malformed(f"a subject is one line of at most {MAX_SUBJECT} characters", pointer="/subject")
    plain = text.replace("\r\n", "\n")
    is_text = all(character.isprintable() or character in "\n\t" for character in plain)
    if not (plain and len(plain) <= MAX_TEXT and is_text):
        raise Malformed(f"a text has at most {MAX_TEXT} characters, none of control", pointer="/text")
    key = recipient_key(address)
    # The count outlives the address, which is forgotten when the mail has left.
    recent = (MailRow.recipient_sha256 == key) & (MailRow.created_at > now - timedelta(days=1))
    if session.scalars(select(func.count()).select_from(MailRow).where(recent)).one() >= MAX_A_DAY:
        return None
    row = MailRow(
        id=new_id(now, secrets.token_bytes(ID_RANDOM_BYTES)),
        recipient=address,
        recipient_sha256=key,
        subject=subject,
        body=plain,
        state="waiting",
        next_attempt_at=now,
        error="",
        created_at=now,
    )
    session.add(row)
    session.flush()
    return row.id


def recipient_key(address: str) -> bytes:
    """Give what an address is counted by."""
    return sha256(lp(tag("mail-recipient"), address.lower()))
