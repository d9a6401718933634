"""Commands of a claimant: dispute, verdict. covers: app.cli.covers; suspect: app.cli.suspects."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.client import ApiClient, file_dispute
from app.cli.files import check_writable, read_credentials, read_vendor_key
from app.cli.interfaces import Adapter, LabelMapText, Options, Preprocessing, read_fixed, read_interface
from app.cli.output import JsonFlag, reported, show
from app.cli.pricing import confirm, tell_price, warn_of_repeated_covers
from app.cli.suspects import Chosen, find_derived
from app.cli.vendor import DEFAULT_URL, ApiKey, LogKey, Url, VendorKey, read_registration
from app.errors import Malformed
from app.protocol.records import FilingRecord, Policy

# How often `verdict --wait` looks.
POLL_SECONDS = 1.0


Covers = Annotated[
    Path | None, typer.Option(help="File with covers (ordinary inputs), as `trapstreet covers` makes it.")
]
CoversPerTrigger = Annotated[int, typer.Option(help="Covers among which each trigger hides; 0 to go without.")]
EvidenceKind = Annotated[
    str,
    typer.Option(
        help="What counts: `label`, what the suspect answers with, or `ranking`, where the drawn label stands among all "
        "that it ranks (fewer triggers if it gives scores)."
    ),
]
Derived = Annotated[
    bool, typer.Option("--derived", help="Ask through the interface that `suspect derive` found, in place of yours.")
]
FixedFile = Annotated[
    Path | None,
    typer.Option(
        "--interface",
        help="Ask through an interface that others signed or that was logged before: the file with what `suspect "
        "countersign` or `suspect log-interface` printed.",
    ),
]
CredentialsFile = Annotated[
    Path | None,
    typer.Option(help="File (chmod 600) with what the endpoint wants to see first; see `suspect credentials`."),
]


AccusedMail = Annotated[
    str, typer.Option(help="Address that the service mails the link to, once, when nothing is asked any more.")
]


def dispute(
    registration: Annotated[str, typer.Argument(help="The registration's id.")],
    family: Annotated[str, typer.Option(help="The family of triggers to spend on this dispute.")],
    endpoint: Annotated[str, typer.Option(help="The suspect's address.")],
    vendor_key: VendorKey,
    adapter: Adapter = "kserve_v1",
    options: Options = "{}",
    preprocessing: Preprocessing = "{}",
    label_map: LabelMapText = '{"by": "index"}',
    derived: Derived = False,
    interface: FixedFile = None,
    covers: Covers = None,
    covers_per_trigger: CoversPerTrigger = 10,
    evidence: EvidenceKind = "label",
    credentials: CredentialsFile = None,
    accused_mail: AccusedMail = "",
    yes: Annotated[bool, typer.Option("--yes", help="File without asking back.")] = False,
    bits: Annotated[int, typer.Option(help="Strength of the verdict: 64 or 80.")] = 64,
    block_size: Annotated[int, typer.Option(help="Triggers opened at a time.")] = 8,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    log_key: LogKey = "",
    as_json: JsonFlag = False,
) -> None:
    """File a dispute against an endpoint. Keep `trapstreet agent` running: it answers the openings."""
    with reported(as_json=as_json), ApiClient(url, api_key, log_key) as client:
        statement, index, _ = read_registration(client, registration)
        if covers_per_trigger and covers is None:
            raise Malformed("give --covers, among which triggers hide, or --covers-per-trigger 0 to go without")
        if derived and interface is not None:
            raise Malformed("--derived and --interface both name an interface: leave one out")
        if derived:
            asked = find_derived(client, endpoint, registration)
        elif interface is not None:
            asked = Chosen(*read_fixed(interface))
        else:
            asked = Chosen(read_interface(adapter, options, preprocessing, label_map))
        size = statement.family(family).size
        policy = make_policy(bits, size, covers_per_trigger, block_size)
        record = FilingRecord(index, family, endpoint, asked.interface, asked.origin, evidence, policy)
        beacon_index = client.get(f"/v1/registrations/{registration}")["beacon_index"] or 0
        tell_price(record, statement, asked.derived_bits, beacon_index)
        warn_of_repeated_covers(covers, record, statement)
        confirm(yes=yes, as_json=as_json)
        suspect_id = accuse(client, endpoint, asked, credentials)
        digest = client.upload(covers, "application/json") if covers and covers_per_trigger else None
        answer = file_dispute(client, suspect_id, record, read_vendor_key(vendor_key), digest)
        show(answer, as_json=as_json, text=f"dispute {answer['id']}: {answer['state']}")
        _name_contact(client, answer["id"], accused_mail)


def _name_contact(client: ApiClient, dispute_id: str, address: str) -> None:
    # Filed already: what is wrong with the address is said, and mended on the dispute's page.
    if address:
        client.put(f"/v1/disputes/{dispute_id}/accused/contact", {"address": address})


def accuse(client: ApiClient, endpoint: str, asked: Chosen, credentials: Path | None) -> str:
    """Make a suspect known to the service, or give credentials to one that is; give its id."""
    if asked.suspect_id:
        if credentials is not None:
            client.put(f"/v1/suspects/{asked.suspect_id}/credentials", {"credentials": read_credentials(credentials)})
        return asked.suspect_id
    suspect: dict[str, Any] = {"name": endpoint, "endpoint": endpoint, "interface": asked.interface.to_json()}
    if credentials is not None:
        suspect["credentials"] = read_credentials(credentials)
    return str(client.post("/v1/suspects", suspect)["id"])


def make_policy(bits: int, triggers: int, covers_per_trigger: int, block_size: int) -> Policy:
    """Make a filing's policy; what no option names is what an honest claimant wants."""
    return Policy(
        bits=bits,
        max_triggers=triggers,
        covers_per_trigger=covers_per_trigger,
        block_size=block_size,
        attempts=3,
        answer="first",
        opening_seconds=3600,
        lookahead=1,
    )


def verdict(
    dispute_id: Annotated[str, typer.Argument(metavar="DISPUTE", help="The dispute's id.")],
    out: Annotated[Path | None, typer.Option(help="Where to write the evidence bundle.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until there is a verdict.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    as_json: JsonFlag = False,
) -> None:
    """Show where a dispute stands and fetch its evidence bundle."""
    with reported(as_json=as_json), ApiClient(url, api_key) as client:
        found = client.get(f"/v1/disputes/{dispute_id}")
        while wait and found["verdict"] is None:
            time.sleep(POLL_SECONDS)
            found = client.get(f"/v1/disputes/{dispute_id}")
        names = ("state", "verdict", "reason", "asked", "matches", "log2_e", "paper_rule", "family", "verdict_index")
        result = {name: found[name] for name in names}
        result["link_for_the_accused"] = client.get(f"/v1/disputes/{dispute_id}/accused")["link"]
        if out is not None and found["verdict"] is not None:
            check_writable(out)
            out.write_bytes(client.download(f"/v1/disputes/{dispute_id}/evidence"))
            result["bundle"] = str(out)
        show(result, as_json=as_json)


COMMANDS = (dispute, verdict)
