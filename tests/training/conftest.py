"""Exported programs for the tests that edit them."""

import pytest

from tests.training.programs import Residual, Transformer, export


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Exported once, copied by each test that edits them."""
    folder = tmp_path_factory.mktemp("programs")
    return {
        "residual": export(Residual().eval(), folder / "a.pt2"),
        "transformer": export(Transformer(), folder / "b.pt2"),
    }


@pytest.fixture
def program(originals, tmp_path):
    path = tmp_path / "program.pt2"
    path.write_bytes(originals["residual"].read_bytes())
    return path
