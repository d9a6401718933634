"""Send one message to an address that a stranger chose, as carefully as a suspect is asked.

Invariants: those of `transport`; of the answer nothing is kept but its status.
"""

import asyncio
from collections.abc import Mapping

from app.errors import PolicyRefused
from app.suspects.addresses import NetworkRules, parse_endpoint
from app.suspects.transport import Exchange, Limits, Lookup, SuspectClient

# Receivers are to take a message and work on it later; what they answer is of no interest.
POST_LIMITS = Limits(connect_seconds=5.0, read_seconds=15.0, total_seconds=15.0, body_bytes=64 * 1024, connections=1)


def post_once(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    rules: NetworkRules,
    *,
    limits: Limits = POST_LIMITS,
    local_address: str | None = None,
) -> Exchange:
    """Post a body; whatever the receiver does is a word in the result."""
    try:
        # Again, and not only when it was stored: the operator may have narrowed the rules since.
        endpoint = parse_endpoint(url, rules)
    except PolicyRefused:
        return Exchange(error="address_refused")

    async def post() -> Exchange:
        async with SuspectClient(Lookup(rules), limits, local_address=local_address) as client:
            return await client.send("POST", endpoint.url(""), headers, body)

    return asyncio.run(post())
