"""Mail to a real server of the protocol: what arrives, what is tried again, what never leaves."""

import email
import email.policy
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from sqlalchemy import select, text

from app.db.engine import transaction
from app.db.notice_tables import MailRow
from app.delivery.smtp import PLAIN, STARTTLS, TLS, MailServer, Postman, send_mail
from app.delivery.sweep import sweep
from app.errors import Malformed
from app.notices.mail import MAX_A_DAY, queue_mail
from tests.conftest import Database
from tests.simulators.certificates import certificate_for
from tests.simulators.mail_server import MailServer as Simulator

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SENDER = "trapstreet@here.example"
TEXT = "Somebody says that your endpoint serves their network.\n\n.\nA line with a dot before it, and Grüße.\n"


class Attempt:
    """An attempt of a worker that is not stopping."""

    job_id, number, queue, is_last = 1, 0, "post", False

    def is_cancelled(self) -> bool:
        return False

    def is_stopping(self) -> bool:
        return False

    def raise_if_stopping(self) -> None:
        """Go on."""


class Office:
    """The outbox and whoever empties it, at a time of the test's choice."""

    def __init__(self, database: Database) -> None:
        self.database, self.now = database, NOW

    def queue(self, to: str = "legal@example.org", subject: str = "A dispute", body: str = TEXT) -> UUID | None:
        with transaction(self.database.service) as session:
            return queue_mail(session, to, subject, body, self.now)

    def send(self, mail_id: UUID | None, server: MailServer | None) -> MailRow:
        assert mail_id is not None
        send_mail(Postman(self.database.service, lambda: self.now, server), Attempt(), mail_id)
        with transaction(self.database.service) as session:
            return session.get_one(MailRow, mail_id)

    def jobs(self) -> list[Any]:
        sweep(self.database.service, self.now)
        with transaction(self.database.service) as session:
            query = text(
                "SELECT args->>'mail' FROM procrastinate_jobs WHERE task_name = 'send_mail' AND status = 'todo'"
            )
            return list(session.scalars(query))


@pytest.fixture
def office(database: Database) -> Iterator[Office]:
    return Office(database)


def at(simulator: Simulator, security: str = PLAIN, **more: Any) -> MailServer:
    return MailServer(security, "localhost" if security != PLAIN else "127.0.0.1", simulator.port, SENDER, **more)


def read(data: bytes) -> EmailMessage:
    return cast("EmailMessage", email.message_from_bytes(data, policy=email.policy.default))


def test_a_mail_arrives_as_it_was_written_and_is_then_forgotten(office: Office) -> None:
    with Simulator() as simulator:
        mail_id = office.queue()
        assert office.jobs() == [str(mail_id)]
        row = office.send(mail_id, at(simulator))
    (mail,) = map(read, simulator.mails)
    assert (mail["From"], mail["To"], mail["Subject"]) == (SENDER, "legal@example.org", "A dispute")
    assert mail["Message-ID"] == f"<{mail_id}@here.example>"
    assert mail["Date"].datetime == NOW
    assert mail.get_content().replace("\r\n", "\n") == TEXT
    assert (row.state, row.recipient, row.body, row.next_attempt_at) == ("sent", "", "", None)
    assert office.send(mail_id, at(simulator)).attempts == 1
    assert len(simulator.mails) == 1


def test_a_mail_of_a_step_that_is_rolled_back_never_leaves(office: Office) -> None:
    with pytest.raises(ZeroDivisionError), transaction(office.database.service) as session:  # noqa: PT012
        queue_mail(session, "legal@example.org", "A dispute", TEXT, NOW)
        raise ZeroDivisionError
    assert office.jobs() == []


@pytest.mark.parametrize(
    ("to", "subject", "body", "pointer"),
    [
        ("legal@example.org\r\nBcc: all@example.org", "A dispute", TEXT, "/to"),
        ("legal@example.org", "A dispute\r\nBcc: all@example.org", TEXT, "/subject"),
        ("legal@example.org", "A dispute\n\nBuy this", TEXT, "/subject"),
        ("legal@example.org", "", TEXT, "/subject"),
        ("legal@example.org", "x" * 201, TEXT, "/subject"),
        ("legal@example.org", "A dispute", "", "/text"),
        ("legal@example.org", "A dispute", "\0", "/text"),
        ("legal@example.org", "A dispute", "a\rb", "/text"),
        ("legal@example.org", "A dispute", "x" * 20_001, "/text"),
    ],
)
def test_nothing_that_could_become_a_header_is_taken(
    office: Office, to: str, subject: str, body: str, pointer: str
) -> None:
    with pytest.raises(Malformed) as refusal:
        office.queue(to, subject, body)
    assert refusal.value.pointer == pointer
    assert office.jobs() == []


def test_words_of_other_alphabets_in_a_subject_arrive(office: Office) -> None:
    with Simulator() as simulator:
        office.send(office.queue(subject="Streit um «Gewässer» 🗺"), at(simulator))
    assert read(simulator.mails[0])["Subject"] == "Streit um «Gewässer» 🗺"


@pytest.mark.parametrize(
    ("answers", "error", "state"),
    [
        ({"RCPT": "550 no such user"}, "recipient_refused", "failed"),
        ({"RCPT": "450 try later"}, "recipient_refused", "waiting"),
        ({"MAIL": "451 busy"}, "answered_451", "waiting"),
        ({"DATA": "554 no"}, "answered_554", "failed"),
        ({"HELLO": "421 closing"}, "answered_421", "waiting"),
        ({"HELLO": "hello you"}, "answered_-1", "waiting"),
    ],
)
def test_what_the_server_refuses_for_good_is_given_up_and_the_rest_is_tried_again(
    office: Office, answers: dict[str, str], error: str, state: str
) -> None:
    with Simulator(answers) as simulator:
        row = office.send(office.queue(), at(simulator))
    assert (row.error, row.state, row.attempts) == (error, state, 1)
    assert (row.recipient == "") == (state == "failed")
    office.now += timedelta(minutes=1)
    with Simulator() as simulator:
        again = office.send(row.id, at(simulator))
    assert again.state == ("sent" if state == "waiting" else "failed")


def test_a_server_that_is_away_is_asked_again_for_a_day_and_then_no_more(office: Office) -> None:
    with Simulator() as simulator:
        pass
    mail_id = office.queue()
    for _ in range(12):
        row = office.send(mail_id, at(simulator))
        office.now += timedelta(hours=13)
    assert (row.state, row.error, row.attempts) == ("failed", "no_answer", 8)


def test_a_mail_that_another_worker_is_sending_is_left_to_it(office: Office) -> None:
    mail_id = office.queue()
    with transaction(office.database.service) as session:
        session.scalars(select(MailRow)).one().next_attempt_at = NOW + timedelta(minutes=5)
    with Simulator() as simulator:
        assert office.send(mail_id, at(simulator)).state == "waiting"
        assert office.jobs() == []
    assert simulator.mails == []


def test_without_a_server_a_mail_is_given_up_with_the_reason(office: Office) -> None:
    row = office.send(office.queue(), None)
    assert (row.state, row.error, row.recipient) == ("failed", "not_configured", "")


def test_an_address_gets_so_many_a_day_whatever_vendors_do(office: Office) -> None:
    sent = [office.queue() for _ in range(MAX_A_DAY)]
    assert None not in sent
    assert office.queue("LEGAL@example.org") is None
    assert office.queue("other@example.org") is not None
    with Simulator() as simulator:
        office.send(sent[0], at(simulator))
    assert office.queue() is None
    office.now += timedelta(days=1)
    assert office.queue() is not None


def test_a_password_goes_over_tls_alone(office: Office, tmp_path: Path) -> None:
    server_side, client_side, _ = certificate_for("localhost", tmp_path)
    login = {"user": "us", "password": "s3cret"}
    with Simulator(tls=server_side) as simulator:
        row = office.send(office.queue(), at(simulator, STARTTLS, tls=client_side))
        assert (row.state, row.error) == ("sent", "")
        assert "STARTTLS" in simulator.commands
        assert len(simulator.mails) == 1
    with Simulator() as simulator:  # somebody between us cut STARTTLS out
        row = office.send(office.queue(), at(simulator, STARTTLS, tls=client_side, **login))
        assert (row.error, row.state) == ("no_starttls", "waiting")
        assert [command for command in simulator.commands if "AUTH" in command] == []
    with Simulator(tls=server_side) as simulator:  # a certificate that nobody vouches for
        row = office.send(office.queue(), at(simulator, STARTTLS, tls=ssl.create_default_context(), **login))
        assert (row.error, simulator.mails) == ("tls_failed", [])
    with Simulator() as simulator:
        row = office.send(office.queue(), at(simulator, TLS, tls=client_side, **login))
        assert (row.state, simulator.mails) == ("waiting", [])
