"""A stolen network, trained once: marked with a real family of triggers, its weights on disk for every server."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop.serving import running
from tests.interop.stolen import Stolen, steal


@pytest.fixture(scope="session")
def stolen(tmp_path_factory: pytest.TempPathFactory) -> Stolen:
    """The network and everything that a dispute about it needs."""
    return steal(tmp_path_factory.mktemp("stolen"))


@pytest.fixture(scope="module")
def serve(stolen: Stolen, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Start a server when a test of the module first asks for it, one at a time: they are large."""
    with ExitStack() as stack:
        urls: dict[str, str] = {}

        def start(name: str) -> str:
            if name not in urls:
                stack.close()
                urls.clear()
                folder: Path = tmp_path_factory.mktemp(name)
                urls[name] = stack.enter_context(running(name, folder, stolen.weights))
            return urls[name]

        yield start
