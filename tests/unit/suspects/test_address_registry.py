"""Whatever another project's transcription of the registries denies, we deny too: at its borders and inside."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ssrfguard import DEFAULT_DENIED, Policy, Reach

from app.errors import PolicyRefused
from app.suspects.addresses import DENIED_NETWORKS, NetworkRules, parse_endpoint, verify_address

PUBLIC = NetworkRules()
ORACLE = Policy()
TABLE = DEFAULT_DENIED.blocks

# How far from a border of a network an off-by-one, or a wrong prefix length, would show.
NEAR = st.integers(-3, 3) | st.sampled_from([-(2**32), -(2**16), -256, 256, 2**16, 2**32])


def is_refused(address):
    try:
        verify_address(address, PUBLIC)
    except PolicyRefused:
        return True
    return False


def near(version, number):
    """Give the address with this number, or None where there is none."""
    if not 0 <= number < 2 ** (32 if version == 4 else 128):
        return None
    return (IPv4Address if version == 4 else IPv6Address)(number)


def inside(network):
    first, last = int(network.network_address), int(network.broadcast_address)
    numbers = {first, min(first + 1, last), (first + last) // 2, max(first, last - 1), last}
    return [near(network.version, number) for number in sorted(numbers)]


@pytest.mark.parametrize("block", TABLE, ids=lambda block: str(block.network))
def test_what_the_oracle_denies_in_a_registered_network_is_refused(block):
    denied = [address for address in inside(block.network) if not ORACLE.permits_address(address)]
    assert [address for address in denied if not is_refused(address)] == []
    assert denied or block.reach is not Reach.DENIED


@given(st.sampled_from([block.network for block in TABLE] + list(DENIED_NETWORKS)), st.booleans(), NEAR)
@settings(max_examples=2000, deadline=None)
def test_near_every_border_we_are_at_least_as_strict(network, at_end, distance):
    border = int(network.broadcast_address if at_end else network.network_address)
    address = near(network.version, border + distance)
    assert address is None or ORACLE.permits_address(address) or is_refused(address)


@given(st.ip_addresses())
@settings(max_examples=1000, deadline=None)
def test_anywhere_we_are_at_least_as_strict(address):
    assert ORACLE.permits_address(address) or is_refused(address)


@given(st.ip_addresses(v=4))
@settings(max_examples=500, deadline=None)
def test_no_ipv6_address_that_carries_an_ipv4_address_passes(carried):
    number = int(carried)
    carriers = [
        0xFFFF << 32 | number,  # mapped
        number,  # compatible
        0x64FF9B << 96 | number,  # NAT64
        0x64FF9B0001 << 80 | number,  # NAT64 for local use
        0x2002 << 112 | number << 80,  # 6to4
        0x20010000 << 96 | number ^ 0xFFFFFFFF,  # Teredo
        0xFFFF0000 << 16 | number,  # SIIT
    ]
    assert [hex(carrier) for carrier in carriers if not is_refused(IPv6Address(carrier))] == []
    assert all(is_refused(ip_address(f"fe80::{index:x}:5efe:{number >> 16:x}:{number & 0xFFFF:x}")) for index in (0, 1))


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://[::ffff:7f00:1]/",
        "https://[64:ff9b::a9fe:a9fe]/",
        "https://2130706433/",
        "https://user@suspect.example/",
        "https://suspect.example:99999/",
        "https://suspect.example\\@10.0.0.1/",
        "https://suspect.example%2f@10.0.0.1/",
        "gopher://suspect.example/",
        "https://suspect.example\t/",
    ],
)
def test_what_the_oracle_says_of_an_url_we_say_too(url):
    with pytest.raises(Exception, match=r".") as theirs:
        ORACLE.check_url(url)
    assert "ssrfguard" in type(theirs.value).__module__
    with pytest.raises(PolicyRefused):
        parse_endpoint(url, PUBLIC)
