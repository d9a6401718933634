"""The commands `suspect ...`: what is done with an endpoint before it is accused."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from app.cli.client import ApiClient, ApiProblem
from app.cli.files import check_readable, read_credentials
from app.cli.output import EXIT_NO, JsonFlag, console, error_console, reported, show
from app.cli.vendor import DEFAULT_URL, ApiKey, Url
from app.errors import Malformed
from app.protocol.interface import BY_CLAIMANT, Interface, InterfaceOrigin

POLL_SECONDS = 0.5

# A suspect has an adapter before anybody knows its own.
ASKED_AT_FIRST = "kserve_v1"

suspect = typer.Typer(name="suspect", help="What is done with an endpoint before it is accused.", no_args_is_help=True)


@suspect.command()
def derive(
    registration: Annotated[str, typer.Argument(help="The registration's id.")],
    endpoint: Annotated[str, typer.Option(help="The suspect's address.")],
    covers: Annotated[Path, typer.Option(help="The labelled cover file that the registration commits to.")],
    model: Annotated[str, typer.Option(help="The model's name, where the address does not say it.")] = "",
    version: Annotated[str, typer.Option(help="The model's version, where the address does not say it.")] = "",
    adapter: Annotated[
        str, typer.Option(help="Try this adapter alone, for 12 bits: for endpoints that say nothing of themselves.")
    ] = "",
    credentials_file: Annotated[
        Path | None,
        typer.Option("--credentials", help="File (chmod 600) with what the endpoint wants to see first."),
    ] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    as_json: JsonFlag = False,
) -> None:
    """Let the service derive the suspect's interface from its metadata and the committed covers.

    It tries the adapters that the endpoint's own description names; cloud services say nothing, so name theirs.

    The first one of a registration is free. There is one derivation a registration and host, ever: nobody gets to choose.
    """
    with reported(as_json=as_json), ApiClient(url, api_key) as client:
        check_readable(covers)
        at = {name: value for name, value in (("model", model), ("version", version)) if value}
        suspect_id = _find_or_add(client, endpoint, adapter or ASKED_AT_FIRST, at)
        if credentials_file is not None:
            body = {"credentials": read_credentials(credentials_file)}
            client.put(f"/v1/suspects/{suspect_id}/credentials", body)
        digest = client.upload(covers, "application/json")
        wanted = {"registration_id": registration, "covers": digest, "by_name": bool(adapter)}
        found = client.post(f"/v1/suspects/{suspect_id}/derivation", wanted)
        with console.status("asking", spinner="line") as status:
            while found["state"] == "asking":
                status.update(f"{found['answered']} of {found['asked']} covers answered")
                time.sleep(POLL_SECONDS)
                found = read_derivation(client, suspect_id, registration)
        show(found if as_json else describe(found), as_json=as_json)
        if not as_json:
            _explain(found)
    if found["interface"] is None:
        raise typer.Exit(EXIT_NO)


@suspect.command("list")
def list_all(url: Url = DEFAULT_URL, api_key: ApiKey = "", as_json: JsonFlag = False) -> None:
    """List the vendor's suspects; of credentials only the names of headers are known."""
    with reported(as_json=as_json), ApiClient(url, api_key) as client:
        found = list(client.items("/v1/suspects"))
        if as_json:
            show(found, as_json=True)
            return
        if not found:
            error_console.print("no suspects yet: `trapstreet dispute` and `suspect derive` add them")
            return
        table = Table("id", "name", "endpoint", "adapter", "credentials", box=None)
        for each in found:
            names = (each["credentials"] or {"header_names": ["-"]})["header_names"]
            # Text, not markup: names are free.
            table.add_row(
                *map(Text, (each["id"], each["name"], each["endpoint"], each["interface"]["adapter"], " ".join(names)))
            )
        console.print(table)


@suspect.command()
def credentials(
    suspect_id: Annotated[str, typer.Argument(metavar="SUSPECT", help="The suspect's id.")],
    file: Annotated[
        Path,
        typer.Argument(
            help='File (chmod 600) with JSON: {"kind": "headers", "headers": {"Authorization": "Bearer …"}}, or '
            '{"kind": "sigv4", "access_key_id": …, "secret_access_key": …, "region": …, "service": "sagemaker"}.'
        ),
    ],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    as_json: JsonFlag = False,
) -> None:
    """Give a suspect's endpoint other credentials; the service keeps them sealed and shows them to nobody."""
    with reported(as_json=as_json), ApiClient(url, api_key) as client:
        body = {"credentials": read_credentials(file)}
        show(client.put(f"/v1/suspects/{suspect_id}/credentials", body), as_json=as_json)


def _find_or_add(client: ApiClient, endpoint: str, adapter: str, at: dict[str, str]) -> str:
    interface = Interface(adapter=adapter, options=dict(at), preprocessing={}, label_map={"by": "index"}).to_json()
    for known in client.items("/v1/suspects"):
        if (known["endpoint"], known["interface"]) == (endpoint, interface):
            return str(known["id"])
    body = {"name": endpoint, "endpoint": endpoint, "interface": interface}
    return str(client.post("/v1/suspects", body)["id"])


def read_derivation(client: ApiClient, suspect_id: str, registration: str) -> dict[str, Any]:
    """Read the derivation of a suspect's endpoint.

    Raises: ApiProblem 404 if there is none.
    """
    return client.get(f"/v1/suspects/{suspect_id}/derivation", registration_id=registration)


@dataclass(frozen=True)
class Chosen:
    """How a suspect is to be asked, and who fixed it; `suspect_id` is "" for one that the service does not know yet."""

    interface: Interface
    origin: InterfaceOrigin = BY_CLAIMANT
    derived_bits: int = 0
    suspect_id: str = ""


def find_derived(client: ApiClient, endpoint: str, registration: str) -> Chosen:
    """Find what was derived at an endpoint.

    Raises: Malformed if there is none that mapped a class.
    """
    for known in client.items("/v1/suspects"):
        if known["endpoint"] != endpoint:
            continue
        try:
            found = read_derivation(client, known["id"], registration)
        except ApiProblem as problem:
            if problem.status != 404:
                raise
            continue
        if found["interface"] is not None:
            origin = InterfaceOrigin("derived", found["entry_index"], b"", b"")
            return Chosen(Interface.from_json(found["interface"]), origin, found["interface_bits"], known["id"])
    raise Malformed("this endpoint has no derived interface: run `trapstreet suspect derive` first")


def describe(found: dict[str, Any]) -> dict[str, object]:
    """Say in words what came of a derivation."""
    told: dict[str, object] = {"state": found["state"], "asked": found["asked"], "answered": found["answered"]}
    if found["interface"] is not None:
        interface = found["interface"]
        told |= {
            "adapter": interface["adapter"],
            "options": json.dumps(interface["options"]),
            "preprocessing": json.dumps(interface["preprocessing"]),
            "price": f"{found['interface_bits']} bits, {found['why']}",
            "log entry": found["entry_index"],
        }
    for candidate in found["candidates"]:
        mark = "chosen" if candidate["chosen"] else "purity"
        told[f"{mark} {candidate['purity_millis'] / 10:.1f}%"] = (
            f"{candidate['adapter']} {json.dumps(candidate['preprocessing'])}"
        )
    for one in found["classes"]:
        mapped = "is" if one["mapped"] else "is not mapped:"
        told[one["name"]] = f"{mapped} {one['label']!r}, {one['agreeing']} of {one['answered']} answers"
    return told


def _explain(found: dict[str, Any]) -> None:
    if found["state"] == "failed":
        error_console.print("no cover was answered: this does not count, so derive again when the endpoint is there")
    elif found["interface"] is None:
        error_console.print("no class could be mapped, and a registration derives once a host: file with an interface")
