"""Body sizes and media types, checked before an endpoint sees the body.

Invariants: a body over its limit is cut off while it streams, whatever its headers say; JSON endpoints take JSON only; a
caller whose body is not read to its end still gets to read the answer. Programs get a problem, people a page: whoever
reads the body behind a rule that says so is refused there, and answers in its own way.
Source: RFC 9110 sections 15.5.14 and 15.5.16.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import anyio
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import response_of
from app.errors import Refused, TooLarge, UnsupportedMedia

# After an early answer so much more of a body is read and thrown away, so that the caller gets to read the answer.
LINGER_BYTES = 16 * 1024 * 1024
LINGER_SECONDS = 2.0

JSON = ("application/json",)

# Who says that a body is too large: this middleware, by a problem; the page that wants it, before a byte is read; or the
# page once it has as much as it takes, so that it can keep what was typed above a file.
PROBLEM, PAGE, PAGE_THAT_KEEPS = "problem", "page", "page that keeps"


@dataclass(frozen=True)
class BodyRule:
    """What bodies of paths that match may be."""

    path: re.Pattern[str]
    max_bytes: int
    media_types: Sequence[str] = JSON
    too_large: str = PROBLEM


class BodyLimits:
    """The middleware; the first rule that matches a path holds for it."""

    def __init__(self, app: ASGIApp, rules: Sequence[BodyRule]) -> None:
        """Wrap an application; the last of `rules` matches everything."""
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse by the headers if they say enough, else count."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        rule = next(rule for rule in self._rules if rule.path.fullmatch(scope["path"]))
        headers = {name.lower(): value for name, value in scope["headers"]}
        refusal = _refusal(headers, rule)
        body = _CountedBody(receive, send, rule.max_bytes, is_whole=not _has_body(headers))
        if isinstance(refusal, TooLarge) and rule.too_large != PROBLEM:
            refusal, body.is_refused = None, rule.too_large == PAGE
        await (self._app if refusal is None else response_of(refusal))(scope, body.receive, body.send)


class _CountedBody:
    """One request's body on its way in, and the answer on its way out."""

    def __init__(self, receive: Receive, send: Send, max_bytes: int, *, is_whole: bool) -> None:
        self._receive, self._send, self._max_bytes = receive, send, max_bytes
        self._is_whole = is_whole
        self._size = 0
        self.is_refused = False

    async def receive(self) -> Message:
        if self.is_refused:
            raise HTTPException(413, _over(self._max_bytes))
        message = await self._receive()
        self._size += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._size > self._max_bytes:
            # The framework passes this one kind on while it reads a body; any other would become "error parsing".
            raise HTTPException(413, _over(self._max_bytes))
        return message

    async def send(self, message: Message) -> None:
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if self._is_whole or not is_last:
            await self._send(message)
            return
        # Answered before the body was read: closing now would reset the connection and with it lose the answer.
        await self._send({**message, "more_body": True})
        with anyio.move_on_after(LINGER_SECONDS):
            await self._discard()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _discard(self) -> None:
        left = LINGER_BYTES
        while left > 0 and not self._is_whole:
            message = await self._receive()
            self._is_whole = not message.get("more_body", False)
            left -= len(message.get("body", b""))


def _has_body(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"content-length", b"") not in (b"", b"0") or b"transfer-encoding" in headers


def _refusal(headers: Mapping[bytes, bytes], rule: BodyRule) -> Refused | None:
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > rule.max_bytes:
        return TooLarge(_over(rule.max_bytes))
    media_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if _has_body(headers) and media_type not in rule.media_types:
        return UnsupportedMedia(f"send {' or '.join(rule.media_types)}")
    return None


def _over(max_bytes: int) -> str:
    return f"the body is over the limit of {max_bytes} bytes"
