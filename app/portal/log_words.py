"""An entry of the log in words: what its kind says, what it hides, and its record field by field.

Invariants: everything shown comes from the entry's own bytes; long values are cut and say so; characters that change how
text is read without being seen are written as escapes.
Source: docs/protocol.md sections 2 and 5 to 8.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

# So many items of an array and characters of a text are shown; the bytes can be downloaded whole.
SHOWN_ITEMS: Final = 24
SHOWN_CHARACTERS: Final = 2000
SHOWN_BYTES: Final = 20_000

# Control, format, surrogate and private characters, and line separators: they would say something unseen.
_UNSEEN: Final = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")

# Fields that hold another entry's index.
LINKS: Final = frozenset({"entry", "registration", "filing", "verdict", "second_run", "model"})


@dataclass(frozen=True)
class Kind:
    """A kind of entry: its name, what it says, and what it hides until when ("" where it hides nothing)."""

    name: str
    says: str
    hides: str = ""


_BLIND = "The hash is taken over the record and 32 random bytes, so that nobody finds it by guessing. "

KINDS: Final[Mapping[str, Kind]] = {
    "registration": Kind(
        "Registration of a watermark",
        "A vendor commits to a set of triggers by their Merkle root, before anybody can know their labels.",
        "The triggers stay with the vendor: the root binds them and shows nothing of them. The nonce whose hash stands "
        "here is opened by the beacon entry that follows.",
    ),
    "beacon": Kind(
        "Beacon",
        "The public randomness of an earlier entry, with the nonce to which that entry had committed. From here on the "
        "labels of a registration, or the order of a filing's triggers, are fixed.",
    ),
    "filing": Kind(
        "Filing of a dispute",
        "A vendor fixed against whom, how and how strictly a dispute is run, before the first question was asked.",
        "Whom it accuses, and all else of the record, is hidden: the log holds only its hash, because a public log must not "
        "warn the endpoint before it has been asked. "
        + _BLIND
        + "The verdict entry reveals both, and anybody can then check that this is "
        "what was fixed here. A filing that is never revealed still counts: each one raises the threshold of the next.",
    ),
    "block": Kind(
        "Head of a block of questions",
        "One hash over every question and answer of a block, logged before the labels of that block are opened.",
        "Questions and answers are hidden until the verdict; then they stand in the evidence bundle.",
    ),
    "model": Kind(
        "Commitment to a model or an interface",
        "Somebody fixed a file by its SHA-256, signed and dated: weights, or an interface.",
        "The file itself stays with whoever committed to it.",
    ),
    "worker-key": Kind(
        "Key of embedding workers", "The public key to which vendors seal what they send to be embedded."
    ),
    "vendor-key": Kind("Key of a vendor", "The public key under which a vendor signs, or the one that follows it."),
    "verdict": Kind(
        "Verdict",
        "The outcome of a dispute, with the filing record that was hidden until now and the digest of the evidence.",
    ),
    "withdrawal": Kind(
        "Withdrawal",
        "The claimant withdrew a dispute; the filing record that was hidden is revealed all the same.",
    ),
    "notice": Kind(
        "Notice to the accused",
        "From here on whoever runs the endpoint of a filing may be told of it.",
        "Which endpoint, and its link, are hidden by a hash. " + _BLIND,
    ),
    "answer": Kind(
        "Answer of the accused",
        "Somebody with the link of a dispute answered it.",
        "The words are for the parties: the log holds only their hash. " + _BLIND,
    ),
    "second-run": Kind("Second run", "The accused asked for a second run of a dispute, with a fresh challenge."),
    "cross-test": Kind(
        "Test of two registrants' models",
        "Two vendors' claims about one address were confirmed. The committed model of each was asked the other's triggers: a "
        "model that was copied and marked again carries both marks. The counts are the service's word; whoever has the "
        "models counts again.",
    ),
}


@dataclass(frozen=True)
class Shown:
    """One field: its name, its value as text or the fields below it, and the entry to which it points."""

    name: str
    text: str = ""
    entry: int | None = None
    below: tuple["Shown", ...] = field(default=())


def show_record(value: Mapping[str, Any]) -> tuple[Shown, ...]:
    """Give an entry's fields in the order of its bytes."""
    return tuple(_shown(name, item) for name, item in value.items())


def _shown(name: str, value: Any) -> Shown:
    name = visible(name)
    match value:
        case dict() if value:
            return Shown(name, below=tuple(_cut(value)))
        case list():
            return _listed(name, value)
        case bool() | None:
            return Shown(name, _text(value))
        case int() if name in LINKS:
            return Shown(name, str(value), entry=value)
        case _:
            return Shown(name, _text(value))


def _listed(name: str, value: list[Any]) -> Shown:
    if not all(_is_count(item) for item in value) and any(isinstance(item, dict | list) for item in value):
        return Shown(name, below=tuple(_cut({str(number): item for number, item in enumerate(value)})))
    words = (" · " if value and _is_count(value[0]) else ", ").join(_line(item) for item in value[:SHOWN_ITEMS])
    more = f", … and {len(value) - SHOWN_ITEMS} more" if len(value) > SHOWN_ITEMS else ""
    return Shown(name, words + more or "none")


def _line(item: Any) -> str:
    if isinstance(item, dict):
        return ", ".join(f"{visible(key)} {_text(each)}" for key, each in item.items())
    return _text(item)


def _is_count(item: Any) -> bool:
    """Tell whether an object holds numbers and yes or no alone: one line is read more easily than a table in a table."""
    return isinstance(item, dict) and bool(item) and all(isinstance(each, int) for each in item.values())


def _cut(value: Mapping[str, Any]) -> Iterator[Shown]:
    for number, (name, item) in enumerate(value.items()):
        if number == SHOWN_ITEMS:
            yield Shown("…", f"and {len(value) - SHOWN_ITEMS} more")
            return
        yield _shown(name, item)


def _text(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case str() if len(value) > SHOWN_CHARACTERS:
            return f"{visible(value[:SHOWN_CHARACTERS])}… ({len(value)} characters)"
        case _:
            return visible(str(value)) or "empty"


def visible(text: str) -> str:
    """Write characters that nobody sees as escapes."""
    return "".join(f"\\u{ord(c):04x}" if unicodedata.category(c) in _UNSEEN else c for c in text)
