"""Look at an endpoint to find out how it is spoken with: a few bounded requests through the safe transport.

Invariants: the requests are those that `detect` names, in its order, one at a time; once the endpoint cannot be reached no
further one is sent; one harmless input is asked about with each candidate until one is answered; where somebody waits for
both, they end within the seconds given.
"""

import asyncio
import hashlib
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from app.errors import SuspectUnreachable
from app.keys.trigger_set import ImageInput, TensorInput
from app.protocol.interface import Interface
from app.suspects.adapters import load_adapter
from app.suspects.addresses import NetworkRules, parse_endpoint
from app.suspects.credentials import Credentials, signer_of
from app.suspects.descriptions import MAX_NAMES
from app.suspects.detect import (
    BY_INDEX,
    FIRST_LOOKS,
    MAX_CANDIDATES,
    MAX_TOLD_BYTES,
    Look,
    Seen,
    second_looks,
)
from app.suspects.probe import Asked, Manner, Question, Suspect, ask_once
from app.suspects.transport import Limits, Lookup, SuspectClient

# Somebody sits and waits.
LIMITS = Limits(connect_seconds=5, read_seconds=10, total_seconds=15, body_bytes=MAX_TOLD_BYTES, connections=1)

# After these words no route of this address will answer.
UNREACHABLE = frozenset({"address_refused", "no_such_host", "connect_failed", "tls_failed", "timeout"})


# Stands where no interface is known yet.
UNKNOWN: Final = Interface("generic_json", {}, {}, BY_INDEX)


@dataclass(frozen=True)
class Tried:
    """A candidate and what came of asking it about one input."""

    interface: Interface
    path: str
    asked: Asked


# The picture that is always asked about.
NOISE: Final = b"trapstreet detect"


def sample(kind: Any, shape: tuple[int, ...]) -> ImageInput | TensorInput:
    """Draw an ordinary input of noise: images as uint8, tensors as float32 in 0..1."""
    count = math.prod(shape)
    drawn = hashlib.shake_256(NOISE).digest(count)
    if kind == "image":
        height, width, channels = shape
        return ImageInput(height, width, channels, drawn)
    return TensorInput.of(shape, [value / 255 for value in drawn])


def most_requests() -> int:
    """Give how many requests looking and trying send at most, those counted that are sent twice."""
    return 2 * (len(FIRST_LOOKS) + 3 * MAX_NAMES) + MAX_CANDIDATES


def look(
    endpoint: str,
    rules: NetworkRules,
    credentials: Credentials | None = None,
    model: str | None = None,
    *,
    seconds: float | None = None,
    seen: list[Seen] | None = None,
) -> list[Seen]:
    """Ask the well-known routes, and those of the models that they name, for so many seconds at most.

    What was seen is put into `seen`, if given, also where this raises.
    Raises: PolicyRefused if the address is not allowed; SuspectUnreachable with the reason.
    """
    seen = [] if seen is None else seen

    async def bounded() -> None:
        # What was seen by then is what there is.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await _look(endpoint, rules, credentials, model, seen)

    asyncio.run(bounded())
    if not seen:
        raise SuspectUnreachable(f"no answer within {seconds} s")
    return seen


async def _look(
    endpoint: str, rules: NetworkRules, credentials: Credentials | None, model: str | None, seen: list[Seen]
) -> None:
    address, sign = parse_endpoint(endpoint, rules), signer_of(credentials)
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


def try_candidates(
    asked_who: Suspect,
    found: Sequence[Interface],
    question: ImageInput | TensorInput,
    rules: NetworkRules,
    now: Callable[[], datetime],
    *,
    seconds: float = math.inf,
) -> list[Tried]:
    """Ask about one input with each candidate in turn, up to the first that is answered, for so many seconds at most.

    Of `asked_who` address, classes (0 takes any number of scores) and credentials are used.
    """
    tried: list[Tried] = []
    began = now()
    for interface in found:
        left = seconds - (now() - began).total_seconds()
        if left <= 0:
            break
        # By name any number of scores is taken: how many classes there are is what nobody knows yet.
        asked_with = (
            interface
            if asked_who.class_count
            else Interface(interface.adapter, interface.options, interface.preprocessing, {"by": "name"})
        )
        limits = replace(LIMITS, total_seconds=min(LIMITS.total_seconds, left))
        manner = Manner(limits=limits, budget_seconds=left)
        suspect = replace(asked_who, interface=asked_with, by_ranking=True)
        asked = ask_once(Question(0, question.encode()), suspect, rules, manner, now)
        request = load_adapter(interface.adapter).encode_request(interface.options, interface.preprocessing, question)
        tried.append(Tried(interface, f"{request.method} {request.path or '/'}", asked))
        if not asked.error:
            break
    return tried
