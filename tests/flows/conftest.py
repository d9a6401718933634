"""A service of real processes for all stories of disputes: they do not know of each other."""

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import TEMPLATE, Server
from tests.flows.claimant import Claimant, Service, running, sign_up


@pytest.fixture(scope="session")
def service(servers: Callable[[str], Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The API and a light worker."""
    folder = tmp_path_factory.mktemp("disputes")
    with servers("embedded").database(TEMPLATE) as database, running(database, folder) as service:
        yield service


@pytest.fixture(scope="session")
def owner(service: Service) -> Claimant:
    """A vendor for whatever is refused before it is filed."""
    return sign_up(service, "owner")
