"""The form that names a suspect: its fields as an interface and credentials, and what the interface costs in words.

Invariants: what is shown is what would be stored; a price is the one that a filing by the claimant alone pays.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from app.canonical import parse_loose_json
from app.disputes.suspects import price_in_bits
from app.errors import Malformed, Refused
from app.keys.statement import Statement
from app.portal.forms import Typed
from app.protocol.interface import BUILT_IN_BITS, Interface
from app.suspects.credentials import Credentials, parse_credentials

# Of so many classes each has a field of its own; maps of more are written as JSON.
MAX_CLASS_FIELDS = 100
MAX_JSON_CHARACTERS = 20_000
VERDICT_BITS = 64

MAPS = (
    ("index", "By index: class 0 is “0”, class 1 is “1”, …"),
    ("name", "By name: the endpoint says the names of the classes"),
    ("classes", "Class by class, as written below"),
    ("json", "As JSON, for several labels a class"),
)


def json_field(typed: Typed, name: str) -> Any:
    """Read a field of JSON; an empty one is an empty object.

    Raises: Malformed.
    """
    text = typed.get(name).strip() or "{}"
    if len(text) > MAX_JSON_CHARACTERS:
        raise Malformed(f"at most {MAX_JSON_CHARACTERS} characters", pointer=f"/{name}")
    try:
        value = parse_loose_json(text.encode())
    except Malformed as error:
        raise Malformed(f"write JSON, such as {{}}: {error.message}", pointer=f"/{name}") from error
    if not isinstance(value, dict):
        raise Malformed("write a JSON object, such as {}", pointer=f"/{name}")
    return value


def interface_of(typed: Typed, statement: Statement) -> Interface:
    """Read the interface that a form describes.

    Raises: Malformed with the field's name as pointer.
    """
    options, preprocessing = json_field(typed, "options"), json_field(typed, "preprocessing")
    label_map = _label_map(typed, statement)
    adapter = typed.get("adapter")
    value = {"adapter": adapter, "options": options, "preprocessing": preprocessing, "label_map": label_map}
    return Interface.from_json(value)


@contextmanager
def beside_fields() -> Iterator[None]:
    """Point what is refused of an interface at the field of the form that holds it."""
    try:
        yield
    except Refused as error:
        parts = error.pointer.removeprefix("/interface").split("/")
        name = parts[1] if len(parts) > 1 else ""
        field = {"label_map": "map"}.get(name, name)
        at = f" (at {'/'.join(parts[2:])})" if len(parts) > 2 and field != "map" else ""
        raise type(error)(f"{error.message}{at}", pointer=f"/{field}") from error


def _label_map(typed: Typed, statement: Statement) -> dict[str, Any]:
    kind = typed.get("map", "index")
    if kind in ("index", "name"):
        return {"by": kind}
    if kind == "json":
        return {"by": "explicit", "map": json_field(typed, "map_json")}
    named: dict[str, list[str]] = {}
    for number, name in enumerate(statement.classes[:MAX_CLASS_FIELDS]):
        if label := typed.get(f"label_{number}"):
            named.setdefault(label, []).append(name)
    if not named:
        raise Malformed("write the endpoint's label beside at least one class", pointer="/map")
    return {"by": "explicit", "map": named}


def class_fields(typed: Typed, statement: Statement) -> list[tuple[str, str, str]]:
    """List field, class and the endpoint's label under the map that is chosen, or as it was typed."""
    kind = typed.get("map", "index")
    fields = []
    for number, name in enumerate(statement.classes[:MAX_CLASS_FIELDS]):
        plain = name if kind == "name" else str(number)
        fields.append((f"label_{number}", name, plain if kind in ("index", "name") else typed.get(f"label_{number}")))
    return fields


def credentials_of(typed: Typed) -> Credentials | None:
    """Read the credentials of a form, of the kind whose value is filled in; None if none is.

    Raises: Malformed or PolicyRefused, never with a value.
    """
    given: dict[str, Any]
    if value := typed.get("header_value"):
        given = {"kind": "headers", "headers": {typed.get("header_name", "authorization"): value}}
    elif typed.get("access_key_id"):
        names = ("access_key_id", "secret_access_key", "region", "service")
        given = {
            "kind": "sigv4",
            "session_token": typed.get("session_token") or None,
            **{name: typed.get(name) for name in names},
        }
    else:
        return None
    try:
        return parse_credentials(given, "/credentials")
    except Refused as error:
        last = error.pointer.rsplit("/", 1)[-1]
        raise type(error)(error.message, pointer=f"/{last if last in typed.values else 'header_value'}") from error


@dataclass(frozen=True)
class Cheaper:
    """A way to pay less, and whether it is open here."""

    way: str
    what: str


@dataclass(frozen=True)
class Price:
    """What an interface costs, in words; `bits` is None where bits mean nothing."""

    bits: int | None
    matches: int
    ways: Sequence[Cheaper]
    hint: str = ""

    @property
    def threshold(self) -> int:
        """Give the threshold in bits."""
        return VERDICT_BITS + (self.bits or 0)


def price_of(
    interface: Interface, statement: Statement, endpoint: str, logged_entry: int | None, beacon_index: int
) -> Price:
    """Say what an interface costs, and what would cost less.

    Raises: Malformed with a pointer.
    """
    bits = price_in_bits(interface, statement, endpoint)
    if statement.assurance_class == "B":
        return Price(None, 0, ())
    more = -(-bits // (len(statement.classes) - 1).bit_length())
    return Price(bits, more, _ways(statement, bits, logged_entry, beacon_index), _hint(interface, statement))


def _ways(statement: Statement, bits: int, logged_entry: int | None, beacon_index: int) -> list[Cheaper]:
    ways = []
    if bits > BUILT_IN_BITS:
        ways.append(
            Cheaper(
                f"Defaults: {BUILT_IN_BITS} bits",
                "no options but the model's name, version or route, no "
                "preprocessing, a map by index or by name, and no query in the address.",
            )
        )
    if statement.covers is None:
        ways.append(
            Cheaper(
                "Derived: free",
                "not with this watermark, for it committed to no labelled covers when it "
                "was registered. Commit to some with the next.",
            )
        )
    else:
        ways.append(
            Cheaper(
                "Derived: free",
                "add the suspect, then let the service derive the interface on its page "
                "from the covers that this watermark committed to (kserve_v1 and oip_v2).",
            )
        )
    if logged_entry is not None and logged_entry < beacon_index:
        ways.append(
            Cheaper(
                f"Logged before: {beacon_index.bit_length()} bits",
                f"entry {logged_entry} of the log is this interface, older than the labels: file with it.",
            )
        )
    else:
        ways.append(
            Cheaper(
                "Logged before",
                "too late for this watermark, whose labels are drawn. For the next: "
                "trapstreet suspect log-interface, then register.",
            )
        )
    ways.append(
        Cheaper(
            "Countersigned: free",
            "an arbiter whom this service knows signs it (trapstreet suspect "
            "countersign) and you file with the signature.",
        )
    )
    return ways


def _hint(interface: Interface, statement: Statement) -> str:
    entries = interface.label_map.get("map")
    for kind, labels in (("index", map(str, range(len(statement.classes)))), ("name", statement.classes)):
        if entries == {label: [name] for label, name in zip(labels, statement.classes, strict=True)}:
            return f"This map says what “by {kind}” says: choose that, which costs nothing of its own."
    return ""


# What to change, by the word with which an answer was refused.
_ADVICE = {
    "no_such_host": "No host has this name: look for a typing error in the address.",
    "connect_failed": "Nobody listens there: check host and port, and that the endpoint is up.",
    "tls_failed": "Its certificate does not hold for this name, or it speaks no TLS: check https, host and port.",
    "timeout": "It did not answer in time: try again, or check that the address is the model's.",
    "address_refused": "Its name leads to a private or special address, which this service does not reach.",
    "connection_lost": "It closed the connection without an answer: try again.",
    "not_http": "What answers there does not speak HTTP: check the port.",
    "too_large": "Its answer is longer than any model's: check the path.",
    "not_json": "It answered something else than JSON: check adapter and path; a page of HTML is often a sign-in.",
    "status_401": "It wants to know who asks: give credentials.",
    "status_403": "It knows who asks and refuses: check the credentials, or it refuses this service's address.",
    "status_404": "There is nothing at this path: check the address's path, and the model's name in the options.",
    "status_405": "It takes no such request at this path: check adapter and path.",
    "status_429": "It is asked too often: wait, or ask its operator for a higher limit.",
    "wrong_count": "It gave another number of scores than there are classes: check the watermark and the model.",
}


def advice_for(word: str) -> str:
    """Say what to change after an answer that was refused with this word, or a sentence that ends with it."""
    last = re.split(r"[\s:]+", word.strip())[-1] if word else ""
    if last.startswith("status_4") and last not in _ADVICE:
        return "It did not take the question: read how its answer begins; options or preprocessing do not fit."
    if last.startswith("status_5"):
        return "It failed over the question: read how its answer begins; options, preprocessing or shape may not fit."
    return _ADVICE.get(last, "Read how its answer begins: adapter, options or preprocessing do not fit.")
