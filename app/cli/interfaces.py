"""How an interface is named on the command line, and fixed by others or beforehand: `suspect countersign`, `log-interface`.

Both print one JSON object, with `--json` or without, that `dispute --interface` takes. Countersigning asks nobody: an
arbiter's key needs no network.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from app.canonical import parse_loose_json
from app.cli.client import ApiClient
from app.cli.files import read_file, read_vendor_key
from app.cli.output import JsonFlag, reported, show
from app.cli.vendor import DEFAULT_URL, ApiKey, Url, VendorKey
from app.errors import Malformed
from app.protocol.interface import Interface, InterfaceOrigin
from app.protocol.records import ModelEntry
from app.signature import public_key_of, sign
from app.suspects.adapters import load_adapter

Adapter = Annotated[
    str, typer.Option(help="The suspect's protocol, one of docs/adapters.md; `suspect detect` finds it.")
]
Options = Annotated[str, typer.Option(help="The adapter's options as JSON.")]
Preprocessing = Annotated[str, typer.Option(help="Preprocessing as JSON.")]
LabelMapText = Annotated[str, typer.Option(help="Label map as JSON.")]

BY_INDEX = '{"by": "index"}'


def countersign(
    key_file: Annotated[
        Path, typer.Option("--key", help="File with the arbiter's Ed25519 private key, 64 hex digits.")
    ],
    adapter: Adapter,
    options: Options = "{}",
    preprocessing: Preprocessing = "{}",
    label_map: LabelMapText = BY_INDEX,
    as_json: JsonFlag = False,
) -> None:
    """Sign an interface as an arbiter, offline: it is then free for whoever files with it.

    Sign only what the endpoint's own documentation says: whoever chose a map for you chose its matches, too. The
    signature holds at every endpoint. Keep what this prints in a file for `dispute --interface`.
    """
    with reported(as_json=as_json):
        interface = read_interface(adapter, options, preprocessing, label_map)
        key = read_vendor_key(key_file)
        signature = sign(key, interface.encode())
        show(_fixed(interface, InterfaceOrigin("countersigned", None, public_key_of(key), signature)), as_json=True)


def log_interface(
    adapter: Adapter,
    vendor_key: VendorKey,
    options: Options = "{}",
    preprocessing: Preprocessing = "{}",
    label_map: LabelMapText = BY_INDEX,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    as_json: JsonFlag = False,
) -> None:
    """Commit to an interface's hash in the log: before a registration's beacon it costs but the bits that name the entry.

    The log shows the hash alone, and that later registrations may use it. Keep what this prints in a file for
    `dispute --interface`.
    """
    with reported(as_json=as_json), ApiClient(url, api_key) as client:
        interface = read_interface(adapter, options, preprocessing, label_map)
        key, digest = read_vendor_key(vendor_key), interface.digest()
        signature = sign(key, ModelEntry.signed_bytes(public_key_of(key), digest))
        entry = client.post("/v1/models", {"sha256": digest.hex(), "signature": signature.hex()})["entry_index"]
        show(_fixed(interface, InterfaceOrigin("logged", entry, b"", b"")), as_json=True)


def read_interface(adapter: str, options: str, preprocessing: str, label_map: str) -> Interface:
    """Read an interface from an adapter's name and JSON texts.

    Raises: Malformed with a pointer.
    """
    interface = Interface.from_json(
        {
            "adapter": adapter,
            "options": parse_loose_json(options.encode()),
            "preprocessing": parse_loose_json(preprocessing.encode()),
            "label_map": parse_loose_json(label_map.encode()),
        },
        "/interface",
    )
    load_adapter(interface.adapter)
    return interface


def read_fixed(path: Path) -> tuple[Interface, InterfaceOrigin]:
    """Read what `countersign` or `log-interface` printed.

    Raises: NotFound; Malformed.
    """
    value = parse_loose_json(read_file(path))
    if not isinstance(value, dict) or set(value) != {"interface", "origin"}:
        raise Malformed(f"{path} is not what `suspect countersign` or `suspect log-interface` prints")
    return Interface.from_json(value["interface"], "/interface"), InterfaceOrigin.from_json(value["origin"], "/origin")


def _fixed(interface: Interface, origin: InterfaceOrigin) -> dict[str, Any]:
    return {"interface": interface.to_json(), "origin": origin.to_json()}
