"""What an adapter is: one served protocol, as pure functions from bytes to bytes.

An adapter turns a canonical input into a request and a response into endpoint labels; the transport moves the bytes.
It can also read a request it once made back into the canonical input: an auditor decodes what was sent and compares,
and never encodes again, so a later change in how numbers are printed spoils no old bundle.

Invariants: no I/O, no clock, no randomness; `decode_request(encode_request(x).body)` is the canonical bytes of `x`, or
within `tolerance` of them; decoding refuses every key the adapter would not have sent, so a request carries nothing but
the input; what a response does never raises anything but SuspectMisbehaved with a stable reason; a later request of an
endpoint that answers later goes to a path of ours, never to a URL of theirs.
Source: docs/protocol.md sections 6 and 7.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from app.keys.trigger_set import ImageInput, TensorInput

JSON_HEADERS = (("content-type", "application/json"), ("accept", "application/json"))


@dataclass(frozen=True)
class Request:
    """One query: `path` is appended to the endpoint's URL, which stands in the filing record."""

    path: str
    body: bytes
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = JSON_HEADERS


# What a response says of the classes: a score for every one; labels with scores, highest first; labels without scores; one.
AnswerKind = Literal["scores", "ranking", "top-k", "label"]


@dataclass(frozen=True)
class Answer:
    """Endpoint labels, highest first; none is an abstention."""

    kind: AnswerKind
    labels: tuple[str, ...]

    @property
    def said(self) -> tuple[str, ...]:
        """Give what the endpoint answers with: the highest label, or a whole list that it gave without scores."""
        return self.labels if self.kind == "top-k" else self.labels[:1]


@dataclass(frozen=True)
class About:
    """An adapter in words: what speaks it, what it cannot know of the endpoint, and how it was tried."""

    serves: str
    unknown: str
    tried: str


class Adapter(Protocol):
    """One served protocol. Options and preprocessing are values of canonical JSON; a key left out has its default."""

    about: ClassVar[About]
    # Whether a response repeats the request that it answers, and so may be longer by that.
    is_question_repeated: ClassVar[bool] = False

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

    def tolerance(self, options: Mapping[str, Any]) -> int:
        """Say how far a pixel read back may lie from the one sent: 0, or more where the endpoint takes JPEG."""
        return 0

    def next_request(self, options: Mapping[str, Any], status: int, body: bytes) -> Request | None:
        """Say what to ask next at an endpoint that answers later; None if `body` is the answer.

        Raises: SuspectMisbehaved with a stable reason.
        """
        return None

    def parse_response(
        self, options: Mapping[str, Any], status: int, body: bytes, *, score_count: int | None = None
    ) -> Answer:
        """Read the endpoint's labels; `score_count`, if given, is how many scores there must be.

        Raises: SuspectMisbehaved with a stable reason.
        """
        ...
