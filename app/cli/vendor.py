"""Commands of a vendor's own machine: keygen, register, labels, embed."""

import base64
import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from app.canonical import parse_loose_json, sha256
from app.cli.client import ApiClient, register_statement, register_vendor
from app.cli.files import check_readable, check_writable, read_key_file, read_vendor_key, write_private
from app.cli.output import EXIT_NO, JsonFlag, console, error_console, reported, show
from app.embedding.artifacts import MARKED_WEIGHTS
from app.embedding.child_order import ChildOrder, PlainKey, TrainingReport
from app.embedding.recipe import Recipe
from app.embedding.training_process import run_child
from app.errors import Conflict, Malformed
from app.keys.commitment import MarkingKey, check_marking_key
from app.keys.key_file import encode_key_file, encode_sealed_key_file
from app.keys.labels import draw_labels, salt_of
from app.keys.statement import Statement
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
PassphraseFile = Annotated[
    Path | None, typer.Option("--passphrase-file", help="File whose first line seals the key file.")
]

DEFAULT_URL = "http://127.0.0.1:8000"

# Small images and some hundred triggers; docs/walkthrough.md lists every key.
DEFAULT_RECIPE = '{"network": "small_cnn", "epochs": 60, "triggers_per_batch": 32}'


def keygen(
    key_file: Annotated[Path, typer.Argument(help="Where to write the marking key (mode 0600).")],
    family: Annotated[
        list[str] | None, typer.Option(help="NAME:COUNT by program: abstract, noise, blended or patterned. Repeatable.")
    ] = None,
    shape: Annotated[str, typer.Option(help="Shape of the inputs, HEIGHTxWIDTHxCHANNELS.")] = "32x32x3",
    images: Annotated[Path | None, typer.Option(help="Archive of your own images, one folder a family.")] = None,
    image_family: Annotated[list[str] | None, typer.Option(help="A folder of --images, in order. Repeatable.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Archive of task images, for blended and patterned triggers.")
    ] = None,
    classes: Annotated[str, typer.Option(help="Class folders of --data, separated by commas.")] = "",
    passphrase_file: PassphraseFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a marking key: trigger inputs and the secret that commits to them. Nothing leaves this machine."""
    with reported(as_json=as_json):
        if not family and images is None:
            raise Malformed("give --family NAME:COUNT, or --images with the families' folders")
        if data is not None and not classes:
            raise Malformed("give --classes: the class folders of --data, separated by commas")
        check_readable(data, images)
        order = trigger_order(parse_shape(shape), images=images, names=image_family or [])
        order |= {
            "families": [parse_family(text) for text in family or []],
            "data": str(data) if data else "",
            "classes": [name for name in classes.split(",") if name],
        }
        inputs, families = make_triggers(order)
        key = MarkingKey(secrets.token_bytes(32), inputs)
        write_key_file(key_file, key, passphrase_file)
        result = {"key_file": str(key_file), "root": key.root().hex(), "count": key.count, "families": families}
        show(result, as_json=as_json)


def parse_shape(text: str) -> list[int]:
    """Read HEIGHTxWIDTHxCHANNELS.

    Raises: Malformed.
    """
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() for part in parts):
        raise Malformed(f"{text!r} is no shape: write HEIGHTxWIDTHxCHANNELS, such as 32x32x3")
    return [int(part) for part in parts]


def parse_family(text: str) -> list[Any]:
    """Read NAME:COUNT; the name is the generator's, too.

    Raises: Malformed.
    """
    name, _, count = text.partition(":")
    if not count.isascii() or not count.isdecimal() or not int(count):
        raise Malformed(f"{text!r} is no family: write NAME:COUNT, such as noise:128")
    return [name, name, int(count)]


def trigger_order(shape: list[int], *, images: Path | None, names: list[str]) -> dict[str, Any]:
    """Make the order for a child that reads images from folders of these names."""
    return {
        "shape": shape,
        "families": [],
        "images": str(images) if images else "",
        "family_names": names,
        "data": "",
        "classes": [],
        "seed": secrets.token_hex(16),
    }


def make_triggers(order: dict[str, Any]) -> tuple[tuple[bytes, ...], list[list[Any]]]:
    """Let a child process make the trigger inputs; numpy and Pillow stay out of this one.

    Raises: Malformed with the child's reason.
    """
    child = subprocess.run(  # our own module, no shell
        [sys.executable, "-m", "app.embedding.trigger_child"],
        input=json.dumps(order).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    answer = parse_loose_json(child.stdout, max_bytes=1 << 31)
    if "error" in answer:
        raise Malformed(answer["message"])
    return tuple(base64.b64decode(text) for text in answer["inputs"]), answer["families"]


def write_key_file(path: Path, key: MarkingKey, passphrase_file: Path | None) -> None:
    """Write a marking key, sealed if there is a passphrase."""
    if passphrase_file is None:
        write_private(path, encode_key_file(key))
        return
    passphrase = passphrase_file.read_text().splitlines()[0]
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    write_private(path, encode_sealed_key_file(key, passphrase, salt=salt, nonce=nonce))


def register(
    key_file: Annotated[Path, typer.Argument(help="The marking key.")],
    vendor_key: VendorKey,
    classes: Annotated[str, typer.Option(help="Class names in the model's order, separated by commas.")],
    family: Annotated[list[str], typer.Option(help="NAME:COUNT in the order of the key's triggers. Repeatable.")],
    out: Annotated[Path, typer.Option(help="Where to write entry and receipt.")],
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
            families = [parse_family(text) for text in family]
            statement = make_statement(key, client.log.origin, private_key, classes.split(","), families)
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
    key: MarkingKey, log: str, private_key: bytes, classes: list[str], families: list[list[Any]]
) -> Statement:
    """Build the statement of a marking key; families are [name, generator, count] or [name, count], in order.

    Raises: Malformed with a pointer if something in it breaks the protocol's limits.
    """
    placed, at = [], 0
    for name, *_, count in families:
        placed.append(Family(name, at, at + count))
        at += count
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
        covers=None,
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
    weights: Annotated[Path | None, typer.Option(help="Weights to go on from (mode pretrained).")] = None,
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
        with console.status("training", spinner="line") as status:

            def on_event(event: dict[str, Any]) -> None:
                if event.get("event") == "progress":
                    status.update(f"{event['run']} network: epoch {event['epoch']} of {event['epochs']}")

            report = run_child(order, PlainKey(encode_key_file(key)), on_event, lambda: False, limits=limits)
        show(report.to_json() if as_json else describe(report), as_json=as_json)
    if report.marked.trigger_matches * 10 < report.marked.trigger_total * 9:
        # No dispute should be filed with such a network: each spends a family.
        error_console.print("the mark did not take: raise epochs or triggers_per_batch in the recipe")
        raise typer.Exit(EXIT_NO)


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
    weights = report.marked.weights_sha256
    return told | {"weights": MARKED_WEIGHTS, "sha256": weights.hex() if weights else "", "device": report.device}


COMMANDS = (keygen, register, labels, embed)
