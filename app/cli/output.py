"""How commands speak: rich text to a person, one JSON value to a program, errors with a code and an exit status."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from app.cli.client import ApiProblem
from app.errors import ProofError, TrapstreetError, Unavailable

# Exit status: 1 says that what was asked is not so; 2 that the call was wrong; 3 that a bundle is consistent but its log
# was not authenticated; 4 that something outside failed.
EXIT_NO, EXIT_USAGE, EXIT_UNAUTHENTICATED, EXIT_UNAVAILABLE = 1, 2, 3, 4

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]

console = Console()
error_console = Console(stderr=True)


def show(value: Any, *, as_json: bool, text: str = "") -> None:
    """Print a result: JSON on one line, or text for a person (fields of `value` if none is given)."""
    if as_json:
        sys.stdout.write(json.dumps(value, sort_keys=True) + "\n")
        sys.stdout.flush()
    elif text:
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    else:
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        table.add_column()
        # Digests and fingerprints are there to be compared: folded, never cut.
        table.add_column(overflow="fold")
        for name, item in value.items():
            table.add_row(name, _text_of(item))
        console.print(table)


def _text_of(item: Any) -> str:
    if isinstance(item, list):
        return " ".join(":".join(map(str, part)) if isinstance(part, list) else str(part) for part in item)
    return "-" if item is None else str(item)


@contextmanager
def reported(*, as_json: bool) -> Iterator[None]:
    """Turn the errors of this house into a message and an exit status; bugs stay tracebacks."""
    try:
        yield
    except TrapstreetError as error:
        code = error.problem_code if isinstance(error, ApiProblem) else error.code
        if as_json:
            show({"error": code, "message": error.message, "pointer": error.pointer}, as_json=True)
        else:
            at = f" (at {error.pointer})" if error.pointer else ""
            error_console.print(f"{code}: {error.message}{at}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(_exit_status(error)) from error


def _exit_status(error: TrapstreetError) -> int:
    if isinstance(error, Unavailable):
        return EXIT_UNAVAILABLE
    return EXIT_NO if isinstance(error, ProofError) else EXIT_USAGE
