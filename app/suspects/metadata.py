"""Ask an endpoint what it says of itself: a few GETs at paths of ours, each once.

Invariants: whatever the endpoint does is part of the result; what is not whole, or too long, counts as nothing.
Source: docs/protocol.md section 7.1 (an interface derived from the endpoint's metadata).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from app.protocol.derivation import MAX_METADATA_BYTES, MetadataAnswer
from app.suspects.addresses import NetworkRules, parse_endpoint
from app.suspects.credentials import Credentials, signer_of
from app.suspects.transport import Limits, Lookup, SuspectClient

HEADERS = {"accept": "application/json"}


def ask_metadata(
    endpoint: str,
    paths: Sequence[tuple[str, str]],
    rules: NetworkRules,
    limits: Limits,
    credentials: Credentials | None = None,
) -> tuple[MetadataAnswer, ...]:
    """Ask at each path of each adapter, in order.

    Raises: PolicyRefused if the endpoint is not one we use; nothing that the endpoint does.
    """
    url = parse_endpoint(endpoint, rules).url
    sign = signer_of(credentials)

    async def ask_all() -> tuple[MetadataAnswer, ...]:
        async with SuspectClient(Lookup(rules), replace(limits, body_bytes=MAX_METADATA_BYTES)) as client:
            return tuple([await ask(client, adapter, path) for adapter, path in paths])

    async def ask(client: SuspectClient, adapter: str, path: str) -> MetadataAnswer:
        exchange = await client.send("GET", url(path), sign("GET", url(path), HEADERS, b""), b"")
        whole = exchange.status is not None and not exchange.error
        return MetadataAnswer(
            adapter=adapter,
            path=path,
            status=exchange.status if whole else None,
            response=exchange.body if whole else b"",
            address=exchange.address,
            certificate_sha256=exchange.certificate_sha256,
        )

    return asyncio.run(ask_all())
