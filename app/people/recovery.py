"""Recovery codes: ten codes on paper, each of which signs its person in once, for when every passkey is lost.

    abcde-fghij-klmno-pqrst      100 random bits, letters and digits that are not mistaken for each other

Invariants: codes are shown once, when they are made; a new set replaces the old; a used code is nobody's. From one
network (an IPv4 address, an IPv6 /64) a code may be typed once a minute in the long run and ten times in a row, right or
wrong; what was typed too often is not looked up.
Source: RFC 4648 section 6 (alphabet); GCRA (ITU-T I.371) as a limit that needs one row a source.
Trust: only hashes are stored; of 100 random bits a fast hash gives nothing away. The limit spares the service work and
ends hopes; what makes guessing hopeless is the length.
"""

import base64
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.canonical import lp, sha256, tag
from app.db.people_tables import GuessRow, PersonRow, RecoveryCodeRow
from app.errors import TooMany, Unauthenticated
from app.people.networks import network_of

CODES = 10
CODE_CHARACTERS, GROUP_CHARACTERS = 20, 5
# 13 bytes give the 20 characters of base32, and some bits more.
CODE_BYTES = 13
CODES_RANDOM_BYTES = CODES * CODE_BYTES

STEP = timedelta(minutes=1)
BURST = 10

# What people read into a printed code.
MISREAD = str.maketrans("018", "olb", "- \t")


def make_codes(session: Session, person_id: UUID, randomness: bytes) -> Sequence[str]:
    """Replace a person's codes by ten new ones, from 130 random bytes."""
    # The person's row is the lock: of two sets made at once the last one stays, whole.
    session.execute(select(PersonRow.id).where(PersonRow.id == person_id).with_for_update(key_share=True))
    session.execute(delete(RecoveryCodeRow).where(RecoveryCodeRow.person_id == person_id))
    codes = [code_text(randomness[at : at + CODE_BYTES]) for at in range(0, CODES_RANDOM_BYTES, CODE_BYTES)]
    session.add_all(RecoveryCodeRow(code_sha256=code_hash(code), person_id=person_id) for code in codes)
    session.flush()
    return codes


def count_codes(session: Session, person_id: UUID) -> int:
    """Count the codes that a person may still use."""
    query = select(func.count()).select_from(RecoveryCodeRow)
    return session.scalars(query.where(RecoveryCodeRow.person_id == person_id, RecoveryCodeRow.used_at.is_(None))).one()


def use_code(session: Session, typed: str, address: str, now: datetime) -> UUID:
    """Use a code up and give its person; who then refuses must still commit, for the guess is counted.

    Raises: TooMany; Unauthenticated.
    """
    _count_guess(session, address, now)
    row = session.get(RecoveryCodeRow, code_hash(typed), with_for_update=True)
    if row is None or row.used_at is not None:
        raise Unauthenticated(
            "this is no recovery code, or it was used: type it as it was printed, or take the next one"
        )
    row.used_at = now
    session.flush()
    return row.person_id


def code_text(randomness: bytes) -> str:
    """Write a code from 13 random bytes."""
    text = base64.b32encode(randomness).decode().lower()[:CODE_CHARACTERS]
    return "-".join(text[at : at + GROUP_CHARACTERS] for at in range(0, CODE_CHARACTERS, GROUP_CHARACTERS))


def code_hash(typed: str) -> bytes:
    """Give what is kept of a code, however it was typed."""
    return sha256(tag("recovery-code") + typed.strip().lower().translate(MISREAD).encode(errors="replace"))


def _count_guess(session: Session, address: str, now: datetime) -> None:
    source = sha256(tag("guesses") + lp(network_of(address).encode()))
    session.execute(delete(GuessRow).where(GuessRow.counts_until <= now, GuessRow.source_sha256 != source))
    first = insert(GuessRow).values(source_sha256=source, counts_until=now + STEP)
    # Never further ahead than this, so that who stops may go on a minute later.
    later = func.least(func.greatest(GuessRow.counts_until, now) + STEP, now + STEP * (BURST + 1))
    counted = first.on_conflict_do_update(index_elements=["source_sha256"], set_={"counts_until": later})
    if session.scalars(counted.returning(GuessRow.counts_until)).one() > now + STEP * BURST:
        raise TooMany("too many codes were typed from your network: wait some minutes, then type the next code")
