"""Write a feed as Atom: events in the words of people, for programs that read feeds.

Invariants: well-formed whatever stands in an event: characters that XML has not are left out.
Source: RFC 4287; XML 1.0 section 2.2.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from app.canonical import encode_json, time_text
from app.db.notice_tables import EventRow

MEDIA_TYPE = "application/atom+xml"
NAMESPACE = "http://www.w3.org/2005/Atom"

# Of an empty feed: there is no later time at which it changed.
NEVER = datetime(2026, 1, 1, tzinfo=UTC)

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Feed:
    """A feed's head: what it is, its name for good, and where it and its page are."""

    title: str
    id: str
    address: str
    page: str


def encode_feed(feed: Feed, events: Sequence[EventRow]) -> bytes:
    """Write a feed, the newest event first."""
    root = ET.Element("feed", {"xmlns": NAMESPACE})
    _text(root, "title", feed.title)
    _text(root, "id", feed.id)
    _text(root, "updated", time_text(events[0].created_at if events else NEVER))
    ET.SubElement(root, "link", {"rel": "self", "type": MEDIA_TYPE, "href": feed.address})
    ET.SubElement(root, "link", {"rel": "alternate", "type": "text/html", "href": feed.page})
    _text(ET.SubElement(root, "author"), "name", "Trapstreet")
    for event in events:
        entry = ET.SubElement(root, "entry")
        _text(entry, "title", title_of(event))
        _text(entry, "id", event.id.urn)
        _text(entry, "updated", time_text(event.created_at))
        _text(entry, "category", "", term=event.kind)
        _text(entry, "content", encode_json(event.data).decode(), type="text")
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def title_of(event: EventRow) -> str:
    """Say in a line what happened: `dispute decided: CONFIRMED (019a3f…)`."""
    topic, _, step = event.kind.partition(".")
    outcome = f": {event.data['verdict']}" if event.data.get("verdict") else ""
    return f"{topic.replace('_', ' ')} {step.replace('_', ' ')}{outcome} ({event.data.get('id', '')})"


def _text(parent: ET.Element, name: str, text: str, **attributes: str) -> None:
    element = ET.SubElement(parent, name, attributes)
    element.text = _NOT_XML.sub("", text) or None
