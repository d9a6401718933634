"""Which network somebody asks from, for counting what strangers may do.

Invariants: pure; an address that is none is one network of its own.
"""

from ipaddress import IPv6Address, ip_address, ip_network


def network_of(address: str) -> str:
    """Name what one person has of the network: an IPv4 address, or 64 bits of an IPv6 one."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
    return str(parsed)


def wide_network_of(address: str) -> str:
    """Name what one provider's customer may have of the network: 24 bits of an IPv4 address, 48 of an IPv6 one."""
    known = network_of(address).partition("/")[0]
    try:
        parsed = ip_address(known)
    except ValueError:
        return known
    return str(ip_network((parsed, 48 if isinstance(parsed, IPv6Address) else 24), strict=False))
