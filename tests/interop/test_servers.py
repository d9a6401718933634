"""The same stolen network behind every server gives the same verdict with the same matches."""

import pytest

from app.protocol.interface import Interface
from tests.interop.stolen import TRIGGERS

pytestmark = pytest.mark.interop

DIGITS = {"model": "digits"}

# Server, adapter, options: those that need none or only the model's name come first.
SERVED = [
    ("kserve", "kserve_v1", DIGITS),
    ("kserve", "oip_v2", DIGITS),
    ("kserve", "oip_v2", DIGITS | {"binary": True}),
    ("mlserver", "oip_v2", DIGITS),
    ("mlflow", "mlflow", {}),
    ("mlflow", "mlflow", {"envelope": "instances"}),
    ("bentoml", "bentoml", {}),
    ("bentoml", "bentoml", {"route": "classify", "input_name": "images", "batch": True, "encoding": "nested"}),
    ("litserve", "litserve", {}),
    ("gradio", "gradio", {}),
    ("ray_serve", "ray_serve", {}),
    ("torchserve", "torchserve", DIGITS),
    ("torchserve", "torchserve", DIGITS | {"version": "1.0", "encoding": "nested"}),
]


@pytest.mark.parametrize(("server", "adapter", "options"), SERVED)
def test_a_stolen_network_is_confirmed_behind_a_real_server_by_the_answers_of_its_own(
    server, adapter, options, serve, stolen
):
    interface = Interface(adapter, options, {}, {"by": "index"})
    asked = stolen.ask(serve(server), interface)
    assert {each.error for each in asked} == {""}
    said = [each.labels[0] for each in asked]
    assert said == [str(answer) for answer in stolen.own_answers]
    walk = stolen.walk(said)
    assert (walk.end, walk.asked, walk.matches) == ("CONFIRMED", *(stolen.own_walk.asked, stolen.own_walk.matches))
    assert walk.asked < TRIGGERS
