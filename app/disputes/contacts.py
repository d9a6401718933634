"""Where the accused is told of a dispute by mail, if its claimant knows an address: once, when nothing is asked any more.

Invariants: no mail leaves before the notice is logged; one mail a dispute, in words of ours, so that nobody is written to
through us; the address stands in no log, bundle, feed or public page, and is forgotten with the mail.
Source: docs/protocol.md section 6.1.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from app.db.lifecycle_tables import DisputeContactRow
from app.db.tables import DisputeRow, VendorRow
from app.disputes.course import record_of
from app.errors import Conflict
from app.notices.mail import checked_address, queue_mail

WAITING, MAILED, REFUSED = "waiting", "mailed", "refused"

SUBJECT: Final = "Somebody says that a model you serve is theirs"
TEXT: Final = """\
{vendor} has filed a dispute about the endpoint

    {endpoint}

with a verification service for neural networks. What it was asked, what it answered and what follows from that stands here:

    {link}

You need no account. There you can answer, deliver an older model, ask for a second run, and download everything that is
needed to recompute the result. Whoever has this link can do so, so keep it to those whom it concerns.

If you do not serve a model at this address, somebody gave us a wrong one, and there is nothing to do. This is the only mail
that is sent to you about this dispute.
"""


@dataclass(frozen=True)
class Contact:
    """Where the mail stands: `address` is known until it is sent."""

    address: str | None
    state: str
    told_at: datetime | None


def _one_line(text: str) -> str:
    """Replace what no mail may hold: a name that breaks the mail would keep its dispute from being decided."""
    return "".join(character if character.isprintable() else "?" for character in text)


def find_contact(session: Session, dispute: DisputeRow) -> Contact | None:
    """Read a dispute's contact."""
    row = session.get(DisputeContactRow, dispute.id)
    return None if row is None else Contact(row.address, row.state, row.told_at)


def give_contact(session: Session, dispute: DisputeRow, address: str, link: str | None, now: datetime) -> Contact:
    """Keep an address for a dispute that is locked, or mail to it now if there is a link already.

    Raises: Malformed if it is no address; Conflict if the mail was written.
    """
    checked = checked_address(address, "/address")
    row = session.get(DisputeContactRow, dispute.id)
    if row is not None and row.state != WAITING:
        raise Conflict("the accused was written to: hand the link over yourself", state=row.state)
    if row is None:
        row = DisputeContactRow(dispute_id=dispute.id, state=WAITING, created_at=now)
        session.add(row)
    row.address = checked
    session.flush()
    if link is not None:
        mail_link(session, dispute, link, now)
    return Contact(row.address, row.state, row.told_at)


def mail_link(session: Session, dispute: DisputeRow, link: str, now: datetime) -> None:
    """Write the mail of a dispute that is locked, if an address waits for it."""
    row = session.get(DisputeContactRow, dispute.id)
    if row is None or row.address is None:
        return
    vendor = _one_line(session.get_one(VendorRow, dispute.vendor_id).name)
    text = TEXT.format(vendor=vendor, endpoint=_one_line(record_of(dispute).endpoint), link=link)
    mail = queue_mail(session, row.address, SUBJECT, text, now)
    row.address, row.state, row.told_at = None, MAILED if mail is not None else REFUSED, now
