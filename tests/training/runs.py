"""Training runs in this process, small enough to take about a second."""

import numpy as np
import torch

from app.embedding.archives import LabelledArrays
from app.embedding.data import TrainingData, labelled_set, trigger_set
from app.embedding.networks import build
from app.embedding.recipe import Recipe
from app.embedding.train import train
from tests.training.examples import SALT, TINY, image_key, shapes_to_learn, tensor_key


def image_data() -> TrainingData:
    key = image_key()
    labels = [index % 3 for index in (2, 0, 1, 1, 0, 2, 0, 2, 1, 1, 2, 0)]
    task, test = (labelled_set("image", LabelledArrays(*shapes_to_learn(*size))) for size in ((90, 1), (30, 2)))
    return TrainingData(task, test, trigger_set(key.inputs, labels))


def on_device(data: TrainingData, device: torch.device) -> TrainingData:
    return TrainingData(data.task.to(device), data.test.to(device), data.triggers.to(device))


def tensor_data(shape: tuple[int, ...] = (6,)) -> TrainingData:
    draw = np.random.default_rng(8)
    values = draw.normal(size=(120, *shape)).astype(np.float32)
    task = labelled_set("tensor", LabelledArrays(values, (values.reshape(120, -1)[:, :3].argmax(1)).astype(np.int64)))
    key = tensor_key(shape=shape)
    return TrainingData(task, task, trigger_set(key.inputs, [SALT[i] % 3 for i in range(key.count)]))


def run(recipe: Recipe, data: TrainingData, *, marked: bool = True, network=None):
    """Train on the device of the data; give network, progress and epochs."""
    network = network or build(recipe.network, tuple(data.task.inputs.shape[1:]), 3, seed=recipe.seed)
    network = network.to(data.task.labels.device)
    progress = []
    done = train(recipe, network, data, marked=marked, on_progress=progress.append)
    return network, progress, done.epoch


def tiny(**changes: object) -> Recipe:
    return Recipe.from_options({**TINY, **changes})
