"""Addresses as they are taken."""

import pytest

from app.errors import Malformed
from app.notices.mail import checked_address


@pytest.mark.parametrize(
    "text", ["legal@example.org", " a.b+c@mail.example.org ", "x@y.z", f"{'a' * 64}@example.org", "o'neil@example.org"]
)
def test_a_plain_address_is_taken(text: str) -> None:
    assert checked_address(text) == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "legal",
        "@example.org",
        "legal@example",
        "a@b.c, d@e.f",
        "a@b.c\r\nBcc: d@e.f",
        "a@b.c\n",
        "\ra@b.c",
        "a b@c.d",
        "<a@b.c>",
        "Name <a@b.c>",
        "a@b.c\0",
        "a..b@c.d",
        ".a@b.c",
        "a@-b.c",
        "a@[127.0.0.1]",
        "ä@example.org",
        "a@exämple.org",
        f"{'a' * 65}@example.org",
        f"a@{'b.' * 130}org",
        '"a\r\nDATA"@b.c',
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="one mail address"):
        checked_address(text)
