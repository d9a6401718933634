"""Registering in a browser, step by step, and what it sends meanwhile."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from playwright.sync_api import Page, Request

from app.keys.commitment import MarkingKey
from app.keys.key_file import parse_key_file
from tests.portal.conftest import Tab

PASSPHRASE = "correct-horse-battery-staple"
CLASSES = "circle\ncross\nbars"


@dataclass
class Sent:
    """All that a page and its worker sent: addresses, headers and bodies as bytes, and what each request was for."""

    parts: list[bytes] = field(default_factory=list)
    posted: list[tuple[str, set[str]]] = field(default_factory=list)

    def hear(self, request: Request) -> None:
        """Write a request down; one whose body cannot be read stands out in `posted`."""
        body = request.post_data_buffer or b""
        self.parts += [
            request.url.encode(),
            *(f"{name}: {value}".encode() for name, value in request.headers.items()),
            body,
        ]
        if request.method != "GET":
            fields = (
                json.loads(body) if body.startswith(b"{") else dict(parse_qsl(body.decode("latin-1"))) or {"unread": 0}
            )
            self.posted.append((urlsplit(request.url).path, set(fields)))

    def leaked(self, secrets: dict[str, bytes]) -> list[str]:
        """Name the secrets that were sent in any of their forms."""
        told = b"\n".join(self.parts)
        return [name for name, secret in secrets.items() if any(form in told for form in forms_of(secret))]


def forms_of(secret: bytes) -> list[bytes]:
    """Give a secret as it is, in hex, in base64 of both alphabets, as a list of numbers, escaped."""
    encoded = [encode(secret).rstrip(b"=") for encode in (base64.b64encode, base64.urlsafe_b64encode)]
    numbers = ",".join(map(str, secret)).encode()
    return [secret, secret.hex().encode(), secret.hex().upper().encode(), *encoded, numbers, quote(secret).encode()]


@contextmanager
def listening(page: Page) -> Iterator[Sent]:
    """Write down everything that the page sends."""
    sent = Sent()
    page.context.on("request", sent.hear)
    yield sent
    page.context.remove_listener("request", sent.hear)


def become_vendor(tab: Tab, folder: Path, name: str) -> bytes:
    """Make a vendor in the browser; gives its private key."""
    page = tab.go("/vendors/new")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Make a key").click()
    key_file = folder / "vendor.key"
    saved.value.save_as(key_file)
    page.get_by_label("Name of the vendor").fill(name)
    page.get_by_label("Contact").fill("marks@example.org")
    page.get_by_label("The key file").set_input_files(key_file)
    page.get_by_role("button", name="Sign and register").click()
    page.wait_for_url(f"{tab.origin}/")
    return bytes.fromhex(key_file.read_text())


def make_triggers(page: Page, folder: Path, own: list[Path], passphrase: str) -> MarkingKey:
    for label, value in [("Height", "8"), ("Width", "8"), ("Abstract", "6"), ("Noise", "5")]:
        page.get_by_label(label).fill(value)
    page.get_by_label("Channels").select_option("1")
    page.get_by_label("Your own pictures").set_input_files(own)
    page.get_by_label("Passphrase", exact=True).fill(passphrase)
    page.get_by_label("The same again").fill(passphrase)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Make the triggers").click()
    key_file = folder / "marking-key.json"
    saved.value.save_as(key_file)
    return parse_key_file(key_file.read_bytes(), passphrase or None)


def read(page: Page, path: str) -> dict[str, Any]:
    answer: dict[str, Any] = page.request.get(f"{page.url.split('/registrations')[0]}{path}").json()
    return answer


def ready(page: Page, folder: Path) -> MarkingKey:
    """Fill the page so that only the last click is missing; gives the key that it saved."""
    key = make_triggers(page, folder, [], "")
    page.get_by_label("I have").check()
    page.get_by_label("Class names").fill(CLASSES)
    page.get_by_label("Too few will do").check()
    page.get_by_label("Your vendor key file").set_input_files(folder / "vendor.key")
    return key


def register(page: Page) -> None:
    page.get_by_role("button", name="Sign and register").click()
