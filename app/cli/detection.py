"""The command `suspect detect`."""

import json
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image, UnidentifiedImageError

from app.cli.files import read_credentials
from app.cli.keygen import parse_shape
from app.cli.output import EXIT_NO, JsonFlag, console, reported, show
from app.errors import Malformed
from app.keys.trigger_set import ImageInput
from app.suspects.addresses import NetworkRules, parse_endpoint
from app.suspects.credentials import parse_credentials, verify_way
from app.suspects.detect import Seen, candidates, escaped
from app.suspects.looking import UNKNOWN, Tried, look, sample, try_candidates
from app.suspects.probe import Suspect

# Larger pictures than models take are of no use here.
MAX_SIDE = 1024


def detect(
    endpoint: Annotated[str, typer.Argument(help="The endpoint's base URL, without the protocol's own path.")],
    input_file: Annotated[
        Path | None, typer.Option("--input", help="A picture to ask about; else a fixed one of noise is drawn.")
    ] = None,
    shape: Annotated[str, typer.Option(help="Height, width and channels of the picture drawn.")] = "32x32x3",
    model: Annotated[str, typer.Option(help="The model's name, where the server lists none.")] = "",
    classes: Annotated[int, typer.Option(help="How many classes there are; 0 takes any number of scores.", min=0)] = 0,
    credentials_file: Annotated[
        Path | None,
        typer.Option(
            "--credentials",
            help="File (chmod 600) with what the endpoint wants to see first; see `suspect credentials`.",
        ),
    ] = None,
    allow_http: Annotated[
        bool, typer.Option("--allow-http", help="Send the credentials by http, where everybody on the way reads them.")
    ] = False,
    allow_network: Annotated[
        list[str] | None, typer.Option(help="A private network that may be reached, such as 127.0.0.0/8. Repeatable.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Find out which adapter an endpoint needs: look at well-known routes, then ask about one picture."""
    with reported(as_json=as_json):
        rules = NetworkRules(_networks(allow_network or []), allow_http=True, ports=None)
        credentials = None if credentials_file is None else parse_credentials(read_credentials(credentials_file))
        verify_way(parse_endpoint(endpoint, rules), credentials, allow_http=allow_http, told_by="--allow-http")
        question = _noise(parse_shape(shape)) if input_file is None else _picture(input_file)
        seen = look(endpoint, rules, credentials, model or None)
        found = candidates(seen, question.kind, question.shape, model or None)
        suspect = Suspect(endpoint, UNKNOWN, classes, credentials)
        tried = try_candidates(suspect, found, question, rules, lambda: datetime.now(UTC))  # noqa: TID251
        answered = bool(tried) and not tried[-1].asked.error
        told = _told(seen, tried, answered=answered)
        if as_json:
            show(told, as_json=True)
        else:
            _explain(told)
    if not answered:
        raise typer.Exit(EXIT_NO)


def _told(seen: Sequence[Seen], tried: Sequence[Tried], *, answered: bool) -> dict[str, Any]:
    return {
        "looked": [
            {"method": each.look.method, "path": each.look.path, "status": each.status, "answer": each.shown}
            for each in seen
        ],
        "tried": [
            {
                "interface": each.interface.to_json(),
                "request": each.path,
                "sent": escaped(each.asked.request),
                "status": each.asked.status,
                "answer": escaped(each.asked.response),
                "labels": [escaped(label.encode()) for label in each.asked.labels[:10]],
                "error": each.asked.error,
            }
            for each in tried
        ],
        "interface": _with_map(tried[-1]) if answered else None,
    }


def _with_map(tried: Tried) -> dict[str, Any]:
    """Give the interface that was answered: by name where the labels are no numbers."""
    by = "index" if all(label.isascii() and label.isdecimal() for label in tried.asked.labels) else "name"
    return {**tried.interface.to_json(), "label_map": {"by": by}}


def _explain(told: dict[str, Any]) -> None:
    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    for each in told["looked"]:
        say(f"{each['method']:<5}{each['path']:<32}{each['status'] or '-':<5}{each['answer']}")
    for each in told["tried"]:
        interface = each["interface"]
        say(f"\ntried {_as_options(interface)}")
        say(f"  {each['request']}  {each['sent']}")
        say(f"  {each['status'] or '-'}  {each['answer']}")
        say(f"  refused: {each['error']}" if each["error"] else f"  labels: {' '.join(each['labels'])}")
    say(_advice(told))


def _advice(told: dict[str, Any]) -> str:
    if told["interface"] is not None:
        return (
            f"\nproposed, as options of `dispute`:\n  {_as_options(told['interface'])}\nThat it answers does not show that "
            "the preprocessing is right: ask about pictures whose class you know, or let the service derive the interface."
        )
    if told["tried"]:
        return (
            "\nno guess was answered: read what the last answers say; --shape or --input with pictures of the model's own "
            "size may help, or generic_json with a template of your own"
        )
    return (
        "\nno route told which server this is: give the base URL without the protocol's path, --model where the server "
        "lists none (TensorFlow Serving, TorchServe), --credentials where it wants a key; cloud services have adapters of "
        "their own (docs/adapters.md), and generic_json takes a template of yours"
    )


def _as_options(interface: dict[str, Any]) -> str:
    """Write an interface as a shell takes it; names in it may be the server's."""
    words = ["--adapter", interface["adapter"]]
    for name in ("options", "preprocessing", "label_map"):
        words += [f"--{name.replace('_', '-')}", json.dumps(interface[name])]
    return shlex.join(words)


def _networks(names: Sequence[str]) -> tuple[Any, ...]:
    try:
        return tuple(map(ip_network, names))
    except ValueError as error:
        raise Malformed(f"--allow-network: {error}") from error


def _noise(shape: tuple[int, ...]) -> ImageInput:
    """Draw the picture that is always asked about."""
    if len(shape) != 3 or max(shape[:2]) > MAX_SIDE:
        raise Malformed(f"--shape is HEIGHTxWIDTHxCHANNELS, at most {MAX_SIDE} a side")
    drawn = sample("image", shape)
    assert isinstance(drawn, ImageInput)  # noqa: S101  # by its kind
    return drawn


def _picture(path: Path) -> ImageInput:
    try:
        with Image.open(path) as picture:
            if max(picture.size) > MAX_SIDE:
                raise Malformed(f"{path} is larger than {MAX_SIDE} pixels a side")
            plain = picture if picture.mode == "L" else picture.convert("RGB")
            return ImageInput(plain.height, plain.width, len(plain.getbands()), plain.tobytes())
    except FileNotFoundError as error:
        raise Malformed(f"there is no file {path}") from error
    except (UnidentifiedImageError, OSError) as error:
        raise Malformed(f"{path} is no picture") from error
