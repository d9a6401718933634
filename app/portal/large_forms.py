"""Forms with files of gigabytes: few at once, each no slower than a line can be, and none for ever.

Invariants: a place is held only while bytes come, fast enough; whoever holds one is known by the link it sends to, and
holds one at a time, so that nobody fills the places of everybody.
Trust: the files are a stranger's; they lie on the disk while they are looked at, and go when the request ends.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from time import monotonic
from typing import Annotated, BinaryIO

import anyio
from fastapi import Depends, Request
from starlette.datastructures import UploadFile
from starlette.types import Message

from app.errors import TooSlow, Unavailable
from app.portal.forms import MAX_FIELDS

LARGE_FORMS_AT_ONCE = 2

# Whoever sends must have sent so much by now: nothing at first, then at this rate (half a megabit in a second).
GRACE_SECONDS = 30.0
MIN_BYTES_PER_SECOND = 64 * 1024
# And be done by then, whatever the rate.
MOST_SECONDS = 3600.0

TOO_SLOW = (
    "this came too slowly, and was not kept: what is sent here must come at 64 kB a second and within an hour. Try again "
    "on a faster line, or send a smaller file"
)


class Places:
    """The places for large forms, of this process."""

    def __init__(self, count: int) -> None:
        self._count, self._lock = count, Lock()
        self._held: set[str] = set()

    @contextmanager
    def hold(self, whose: str) -> Iterator[None]:
        """Hold a place while the caller works.

        Raises: Unavailable while there is none, or whoever asks has one.
        """
        with self._lock:
            if whose in self._held:
                raise Unavailable("a large file is being sent here already: wait until it is done, then try again")
            if len(self._held) >= self._count:
                raise Unavailable("too many large files are being sent at once: try again in a moment")
            self._held.add(whose)
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(whose)


class PacedBody:
    """A body that must come fast enough."""

    def __init__(self, request: Request, clock: Callable[[], float] = monotonic) -> None:
        """Begin to count."""
        self._request, self._clock = request, clock
        self._began, self._size = clock(), 0

    @property
    def seconds_left(self) -> float:
        """Say how long the next bytes may take."""
        due = min(GRACE_SECONDS + self._size / MIN_BYTES_PER_SECOND, MOST_SECONDS)
        return self._began + due - self._clock()

    async def receive(self) -> Message:
        """Give the next bytes.

        Raises: TooSlow.
        """
        with anyio.move_on_after(max(self.seconds_left, 0)):
            message = await self._request.receive()
            self._size += len(message.get("body", b""))
            return message
        raise TooSlow(TOO_SLOW)


_places = Places(LARGE_FORMS_AT_ONCE)


async def read_large_files(request: Request) -> AsyncIterator[Mapping[str, BinaryIO]]:
    """Read a form of large files, each as an open file on the disk by its field's name; they go when the request ends.

    Raises: Unavailable while others send such forms; TooSlow.
    """
    with _places.hold(request.url.path):
        paced = Request(request.scope, PacedBody(request).receive)
        async with paced.form(max_files=2, max_fields=MAX_FIELDS) as form:
            # Browsers send an empty file without a name where none was chosen.
            sent = {name: file for name, file in form.items() if isinstance(file, UploadFile) and file.filename}
            yield {name: file.file for name, file in sent.items()}


LargeFiles = Annotated[Mapping[str, BinaryIO], Depends(read_large_files)]
