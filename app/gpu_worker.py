"""The embedding worker: takes orders from `embed.cpu` or `embed.gpu`, to train or to attack, each in a child process.

Despite its name it needs no GPU, and this process never imports torch: the child does.

Invariants: a queue's seed is made once, by the first worker that finds none, and its public key is in the log before
that worker takes an order; a seed file is whole or absent, and only its owner may read it.
Trust: the folder with the seeds is readable by embedding workers alone; who reads it can open every marking key that
was sealed to their queues. Probe workers never read it.
"""

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sqlalchemy import Engine

from app.db.engine import make_engine, transaction
from app.embedding.attempts import Bench
from app.embedding.confinement.sandbox import find_confinement
from app.embedding.job import embed
from app.embedding.survival.job import survive
from app.embedding.white_box.comparison_job import compare_weights
from app.embedding.white_box.cross_test_job import ask_cross
from app.embedding.white_box.job import check_white_box
from app.errors import DatabaseAway, PolicyRefused
from app.jobs.loop import Lane, RetryPolicy, Timing, make_app, run_worker
from app.jobs.names import EMBED_CPU, EMBED_GPU, SYSTEM
from app.jobs.queue import ASK_CROSS_TASK, COMPARE_WEIGHTS_TASK, EMBED_TASK, SURVIVE_TASK, WHITE_BOX_TASK
from app.keys.sealing import SEED_BYTES, QueueKey
from app.log.store import LogIdentity
from app.registry.worker_keys import announce_worker_key
from app.settings import Settings, load_log_identity, open_database
from app.storage.objects import open_store
from app.storage.secret_file import load_secret

logger = logging.getLogger(__name__)

# A child that dies without a word has usually run out of memory: two more tries, not eight.
POLICY = RetryPolicy(max_attempts=3)

DATABASE_LOOK_SECONDS = 1.0

HANDLERS = {
    EMBED_TASK: embed,
    SURVIVE_TASK: survive,
    WHITE_BOX_TASK: check_white_box,
    COMPARE_WEIGHTS_TASK: compare_weights,
    ASK_CROSS_TASK: ask_cross,
}


def run(settings: Settings, queues: Sequence[str] = ()) -> None:
    """Work on these queues (default: the one that fits this machine) until told to stop.

    Raises: PolicyRefused if a queue is not one of embedding, or its seed file is readable by others; DatabaseAway.
    """
    queues = [queue for queue in queues if queue != SYSTEM] or [queue_of_hardware(Path("/dev"))]
    for queue in queues:
        if queue not in (EMBED_CPU, EMBED_GPU):
            raise PolicyRefused(f"{queue!r} is no embedding queue: use {EMBED_CPU} or {EMBED_GPU}")
    keys = {queue: load_queue_key(settings.queue_key_folder, queue) for queue in queues}
    with open_database(settings) as urls:
        bench = Bench(
            engine=make_engine(urls.service, pool_size=2, application="trapstreet embedding worker"),
            store=open_store(settings.objects_place),
            identity=load_log_identity(settings),
            queue_keys=keys,
            work_dir=settings.work_folder.absolute(),
            max_artifact_bytes=settings.max_artifact_bytes,
            clock=clock,
            limits=settings.training_limits,
        )
        logger.info("trainings are %s", find_confinement(settings.training_limits).describe())
        announce(bench.engine, bench.identity, keys)
        stalled_seconds = settings.stalled_seconds
        handlers = {name: partial(handler, bench) for name, handler in HANDLERS.items()}
        app = make_app(urls.service, handlers, policy=POLICY, stalled_seconds=stalled_seconds)
        logger.info("working on %s", ", ".join(queues))
        timing = Timing(settings.heartbeat_seconds, stalled_seconds, settings.poll_seconds)
        # One at a time: a training takes all the cores, or the GPU.
        run_worker([Lane(app, [*queues, SYSTEM])], name="embedding", timing=timing)


def clock() -> datetime:
    """Read the clock."""
    return datetime.now(UTC)  # noqa: TID251  # an entry point reads the clock


def announce(engine: Engine, identity: LogIdentity, keys: Mapping[str, QueueKey]) -> None:
    """Log the queues' public keys, once each; wait for the database if it is away."""
    for queue, key in keys.items():
        while True:
            with suppress(DatabaseAway), transaction(engine) as session:
                announce_worker_key(session, identity, key, queue, None, clock())
                break
            logger.warning("the database is away; looking again in %.0f s", DATABASE_LOOK_SECONDS)
            time.sleep(DATABASE_LOOK_SECONDS)


def queue_of_hardware(devices: Path) -> str:
    """Name the queue that a machine can serve, by the device files of NVIDIA's driver."""
    return EMBED_GPU if any(devices.glob("nvidia[0-9]*")) else EMBED_CPU


def load_queue_key(folder: Path, queue: str) -> QueueKey:
    """Read a queue's key; the first worker that finds none makes it.

    Raises: PolicyRefused if others may read it; Malformed if the file is damaged.
    """
    path = folder / f"{queue}.key"
    return QueueKey(load_secret(path, SEED_BYTES, create_from=secrets.token_bytes(SEED_BYTES)))
