"""What the clock does to the outbox: it places a job for all that is due, and forgets what is old.

Steps write rows only (`notices`), so none waits for another over a job; and what a job that died left is found here.

Invariants: of one webhook and of one mail at most one job waits.
"""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Engine, delete, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.db.engine import transaction
from app.db.notice_tables import EventRow, MailRow, WebhookDeliveryRow, WebhookRow
from app.db.tables import ID_RANDOM_BYTES, new_id
from app.delivery.sending import DELIVER_TASK
from app.delivery.smtp import MAIL_TASK
from app.jobs.names import POST
from app.jobs.queue import enqueue

# Task of the clock: its name stands in the database.
SWEEP_TASK = "sweep_post"

# Events are for feeds and lists of deliveries, not an archive.
KEPT = timedelta(days=90)

# At a time, so that a sweep stays short.
MAX_JOBS, MAX_FORGOTTEN = 200, 500


def sweep(engine: Engine, now: datetime) -> None:
    """Place jobs for what is due, and forget what is old."""
    with transaction(engine) as session:
        _place_webhooks(session, now)
        _place_mails(session, now)
    with transaction(engine) as session:
        _forget(session, now)


def _place_webhooks(session: Session, now: datetime) -> None:
    due = (WebhookDeliveryRow.state == "waiting") & (WebhookDeliveryRow.next_attempt_at <= now)
    webhooks = (
        select(WebhookRow.id)
        .where(
            WebhookRow.is_enabled,
            _is_over(WebhookRow.held_until, now),
            _is_over(WebhookRow.paused_until, now),
            WebhookRow.id.in_(select(WebhookDeliveryRow.webhook_id).where(due)),
        )
        .order_by(WebhookRow.id)
        .limit(MAX_JOBS)
    )
    for webhook in session.scalars(webhooks).all():
        enqueue(session, DELIVER_TASK, POST, {"webhook": str(webhook)}, queueing_lock=f"{DELIVER_TASK} {webhook}")


def _place_mails(session: Session, now: datetime) -> None:
    due = (MailRow.state == "waiting") & (MailRow.next_attempt_at <= now)
    for mail in session.scalars(select(MailRow.id).where(due).order_by(MailRow.next_attempt_at).limit(MAX_JOBS)).all():
        enqueue(session, MAIL_TASK, POST, {"mail": str(mail)}, queueing_lock=f"{MAIL_TASK} {mail}")


def _is_over(moment: InstrumentedAttribute[datetime | None], now: datetime) -> ColumnElement[bool]:
    return or_(moment.is_(None), moment <= now)


def _forget(session: Session, now: datetime) -> None:
    # Ids begin with their time.
    oldest = new_id(now - KEPT, bytes(ID_RANDOM_BYTES))
    old = session.scalars(select(EventRow.id).where(EventRow.id < oldest).order_by(EventRow.id).limit(MAX_FORGOTTEN))
    if events := old.all():
        session.execute(delete(WebhookDeliveryRow).where(WebhookDeliveryRow.event_id.in_(events)))
        session.execute(delete(EventRow).where(EventRow.id.in_(events)))
    session.execute(delete(MailRow).where(MailRow.id < oldest, MailRow.state != "waiting"))
