"""The light worker: opens beacons, asks suspects, passes deadlines, decides disputes, sends what is told. It needs no torch.

Invariants: no handler keeps anything between two steps but in the database, so a killed worker's successor goes on where
it stopped; probing never reads a queue's embedding key; whatever suspects do, what waits for no suspect goes on (a lane of
its own).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from obstore.store import ObjectStore
from sqlalchemy import Engine, select
from sqlalchemy.exc import DBAPIError

from app.db.engine import is_database_busy, make_engine, transaction
from app.db.tables import DisputeRow
from app.delivery.sending import DELIVER_TASK, Courier, deliver
from app.delivery.smtp import MAIL_TASK, MailServer, Postman, send_mail
from app.delivery.sweep import SWEEP_TASK, sweep
from app.disputes.course import ATTEND_TASK, DECIDE_TASK, PROBE_BLOCK_TASK, begin_asking
from app.disputes.cross_tests_judged import conclude_cross_test, open_cross_tests, prepare_model
from app.disputes.derivation import DERIVE_TASK
from app.disputes.deriving import derive_interface
from app.disputes.probing import Prober, probe_block
from app.disputes.resolution import Judge, decide_dispute
from app.disputes.upkeep import attend, pass_deadlines
from app.disputes.weights_judged import conclude_weights, prepare_weights
from app.errors import PolicyRefused, Unavailable
from app.jobs.loop import Every, Handler, Lane, Timing, make_app, run_worker
from app.jobs.names import COURT, POST, PROBE, SYSTEM
from app.jobs.queue import (
    CONCLUDE_CROSS_TEST_TASK,
    CONCLUDE_WEIGHTS_TASK,
    DEADLINE_TASK,
    OPEN_CROSS_TESTS_TASK,
    PREPARE_CROSS_TASK,
    PREPARE_WEIGHTS_TASK,
    Attempt,
)
from app.log.beacon import OPEN_BEACON_TASK, open_beacon
from app.log.store import LogIdentity
from app.registry.registrations import note_beacon
from app.settings import Settings, load_log_identity, load_mail_server, load_secret_box, open_database
from app.storage.objects import open_store
from app.storage.secret_box import SecretBox
from app.suspects.addresses import NetworkRules
from app.suspects.probe import Manner

logger = logging.getLogger(__name__)

# The queues of each lane, and how many jobs it runs at once. Asking is waiting, so many blocks are asked at once; and
# however many suspects keep all of these waiting, beacons are opened, deadlines pass and verdicts are logged. Receivers of
# webhooks and mail may be as slow: they keep only each other waiting.
LANES = (((COURT, SYSTEM), 4), ((PROBE,), 8), ((POST,), 8))
QUEUES = (PROBE, COURT, POST, SYSTEM)


@dataclass(frozen=True)
class Tools:
    """What the handlers work with."""

    engine: Engine
    identity: LogIdentity
    store: ObjectStore
    rules: NetworkRules
    manner: Manner
    queries_a_day: int
    box: SecretBox | None
    arbiter_keys: Sequence[bytes]
    now: Callable[[], datetime]
    mail_server: MailServer | None = None
    portal_origin: str = ""

    def handlers(self) -> dict[str, Handler]:
        """Give a handler for every task that this worker knows."""
        prober = Prober(
            self.engine,
            self.identity,
            self.store,
            self.rules,
            self.manner,
            self.now,
            box=self.box,
            queries_a_day=self.queries_a_day,
        )
        judge = Judge(self.engine, self.identity, self.store, self.arbiter_keys, self.now, self.portal_origin)

        def probe(attempt: Attempt, args: dict[str, Any]) -> None:
            probe_block(prober, attempt, UUID(args["dispute"]), args["block"])

        def decide(attempt: Attempt, args: dict[str, Any]) -> None:
            decide_dispute(judge, attempt, UUID(args["dispute"]))

        def derive(attempt: Attempt, args: dict[str, Any]) -> None:
            derive_interface(prober, attempt, UUID(args["derivation"]))

        def conclude(attempt: Attempt, args: dict[str, Any]) -> None:
            conclude_cross_test(judge, attempt, UUID(args["cross_test"]))

        # From the first: what a suspect is asked again comes from the second, which no receiver may learn.
        addresses = self.manner.egress_addresses
        courier = Courier(
            self.engine, self.rules, self.now, self.box, local_address=addresses[0] if addresses else None
        )
        postman = Postman(self.engine, self.now, self.mail_server)
        handlers: dict[str, Handler] = {
            OPEN_BEACON_TASK: lambda _, args: open_beacon_of(self, args["entry_index"]),
            PROBE_BLOCK_TASK: probe,
            DECIDE_TASK: decide,
            PREPARE_WEIGHTS_TASK: lambda attempt, args: prepare_weights(judge, attempt, UUID(args["delivery"])),
            CONCLUDE_WEIGHTS_TASK: lambda attempt, args: conclude_weights(judge, attempt, UUID(args["delivery"])),
            OPEN_CROSS_TESTS_TASK: lambda attempt, args: open_cross_tests(judge, attempt, UUID(args["dispute"])),
            PREPARE_CROSS_TASK: lambda attempt, args: prepare_model(judge, attempt, UUID(args["delivery"])),
            CONCLUDE_CROSS_TEST_TASK: conclude,
            DERIVE_TASK: derive,
            ATTEND_TASK: lambda _, args: _attend(self, UUID(args["dispute"])),
            DEADLINE_TASK: lambda _attempt, _args: pass_deadlines(self.engine, self.now()),
            DELIVER_TASK: lambda attempt, args: deliver(courier, attempt, UUID(args["webhook"])),
            MAIL_TASK: lambda attempt, args: send_mail(postman, attempt, UUID(args["mail"])),
            SWEEP_TASK: lambda _attempt, _args: sweep(self.engine, self.now()),
        }
        return {name: _patient(handler) for name, handler in handlers.items()}


def _patient(handler: Handler) -> Handler:
    def run(attempt: Attempt, args: dict[str, Any]) -> None:
        try:
            handler(attempt, args)
        except DBAPIError as error:
            if is_database_busy(error):
                raise Unavailable("the database is busy; the job is tried again") from error
            raise

    return run


def _attend(tools: Tools, dispute_id: UUID) -> None:
    try:
        attend(tools.engine, dispute_id, tools.now())
    except Exception as error:
        # Were it dead, the clock would place another at its next look, in a second or two: so it waits, longer and longer.
        raise Unavailable(f"dispute {dispute_id} cannot be attended to; it is tried again") from error


def open_beacon_of(tools: Tools, entry_index: int) -> None:
    """Log the beacon of a registration or a filing, and let what waited for it go on, in one transaction."""
    with transaction(tools.engine) as session:
        # Rows first, the log's lock second, as everybody does who needs both.
        of_entry = DisputeRow.filing_index == entry_index
        dispute = session.scalar(select(DisputeRow).where(of_entry).with_for_update())
        now = tools.now()
        opened = open_beacon(session, tools.identity, entry_index, now)
        if dispute is not None:
            begin_asking(session, dispute, opened.index, now)
        note_beacon(session, entry_index, opened.index, now)


def run(settings: Settings, queues: Sequence[str] = ()) -> None:
    """Work on these queues (default: probe, court, post and system) until told to stop.

    Raises: PolicyRefused if a queue is none of these; DatabaseAway.
    """
    queues = queues or QUEUES
    for queue in queues:
        if queue not in QUEUES:
            raise PolicyRefused(f"{queue!r} is no queue of a light worker: use {', '.join(QUEUES)}")
    with open_database(settings) as urls:
        tools = Tools(
            engine=make_engine(urls.service, application="trapstreet light worker"),
            identity=load_log_identity(settings),
            store=open_store(settings.objects_place),
            rules=settings.network_rules,
            manner=settings.dispute_manner,
            queries_a_day=settings.endpoint_queries_a_day,
            box=load_secret_box(settings),
            arbiter_keys=settings.arbiter_public_keys,
            now=lambda: datetime.now(UTC),  # noqa: TID251  # an entry point reads the clock
            mail_server=load_mail_server(settings),
            portal_origin=settings.portal_address,
        )
        timing = Timing(settings.heartbeat_seconds, settings.stalled_seconds, settings.poll_seconds)
        logger.info("working on %s", ", ".join(queues))
        run_worker(make_lanes(settings, urls.service, tools.handlers(), queues), name="light", timing=timing)


def make_lanes(
    settings: Settings, database_url: str, handlers: Mapping[str, Handler], queues: Sequence[str]
) -> list[Lane]:
    """Make the lanes that these queues need; a clock runs where its queue is worked on."""
    seconds = deadline_interval(settings.poll_seconds)
    clocks = {COURT: {DEADLINE_TASK: Every(seconds, COURT)}, POST: {SWEEP_TASK: Every(seconds, POST)}}
    lanes = []
    for lane_queues, concurrency in LANES:
        if wanted := [queue for queue in lane_queues if queue in queues]:
            periodic = {task: every for queue in wanted for task, every in clocks.get(queue, {}).items()}
            app = make_app(database_url, handlers, periodic=periodic, stalled_seconds=settings.stalled_seconds)
            lanes.append(Lane(app, wanted, concurrency))
    return lanes


def deadline_interval(poll_seconds: float) -> int:
    """Give how often deadlines are looked at: as often as jobs, in whole seconds that divide a minute."""
    return next(seconds for seconds in range(1, 61) if 60 % seconds == 0 and (seconds >= poll_seconds or seconds == 60))
