"""What a filing will cost, said before it is made: bits of its interface, and covers that would come again."""

import sys
from pathlib import Path

import typer

from app.cli.files import read_file
from app.cli.output import error_console
from app.errors import PolicyRefused
from app.keys.cover_set import parse_cover_set
from app.keys.statement import Statement
from app.protocol.derivation import Rule
from app.protocol.interface import interface_bits
from app.protocol.records import FilingRecord


def tell_price(record: FilingRecord, statement: Statement, derived_bits: int = 0, beacon_index: int = 0) -> int:
    """Say what interface and address cost in bits, why, and what would make them free; give the bits."""
    origin = record.interface_origin
    if statement.assurance_class == "B":
        _say("class B has no evidence in bits, so the interface costs nothing and proves nothing")
        return 0
    bits = interface_bits(
        record.interface,
        origin,
        statement,
        endpoint=record.endpoint,
        beacon_index=beacon_index,
        derived_bits=derived_bits,
    )
    more = -(-bits // (len(statement.classes) - 1).bit_length())
    _say(
        f"the interface costs {bits} bits: the threshold is 2^{record.policy.bits + bits}, at best {more} matches more"
    )
    if "?" in record.endpoint:
        _say("  the address's query is part of it, 8 bits a byte: leave it out if the suspect answers without")
    if origin.kind == "derived":
        _say("  fixed by the service's rule from metadata and committed covers; only a registration's first is free")
    elif origin.kind == "logged":
        _say("  logged before the registration's beacon: it costs the bits that name one entry among those before")
    elif bits:
        _say("  you chose it; fixed by somebody else it would be free:")
        if statement.covers is None:
            _say("  - `trapstreet suspect derive`: needs covers committed when registering (`register --covers`)")
        else:
            _say("  - `trapstreet suspect derive`, then `dispute --derived`: this registration has committed covers")
        _say("  - countersigned by the accused or by an arbiter whom this service knows")
    return bits


def warn_of_repeated_covers(path: Path | None, record: FilingRecord, statement: Statement) -> None:
    """Say so if the covers do not last: asked again they stand out by having been seen before."""
    if path is None or not record.policy.covers_per_trigger:
        return
    covers = parse_cover_set(read_file(path))
    wanted = record.policy.covers_per_trigger * min(record.policy.max_triggers, statement.family(record.family).size)
    if wanted > covers.count:
        _say(
            f"{covers.count} covers for up to {wanted} cover questions: each may be asked {-(-wanted // covers.count)} "
            f"times, and an endpoint that remembers then tells covers from triggers; {wanted}, or fewer a trigger, last"
        )
    elif covers.table is not None and record.interface_origin.kind == "derived":
        seen = len(Rule(statement, covers.table, ()).asked_of_best)
        if wanted > covers.count - seen:
            _say(
                f"{seen} of the {covers.count} covers were asked when the interface was derived, and an endpoint that "
                f"remembers tells them from triggers; they come last, and {seen + wanted} covers would last without them"
            )


def confirm(*, yes: bool, as_json: bool) -> None:
    """Ask whether to file, unless that was said beforehand or a program is asking.

    Raises: PolicyRefused if not.
    """
    if yes or as_json:
        return
    if not sys.stdin.isatty():
        raise PolicyRefused("nobody is there to confirm: file with --yes")
    if not typer.confirm("file the dispute? It spends the family, whatever comes of it", err=True):
        raise PolicyRefused("not filed")


def _say(text: str) -> None:
    error_console.print(text, highlight=False, markup=False, soft_wrap=True)
