"""One order through API, queue and worker on a CUDA device."""

import pytest

from tests.flows.embedding_house import open_house, sign_up
from tests.training.examples import TINY

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


def test_an_order_in_the_queue_of_the_gpu_is_trained_on_it(servers, tmp_path):
    with open_house(servers("embedded"), tmp_path, "embed.gpu") as house:
        owner = sign_up(house, tmp_path, "owner")
        worker = house.start(house.queue)
        order = owner.place({**TINY, "network": "small_cnn", "device": "cuda", "epochs": 40})
        done = owner.wait_for(order, "done")
        worker.terminate()
        worker.wait()
        house.check_log()
    assert done["report"]["device"].startswith("cuda: ")
    assert done["report"]["marked"]["trigger_matches"] == 12
    assert done["queue"] == "embed.gpu"
