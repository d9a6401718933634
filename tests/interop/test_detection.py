"""`trapstreet suspect detect` finds every server's adapter by itself."""

import json

import pytest
from typer.testing import CliRunner

from app.cli.commands import main

pytestmark = pytest.mark.interop


@pytest.mark.parametrize(
    ("server", "adapter", "options", "more"),
    [
        ("kserve", "oip_v2", {"model": "digits"}, []),
        ("mlserver", "oip_v2", {"model": "digits"}, []),
        ("mlflow", "mlflow", {}, []),
        ("bentoml", "bentoml", {"route": "classify", "input_name": "images", "batch": True, "encoding": "nested"}, []),
        ("litserve", "litserve", {}, []),
        ("gradio", "gradio", {}, []),
        ("ray_serve", "ray_serve", {}, []),
        ("torchserve", "torchserve", {"model": "digits"}, ["--model", "digits"]),
    ],
)
def test_a_server_is_known_by_what_it_tells_and_answers(server, adapter, options, more, serve):
    arguments = [
        "suspect",
        "detect",
        serve(server),
        "--shape",
        "8x8x1",
        "--allow-network",
        "127.0.0.0/8",
        "--json",
        *more,
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert (told["interface"]["adapter"], told["interface"]["options"]) == (adapter, options)
    assert told["tried"][-1]["labels"]
    assert told["looked"]


def test_a_wrong_shape_is_an_error_that_shows_what_the_server_said(serve):
    arguments = ["suspect", "detect", serve("kserve"), "--shape", "4x4x3", "--allow-network", "127.0.0.0/8"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "invalid for input of size 48" in result.output
    assert "no guess was answered" in result.output
