"""What an adapter is: one served protocol, as pure functions from bytes to bytes.

An adapter turns a canonical input into a request and a response into endpoint labels; the transport moves the bytes.
It can also read a request it once made back into the canonical input: an auditor decodes what was sent and compares,
and never encodes again, so a later change in how numbers are printed spoils no old bundle.

Invariants: no I/O, no clock, no randomness; `decode_request(encode_request(x).body)` is the canonical bytes of `x`;
decoding refuses every key the adapter would not have sent, so a request carries nothing but the input; what a
response does never raises anything but SuspectMisbehaved with a stable reason.
Source: protocol.md sections 5.2 and 5.4.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from app.keys.trigger_set import ImageInput, TensorInput

JSON_HEADERS = (("content-type", "application/json"), ("accept", "application/json"))


@dataclass(frozen=True)
class Request:
    """One query: `path` is appended to the endpoint's URL, which stands in the filing record."""

    path: str
    body: bytes
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = JSON_HEADERS


@dataclass(frozen=True)
class Answer:
    """Endpoint labels, highest first; none is an abstention. `score_count` says how many scores stood behind them."""

    labels: tuple[str, ...]
    score_count: int | None = None


class Adapter(Protocol):
    """One served protocol. Options and preprocessing are values of canonical JSON; a key left out has its default."""

    def check_options(
        self, options: Mapping[str, Any], preprocessing: Mapping[str, Any], *, kind: str, shape: tuple[int, ...]
    ) -> None:
        """Accept options and preprocessing for inputs of this kind and shape.

        Raises: Malformed with a pointer to the value at fault.
        """

    def encode_request(
        self, options: Mapping[str, Any], preprocessing: Mapping[str, Any], question: ImageInput | TensorInput
    ) -> Request:
        """Write the request that asks about one input."""

    def decode_request(
        self,
        options: Mapping[str, Any],
        preprocessing: Mapping[str, Any],
        body: bytes,
        *,
        kind: str,
        shape: tuple[int, ...],
    ) -> bytes:
        """Read the canonical input out of a request's body.

        Raises: Malformed unless the body is a request about exactly one such input and nothing else.
        """

    def parse_response(
        self, options: Mapping[str, Any], status: int, body: bytes, *, score_count: int | None = None
    ) -> Answer:
        """Read the endpoint's labels; `score_count`, if given, is how many scores there must be.

        Raises: SuspectMisbehaved with a stable reason.
        """
