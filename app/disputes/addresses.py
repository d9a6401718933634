"""Whether two filings are about one address, however each of them writes it.

Invariants: pure. An address that is written in two ways that no rule here joins (a model in the path, and as an option) is
two: then nothing is tested that should be. One that is joined wrongly does no harm: no model answers as both endpoints.
Source: RFC 3986 section 6.2 (host in lower case, the scheme's own port, no empty path).
"""

from ipaddress import ip_network

from app.protocol.interface import ADDRESS_OPTIONS, Interface
from app.protocol.records import FilingRecord
from app.suspects.addresses import NetworkRules, parse_endpoint

# It was asked already: whether it may be asked is no question here.
_ANYWHERE = NetworkRules((ip_network("0.0.0.0/0"), ip_network("::/0")), allow_http=True, ports=None)


def host_of(record: FilingRecord) -> str:
    """Give the host of a filing's endpoint."""
    return parse_endpoint(record.endpoint, _ANYWHERE).host


def is_same_address(one: FilingRecord, other: FilingRecord) -> bool:
    """Tell whether two filings name one URL, and the same model, version and route there as far as both name any."""
    if _url(one) != _url(other):
        return False
    here, there = _named(one.interface), _named(other.interface)
    return all(here[name] == there[name] for name in here.keys() & there.keys())


def _url(record: FilingRecord) -> tuple[str, int, str, str]:
    found = parse_endpoint(record.endpoint, _ANYWHERE)
    return found.host, found.port, found.path.rstrip("/"), found.query.removeprefix("?")


def _named(interface: Interface) -> dict[str, object]:
    options = interface.options
    return {name: options[name] for name in ADDRESS_OPTIONS if options.get(name) is not None}
