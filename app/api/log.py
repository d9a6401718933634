"""The transparency log, open to everybody: checkpoint, key, entries, receipts, consistency."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from app.api.fields import Answer, Hex32, LogNumber, Moment, Page, PageOf
from app.api.problems import problems
from app.db.tables import LogEntryRow
from app.log.store import consistency, latest_checkpoint, list_entries, load_entry, receipt_for
from app.merkle.checkpoint import verifier_key_text
from app.web import InTransaction, ServiceOf

router = APIRouter(prefix="/log", tags=["log"])

# What is logged never changes.
FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}

TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
RECORD: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {"schema": {"type": "object"}}}}}


class EntryHead(Answer):
    """Where an entry stands and what it is; read its bytes by its index."""

    index: int = Field(examples=[0])
    kind: str = Field(examples=["registration"])
    time: Moment
    leaf_hash: Hex32


class ConsistencyProof(Answer):
    """A proof of RFC 9162 section 2.1.4 between two sizes of the log."""

    path: list[Hex32]


@router.get("/checkpoint", operation_id="read_checkpoint", response_class=Response, responses=TEXT | problems(404))
def get_checkpoint(session: InTransaction) -> Response:
    """Read the newest checkpoint, a C2SP signed note."""
    return Response(latest_checkpoint(session), media_type="text/plain", headers={"Cache-Control": "no-cache"})


@router.get("/key", operation_id="read_log_key", response_class=Response, responses=TEXT)
def get_key(service: ServiceOf) -> Response:
    """Read the log's verifier key, to be compared with one from elsewhere and then pinned."""
    identity = service.identity
    return Response(verifier_key_text(identity.origin, identity.public_key) + "\n", media_type="text/plain")


@router.get("/entries", operation_id="list_entries")
def get_entries(session: InTransaction, paging: PageOf) -> Page[EntryHead]:
    """List entries in their order."""
    after = paging.after_number()
    rows = list_entries(session, 0 if after is None else after + 1, paging.limit + 1, with_data=False)
    return paging.page(rows, lambda row: row.index, _head)


@router.get("/entries/{index}", operation_id="read_entry", response_class=Response, responses=RECORD | problems(404))
def get_entry(index: LogNumber, session: InTransaction) -> Response:
    """Read an entry's exact bytes."""
    return Response(load_entry(session, index), media_type="application/json", headers=FOR_EVER)


@router.get(
    "/entries/{index}/receipt", operation_id="read_receipt", response_class=Response, responses=TEXT | problems(404)
)
def get_receipt(
    index: LogNumber,
    session: InTransaction,
    size: Annotated[LogNumber | None, Query(description="Size of the log; default: its present size.")] = None,
) -> Response:
    """Read an entry's receipt, a C2SP tlog-proof."""
    return Response(receipt_for(session, index, size), media_type="text/plain")


@router.get("/consistency", operation_id="read_consistency")
def get_consistency(
    session: InTransaction,
    old: Annotated[LogNumber, Query(alias="from", examples=[3])],
    new: Annotated[LogNumber, Query(alias="to", examples=[7])],
) -> ConsistencyProof:
    """Prove that the log of the size `from` is a prefix of the log of the size `to`."""
    return ConsistencyProof(path=consistency(session, old, new))


def _head(row: LogEntryRow) -> EntryHead:
    return EntryHead(index=row.index, kind=row.kind, time=row.created_at, leaf_hash=row.leaf_hash)
