"""Challenges for passkeys: who asks for too many takes nobody else's place."""

import secrets
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from app.db.engine import transaction
from app.errors import Conflict, TooMany
from app.people.ceremonies import (
    ADD,
    MAX_OF_ASKER,
    SIGN_IN,
    SIGN_UP,
    close_ceremony,
    network_asker,
    open_ceremony,
    person_asker,
)
from tests.conftest import Database

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def ask(database: Database, asker: bytes, purpose: str = SIGN_IN, now: datetime = NOW, times: int = 1) -> bytes:
    """Ask for challenges; gives the last one."""
    with transaction(database.service) as session:
        for _ in range(times):
            challenge = secrets.token_bytes(32)
            open_ceremony(session, purpose, asker, {}, challenge, now)
    return challenge


def test_a_network_that_asks_for_too_many_stops_itself_alone(database: Database) -> None:
    rude, polite = network_asker("192.0.2.7"), network_asker("198.51.100.7")
    ask(database, rude, times=MAX_OF_ASKER)
    with pytest.raises(TooMany, match="from your network"):
        ask(database, rude)
    # A neighbour in the same /24 is the same asker; others, other purposes and people who are signed in are not.
    with pytest.raises(TooMany):
        ask(database, network_asker("192.0.2.200"))
    ask(database, polite)
    ask(database, rude, SIGN_UP)
    ask(database, person_asker(uuid4()), ADD)
    ask(database, rude, now=NOW + timedelta(minutes=11))


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8:1::1", "2001:db8:1:ffff::2", True),
        ("2001:db8:1::1", "2001:db8:2::1", False),
        ("::ffff:192.0.2.7", "192.0.2.9", True),
        ("192.0.2.7", "192.0.3.7", False),
        ("", "no address", True),
    ],
)
def test_networks_are_what_one_customer_of_a_provider_has(one: str, other: str, is_same: bool) -> None:
    assert (network_asker(one) == network_asker(other)) == is_same


def test_a_challenge_is_good_once_and_for_its_purpose(database: Database) -> None:
    challenge = ask(database, network_asker("192.0.2.7"))
    for purpose, good in ((SIGN_UP, False), (SIGN_IN, True), (SIGN_IN, False)):
        with transaction(database.service) as session:
            if good:
                close_ceremony(session, purpose, challenge, NOW)
            else:
                with pytest.raises(Conflict):
                    close_ceremony(session, purpose, challenge, NOW)
