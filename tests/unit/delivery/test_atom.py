"""Feeds as a reader takes them."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from app.db.notice_tables import EventRow
from app.delivery.atom import NEVER, Feed, encode_feed, title_of

FEED = Feed("Everything", "https://here.example/feed.atom", "https://here.example/feed.atom", "https://here.example/")
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ATOM = "{http://www.w3.org/2005/Atom}"


def event(number: int = 0, kind: str = "dispute.decided", **data: str) -> EventRow:
    at = NOW - timedelta(minutes=number)
    return EventRow(id=UUID(int=number), kind=kind, data={"id": "d1", **data}, is_public=True, created_at=at)


def verify_atom(data: bytes) -> ET.Element:
    """Check what RFC 4287 demands of a feed and of each entry."""
    root = ET.fromstring(data)
    assert root.tag == f"{ATOM}feed"
    for element in [root, *root.findall(f"{ATOM}entry")]:
        for name in ("id", "title", "updated"):
            assert len(element.findall(f"{ATOM}{name}")) == 1, (element.tag, name)
        updated = element.findtext(f"{ATOM}updated", "")
        assert datetime.fromisoformat(updated).tzinfo is not None
        identity = element.findtext(f"{ATOM}id", "")
        assert re.match("(https?|urn):", identity), identity
    assert root.find(f"{ATOM}author/{ATOM}name") is not None
    links = [link.get("rel") for link in root.findall(f"{ATOM}link")]
    assert links.count("self") == 1
    identities = [entry.findtext(f"{ATOM}id") for entry in root.findall(f"{ATOM}entry")]
    assert len(identities) == len(set(identities))
    for entry in root.findall(f"{ATOM}entry"):
        assert entry.find(f"{ATOM}content") is not None
    return root


def test_a_feed_is_valid_and_begins_with_the_newest() -> None:
    root = verify_atom(encode_feed(FEED, [event(0, verdict="CONFIRMED"), event(1)]))
    assert root.findtext(f"{ATOM}updated") == "2026-01-31T12:00:00Z"
    assert root.findtext(f"{ATOM}entry/{ATOM}title") == "dispute decided: CONFIRMED (d1)"


def test_an_empty_feed_is_valid() -> None:
    root = verify_atom(encode_feed(FEED, []))
    assert datetime.fromisoformat(root.findtext(f"{ATOM}updated", "")) == NEVER


def test_words_of_a_kind_are_words() -> None:
    assert title_of(event(kind="survival_report.done")) == "survival report done (d1)"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_whatever_stands_in_an_event_the_feed_is_well_formed(text: str) -> None:
    root = verify_atom(encode_feed(FEED, [event(verdict=text)]))
    assert "<script" not in (root.findtext(f"{ATOM}title") or "")
