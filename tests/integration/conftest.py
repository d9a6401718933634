"""A workshop for each test, on the embedded server or on each that this machine has."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.integration.workshop import Workshop


@pytest.fixture
def workshop(database: Database, tmp_path: Path) -> Iterator[Workshop]:
    made = Workshop(database, tmp_path, [])
    yield made
    for process in made.processes:
        process.kill()
        process.wait()


@pytest.fixture
def any_workshop(any_database: Database, tmp_path: Path) -> Iterator[Workshop]:
    made = Workshop(any_database, tmp_path, [])
    yield made
    for process in made.processes:
        process.kill()
        process.wait()
