"""When two filings are about one address."""

from dataclasses import replace

import pytest

from app.disputes.addresses import host_of, is_same_address
from tests.unit.protocol.examples import SMALL

RECORD = SMALL.evidence.record


def at(endpoint, **options):
    return replace(RECORD, endpoint=endpoint, interface=replace(RECORD.interface, options=options))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://models.example.org/v1", "https://models.example.org:443/v1"),
        ("https://models.example.org/v1", "https://MODELS.example.org/v1/"),
        ("https://models.example.org", "https://models.example.org/"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
        ("https://[2001:db8::7]/a?b=c", "https://[2001:db8::7]:443/a/?b=c"),
    ],
)
def test_one_address_in_two_spellings_is_one(one, other):
    assert is_same_address(at(one), at(other))
    assert host_of(at(one)) == host_of(at(other))


@pytest.mark.parametrize(
    "other",
    [
        "https://models.example.org/v2",
        "https://models.example.org/V1",
        "https://models.example.org:8443/v1",
        "http://models.example.org/v1",
        "https://example.org/v1",
        "https://models.example.org/v1?model=b",
    ],
)
def test_another_address_is_another(other):
    assert not is_same_address(at("https://models.example.org/v1"), at(other))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"model": "a"}, {"model": "a"}, True),
        ({"model": "a"}, {"model": "b"}, False),
        ({"model": "a", "version": "1"}, {"model": "a"}, True),
        ({"model": "a", "version": None}, {"model": "a", "version": "2"}, True),
        ({"model": "a"}, {"path": "x"}, True),
        ({"route": "a"}, {"route": "b"}, False),
    ],
)
def test_models_that_both_filings_name_have_to_be_the_same(one, other, same):
    here = "https://models.example.org"
    assert is_same_address(at(here, **one), at(here, **other)) is same
