"""The job `send_mail`: hand one mail to the operator's mail server.

Invariants: a password goes only over TLS; every header is written by the library from checked values; a mail may arrive
twice (a server that took it and then fell silent), and is known by its Message-ID; when it has left, address and text are
forgotten.
Source: RFC 5321 (replies), RFC 8314 (submission over TLS), RFC 3834 (automatic mail).
"""

import smtplib
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from uuid import UUID

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.db.engine import transaction
from app.db.notice_tables import MailRow
from app.delivery.schedule import next_attempt_at
from app.jobs.queue import Attempt

# Task name: it stands in the database. Its argument is `mail`.
MAIL_TASK = "send_mail"

SERVER_SECONDS = 20

# While a worker sends it no other does.
HOLD = timedelta(minutes=5)

TLS, STARTTLS, PLAIN = "smtps", "smtp", "smtp+plain"
PORTS = {TLS: 465, STARTTLS: 587, PLAIN: 25}

NO_SERVER = "not_configured"


@dataclass(frozen=True)
class MailServer:
    """The operator's mail server, and who we are there; `security` is one of `PORTS`."""

    security: str
    host: str
    port: int
    sender: str
    user: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True)
class Postman:
    """What a worker sends mail with."""

    engine: Engine
    now: Callable[[], datetime]
    server: MailServer | None = None


@dataclass(frozen=True)
class _Mail:
    id: UUID
    recipient: str
    subject: str
    body: str
    created_at: datetime


def send_mail(postman: Postman, attempt: Attempt, mail_id: UUID) -> None:
    """Send one mail, if it is due."""
    attempt.raise_if_stopping()
    mail = _take(postman, mail_id)
    if mail is None:
        return
    if postman.server is None:
        error, is_final = NO_SERVER, True
    else:
        error, is_final = hand_over(postman.server, mail)
    with transaction(postman.engine) as session:
        row, now = _lock(session, mail_id), postman.now()
        if row is not None and row.state == "waiting":
            _note(row, error, now, is_final=is_final)


def message_of(server: MailServer, mail: "_Mail | MailRow") -> EmailMessage:
    """Write a mail with its headers."""
    message = EmailMessage(policy=SMTP)
    message["From"], message["To"], message["Subject"] = server.sender, mail.recipient, mail.subject
    message["Date"] = format_datetime(mail.created_at)
    message["Message-ID"] = f"<{mail.id}@{server.sender.partition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.body)
    return message


def hand_over(server: MailServer, mail: "_Mail | MailRow") -> tuple[str, bool]:
    """Give a mail to the server; gives a word for what went wrong, empty if nothing, and whether that is final."""
    try:
        with _connected(server) as connection:
            if server.user:
                connection.login(server.user, server.password)
            connection.send_message(message_of(server, mail), server.sender, [mail.recipient])
    except (smtplib.SMTPException, OSError) as error:
        return _word_of(error)
    return "", True


def _word_of(error: Exception) -> tuple[str, bool]:
    match error:
        case smtplib.SMTPRecipientsRefused():
            return "recipient_refused", all(_is_final(code) for code, _ in error.recipients.values())
        case smtplib.SMTPAuthenticationError():
            return "login_refused", False  # the operator's to mend
        case smtplib.SMTPNotSupportedError():
            return "no_starttls", False
        case smtplib.SMTPResponseException():
            return f"answered_{error.smtp_code}", _is_final(error.smtp_code)
        case ssl.SSLError():
            return "tls_failed", False
        case _:
            return "no_answer", False


def _is_final(code: int) -> bool:
    return 500 <= code < 600


class _Quitting:
    """A connection that is closed politely, and in any case."""

    def __init__(self, connection: smtplib.SMTP) -> None:
        self._connection = connection

    def __enter__(self) -> smtplib.SMTP:
        return self._connection

    def __exit__(self, *_: object) -> None:
        # What the server took it took, whatever it says to our goodbye.
        with suppress(smtplib.SMTPException, OSError):
            self._connection.quit()
        self._connection.close()


def _connected(server: MailServer) -> _Quitting:
    context = server.tls or ssl.create_default_context()
    if server.security == TLS:
        return _Quitting(smtplib.SMTP_SSL(server.host, server.port, timeout=SERVER_SECONDS, context=context))
    connection = smtplib.SMTP(server.host, server.port, timeout=SERVER_SECONDS)
    if server.security == STARTTLS:
        try:
            connection.starttls(context=context)
        except BaseException:
            connection.close()
            raise
    return _Quitting(connection)


def _take(postman: Postman, mail_id: UUID) -> _Mail | None:
    with transaction(postman.engine) as session:
        row, now = _lock(session, mail_id), postman.now()
        if row is None or row.state != "waiting" or row.next_attempt_at is None or row.next_attempt_at > now:
            return None
        row.next_attempt_at = now + HOLD
        return _Mail(row.id, row.recipient, row.subject, row.body, row.created_at)


def _note(row: MailRow, error: str, now: datetime, *, is_final: bool) -> None:
    row.attempts += 1
    row.error = error
    row.next_attempt_at = None if is_final else next_attempt_at(row.attempts, row.id.bytes, now)
    if row.next_attempt_at is None:
        row.state, row.ended_at = ("failed" if error else "sent"), now
        row.recipient, row.body = "", ""


def _lock(session: Session, mail_id: UUID) -> MailRow | None:
    return session.scalar(select(MailRow).where(MailRow.id == mail_id).with_for_update())
