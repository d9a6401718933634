"""Credentials of suspects as stored: sealed by the service's key, opened when their suspect is asked.

Invariants: they open for the suspect and the address for which they were given, and for no other, so a changed row sends
nobody's key elsewhere; nothing here gives a value back to a caller but to whoever asks the suspect.
Trust: API and light worker hold the key; whoever has it and the database reads them all.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.canonical import lp, parse_json, tag
from app.db.tables import SuspectRow, SuspectSecretRow
from app.errors import PolicyRefused, Unavailable
from app.storage.secret_box import SecretBox
from app.suspects.credentials import Credentials, parse_credentials, signer_of


def put_credentials(
    session: Session, box: SecretBox | None, suspect: SuspectRow, credentials: Credentials, now: datetime
) -> SuspectSecretRow:
    """Store a suspect's credentials in place of any that there were.

    Raises: PolicyRefused if this service keeps no secrets, or cannot sign with them.
    """
    if box is None:
        raise PolicyRefused(
            "this service keeps no credentials: its operator must give it a key (TRAPSTREET_SECRETS_KEY_FILE)",
            pointer="/credentials",
        )
    signer_of(credentials)
    drop_credentials(session, suspect)
    row = SuspectSecretRow(
        suspect_id=suspect.id,
        kind=credentials.kind,
        header_names=list(credentials.header_names),
        sealed=box.seal(credentials.encode(), _purpose(suspect.id, suspect.endpoint)),
        created_at=now,
    )
    session.add(row)
    session.flush()
    return row


def drop_credentials(session: Session, suspect: SuspectRow) -> None:
    """Forget a suspect's credentials, if there are any."""
    session.execute(delete(SuspectSecretRow).where(SuspectSecretRow.suspect_id == suspect.id))


def find_secrets(session: Session, suspects: Sequence[SuspectRow]) -> Mapping[UUID, SuspectSecretRow]:
    """Read what may be shown of the credentials of suspects."""
    query = select(SuspectSecretRow).where(SuspectSecretRow.suspect_id.in_([suspect.id for suspect in suspects]))
    return {row.suspect_id: row for row in session.scalars(query)}


def open_credentials(session: Session, box: SecretBox | None, suspect_id: UUID, endpoint: str) -> Credentials | None:
    """Read a suspect's credentials to ask it with them at this address; None if it has none.

    Raises: Unavailable if the key that sealed them is not here, or they were given for another address.
    """
    row = session.get(SuspectSecretRow, suspect_id)
    if row is None:
        return None
    if box is None:
        raise Unavailable("the key of this service's secrets is not here: set TRAPSTREET_SECRETS_KEY_FILE")
    return parse_credentials(parse_json(box.open(row.sealed, _purpose(suspect_id, endpoint))))


def _purpose(suspect_id: UUID, endpoint: str) -> bytes:
    return lp(tag("suspect-credentials"), suspect_id.bytes, endpoint)
