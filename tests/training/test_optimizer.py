import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from app.embedding.networks import build
from app.embedding.optimizer import Descent

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.9, 5e-4), (0.9, 0.0), (0.0, 5e-4), (0.0, 0.0)])
def test_each_step_is_that_of_torchs_own_descent_bit_for_bit(momentum, weight_decay):
    ours = build("small_cnn", (1, 8, 8), 3, seed=4)
    theirs = deepcopy(ours)
    frozen = next(iter(ours.parameters()))
    step = Descent(ours.parameters(), rate=0.1, momentum=momentum, weight_decay=weight_decay)
    torch_step = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=momentum, weight_decay=weight_decay)
    draw = torch.Generator().manual_seed(5)
    for number in range(6):
        step.rate = torch_step.param_groups[0]["lr"] = 0.1 / (number + 1)
        inputs, labels = torch.rand(8, 1, 8, 8, generator=draw), torch.arange(8) % 3
        for network in (ours, theirs):
            cross_entropy(network(inputs), labels).backward()
            if number < 3:  # as a method has it that learns with some layers only
                next(iter(network.parameters())).grad = None
        assert (frozen in step.momenta) == (number > 3 and momentum > 0)
        step.step()
        step.clear_gradients()
        torch_step.step()
        torch_step.zero_grad()
        pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), number
    assert all(parameter.grad is None for parameter in ours.parameters())


def test_nothing_to_step_is_no_step():
    network = build("mlp", (1, 8, 8), 3, seed=4)
    before = deepcopy(network.state_dict())
    Descent(network.parameters(), rate=0.1, momentum=0.9, weight_decay=0.1).step()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


TRAINS = """
import sys
import app.embedding.child
from app.embedding.attacks.descent import Course, Effort, descend, label_loss
from app.embedding.train import prepare_torch
from tests.training.runs import image_data, run, tiny
prepare_torch(1)
data = image_data()
for method in ("append", "app", "margin", "auto"):
    network, _, _ = run(tiny(method=method, epochs=2), data)
effort = Effort(1, 1, 0.1, 16, False, 0, False, 1)
descend(network, data.task.inputs, label_loss(data.task), Course(1, 0.1), effort, lambda *_: None)
sys.exit("torch._dynamo" in sys.modules)
"""


def test_a_training_does_not_load_the_compiler():
    assert subprocess.run([sys.executable, "-c", TRAINS], cwd=ROOT).returncode == 0
