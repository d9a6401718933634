"""The transparency log for people: its entries, newest first, each with its proof, and its checkpoints. Without account.

Invariants: nothing here needs a script; what is shown of an entry comes from its own bytes, and the page says how to check
them with openssl, without this service.
Source: docs/protocol.md sections 2 and 4; RFC 9162 section 2.1; C2SP tlog-checkpoint and tlog-proof.
"""

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from app.canonical import parse_json
from app.errors import Malformed, NotFound
from app.log.store import (
    consistency,
    count_entries,
    latest_checkpoint,
    list_entries,
    load_checkpoint,
    load_entry,
    receipt_for,
)
from app.merkle.checkpoint import fingerprint, parse_checkpoint, parse_decimal, verifier_key_text
from app.merkle.receipt import parse_receipt
from app.merkle.tree import leaf_hash
from app.portal.log_words import KINDS, SHOWN_BYTES, show_record, visible
from app.portal.rendering import render
from app.portal.visitors import Anyone
from app.signature import public_key_pem
from app.web import InTransaction, Service, ServiceOf

router = APIRouter(prefix="/log")

PAGE_ROWS: Final = 50

Number = Annotated[str | None, Query(max_length=20)]


@router.get("")
def list_newest(
    request: Request, _visitor: Anyone, session: InTransaction, service: ServiceOf, before: Number = None
) -> Response:
    """List entries, the newest first."""
    size = count_entries(session)
    end = size if before is None else min(_number(before), size)
    start = max(0, end - PAGE_ROWS)
    rows = list_entries(session, start, end - start, with_data=False)
    return render(
        request,
        "log_list.html",
        rows=list(reversed(rows)),
        kinds=KINDS,
        size=size,
        newer=None if end == size else min(size, end + PAGE_ROWS),
        older=start or None,
        log=key_of(service),
    )


@router.get("/key.pem")
def read_pem(service: ServiceOf) -> Response:
    """Give the log's public key as openssl reads it."""
    return Response(public_key_pem(service.identity.public_key), media_type="application/x-pem-file")


@router.get("/checkpoint")
def read_checkpoint(
    request: Request,
    _visitor: Anyone,
    session: InTransaction,
    service: ServiceOf,
    size: Number = None,
    older: Annotated[str | None, Query(alias="from", max_length=20)] = None,
) -> Response:
    """Show a checkpoint, the newest by default, and prove that the log of an older size is its beginning."""
    newest = count_entries(session)
    note = load_checkpoint(session, _number(size)) if size else latest_checkpoint(session)
    shown = parse_checkpoint(note)[0]
    path, problem = None, ""
    if older:
        try:
            path = consistency(session, parse_decimal(older.strip()), shown.size)
        except Malformed as error:
            problem = error.message
    return render(
        request,
        "log_checkpoint.html",
        status=422 if problem else 200,
        note=note,
        shown=shown,
        newest=newest,
        older=older or "",
        path_hashes=path,
        problem=problem,
        log=key_of(service),
    )


@router.get("/{index}")
def read_entry(request: Request, _visitor: Anyone, index: str, session: InTransaction, service: ServiceOf) -> Response:
    """Show an entry, its bytes, and the proof that it is in the log."""
    number = _number(index)
    data = load_entry(session, number)
    value = parse_json(data)
    text = receipt_for(session, number)
    receipt = parse_receipt(text.encode())
    checkpoint = parse_checkpoint(receipt.checkpoint_note)[0]
    return render(
        request,
        "log_entry.html",
        index=number,
        kind=KINDS[value["type"].rpartition("/")[2]],
        time=value["time"],
        fields=show_record({name: item for name, item in value.items() if name not in ("type", "time")}),
        bytes_shown=visible(data[:SHOWN_BYTES].decode(errors="replace")),
        bytes_count=len(data),
        is_cut=len(data) > SHOWN_BYTES,
        leaf=leaf_hash(data),
        receipt=text,
        steps=receipt.path,
        checkpoint=checkpoint,
        log=key_of(service),
    )


def _number(text: str) -> int:
    """Read an index or a size out of an address.

    Raises: NotFound.
    """
    try:
        return parse_decimal(text)
    except Malformed as error:
        raise NotFound("the log has nothing of that number") from error


@dataclass(frozen=True)
class LogKey:
    """The log's public key as people compare it."""

    origin: str
    verifier: str
    fingerprint: str


def key_of(service: Service) -> LogKey:
    """Give the key of this service's log."""
    identity = service.identity
    key = identity.public_key
    return LogKey(identity.origin, verifier_key_text(identity.origin, key), fingerprint(key))
