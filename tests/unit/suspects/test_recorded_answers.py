"""What the services' documentation shows them to answer is read as it is meant; none of them was tried live."""

import json
from pathlib import Path

import pytest

from app.protocol.interface import Interface
from app.suspects.adapters import ADAPTERS, read_answer

RECORDED = Path(__file__).parent / "recorded"
NEVER_LIVE = ("azure_ml", "huggingface", "replicate", "roboflow", "sagemaker", "tf_serving", "vertex")
FILES = sorted(
    path.relative_to(RECORDED).as_posix() for name in NEVER_LIVE for path in (RECORDED / name).glob("*.json")
)
FILES += sorted(path.relative_to(RECORDED).as_posix() for path in (RECORDED / "oip_v2").glob("triton_*.json"))


@pytest.mark.parametrize("name", NEVER_LIVE)
def test_a_service_that_never_ran_here_has_recorded_answers_and_says_that_it_was_never_tried(name):
    assert any(path.startswith(f"{name}/") for path in FILES)
    assert ADAPTERS[name].about.tried == "recorded bodies; never live"


@pytest.mark.parametrize("path", FILES)
def test_a_recorded_answer_is_read_as_it_is_meant(path):
    recorded = json.loads((RECORDED / path).read_text())
    interface = Interface(path.partition("/")[0], recorded["options"], {}, {"by": recorded["label_map"]})
    body = json.dumps(recorded["response"]).encode()
    for ranking, key in ((False, "said"), (True, "ranking")):
        read = read_answer(interface, recorded["class_count"], recorded["status"], body, ranking=ranking)
        assert read == (tuple(recorded[key]), recorded["error"])
