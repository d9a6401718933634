"""What a person typed into a form: kept as it was, with what to change beside each field.

Invariants: a refused form comes back with everything that was typed and one message a field; a file is not kept, for
browsers do not let us.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.types import Message

from app.errors import Malformed, Refused

MAX_FIELDS = 200

# Of a file in a form; whoever takes one has a lower limit of its own, and says it.
MAX_KEPT_BYTES = 4 * 1024 * 1024


@dataclass
class Typed:
    """The fields of a form, and the messages that stand beside them; `form` stands above all."""

    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def get(self, name: str, default: str = "") -> str:
        """Give a field as it was typed."""
        found = self.values.get(name)
        return found[0] if found else default

    def all(self, name: str) -> Sequence[str]:
        """Give every value of a field with several, such as ticked boxes."""
        return self.values.get(name, ())

    def number(self, name: str, least: int, most: int) -> int:
        """Give a field as a whole number.

        Raises: Malformed.
        """
        typed = self.get(name).strip()
        if not (typed.isascii() and typed.isdigit() and len(typed) < 19 and least <= int(typed) <= most):
            raise Malformed(f"a whole number from {least} to {most}", pointer=f"/{name}")
        return int(typed)

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Note what is refused inside beside its field; `errors` is empty if nothing was."""
        try:
            yield
        except Refused as error:
            name = error.pointer.split("/")[1] if error.pointer.startswith("/") else ""
            self.errors[name if name in self.values else "form"] = error.message

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Give every field, to be sent again as it is."""
        return [(name, value) for name, values in self.values.items() for value in values]


async def read_form(request: Request) -> Typed:
    """Read the text fields of a form."""
    values: dict[str, list[str]] = {}
    async with request.form(max_files=0, max_fields=MAX_FIELDS) as form:
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                values.setdefault(name, []).append(value)
    return Typed(values)


Form = Annotated[Typed, Depends(read_form)]


@dataclass
class TypedWithFile:
    """A form with one place for a file; `file` is its name and bytes, None if none was chosen.

    Of a form that `is_too_large` there is what was typed above the file.
    """

    typed: Typed
    file: tuple[str, bytes] | None
    is_too_large: bool = False


async def read_form_with_file(request: Request) -> TypedWithFile:
    """Read a form whose field `file` may hold one file, of which no more than MAX_KEPT_BYTES are looked at."""
    values: dict[str, list[str]] = {"file": [""]}
    file = None
    start = _Start(request)
    async with Request(request.scope, start.receive).form(max_files=1, max_fields=MAX_FIELDS) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                data = await value.read(MAX_KEPT_BYTES)
                # Browsers send an empty file without a name where none was chosen.
                file = (value.filename or "", data) if name == "file" and (value.filename or data) else file
            else:
                values.setdefault(name, []).append(value)
    return TypedWithFile(Typed(values), file, start.is_cut)


class _Start:
    """As much of a body as may be read: it ends where the rest would be too large."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.is_cut = False

    async def receive(self) -> Message:
        try:
            return await self._request.receive()
        except HTTPException as error:
            if error.status_code != 413:
                raise
            self.is_cut = True
            return {"type": "http.request", "body": b"", "more_body": False}


FormWithFile = Annotated[TypedWithFile, Depends(read_form_with_file)]
