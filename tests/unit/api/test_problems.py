import json

import pytest

from app.api.problems import RETRY_AFTER_SECONDS, response_of, status_of
from app.errors import (
    AlreadyRegistered,
    Conflict,
    DatabaseAway,
    Malformed,
    NotFound,
    TooMany,
    TrapstreetError,
    Unauthenticated,
)


def all_errors(error: type[TrapstreetError] = TrapstreetError) -> list[type[TrapstreetError]]:
    children = [child for child in error.__subclasses__() if child.__module__ == TrapstreetError.__module__]
    return [error] + [found for child in children for found in all_errors(child)]


def make(error: type[TrapstreetError]) -> TrapstreetError:
    if error is AlreadyRegistered:
        return AlreadyRegistered("again", registration_id="id", receipt="receipt")
    return error("a reason")


@pytest.mark.parametrize("error", all_errors())
def test_every_error_is_a_problem_with_its_code(error: type[TrapstreetError]) -> None:
    answer = response_of(make(error))
    body = json.loads(answer.body)
    assert (body["status"], body["code"]) == (answer.status_code, error.code)
    assert answer.media_type == "application/problem+json"
    assert body["type"].endswith(error.code)


def test_who_is_at_fault_decides_the_status() -> None:
    assert [status_of(make(error)) for error in (Malformed, Conflict, AlreadyRegistered)] == [422, 409, 409]
    assert status_of(DatabaseAway("away")) == 503


def test_what_may_succeed_later_says_when() -> None:
    for error in (DatabaseAway, TooMany):
        assert response_of(make(error)).headers["retry-after"] == str(RETRY_AFTER_SECONDS)
    assert response_of(Unauthenticated("who")).headers["www-authenticate"] == "Bearer"


def test_a_state_and_a_pointer_are_shown_where_there_are_any() -> None:
    body = json.loads(response_of(Conflict("no", state="asking", pointer="/a")).body)
    assert (body["state"], body["errors"]) == ("asking", [{"pointer": "/a", "message": "no"}])
    assert set(json.loads(response_of(NotFound()).body)) == {"type", "title", "status", "detail", "code"}
