"""Look at an endpoint to find out how it is spoken with: a few bounded requests through the safe transport.

Invariants: the requests are those that `detect` names, in its order, one at a time; once the endpoint cannot be reached no
further one is sent; one harmless input is asked about with each candidate until one is answered.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.errors import SuspectUnreachable
from app.keys.trigger_set import ImageInput, TensorInput
from app.protocol.interface import Interface
from app.suspects.adapters import load_adapter
from app.suspects.addresses import NetworkRules, parse_endpoint
from app.suspects.credentials import Credentials, signer_of
from app.suspects.detect import FIRST_LOOKS, MAX_TOLD_BYTES, Look, Seen, second_looks
from app.suspects.probe import Asked, Manner, Question, Suspect, ask_once
from app.suspects.transport import Limits, Lookup, SuspectClient

# Somebody sits and waits.
LIMITS = Limits(connect_seconds=5, read_seconds=10, total_seconds=15, body_bytes=MAX_TOLD_BYTES, connections=1)

# After these words no route of this address will answer.
UNREACHABLE = frozenset({"address_refused", "no_such_host", "connect_failed", "tls_failed", "timeout"})


@dataclass(frozen=True)
class Tried:
    """A candidate and what came of asking it about one input."""

    interface: Interface
    path: str
    asked: Asked


def look(
    endpoint: str, rules: NetworkRules, credentials: Credentials | None = None, model: str | None = None
) -> list[Seen]:
    """Ask the well-known routes, and those of the models that they name.

    Raises: PolicyRefused if the address is not allowed; SuspectUnreachable with the reason.
    """
    return asyncio.run(_look(endpoint, rules, credentials, model))


async def _look(endpoint: str, rules: NetworkRules, credentials: Credentials | None, model: str | None) -> list[Seen]:
    address, sign = parse_endpoint(endpoint, rules), signer_of(credentials)
    seen: list[Seen] = []
    async with SuspectClient(Lookup(rules), LIMITS) as client:

        async def see(wanted: Look) -> None:
            url = address.url(wanted.path)
            own = {"accept": "application/json, text/plain"}
            if wanted.body:
                own["content-type"] = "application/json"
            headers = sign(wanted.method, url, own, wanted.body)
            exchange = await client.send(wanted.method, url, headers, wanted.body)
            if exchange.error == "connection_lost":
                # A kept connection may be closed just when it is used again.
                exchange = await client.send(wanted.method, url, headers, wanted.body)
            if exchange.error in UNREACHABLE:
                raise SuspectUnreachable(f"{wanted.method} {url}: {exchange.error}")
            seen.append(Seen(wanted, exchange.status, exchange.body, exchange.error))

        for wanted in FIRST_LOOKS:
            await see(wanted)
        for wanted in second_looks(seen, model):
            await see(wanted)
    return seen


def try_candidates(  # what one question needs
    endpoint: str,
    found: Sequence[Interface],
    question: ImageInput | TensorInput,
    class_count: int,
    rules: NetworkRules,
    now: Callable[[], datetime],
    credentials: Credentials | None = None,
) -> list[Tried]:
    """Ask about one input with each candidate in turn, up to the first that is answered."""
    tried: list[Tried] = []
    for interface in found:
        # By name any number of scores is taken: how many classes there are is what nobody knows yet.
        asked_with = (
            interface
            if class_count
            else Interface(interface.adapter, interface.options, interface.preprocessing, {"by": "name"})
        )
        suspect = Suspect(endpoint, asked_with, class_count, credentials, by_ranking=True)
        asked = ask_once(Question(0, question.encode()), suspect, rules, Manner(limits=LIMITS), now)
        request = load_adapter(interface.adapter).encode_request(interface.options, interface.preprocessing, question)
        tried.append(Tried(interface, f"{request.method} {request.path or '/'}", asked))
        if not asked.error:
            break
    return tried
