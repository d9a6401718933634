"""By which host authenticators know the service."""

import pytest

from app.people.passkeys import Party


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8000", "localhost"),
        ("https://trap.example.org", "trap.example.org"),
        ("https://a.b:8443", "a.b"),
    ],
)
def test_a_passkey_is_good_for_the_host_of_the_portals_origin(origin: str, host: str):
    assert Party(origin).id == host
