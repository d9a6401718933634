"""Every error as application/problem+json.

Invariants: whatever goes wrong, the body is a problem with a stable `code`; nothing of a traceback, a query or a value of
another vendor stands in it; the answer to "none" and to "not yours" is the same bytes.
Source: RFC 9457; RFC 6901 (pointers).
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.db.engine import is_database_busy
from app.errors import (
    AlreadyRegistered,
    Forbidden,
    Malformed,
    NotFound,
    TooLarge,
    TrapstreetError,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)
from app.web import status_of

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

# What a client is asked to wait before it tries the same again.
RETRY_AFTER_SECONDS = 2

# Codes of what the framework refuses before our code sees it.
FRAMEWORK_CODES: Mapping[int, str] = {
    400: Malformed.code,
    401: Unauthenticated.code,
    403: Forbidden.code,
    404: NotFound.code,
    405: "method_not_allowed",
    406: "not_acceptable",
    413: TooLarge.code,
    415: UnsupportedMedia.code,
}


class ValueProblem(BaseModel):
    """One value at fault."""

    pointer: str = Field(description="JSON pointer into the body; empty for the body as a whole or a parameter.")
    message: str = Field(description="What to change.")
    parameter: str | None = Field(None, description="Name of the path, query or header parameter, if it is one.")


class Problem(BaseModel):
    """What went wrong; programs match on `code`."""

    type: str = Field(examples=["urn:trapstreet:problem:conflict"])
    title: str = Field(examples=["Conflict"])
    status: int = Field(examples=[409])
    detail: str = Field(examples=["this family has an open dispute"])
    code: str = Field(examples=["conflict"])
    errors: list[ValueProblem] | None = None
    state: str | None = Field(None, description="The current state, where a step came out of order.")
    registration_id: str | None = Field(None, description="The first registration of the same statement.")
    receipt: str | None = Field(None, description="Its receipt.")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Give the documentation of problem answers with these statuses."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def schemas() -> dict[str, Any]:
    """Give the schemas that `problems` refers to."""
    template = "#/components/schemas/{model}"
    return models_json_schema([(Problem, "serialization")], ref_template=template)[1]["$defs"]  # type: ignore[no-any-return]


# What any operation may answer; routers add their own.
COMMON = problems(422, 500, 503)
WITH_KEY = problems(401, 403)


def problem_response(
    status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **members: Any
) -> JSONResponse:
    """Make the answer; members that are empty are left out."""
    body = {
        "type": f"urn:trapstreet:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        "code": code,
        **{name: value for name, value in members.items() if value},
    }
    sent = dict(headers or {})
    if status in (429, 503):
        sent.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    if status == 401:
        sent["WWW-Authenticate"] = "Bearer"
    if status == 413:
        # The rest of the body is not wanted: without this the server would read it to its end.
        sent["Connection"] = "close"
    return JSONResponse(body, status, sent, media_type=MEDIA_TYPE)


def response_of(error: TrapstreetError) -> JSONResponse:
    """Make the answer to one of our errors."""
    members: dict[str, Any] = {"state": error.state}
    if error.pointer:
        members["errors"] = [{"pointer": error.pointer, "message": error.message}]
    if isinstance(error, AlreadyRegistered):
        members |= {"registration_id": error.registration_id, "receipt": error.receipt}
    return problem_response(status_of(error), error.code, error.message, **members)


def install(app: FastAPI) -> None:
    """Answer every error of an application as a problem."""

    @app.exception_handler(TrapstreetError)
    def ours(_request: Request, error: TrapstreetError) -> JSONResponse:
        return response_of(error)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [_value_problem(item) for item in error.errors()]
        detail = "; ".join(item["message"] for item in errors[:3])
        return problem_response(422, Malformed.code, detail, errors=errors)

    @app.exception_handler(HTTPException)
    def refused(_request: Request, error: HTTPException) -> JSONResponse:
        code = FRAMEWORK_CODES.get(error.status_code, "refused")
        # One wording for every 404, so that a path that is none looks like an object that is none.
        detail = NotFound().message if error.status_code == 404 else str(error.detail)
        return problem_response(error.status_code, code, detail, error.headers)

    @app.exception_handler(ClientDisconnect)
    def gone(_request: Request, _error: ClientDisconnect) -> JSONResponse:
        return problem_response(400, Malformed.code, "the body ended early")

    @app.exception_handler(DBAPIError)
    def database(_request: Request, error: DBAPIError) -> JSONResponse:
        if is_database_busy(error):
            return problem_response(503, Unavailable.code, "the database is busy; the same call may succeed later")
        logger.error("the database refused a statement", exc_info=error)
        return _internal()

    @app.exception_handler(Exception)
    def bug(_request: Request, _error: Exception) -> JSONResponse:
        return _internal()  # the server logs the traceback


def _internal() -> JSONResponse:
    return problem_response(500, "internal", "an error of this service; nothing was changed")


def _value_problem(item: Mapping[str, Any]) -> dict[str, Any]:
    place, *path = item["loc"]
    message = str(item["msg"]).removeprefix("Value error, ")
    if place != "body":
        return {"pointer": "", "message": f"{path[0] if path else place}: {message}", "parameter": str(path[0])}
    if item["type"] == "json_invalid":
        return {"pointer": "", "message": f"the body is not JSON: {item.get('ctx', {}).get('error', message)}"}
    pointer = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return {"pointer": pointer, "message": message}
