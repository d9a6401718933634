"""The vendor's own plain network, as generators ask it. The only file here that needs torch, which takes seconds to load."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from app.embedding.answering import answers
from app.embedding.artifacts import is_program
from app.embedding.networks import MarkedNetwork, load_network, model_shape, read_header
from app.embedding.triggers.source import Answer, Images, Source
from app.errors import Malformed


def with_network(source: Source, path: Path, classes: int = 0) -> Source:
    """Add what the network in a file answers, and what it divides its inputs by (0: however many classes it has).

    Raises: Malformed if the file is no weights (a program's are none here), or of another shape or number of classes.
    """
    if is_program(path) or read_header(path).program is not None:
        raise Malformed(
            "exported programs run in confined trainings only, not where a key is made: take other families than boundary, "
            "and give the program's normalisation by itself (--std-millis)"
        )
    header, shape = read_header(path), model_shape("image", source.shape)
    if header.shape != shape or header.classes != (classes or header.classes):
        raise Malformed(
            f"the network has {header.classes} classes for {header.shape}; the triggers are for {classes} and {shape}"
        )
    network = load_network(path).eval()
    return replace(source, answer=answer_of(network), std=tuple(network.normalise.std.flatten().tolist()))


def answer_of(network: MarkedNetwork) -> Answer:
    """Let a network in evaluation mode answer images on the CPU."""

    def answer(images: Images) -> NDArray[np.int64]:
        return np.asarray(answers(network, torch.from_numpy(images).permute(0, 3, 1, 2)).numpy(), np.int64)

    return answer
