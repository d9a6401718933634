"""Whether the process lives, and whether it can serve."""

from fastapi import APIRouter, Response

from app.db.engine import load_revision
from app.errors import Unavailable
from app.web import InTransaction, ServiceOf

router = APIRouter(tags=["health"])


@router.get("/livez", operation_id="is_alive", response_class=Response)
def get_livez() -> Response:
    """Answer while the process lives; the database is not asked."""
    return Response("alive\n", media_type="text/plain")


@router.get("/readyz", operation_id="is_ready", response_class=Response)
def get_readyz(session: InTransaction, service: ServiceOf) -> Response:
    """Answer if the database does, and has the schema that this version needs."""
    revision = load_revision(session)
    if revision != service.schema_revision:
        raise Unavailable(f"the schema is {revision}, not {service.schema_revision}: run `trapstreet migrate`")
    return Response("ready\n", media_type="text/plain")
