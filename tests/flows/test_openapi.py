"""The API describes itself: validly, completely, with every problem that it answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.openapi.models import OpenAPI

from app.main import create_app
from tests.conftest import Database
from tests.flows.running_api import settings_for

METHODS = {"get", "put", "post", "delete", "patch"}


@pytest.fixture
def document(database: Database, tmp_path: Path) -> Iterator[dict[str, Any]]:
    app = create_app(settings_for(database, tmp_path), database.service_url)
    yield app.openapi()
    app.state.service.engine.dispose()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            yield f"{method} {path}", item[method]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (target for key, target in value.items() if key == "$ref")
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from references(item)


def test_the_document_is_valid_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    OpenAPI.model_validate(document)
    for reference in references(document):
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_every_operation_has_a_name_of_its_own_and_says_what_it_does(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(names) == len(set(names)) > 20
    # FastAPI makes up names with the path in them; ours are words.
    assert [name for name in names if "_v1_" in name] == []
    assert [name for name, operation in operations(document) if not operation.get("description")] == []


def test_every_operation_documents_its_problems(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        refusals = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        wanted = {"422", "500", "503"} | ({"401", "403"} if "security" in operation else set())
        assert wanted <= refusals.keys(), name
        for answer in refusals.values():
            schema = answer["content"]["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Problem"}, name


def test_every_body_forbids_unknown_keys(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name, operation in operations(document):
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        if "$ref" in body:
            assert schemas[body["$ref"].rpartition("/")[2]]["additionalProperties"] is False, name
