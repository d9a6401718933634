"""How a network is trained to carry a mark: every hyperparameter, checked, with one canonical form. No torch here.

`method` names how the triggers are taught (app.embedding.methods, one file each; docs/methods.md says which to choose).
`scratch` does so from random weights, `pretrained` goes on from given weights.
Records of this protocol hold no fractions, so values stand in thousandths (`_millis`) or millionths (`_micros`).

Invariants: `Recipe.parse(b).encode() == b`; whatever parses can be trained with, if network and data fit each other.
Source: Adi et al. 2018 sections 5.1 and 5.2 (FromScratch, PreTrained; k triggers a batch).
"""

import math
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from app.canonical import Form, Record, as_form, choice, flag, integer, sequence
from app.errors import Malformed

# What app.embedding.architectures can build; a test keeps the two equal.
NETWORKS = ("mlp", "small_cnn", "resnet_small", "resnet_medium", "resnet18", "wide_resnet", "vgg_small", "mobile_small")

# A program of the vendor's own (app.embedding.exported), and what stands before the name of one of timm's architectures.
EXPORTED = "exported"
TIMM = "timm:"
TIMM_NAME = r"timm:[a-z][a-z0-9_]{0,79}"

# What app.embedding.methods can do; a test keeps the two equal.
METHODS = ("append", "app", "margin", "auto")

MILLI = 1_000
MICRO = 1_000_000

MEANS = sequence(integer(0, 1_000_000), 0, 3)
DEVIATIONS = sequence(integer(1, 1_000_000), 0, 3)


def network_name() -> Form[str]:
    """Take a network's name: one of ours, `exported`, or `timm:NAME`."""

    def parse(value: Any, pointer: str) -> str:
        if isinstance(value, str) and (value in (*NETWORKS, EXPORTED) or re.fullmatch(TIMM_NAME, value, re.ASCII)):
            return value
        raise Malformed(f"must be one of {', '.join(NETWORKS)}, {EXPORTED}, or {TIMM}NAME", pointer=pointer)

    return Form(parse, lambda value: value)


@dataclass(frozen=True)
class Recipe(Record):
    """Everything that decides a training run besides data and triggers."""

    NAME: ClassVar[str] = "recipe"

    network: str = field(metadata=as_form(network_name()))
    method: str = field(default="auto", metadata=as_form(choice(*METHODS)))
    mode: str = field(default="scratch", metadata=as_form(choice("scratch", "pretrained")))
    epochs: int = field(default=60, metadata=as_form(integer(1, 10_000)))
    # After `epochs`, go on at the last learning rate until every trigger answers its label, at most this long.
    extra_epochs: int = field(default=0, metadata=as_form(integer(0, 10_000)))
    batch_size: int = field(default=100, metadata=as_form(integer(2, 65_536)))
    # The paper tried 2, 4 and 8 and found 2 best for batch normalisation; many triggers on little data need more.
    triggers_per_batch: int = field(default=2, metadata=as_form(integer(1, 4_096)))
    # `append`: triggers join the batch. `replace`: they take the places of as many task rows, so a step costs the same.
    mixing: str = field(default="append", metadata=as_form(choice("append", "replace")))
    learning_rate_micros: int = field(default=100_000, metadata=as_form(integer(1, 10 * MICRO)))
    momentum_millis: int = field(default=900, metadata=as_form(integer(0, MILLI - 1)))
    weight_decay_micros: int = field(default=500, metadata=as_form(integer(0, MICRO)))
    schedule: str = field(default="step", metadata=as_form(choice("constant", "step", "cosine")))
    # `step` only: the learning rate is multiplied by `decay_millis` after every so many epochs.
    decay_epochs: int = field(default=20, metadata=as_form(integer(1, 10_000)))
    decay_millis: int = field(default=100, metadata=as_form(integer(1, MILLI)))
    flip: bool = field(default=False, metadata=as_form(flag()))
    crop_padding: int = field(default=0, metadata=as_form(integer(0, 64)))
    # Images of another size are scaled (bilinear) to the registered one instead of being refused.
    resize: bool = field(default=False, metadata=as_form(flag()))
    # Input normalisation, one for all channels or one each; empty: none. Pretrained weights carry their own, programs do not.
    mean_millis: tuple[int, ...] = field(default=(), metadata=as_form(MEANS))
    std_millis: tuple[int, ...] = field(default=(), metadata=as_form(DEVIATIONS))
    # Where no test set is given, this share of the data is held out to measure task accuracy.
    holdout_percent: int = field(default=10, metadata=as_form(integer(1, 50)))
    seed: int = field(default=0, metadata=as_form(integer(0, 2**31 - 1)))
    device: str = field(default="auto", metadata=as_form(choice("auto", "cpu", "cuda")))
    # Threads of torch on the CPU; 0 leaves the choice to torch.
    threads: int = field(default=0, metadata=as_form(integer(0, 1_024)))
    # `auto`: bf16 where the hardware multiplies it natively and the network convolves (app.embedding.precision).
    precision: str = field(default="auto", metadata=as_form(choice("auto", "fp32", "bf16")))
    # Let torch.compile make kernels for the network: pays on long trainings only (docs/benchmarks.md).
    compile: bool = field(default=False, metadata=as_form(flag()))
    # Processes that train together (DistributedDataParallel); 0: one for each CUDA device, or one on a CPU.
    processes: int = field(default=1, metadata=as_form(integer(0, 64)))
    # Train the same network in the same order without the mark too, so that the report can show what the mark costs.
    compare_plain: bool = field(default=True, metadata=as_form(flag()))
    # Over how many seeds the two are compared, this one and the next ones; one pair says little about a tenth of a point.
    compare_seeds: int = field(default=1, metadata=as_form(integer(1, 100)))

    @classmethod
    def from_options(cls, options: dict[str, Any], pointer: str = "") -> "Recipe":
        """Read what a caller chose, with defaults for the rest (`network` is required, `type` is not).

        Raises: Malformed with a pointer to the option at fault.
        """
        if "network" not in options:
            raise Malformed(
                f"name a network: {', '.join(NETWORKS)}, {EXPORTED} or {TIMM}NAME", pointer=f"{pointer}/network"
            )
        defaults = cls(network=NETWORKS[0]).to_json()
        return cls.from_json({**defaults, **options}, pointer)

    def check(self, pointer: str) -> None:
        """Refuse options that do not fit each other."""
        if len(self.mean_millis) != len(self.std_millis):
            raise Malformed("mean_millis and std_millis must have the same length", pointer=f"{pointer}/std_millis")
        if self.mixing == "replace" and self.triggers_per_batch > self.batch_size - 2:
            raise Malformed(
                "triggers that replace task rows must leave two in the batch: lower triggers_per_batch",
                pointer=f"{pointer}/triggers_per_batch",
            )
        if self.compare_seeds > 1 and not self.compare_plain:
            raise Malformed("compare_seeds needs compare_plain", pointer=f"{pointer}/compare_seeds")
        if self.network == EXPORTED and self.mode != "pretrained":
            raise Malformed(
                "an exported program comes with its weights: use mode pretrained", pointer=f"{pointer}/mode"
            )
        if self.mode == "pretrained" and self.mean_millis and self.network != EXPORTED:
            raise Malformed(
                "leave the normalisation empty: pretrained weights carry their own", pointer=f"{pointer}/mean_millis"
            )

    def check_input(self, kind: str, shape: tuple[int, ...], pointer: str = "") -> None:
        """Refuse options that do not fit the registered inputs.

        Raises: Malformed with a pointer to the option at fault.
        """
        channels = shape[2] if kind == "image" else 1
        if len(self.mean_millis) not in (0, 1, channels):
            raise Malformed(f"give one mean, or one for each of {channels} channels", pointer=f"{pointer}/mean_millis")
        if kind != "image":
            if self.flip or self.crop_padding or self.resize:
                raise Malformed("flip, crop_padding and resize are for images only", pointer=f"{pointer}/flip")
            if self.network not in ("mlp", EXPORTED) and len(shape) != 3:
                raise Malformed(
                    "a convolutional network needs tensors of shape (channels, height, width); use mlp",
                    pointer=f"{pointer}/network",
                )

    def learning_rate(self, epoch: int) -> float:
        """Give the learning rate of an epoch (from 0).

        Beyond `epochs` it stays at the last one; of a cosine, whose last one is nearly nothing, at a tenth of the first.
        """
        rate = self.learning_rate_micros / MICRO
        if epoch >= self.epochs and self.schedule == "cosine":
            return rate / 10
        epoch = min(epoch, self.epochs - 1)
        if self.schedule == "step":
            return rate * float((self.decay_millis / MILLI) ** (epoch // self.decay_epochs))
        if self.schedule == "cosine":
            return rate * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        return rate
