"""Commands of an operator: serve, worker, migrate."""

import logging
import os
import signal
import threading
from typing import Annotated

import typer

from app import gpu_worker, main
from app import worker as light_worker
from app.cli.output import JsonFlag, reported, show
from app.db.engine import upgrade
from app.jobs.queue import EMBED_CPU, EMBED_GPU, PROBE, SYSTEM
from app.settings import load_settings, open_database

WithParent = Annotated[
    bool,
    typer.Option("--with-parent", help="Stop when standard input closes: for a parent process that may be killed."),
]

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def stop_with_parent() -> None:
    """Ask this process to stop as soon as its standard input closes."""

    def watch() -> None:
        # Not through sys.stdin: its lock, held by this thread at the end, would make the interpreter abort.
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; default: the setting.")] = "",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: the setting.")] = 0,
    with_parent: WithParent = False,
    as_json: JsonFlag = False,
) -> None:
    """Run the API; without DATABASE_URL, with its own Postgres, brought to the newest schema first."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    with reported(as_json=as_json):
        settings = load_settings()
        if with_parent:
            stop_with_parent()
        host, port = host or settings.api_host, port or settings.api_port
        show({"listening": f"http://{host}:{port}"}, as_json=as_json, text=f"listening on http://{host}:{port}")
        main.serve(settings, host=host, port=port)


def worker(
    queue: Annotated[
        list[str] | None,
        typer.Option(help=f"{PROBE}, {SYSTEM}, {EMBED_CPU} or {EMBED_GPU}; repeatable. Default: {PROBE} and {SYSTEM}."),
    ] = None,
    with_parent: WithParent = False,
    as_json: JsonFlag = False,
) -> None:
    """Work on jobs: a light worker probes and decides, an embedding worker trains (in a child process)."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    queues = queue or [PROBE, SYSTEM]
    with reported(as_json=as_json):
        settings = load_settings()
        if with_parent:
            stop_with_parent()
        show({"queues": queues}, as_json=as_json, text=f"working on {', '.join(queues)}")
        if set(queues) & {EMBED_CPU, EMBED_GPU}:
            gpu_worker.run(settings, queues)
        else:
            light_worker.run(settings, queues)


def migrate(as_json: JsonFlag = False) -> None:
    """Bring the database to the newest schema, as the role that owns it."""
    with reported(as_json=as_json):
        settings = load_settings()
        if settings.is_embedded:
            with open_database(settings):
                pass  # opening the embedded server migrates it
        else:
            upgrade(settings.database_owner_url or settings.database_url)
        show({"migrated": True}, as_json=as_json, text="the database has the newest schema")


COMMANDS = (serve, worker, migrate)
