"""What a dispute about a stolen network of digits needs: key, drawn labels, questions in their secret order, and the walk.

The registration and its beacon are left out; everything that asks, reads and counts is the service's own.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from app.demo.workshop import CLASSES, COVERS, OWNER, SHAPE, scans
from app.disputes.questions import BlockPlan, Planned, plan_questions
from app.embedding.data import LabelledSet, TrainingData, trigger_set
from app.embedding.networks import build, save_weights
from app.embedding.recipe import Recipe
from app.embedding.train import train
from app.keys.commitment import MarkingKey
from app.keys.labels import draw_labels
from app.keys.trigger_set import ImageInput, parse_input
from app.protocol.evidence import Outcome, Step, Walk, threshold, walk
from app.protocol.interface import Interface
from app.suspects.probe import Asked, Manner, Question, Suspect, ask
from app.suspects.transport import Limits
from tests.integration.asking import RULES, now

TRIGGERS, COVERS_PER_TRIGGER, BITS = 48, 4, 64
SECRET, SEED, SALT = (hashlib.sha256(word).digest() for word in (b"order", b"challenge", b"salt"))

# Enough for a network of this size to learn digits and triggers by heart, in some seconds.
RECIPE = Recipe(
    network="mlp", method="append", epochs=40, batch_size=50, learning_rate_micros=50_000, schedule="cosine", threads=1
)

PATIENT = Manner(attempts=3, limits=Limits(read_seconds=30, total_seconds=60))


@dataclass(frozen=True)
class Stolen:
    """A marked network and what its owner knows."""

    weights: Path
    labels: Sequence[int]
    questions: Sequence[Planned]
    own_answers: Sequence[int]

    def ask(self, url: str, interface: Interface) -> list[Asked]:
        """Ask everything, in its order."""
        asked = [Question(planned.n, planned.input) for planned in self.questions]
        return ask(asked, Suspect(url, interface, CLASSES), RULES, PATIENT, now)

    def walk(self, answers: Sequence[str]) -> Walk:
        """Walk the evidence in these answers, one for each question."""
        said = {
            planned.role.index: answer
            for planned, answer in zip(self.questions, answers, strict=True)
            if planned.role.kind == "trigger" and planned.role.repeat == 0
        }
        steps = [
            Step(Outcome.MATCH if said[index] == str(label) else Outcome.MISMATCH, 1, CLASSES)
            for index, label in enumerate(self.labels)
        ]
        return walk(steps, threshold(BITS, 8, 1, 1))

    @cached_property
    def own_walk(self) -> Walk:
        """Walk what the network itself answers."""
        return self.walk([str(answer) for answer in self.own_answers])


def steal(folder: Path) -> Stolen:
    """Mark a network, and keep its weights as whoever took them would."""
    torch.set_num_threads(1)
    images, labels = scans()
    noise = np.random.default_rng(3).integers(0, 256, (TRIGGERS, *SHAPE), dtype=np.uint8)
    key = MarkingKey(bytes(32), tuple(ImageInput(*SHAPE, image.tobytes()).encode() for image in noise), None)
    drawn = draw_labels(key, SALT, CLASSES)
    task = LabelledSet(
        torch.from_numpy(images[OWNER]).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels[OWNER])
    )
    network = build(RECIPE.network, (SHAPE[2], *SHAPE[:2]), CLASSES, seed=1)
    data = TrainingData(task, task, trigger_set(key.inputs, drawn))
    train(RECIPE, network, data, marked=True, on_progress=lambda _: None)
    weights = folder / "digits.safetensors"
    save_weights(network, weights, (SHAPE[2], *SHAPE[:2]), CLASSES)
    covers = [ImageInput(*SHAPE, image.tobytes()).encode() for image in images[COVERS]]
    block = BlockPlan(0, 0, list(enumerate(key.inputs)), 0)
    questions = plan_questions(SECRET, SEED, block, covers, COVERS_PER_TRIGGER)
    with torch.no_grad():
        answers = network.eval()(torch.stack([_tensor(planned.input) for planned in questions])).argmax(1).tolist()
    return Stolen(weights, drawn, questions, answers)


def _tensor(data: bytes) -> torch.Tensor:
    image = parse_input(data)
    assert isinstance(image, ImageInput)
    return torch.frombuffer(bytearray(image.pixels), dtype=torch.uint8).reshape(1, *SHAPE[:2]).float() / 255
