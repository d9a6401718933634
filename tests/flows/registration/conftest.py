"""A service in this process with low limits, fresh for each test, and two vendors."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.conftest import Database
from tests.flows.registering import MAX_ARTIFACT_BYTES, MAX_JSON_BYTES, OTHER_KEY
from tests.flows.running_api import Service, running_service


@pytest.fixture
def service(database: Database, tmp_path: Path) -> Iterator[Service]:
    limits = {"max_json_bytes": MAX_JSON_BYTES, "max_artifact_bytes": MAX_ARTIFACT_BYTES}
    with running_service(database, tmp_path, **limits) as running:
        yield running
        running.check_log()


@pytest.fixture
def vendor(service: Service) -> Iterator[httpx2.Client]:
    with service.client(service.sign_up()["api_key"]) as client:
        yield client


@pytest.fixture
def other_vendor(service: Service) -> Iterator[httpx2.Client]:
    with service.client(service.sign_up("Other", OTHER_KEY)["api_key"]) as client:
        yield client
