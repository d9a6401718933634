"""A verdict as a file to keep: HTML with everything in it, or a PDF that Typst sets.

Invariants: the same verdict gives the same bytes, for all times in it are the log's; what strangers wrote is data to
Jinja and to Typst, never markup; no file, package or font of the machine goes into a PDF.
Source: Typst reference (`sys.inputs`, `json`).
"""

import json
from dataclasses import asdict
from functools import cache
from tempfile import TemporaryDirectory
from threading import Lock

from markupsafe import Markup

from app.canonical import seconds_of
from app.errors import Unavailable
from app.portal.rendering import HERE, environment
from app.portal.verdict_told import ToldVerdict

TEMPLATES = HERE / "templates"

# One at a time: setting a PDF takes a core and some hundred megabytes.
_setting = Lock()


def verdict_html(told: ToldVerdict) -> bytes:
    """Write a verdict as one HTML file."""
    # The style is ours, as it stands in the tree.
    style = Markup(_read("verdict_file.css"))  # noqa: S704
    return environment().get_template("verdict_file.html").render(told=told, style=style).encode()


def verdict_pdf(told: ToldVerdict) -> bytes:
    """Set a verdict as a PDF.

    Raises: Unavailable where this service has no Typst, and while it sets another.
    """
    try:
        import typst  # noqa: PLC0415  # an extra: whoever needs no PDF needs no Typst
    except ModuleNotFoundError as error:
        raise Unavailable("this service sets no PDF: take the HTML file and print it") from error
    data = json.dumps(_as_data(told))
    # Refused, not queued: who waits here holds a connection to the database, and a few of them hold all there are.
    if not _setting.acquire(blocking=False):
        raise Unavailable("another PDF is being set: try again in a moment")
    try:
        with TemporaryDirectory() as nowhere:
            compiler = typst.Compiler(
                _read("verdict.typ").encode(),
                root=nowhere,
                ignore_system_fonts=True,
                sys_inputs={"told": data},
                package_path=nowhere,
                package_cache_path=nowhere,
            )
            made = compiler.compile(format="pdf", timestamp=seconds_of(told.decided_at))
    finally:
        _setting.release()
    if not isinstance(made, bytes):
        raise TypeError("Typst gives a PDF as one string of bytes")
    return made


def _as_data(told: ToldVerdict) -> dict[str, object]:
    evidence, placebo = told.evidence_svg, told.placebo_svg
    data = asdict(told)
    # Not a number of JSON: an E of zero.
    del data["walk"]
    return data | {
        "evidence_svg": None if evidence is None else str(evidence),
        "placebo_svg": None if placebo is None else str(placebo),
    }


@cache
def _read(name: str) -> str:
    return (TEMPLATES / name).read_text()
