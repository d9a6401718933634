"""The web process: the API and the portal wired together, and the server that runs it.

Invariants: the log's key fits the database's log before anything is served; the process never imports torch; what it
writes of requests holds no link that lets its reader in.
"""

import logging
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import uvicorn
from alembic.script import ScriptDirectory
from fastapi import APIRouter, FastAPI

from app import __version__
from app.api import (
    accused,
    api_keys,
    artifacts,
    cross_tests,
    derivations,
    disputes,
    embeddings,
    health,
    log,
    models,
    problems,
    queues,
    registrations,
    survival_reports,
    suspects,
    vendors,
    webhooks,
    white_box_checks,
)
from app.api.body_limits import JSON, PAGE, PAGE_THAT_KEEPS, BodyLimits, BodyRule
from app.db.engine import make_engine, migrations_config, transaction
from app.log.store import verify_identity
from app.portal.application import FORMS, MAX_FORM_BYTES, PAGES, WITH_FILE, WITH_WEIGHTS, PortalMount, create_portal
from app.settings import Settings, load_log_identity, load_secret_box, open_database
from app.storage.objects import open_store
from app.web import Service

# A request that still runs when the server is told to stop has so long to end.
SHUTDOWN_SECONDS = 10

# Addresses of the portal that let in whoever has them, also as the `next` of the sign-in page.
SECRET_LINK = re.compile(r"((?:^|/|%2F)(?:d|sign-in|invitations|feeds)(?:/|%2F))[^/?&%\s]{40,}", re.IGNORECASE)

ROUTERS: tuple[APIRouter, ...] = (
    vendors.router,
    api_keys.router,
    registrations.router,
    models.router,
    artifacts.router,
    queues.router,
    embeddings.router,
    survival_reports.router,
    white_box_checks.router,
    suspects.router,
    derivations.router,
    disputes.router,
    accused.router,
    cross_tests.router,
    webhooks.router,
    log.router,
)


class Api(FastAPI):
    """FastAPI whose description of itself holds the problem document that our answers refer to."""

    def openapi(self) -> dict[str, Any]:
        """Describe the API."""
        description = super().openapi()
        description["components"]["schemas"] |= problems.schemas()
        return description


def create_app(settings: Settings, database_url: str, *, portal_origin: str = "") -> FastAPI:
    """Wire API and portal to a migrated database; browsers find the portal at `portal_origin`.

    Raises: PolicyRefused if the database holds another log; DatabaseAway.
    """
    service = _make_service(settings, database_url, portal_origin)
    with transaction(service.engine) as session:
        verify_identity(session, service.identity)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        service.engine.dispose()

    app = Api(
        title="Trapstreet",
        version=__version__,
        description="Proves that a served neural network is somebody's. Errors are RFC 9457 problems.",
        lifespan=lifespan,
        responses=problems.COMMON,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    problems.install(app)
    app.add_middleware(BodyLimits, rules=body_rules(settings))
    app.include_router(health.router)
    for router in ROUTERS:
        app.include_router(router, prefix="/v1")
    app.router.routes.append(PortalMount("/", create_portal(service), name="portal"))
    return app


def serve(settings: Settings, *, host: str = "", port: int | None = None) -> None:
    """Serve the API until told to stop, with the embedded Postgres if there is no other."""
    # uvicorn ends what it serves and then raises the signal again: as an exception, so that the database is stopped, too.
    signal.signal(signal.SIGTERM, _stop)
    with open_database(settings) as urls:
        listens_on = settings.api_port if port is None else port
        logging.getLogger("uvicorn.access").addFilter(hide_links)
        app = create_app(
            settings, urls.service, portal_origin=settings.portal_origin or f"http://localhost:{listens_on}"
        )
        uvicorn.run(
            app,
            host=host or settings.api_host,
            port=listens_on,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )


def hide_links(record: logging.LogRecord) -> bool:
    """Cut what is secret out of the addresses in a line about a request; the line is written all the same."""
    if isinstance(record.args, tuple):
        record.args = tuple(SECRET_LINK.sub(r"\1...", one) if isinstance(one, str) else one for one in record.args)
    return True


def _stop(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(0)


def body_rules(settings: Settings) -> list[BodyRule]:
    """Say how large bodies may be and of which media types."""
    with_keys = r"/v1/disputes/[^/]+/(input|label)-openings|/v1/(embeddings|survival-reports|white-box-checks)"
    return [
        BodyRule(re.compile("/v1/artifacts"), settings.max_artifact_bytes, artifacts.MEDIA_TYPES),
        BodyRule(re.compile(with_keys), settings.max_openings_bytes, JSON),
        BodyRule(WITH_FILE, MAX_FORM_BYTES, FORMS, PAGE_THAT_KEEPS),
        BodyRule(WITH_WEIGHTS, settings.max_artifact_bytes, FORMS, PAGE),
        BodyRule(PAGES, settings.max_json_bytes, FORMS, PAGE),
        BodyRule(re.compile(".*", re.DOTALL), settings.max_json_bytes, JSON),
    ]


def _make_service(settings: Settings, database_url: str, portal_origin: str) -> Service:
    return Service(
        engine=make_engine(database_url, application="trapstreet api"),
        store=open_store(settings.objects_place),
        identity=load_log_identity(settings),
        beacon_source=settings.beacon,
        max_artifact_bytes=settings.max_artifact_bytes,
        portal_origin=portal_origin or settings.portal_address,
        schema_revision=ScriptDirectory.from_config(migrations_config()).get_current_head() or "",
        network_rules=settings.network_rules,
        secret_box=load_secret_box(settings),
        sends_mail=bool(settings.smtp_url),
        arbiter_keys=settings.arbiter_public_keys,
    )
