"""Where the service may connect to.

An endpoint's URL is chosen by somebody we do not trust, and so is whatever its name resolves to. The URL is accepted in
one plain spelling only, so that no two parsers can read it differently; its name is looked up once, and one bad address
among the results refuses them all.

Invariants: without `allowed_networks` only global unicast addresses pass; messages never say what a name resolved to.
Source: IANA special-purpose address registries for IPv4 and IPv6; RFC 6890; RFC 4291; OWASP SSRF prevention.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from app.errors import PolicyRefused, SuspectUnreachable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Gives the addresses of a host name, as text.
Resolver = Callable[[str], Awaitable[Sequence[str]]]

MAX_URL_CHARACTERS = 2000

# `is_global` alone lets through 192.0.0.192, 192.88.99.1, multicast and more: so here stand the registries.
DENIED_NETWORKS: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # this host
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared address space; cloud metadata at 100.100.100.200
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # a cloud's host agent on an otherwise public address
            "169.254.0.0/16",  # link-local; cloud metadata at 169.254.169.254
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # IETF protocol assignments; cloud metadata at 192.0.0.192
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # automatic multicast tunneling
            "192.88.99.0/24",  # 6to4 relay
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarking
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved and broadcast
            "2001::/23",  # IETF protocol assignments: Teredo, benchmarking, ORCHID
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which carries any IPv4 address
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)
# Everything else in IPv6 is special: mapped and NAT64 addresses (which carry any IPv4 address), unique local,
# link-local, site-local, multicast, segment routing. They are refused as they are instead of being unwrapped.
GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\])(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<path>/[A-Za-z0-9/._~!$&'()*+,;=:@%-]*)?(?P<query>\?[A-Za-z0-9/._~!$&'()*+,;=:@%?-]*)?"
)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True)
class NetworkRules:
    """What the operator allows beyond public https on port 443; `ports` None is any port."""

    allowed_networks: tuple[Network, ...] = ()
    allow_http: bool = False
    ports: frozenset[int] | None = frozenset({443})


@dataclass(frozen=True)
class Endpoint:
    """A suspect's URL in its parts; `query` keeps its question mark."""

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def is_private_way(self) -> bool:
        """Tell whether nobody in between reads what is sent there: by https, or within this machine."""
        try:
            return self.scheme == "https" or ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"

    def url(self, suffix: str) -> str:
        """Give the URL of a request; `suffix` is the adapter's path below the endpoint's."""
        path = self.path.rstrip("/") + suffix if suffix else self.path
        return f"{self.scheme}://{self.host}:{self.port}{path}{self.query}"


def parse_endpoint(url: str, rules: NetworkRules) -> Endpoint:
    """Read an endpoint's URL, without looking anything up.

    Raises: PolicyRefused, saying what to change.
    """
    match = _URL.fullmatch(url) if len(url) <= MAX_URL_CHARACTERS else None
    if match is None:
        raise _refused("write it as https://host/path in plain ASCII, without user, password or fragment")
    if match["scheme"] == "http" and not rules.allow_http:
        raise _refused("only https is allowed here")
    port = int(match["port"] or (443 if match["scheme"] == "https" else 80))
    if port > 65_535 or (rules.ports is not None and port not in rules.ports):
        raise _refused("its port is not allowed here")
    host = match["host"].lower()
    _check_host(host, rules)
    return Endpoint(match["scheme"], host, port, match["path"] or "/", match["query"] or "")


def _check_host(host: str, rules: NetworkRules) -> None:
    literal = host.strip("[]")
    labels = literal.split(".")
    # A name that ends in a number is an IPv4 address to some parser: 127.1, 0x7f.1, 017700000001, 2130706433.
    if host.startswith("[") or _NUMBER.fullmatch(labels[-1]):
        try:
            address = ip_address(literal)
        except ValueError as error:
            raise _refused("write an address in its usual form, like 203.0.113.7 or [2001:db8::7]") from error
        verify_address(address, rules)
    elif len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise _refused("its host is not a name (write an international name in its xn-- form)")


def verify_address(address: Address, rules: NetworkRules) -> None:
    """Refuse an address to which the service does not connect.

    Raises: PolicyRefused.
    """
    if any(address in network for network in rules.allowed_networks):
        return
    denied = any(address in network for network in DENIED_NETWORKS)
    foreign = address.version == 6 and address not in GLOBAL_UNICAST_V6
    if denied or foreign or not address.is_global or address.is_multicast or address.is_reserved:
        raise _refused("it lies in a private or special network, which this service does not reach")


async def resolve(host: str, rules: NetworkRules, resolver: Resolver) -> tuple[str, ...]:
    """Look a host up once and give its addresses, all of them checked.

    Raises: PolicyRefused if any one is refused; SuspectUnreachable if there is none.
    """
    addresses = [ip_address(text) for text in await resolver(host.strip("[]"))]
    if not addresses:
        raise SuspectUnreachable("the endpoint's host name has no address")
    for address in addresses:
        verify_address(address, rules)
    return tuple(map(str, addresses))


async def system_resolver(host: str) -> list[str]:
    """Ask the operating system for a host's addresses; none if the name is not known."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(item[4][0]) for item in found))


def _refused(what: str) -> PolicyRefused:
    return PolicyRefused(f"the endpoint is refused: {what}", pointer="/endpoint")
