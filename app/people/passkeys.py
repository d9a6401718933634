"""Passkeys: how people sign up and sign in.

Invariants: a passkey lives in its authenticator with its person's handle (resident), so that nobody types a name; the
authenticator verified the person; the answer is to our challenge, at our origin; a counter that does not rise is refused.
No person loses the last way in by removing a passkey.
Source: WebAuthn level 3 sections 7.1, 7.2.
Trust: only public keys stand here; what kind of authenticator it is nobody attests, and nothing depends on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import (
    parse_authentication_credential_json,
    parse_client_data_json,
    parse_registration_credential_json,
)
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    RegistrationCredential,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from app.db.people_tables import PasskeyRow, PersonRow
from app.db.tables import ID_RANDOM_BYTES
from app.errors import Conflict, Malformed, NotFound, Refused, TooMany, Unauthenticated
from app.people.ceremonies import ADD, SIGN_IN, SIGN_UP, close_ceremony, network_asker, open_ceremony, person_asker
from app.people.persons import PERSON_RANDOM_BYTES, checked_line, make_person
from app.people.recovery import count_codes

Parsed = TypeVar("Parsed")

SERVICE_NAME = "Trapstreet"
FIRST_NAME = "First passkey"

MAX_PASSKEYS = 20
# An answer with a certificate chain is 10 kB; an id 1,023 bytes at most (WebAuthn section 4).
MAX_ANSWER_CHARACTERS = 32_768
MAX_CREDENTIAL_ID_BYTES = 1023

NOT_ACCEPTED = "this passkey's answer was not accepted: try again, or use another passkey"
UNKNOWN = "this passkey is not known here: use another one, or a recovery code"


@dataclass(frozen=True)
class Party:
    """Where passkeys are good (WebAuthn's relying party)."""

    origin: str

    @property
    def id(self) -> str:
        """Give the host, by which authenticators know us."""
        return urlsplit(self.origin).hostname or ""


def begin_sign_up(  # who asks, for what, with which draws
    session: Session, party: Party, address: str, name: str, challenge: bytes, randomness: bytes, now: datetime
) -> str:
    """Ask for the first passkey of somebody who is nobody yet (42 random bytes); gives a browser's options as JSON.

    `address` is the browser's, by which strangers are counted.

    Raises: Malformed if the name is none; TooMany.
    """
    name = checked_line(name, "/name")
    details = {"name": name, "randomness": randomness.hex()}
    open_ceremony(session, SIGN_UP, network_asker(address), details, challenge, now)
    return _creation(party, name, randomness[ID_RANDOM_BYTES:PERSON_RANDOM_BYTES], challenge, ())


def finish_sign_up(session: Session, party: Party, answer: str, now: datetime) -> UUID:
    """Make a person of whoever made the passkey.

    Raises: Refused; the challenge is used up all the same.
    """
    credential = _parsed(answer, parse_registration_credential_json)
    challenge = _challenge(credential.response.client_data_json)
    details = close_ceremony(session, SIGN_UP, challenge, now)
    passkey = _verified(party, credential, challenge, FIRST_NAME, now)
    _check_is_new(session, passkey)
    person = make_person(session, details["name"], bytes.fromhex(details["randomness"]), now)
    passkey.person_id = person.id
    session.add(passkey)
    session.flush()
    return person.id


def begin_adding(session: Session, party: Party, person_id: UUID, challenge: bytes, now: datetime) -> str:
    """Ask for one more passkey of a person; gives a browser's options as JSON.

    Raises: TooMany.
    """
    person = session.get_one(PersonRow, person_id)
    known = list_passkeys(session, person_id)
    if len(known) >= MAX_PASSKEYS:
        raise TooMany(f"you have {MAX_PASSKEYS} passkeys: remove one first")
    open_ceremony(session, ADD, person_asker(person_id), {"person": str(person_id)}, challenge, now)
    return _creation(party, person.name, person.handle, challenge, [row.credential_id for row in known])


def finish_adding(session: Session, party: Party, person_id: UUID, name: str, answer: str, now: datetime) -> None:
    """Add a passkey to a person.

    Raises: Refused; the challenge is used up all the same.
    """
    name = checked_line(name, "/name")
    credential = _parsed(answer, parse_registration_credential_json)
    challenge = _challenge(credential.response.client_data_json)
    details = close_ceremony(session, ADD, challenge, now)
    if details["person"] != str(person_id):
        raise Conflict("this passkey was made for somebody else: reload the page and try again", state="other_person")
    passkey = _verified(party, credential, challenge, name, now)
    _check_is_new(session, passkey)
    passkey.person_id = person_id
    session.add(passkey)
    session.flush()


def begin_sign_in(session: Session, party: Party, address: str, challenge: bytes, now: datetime) -> str:
    """Ask for any passkey of ours; gives a browser's options as JSON. `address` is the browser's.

    Raises: TooMany.
    """
    open_ceremony(session, SIGN_IN, network_asker(address), {}, challenge, now)
    return options_to_json(
        generate_authentication_options(
            rp_id=party.id, challenge=challenge, user_verification=UserVerificationRequirement.REQUIRED
        )
    )


def finish_sign_in(session: Session, party: Party, answer: str, now: datetime) -> UUID:
    """Say who answered.

    Raises: Refused; the challenge is used up all the same.
    """
    credential = _parsed(answer, parse_authentication_credential_json)
    challenge = _challenge(credential.response.client_data_json)
    close_ceremony(session, SIGN_IN, challenge, now)
    # Locked: of two answers with the same counter one is refused.
    row = session.get(PasskeyRow, credential.raw_id, with_for_update=True)
    if row is None:
        raise Unauthenticated(UNKNOWN)
    person = session.get_one(PersonRow, row.person_id)
    if credential.response.user_handle != person.handle:
        raise Unauthenticated(UNKNOWN)
    try:
        verified = verify_authentication_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=party.origin,
            credential_public_key=row.public_key,
            credential_current_sign_count=row.sign_count,
            require_user_verification=True,
        )
    except Exception as error:  # strangers' bytes: whatever the parser trips over, nobody is signed in
        raise Unauthenticated(NOT_ACCEPTED) from error
    row.sign_count, row.last_used_at = verified.new_sign_count, now
    session.flush()
    return row.person_id


def list_passkeys(session: Session, person_id: UUID) -> Sequence[PasskeyRow]:
    """Read a person's passkeys, the oldest first."""
    query = select(PasskeyRow).where(PasskeyRow.person_id == person_id)
    return session.scalars(query.order_by(PasskeyRow.created_at, PasskeyRow.credential_id)).all()


def rename_passkey(session: Session, person_id: UUID, credential_id: bytes, name: str) -> None:
    """Give a passkey another name.

    Raises: NotFound if it is none of the person's; Malformed.
    """
    _load(session, person_id, credential_id).name = checked_line(name, "/name")
    session.flush()


def remove_passkey(session: Session, person_id: UUID, credential_id: bytes) -> None:
    """Forget a passkey.

    Raises: NotFound if it is none of the person's; Conflict if its person could not sign in any more.
    """
    # The person's row is the lock: of two passkeys removed at once one stays.
    session.execute(select(PersonRow.id).where(PersonRow.id == person_id).with_for_update(key_share=True))
    row = _load(session, person_id, credential_id)
    if len(list_passkeys(session, person_id)) == 1 and count_codes(session, person_id) == 0:
        raise Conflict(
            "this is your last passkey and no recovery code is left: add another passkey or make recovery codes first",
            state="last_passkey",
        )
    session.delete(row)
    session.flush()


def _load(session: Session, person_id: UUID, credential_id: bytes) -> PasskeyRow:
    row = session.get(PasskeyRow, credential_id)
    if row is None or row.person_id != person_id:
        raise NotFound
    return row


def _creation(party: Party, name: str, handle: bytes, challenge: bytes, known: Sequence[bytes]) -> str:
    return options_to_json(
        generate_registration_options(
            rp_id=party.id,
            rp_name=SERVICE_NAME,
            user_name=name,
            user_id=handle,
            challenge=challenge,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED,
                require_resident_key=True,
                user_verification=UserVerificationRequirement.REQUIRED,
            ),
            exclude_credentials=[PublicKeyCredentialDescriptor(id=credential_id) for credential_id in known],
        )
    )


def _parsed(answer: str, parse: Callable[[str], Parsed]) -> Parsed:
    if not answer:
        raise Malformed("no passkey answered: passkeys need JavaScript and a browser that knows them")
    if len(answer) > MAX_ANSWER_CHARACTERS:
        raise Malformed(NOT_ACCEPTED)
    try:
        return parse(answer)
    except Exception as error:  # strangers' bytes, as above
        raise Malformed(NOT_ACCEPTED) from error


def _challenge(client_data: bytes) -> bytes:
    try:
        return parse_client_data_json(client_data).challenge
    except Exception as error:  # strangers' bytes, as above
        raise Malformed(NOT_ACCEPTED) from error


def _verified(
    party: Party, credential: RegistrationCredential, challenge: bytes, name: str, now: datetime
) -> PasskeyRow:
    try:
        verified = verify_registration_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=party.origin,
            require_user_verification=True,
        )
    except Exception as error:  # strangers' bytes, as above
        raise Refused(NOT_ACCEPTED) from error
    if len(verified.credential_id) > MAX_CREDENTIAL_ID_BYTES:
        raise Malformed(NOT_ACCEPTED)
    return PasskeyRow(
        credential_id=verified.credential_id,
        name=name,
        public_key=verified.credential_public_key,
        sign_count=verified.sign_count,
        transports=[transport.value for transport in credential.response.transports or ()],
        created_at=now,
    )


def _check_is_new(session: Session, passkey: PasskeyRow) -> None:
    if session.get(PasskeyRow, passkey.credential_id) is not None:
        raise Conflict("this passkey is registered already: sign in with it", state="known_passkey")
