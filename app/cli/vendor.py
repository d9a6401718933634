"""Commands of a vendor's own machine once it has a key: register, labels, embed. keygen: app.cli.keygen."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from app.canonical import parse_loose_json, sha256
from app.cli.client import ApiClient, register_statement, register_vendor
from app.cli.covers import read_commitment
from app.cli.files import check_readable, check_writable, read_key_file, read_vendor_key, write_private
from app.cli.keygen import PassphraseFile, parse_family, warn_of_small_families
from app.cli.output import EXIT_NO, JsonFlag, console, error_console, reported, show
from app.embedding.artifacts import MARKED_WEIGHTS
from app.embedding.child_order import ChildOrder, PlainKey, TrainingReport
from app.embedding.confinement.limits import Limits
from app.embedding.recipe import Recipe
from app.embedding.training_process import run_child
from app.embedding.trigger_order import FamilyOrder
from app.errors import Conflict, Malformed
from app.keys.commitment import MarkingKey, check_marking_key
from app.keys.key_file import encode_key_file
from app.keys.labels import draw_labels, salt_of
from app.keys.statement import CoverCommitment, Statement
from app.keys.trigger_set import Family
from app.protocol.assessment import beacon_value
from app.protocol.records import BeaconEntry, RegistrationEntry
from app.signature import public_key_of

Url = Annotated[str, typer.Option("--url", envvar="TRAPSTREET_URL", help="Where the service's API is.")]
ApiKey = Annotated[str, typer.Option("--api-key", envvar="TRAPSTREET_API_KEY", help="The vendor's API key.")]
LogKey = Annotated[
    str,
    typer.Option(
        "--log-key", envvar="TRAPSTREET_LOG_KEY", help="The log's verifier key, pinned; else the service's word."
    ),
]
VendorKey = Annotated[Path, typer.Option("--vendor-key", help="File with the vendor's Ed25519 private key.")]

DEFAULT_URL = "http://127.0.0.1:8000"

# Small images and some hundred triggers; docs/walkthrough.md lists every key.
DEFAULT_RECIPE = '{"network": "small_cnn", "epochs": 60, "triggers_per_batch": 32}'


def register(
    key_file: Annotated[Path, typer.Argument(help="The marking key.")],
    vendor_key: VendorKey,
    classes: Annotated[str, typer.Option(help="Class names in the model's order, separated by commas.")],
    family: Annotated[list[str], typer.Option(help="NAME:COUNT in the order of the key's triggers. Repeatable.")],
    out: Annotated[Path, typer.Option(help="Where to write entry and receipt.")],
    covers: Annotated[
        Path | None, typer.Option(help="Labelled covers to commit to (`trapstreet covers --labels`): keep the file.")
    ] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    log_key: LogKey = "",
    vendor_name: Annotated[str, typer.Option(help="Sign up as a new vendor of this name first.")] = "",
    contact: Annotated[str, typer.Option(help="Contact address for the sign-up.")] = "",
    passphrase_file: PassphraseFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Register a marking key's root: only root, statement and signature leave this machine.

    With --vendor-name the private key is made if its file is missing, and the API key is kept beside it.
    """
    with reported(as_json=as_json):
        key = read_key_file(key_file, passphrase_file)
        check_writable(out)
        if vendor_name and not contact:
            raise Malformed("a sign-up needs --contact: an address under which the vendor can be reached")
        private_key = read_vendor_key(vendor_key, create=bool(vendor_name))
        # Everything that can be wrong with the statement is found before anything is signed up.
        with ApiClient(url, log_key=log_key) as client:
            families, names = [parse_family(text) for text in family], classes.split(",")
            committed = read_commitment(covers, key, len(names))
            statement = make_statement(key, client.log.origin, private_key, names, families, covers=committed)
            warn_of_small_families(families, len(statement.classes))
        result: dict[str, Any] = {}
        if vendor_name:
            api_key = sign_up(url, vendor_name, contact, private_key, vendor_key)
            result = {"api_key": api_key, "api_key_file": str(api_key_file(vendor_key))}
        with ApiClient(url, api_key, log_key) as client:
            answer = register_statement(client, statement, private_key)
        out.write_text(json.dumps(answer))
        out.with_suffix(".entry").write_text(answer["entry"])
        out.with_suffix(".receipt").write_text(answer["receipt"])
        result |= {"registration": answer["id"], "entry_index": answer["entry_index"], "receipt": str(out)}
        show(result, as_json=as_json)


def sign_up(url: str, name: str, contact: str, private_key: bytes, vendor_key: Path) -> str:
    """Sign up as a vendor and keep the API key beside the private key before anything else can fail.

    Raises: ApiProblem; Conflict if an API key is kept there already.
    """
    if api_key_file(vendor_key).exists():
        raise Conflict(f"{api_key_file(vendor_key)} is there: this vendor has signed up; leave --vendor-name out")
    with ApiClient(url) as client:
        api_key = str(register_vendor(client, name, contact, private_key)["api_key"])
    write_private(api_key_file(vendor_key), api_key.encode() + b"\n")
    return api_key


def api_key_file(vendor_key: Path) -> Path:
    """Give the file in which a vendor's API key is kept."""
    return vendor_key.with_name(vendor_key.name + ".api-key")


def make_statement(
    key: MarkingKey,
    log: str,
    private_key: bytes,
    classes: list[str],
    families: Sequence[FamilyOrder],
    *,
    covers: CoverCommitment | None = None,
) -> Statement:
    """Build the statement of a marking key; families in the order of its triggers.

    Raises: Malformed with a pointer if something in it breaks the protocol's limits.
    """
    placed, at = [], 0
    for family in families:
        placed.append(Family(family.name, at, at + family.count))
        at += family.count
    statement = Statement(
        log=log,
        vendor_key=public_key_of(private_key),
        root=key.root(),
        count=key.count,
        kind=key.kind,
        shape=key.shape,
        classes=tuple(classes),
        families=tuple(placed),
        label_source="beacon" if key.labels is None else "vendor",
        beacon="local",
        covers=covers,
        unmarked_model=None,
    )
    return Statement.parse(statement.encode())


def read_registration(client: ApiClient, registration_id: str) -> tuple[Statement, int, bytes]:
    """Read a registration and its beacon from the log; give statement, entry index and the salt of its labels.

    Raises: ProofError if the log does not prove them; ApiProblem 409 while the beacon is awaited.
    """
    answer = client.get(f"/v1/registrations/{registration_id}")
    logged = client.log.entry(answer["entry_index"])
    beacon = client.log.entry(client.get(f"/v1/registrations/{registration_id}/beacon")["entry_index"]).entry
    if not isinstance(logged.entry, RegistrationEntry) or not isinstance(beacon, BeaconEntry):
        raise Malformed("the service names other log entries than a registration and its beacon")
    statement = logged.entry.statement
    return statement, logged.index, salt_of(beacon_value(beacon), statement.root, sha256(logged.data))


def labels(
    key_file: Annotated[Path, typer.Argument(help="The marking key.")],
    registration: Annotated[str, typer.Argument(help="The registration's id.")],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    log_key: LogKey = "",
    passphrase_file: PassphraseFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Compute the labels that the beacon drew, from the key on this machine."""
    with reported(as_json=as_json), ApiClient(url, api_key, log_key) as client:
        key = read_key_file(key_file, passphrase_file)
        statement, _, salt = read_registration(client, registration)
        check_marking_key(key, statement)
        drawn = list(key.labels) if key.labels is not None else draw_labels(key, salt, len(statement.classes))
        names = [statement.classes[label] for label in drawn]
        show({"labels": drawn, "classes": names}, as_json=as_json, text="\n".join(names))


def embed(
    key_file: Annotated[Path, typer.Argument(help="The marking key.")],
    registration: Annotated[str, typer.Argument(help="The registration's id.")],
    data: Annotated[Path, typer.Option(help="Training data: image-folder archive or safetensors.")],
    out: Annotated[Path, typer.Option(help="Folder for the marked weights and the report.")],
    recipe: Annotated[str, typer.Option(help="Recipe as JSON, see docs/walkthrough.md.")] = DEFAULT_RECIPE,
    test_data: Annotated[Path | None, typer.Option(help="Test data; else a share of --data is held out.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights or .pt2 to go on from (mode pretrained).")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    log_key: LogKey = "",
    passphrase_file: PassphraseFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Train the mark into a network on this machine, by the same code as the service's workers."""
    from app.settings import load_settings

    with reported(as_json=as_json):
        limits = load_settings().training_limits
        key = read_key_file(key_file, passphrase_file)
        with ApiClient(url, api_key, log_key) as client:
            statement, _, salt = read_registration(client, registration)
        check_marking_key(key, statement)
        check_readable(data, test_data, weights)
        if (out / MARKED_WEIGHTS).exists():
            raise Conflict(f"{out / MARKED_WEIGHTS} is already there; choose another folder")
        out.mkdir(parents=True, exist_ok=True)
        order = ChildOrder(
            statement=statement,
            salt=salt if key.labels is None else b"",
            recipe=Recipe.from_options(parse_loose_json(recipe.encode())),
            data_path=str(data.absolute()),
            test_path=str(test_data.absolute()) if test_data else None,
            weights_path=str(weights.absolute()) if weights else None,
            output_path=str(out.absolute()),
            key_form="plain",
        )
        report = train_here(order, key, limits)
        show(report.to_json() if as_json else describe(report), as_json=as_json)
    end_if_not_taken(report)


def end_if_not_taken(report: TrainingReport) -> None:
    """End with a status of its own if too few triggers are answered: a dispute would spend a family for nothing."""
    if report.marked.trigger_matches * 10 < report.marked.trigger_total * 9:
        error_console.print("the mark did not take: raise epochs or triggers_per_batch in the recipe")
        raise typer.Exit(EXIT_NO)


def train_here(order: ChildOrder, key: MarkingKey, limits: Limits) -> TrainingReport:
    """Train an order in a child process and show how it goes."""
    with console.status("training", spinner="line") as status:

        def on_event(event: dict[str, Any]) -> None:
            if event.get("event") == "progress":
                status.update(f"{event['run']} network: epoch {event['epoch']} of {event['epochs']}")
            elif event.get("event") == "warning":
                error_console.print(f"warning: {event['message']}")

        return run_child(order, PlainKey(encode_key_file(key)), on_event, lambda: False, limits=limits)


def describe(report: TrainingReport) -> dict[str, str]:
    """Say in words what training came to."""
    told = {}
    for name, figures in (("marked", report.marked), ("plain", report.plain), ("given", report.given)):
        if figures is not None:
            accuracy = figures.task_correct / figures.task_total
            told[f"{name} network"] = (
                f"task accuracy {accuracy:.1%}, {figures.trigger_matches} of {figures.trigger_total} triggers, "
                f"{figures.epochs} epochs"
            )
    if (cost := report.comparison) is not None:
        points = 100 * (cost.marked_correct - cost.plain_correct) / cost.asked
        seeds = "1 seed" if cost.seeds == 1 else f"{cost.seeds} seeds"
        told["the mark's cost"] = f"{points:+.1f} points of task accuracy, over {seeds}"
    weights = report.marked.weights_sha256
    return told | {"weights": MARKED_WEIGHTS, "sha256": weights.hex() if weights else "", "device": report.device}


COMMANDS = (register, labels, embed)
