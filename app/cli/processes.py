"""Commands of an operator: serve, worker, migrate.

What they run is imported by the command that runs it: an auditor's `check` must not wait for a web framework.
"""

import logging
from typing import Annotated

import typer

from app.cli.output import JsonFlag, reported, show
from app.cli.parent import WithParent, stop_with_parent
from app.jobs.names import COURT, EMBED_CPU, EMBED_GPU, PROBE, SYSTEM

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; default: the setting.")] = "",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: the setting.")] = 0,
    with_parent: WithParent = False,
    as_json: JsonFlag = False,
) -> None:
    """Run the API; without DATABASE_URL, with its own Postgres, brought to the newest schema first."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    from app.main import serve as serve_api
    from app.settings import load_settings

    with reported(as_json=as_json):
        settings = load_settings()
        if with_parent:
            stop_with_parent()
        host, port = host or settings.api_host, port or settings.api_port
        show({"listening": f"http://{host}:{port}"}, as_json=as_json, text=f"listening on http://{host}:{port}")
        serve_api(settings, host=host, port=port)


def worker(
    queue: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{PROBE}, {COURT}, {SYSTEM}, {EMBED_CPU} or {EMBED_GPU}; repeatable. "
            f"Default: {PROBE}, {COURT} and {SYSTEM}."
        ),
    ] = None,
    with_parent: WithParent = False,
    as_json: JsonFlag = False,
) -> None:
    """Work on jobs: a light worker probes and decides, an embedding worker trains (in a child process)."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    from app import gpu_worker
    from app import worker as light_worker
    from app.settings import load_settings

    queues = queue or [PROBE, COURT, SYSTEM]
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
        if settings.is_embedded:
            with open_database(settings):
                pass  # opening the embedded server migrates it
        else:
            upgrade(settings.database_owner_url or settings.database_url)
        show({"migrated": True}, as_json=as_json, text="the database has the newest schema")


COMMANDS = (serve, worker, migrate)
