"""What a refusal of the service is to the person at the command line."""

import pytest

from app.api.problems import response_of
from app.canonical import parse_loose_json
from app.cli.client import ApiProblem
from app.errors import Conflict, Malformed, TrapstreetError


def as_seen(error: TrapstreetError) -> ApiProblem:
    """Give what a client makes of the service's answer to one of its own errors."""
    answer = response_of(error)
    return ApiProblem(answer.status_code, parse_loose_json(bytes(answer.body)))


def test_a_refusal_says_once_what_is_wrong_and_where() -> None:
    problem = as_seen(Malformed("must be an integer", pointer="/policy/bits"))
    assert (problem.status, problem.problem_code) == (422, "malformed")
    assert (problem.message, problem.pointer) == ("must be an integer", "/policy/bits")


def test_a_refusal_without_a_pointer_says_what_is_wrong() -> None:
    problem = as_seen(Conflict("the dispute is decided", state="decided"))
    assert (problem.message, problem.pointer, problem.state) == ("the dispute is decided", "", "decided")


def test_several_faults_are_all_named_with_their_places() -> None:
    errors = [
        {"pointer": "/name", "message": "too long"},
        {"pointer": "", "message": "limit: too large", "parameter": "limit"},
    ]
    problem = ApiProblem(422, {"code": "malformed", "detail": "too long; limit: too large", "errors": errors})
    assert (problem.message, problem.pointer) == ("too long (at /name); limit: too large", "")


@pytest.mark.parametrize("errors", [None, [], "none", 7, ["one"]])
def test_a_problem_that_is_none_still_says_something(errors: object) -> None:
    assert ApiProblem(418, {"errors": errors}).message == "the service answered with status 418"
    assert ApiProblem(418, {"errors": errors, "title": "Teapot"}).message == "Teapot"
