"""Templates and what they may say: values in the words of people, addresses of files that browsers keep.

Invariants: everything is escaped unless a template says otherwise, and none does; a name that is not given is an error,
not an empty place; files of static/ are served under the hash of them all, so that a browser never mixes two versions.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from app.people.sessions import Visitor
from app.web import Service

HERE = Path(__file__).parent
STATIC = HERE / "static"
VENDORED = STATIC / "vendor" / "vendored.json"

SHORT_HASH_CHARACTERS = 12


@dataclass(frozen=True)
class Integrity:
    """A vendored file and the hash that a browser holds it to."""

    path: str
    integrity: str


@cache
def static_version() -> str:
    """Give the hash of every file of static/, for their address."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(STATIC).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def vendored() -> Mapping[str, Integrity]:
    """Read which foreign files we carry."""
    files = json.loads(VENDORED.read_text())
    return {name: Integrity(f"vendor/{entry['file']}", entry["integrity"]) for name, entry in files.items()}


def static_url(path: str) -> str:
    """Give the address of a file of static/."""
    return f"/static/{static_version()}/{path}"


def moment(value: datetime | str | None) -> str:
    """Write a time with its zone: 2026-01-31 12:00:00 UTC; of the log's text or of a row."""
    if value is None:
        return "never"
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def odds(bits: float) -> str:
    """Write 2^-bits as people say it: 1 in 10^21."""
    if bits <= 0:
        return "no better than chance"
    tens = bits * 0.30102999566398
    return f"1 in {2**bits:,.0f}" if tens < 7 else f"1 in 10^{tens:.0f}"


def size(count: int) -> str:
    """Write a number of bytes: 1.4 MB."""
    value = float(count)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def short_hash(value: bytes | str) -> str:
    """Write the beginning of a digest."""
    return (value.hex() if isinstance(value, bytes) else value)[:SHORT_HASH_CHARACTERS] + "…"


@cache
def environment() -> Environment:
    """Make the templates' environment, once."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"moment": moment, "odds": odds, "size": size, "short_hash": short_hash}
    made.globals |= {"static_url": static_url, "vendored": vendored()}
    return made


def render(
    request: Request,
    template: str,
    *,
    visitor: Visitor | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> HTMLResponse:
    """Render a page (or, for htmx, a part of one) for whoever looks at it, by default whoever `visitors.look` found."""
    service: Service = request.app.state.service
    seen = visitor or getattr(request.state, "visitor", None)
    given = {"visitor": seen, "path": request.url.path, "origin": service.portal_origin, **values}
    return HTMLResponse(environment().get_template(template).render(given), status, headers)
