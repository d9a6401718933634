"""Move bytes to a suspect and back, assuming that it is hostile.

Invariants: a connection goes to an address that was checked, never to a name (TLS and the Host header keep the name);
a host is looked up once in a `Lookup`'s life, so a second answer of its name server changes nothing; environment
proxies, redirects, cookies and compression do not exist here; a body over the cap or a late one is cut off; whatever
the peer does is a word in the result and not an exception.
Source: docs/protocol.md section 6 (what a query records); httpcore2's network backend interface.
"""

import asyncio
import http.cookiejar
import math
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Final, Self

import httpcore2
import httpx2

from app.canonical import sha256
from app.errors import PolicyRefused, SuspectUnreachable
from app.suspects.addresses import NetworkRules, Resolver, resolve, system_resolver

# Words for what kept a response from arriving whole; after them there are no response bytes to read.
TRANSPORT_ERRORS: Final = frozenset(
    {
        "address_refused",
        "no_such_host",
        "connect_failed",
        "tls_failed",
        "timeout",
        "connection_lost",
        "not_http",
        "encoded_body",
        "too_large",
    }
)


# An HTTP date has 29.
MAX_RETRY_AFTER_CHARACTERS = 64


@dataclass(frozen=True)
class Limits:
    """How long and how much one exchange may take."""

    connect_seconds: float = 5.0
    read_seconds: float = 30.0
    total_seconds: float = 60.0
    body_bytes: int = 1024 * 1024
    connections: int = 8


@dataclass(frozen=True)
class Exchange:
    """What came back; `error` is one of `TRANSPORT_ERRORS`, or empty if `status` and `body` are whole."""

    status: int | None = None
    body: bytes = b""
    error: str = ""
    address: str = ""
    certificate_sha256: bytes = b""
    retry_after: str = ""


class CheckedStream(httpcore2.AsyncNetworkStream):
    """A connection that remembers its address: the system forgets it as soon as the peer resets the connection."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream, address: str) -> None:
        self._stream = stream
        self._address = address

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what has come."""
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all of it."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """Go on under TLS with the same address."""
        return CheckedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._address)

    def get_extra_info(self, info: str) -> Any:
        """Give `checked_address`, or what the connection itself knows."""
        return self._address if info == "checked_address" else self._stream.get_extra_info(info)


class Lookup:
    """The checked addresses of hosts, each looked up once; clients of one session share it."""

    def __init__(self, rules: NetworkRules, resolver: Resolver = system_resolver) -> None:
        self._rules = rules
        self._resolver = resolver
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._one_at_a_time = asyncio.Lock()

    async def addresses_of(self, host: str) -> tuple[str, ...]:
        """Give a host's addresses.

        Raises: PolicyRefused if any one is refused; SuspectUnreachable if there is none.
        """
        async with self._one_at_a_time:
            if host not in self._addresses:
                self._addresses[host] = await resolve(host, self._rules, self._resolver)
            return self._addresses[host]


class CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Connect to addresses that the rules allow."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._sockets = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first checked address that answers.

        Raises: PolicyRefused, SuspectUnreachable, or httpcore's connection errors.
        """
        *others, last = await self._candidates(host, local_address)
        for address in others:
            try:
                stream = await self._sockets.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
            return CheckedStream(stream, address)
        return CheckedStream(await self._sockets.connect_tcp(last, port, timeout, local_address, socket_options), last)

    async def _candidates(self, host: str, local_address: str | None) -> tuple[str, ...]:
        addresses = await self._lookup.addresses_of(host)
        if local_address is None:
            return addresses
        # From an IPv4 address there is no way to an IPv6 one.
        version = ip_address(local_address).version
        reachable = tuple(address for address in addresses if ip_address(address).version == version)
        if not reachable:
            raise httpcore2.ConnectError(f"the endpoint has no IPv{version} address")
        return reachable

    async def connect_unix_socket(
        self,
        path: str,  # noqa: ARG002  # httpcore's interface
        timeout: float | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore2.AsyncNetworkStream:
        """Refuse: a suspect is never on a local socket."""
        raise PolicyRefused("local sockets are never connected to")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class CheckedTransport(httpx2.AsyncHTTPTransport):
    """httpx2's own transport on a pool that connects through `CheckedBackend`."""

    def __init__(self, backend: CheckedBackend, tls: ssl.SSLContext, limits: Limits, local_address: str | None) -> None:
        # Not super().__init__: it has no argument for the backend and would build a pool that resolves names itself.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=limits.connections,
            max_keepalive_connections=limits.connections,
            keepalive_expiry=5.0,
            local_address=local_address,
            network_backend=backend,
        )


class SuspectClient:
    """Send requests to one suspect over a few kept connections, from `local_address` if it is given."""

    def __init__(
        self,
        lookup: Lookup,
        limits: Limits,
        *,
        local_address: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits
        context = tls or httpx2.create_ssl_context(trust_env=False)
        no_cookies = http.cookiejar.DefaultCookiePolicy(allowed_domains=[])
        self._client = httpx2.AsyncClient(
            transport=CheckedTransport(CheckedBackend(lookup), context, limits, local_address),
            trust_env=False,
            follow_redirects=False,
            # A cookie would let the suspect tie our questions together.
            cookies=http.cookiejar.CookieJar(no_cookies),
            headers={"accept-encoding": "identity"},
            timeout=httpx2.Timeout(limits.read_seconds, connect=limits.connect_seconds, pool=limits.total_seconds),
        )

    async def __aenter__(self) -> Self:
        """Open the pool."""
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        await self._client.__aexit__(kind, error, trace)

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, *, within_seconds: float = math.inf
    ) -> Exchange:
        """Send one request and read its response; every failure of the peer is a word in the result."""
        try:
            async with (
                asyncio.timeout(min(within_seconds, self._limits.total_seconds)),
                self._client.stream(method, url, headers=dict(headers), content=body) as response,
            ):
                return await self._read(response)
        except (PolicyRefused, SuspectUnreachable, TimeoutError, httpx2.TransportError) as error:
            return Exchange(error=_word_of(error))

    async def _read(self, response: httpx2.Response) -> Exchange:
        address, certificate = _peer(response)
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity":
            return Exchange(response.status_code, b"", "encoded_body", address, certificate)
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > self._limits.body_bytes:
                return Exchange(response.status_code, b"", "too_large", address, certificate)
        retry_after = response.headers.get("retry-after", "").strip()[:MAX_RETRY_AFTER_CHARACTERS]
        return Exchange(response.status_code, bytes(body), "", address, certificate, retry_after)


def _peer(response: httpx2.Response) -> tuple[str, bytes]:
    stream = response.extensions["network_stream"]
    tls = stream.get_extra_info("ssl_object")
    certificate = None if tls is None else tls.getpeercert(binary_form=True)
    return stream.get_extra_info("checked_address"), b"" if certificate is None else sha256(certificate)


def _word_of(error: Exception) -> str:
    match error:
        case PolicyRefused():
            return "address_refused"
        case SuspectUnreachable():
            return "no_such_host"
        case TimeoutError() | httpx2.TimeoutException():
            return "timeout"
        case httpx2.ConnectError():
            return "tls_failed" if _is_tls(error) else "connect_failed"
        # A connection that the server closes on us comes as a protocol error too, and is worth another attempt.
        case httpx2.RemoteProtocolError() if not re.search("disconnected|closed connection", str(error)):
            return "not_http"
        case _:
            return "connection_lost"


def _is_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False
