"""Commands of an operator: serve, worker, migrate.

What they run is imported by the command that runs it: an auditor's `check` must not wait for a web framework.
"""

import logging
import socket
from typing import Annotated

import typer

from app.cli.output import JsonFlag, reported, show
from app.cli.parent import WithParent, stop_with_parent
from app.errors import Conflict
from app.jobs.names import COURT, EMBED_CPU, EMBED_GPU, POST, PROBE, SYSTEM

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; default: the setting.")] = "",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: the setting.")] = 0,
    with_parent: WithParent = False,
    as_json: JsonFlag = False,
) -> None:
    """Run the API; without DATABASE_URL, with its own Postgres, brought to the newest schema first."""
    log_to_stderr()
    from app.main import serve as serve_api
    from app.settings import load_settings

    with reported(as_json=as_json):
        settings = load_settings()
        if with_parent:
            stop_with_parent()
        host, port = host or settings.api_host, port or settings.api_port
        check_free(host, port)
        show({"serving": f"http://{host}:{port}"}, as_json=as_json, text=f"serving at http://{host}:{port}")
        serve_api(settings, host=host, port=port)


def check_free(host: str, port: int) -> None:
    """Refuse a port that another program has, before the database is started.

    Raises: Conflict.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As the server itself will: a port whose connections are only winding down is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Conflict(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from error


def log_to_stderr() -> None:
    """Send diagnostics to standard error, without the small talk of the libraries."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    for name in ("alembic", "procrastinate", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)


def worker(
    queue: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{PROBE}, {COURT}, {POST}, {SYSTEM}, {EMBED_CPU} or {EMBED_GPU}; repeatable. "
            f"Default: {PROBE}, {COURT}, {POST} and {SYSTEM}."
        ),
    ] = None,
    with_parent: WithParent = False,
    as_json: JsonFlag = False,
) -> None:
    """Work on jobs: a light worker probes and decides, an embedding worker trains (in a child process)."""
    log_to_stderr()
    from app import gpu_worker
    from app import worker as light_worker
    from app.settings import load_settings

    queues = queue or [PROBE, COURT, POST, SYSTEM]
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
    from app.db.engine import upgrade
    from app.settings import load_settings, open_database

    with reported(as_json=as_json):
        settings = load_settings()
        if settings.is_embedded and not settings.database_owner_url:
            with open_database(settings):
                pass  # opening the embedded server migrates it
        else:
            upgrade(settings.database_owner_url or settings.database_url)
        show({"migrated": True}, as_json=as_json, text="the database has the newest schema")


COMMANDS = (serve, worker, migrate)
