"""What a vendor's command tells the child that makes triggers. No numpy here.

Invariants: `TriggerOrder.parse(b).encode() == b`; what the order's families need beside it is checked by the child.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from app.canonical import Record, as_form, flag, integer, nullable, octets, sequence, text
from app.errors import Malformed
from app.keys.statement import MAX_CLASSES
from app.keys.trigger_set import MAX_DIMENSION, MAX_FAMILIES, MAX_TRIGGERS, check_shape

PATH = text(1, 4_096)


@dataclass(frozen=True)
class FamilyOrder(Record):
    """How many triggers of which family; the name is the generator's, or that of a folder of the vendor's own."""

    name: str = field(metadata=as_form(text(1, 200)))
    count: int = field(metadata=as_form(integer(1, MAX_TRIGGERS)))


@dataclass(frozen=True)
class TriggerOrder(Record):
    """One trigger set: the vendor's own folders, then families by program; or images as they are, unchecked (covers)."""

    NAME: ClassVar[str] = "trigger-order"
    # The program that takes this order.
    MODULE: ClassVar[str] = "app.embedding.trigger_child"

    # Height, width, channels.
    shape: tuple[int, ...] = field(metadata=as_form(sequence(integer(1, MAX_DIMENSION), 3, 3)))
    families: tuple[FamilyOrder, ...] = field(
        default=(), metadata=as_form(sequence(FamilyOrder.form(), 0, MAX_FAMILIES))
    )
    # An archive of the vendor's own images; its folders are families.
    images_path: str | None = field(default=None, metadata=as_form(nullable(PATH)))
    folders: tuple[str, ...] = field(default=(), metadata=as_form(sequence(text(1, 200), 0, MAX_CLASSES)))
    # An archive of task images and its class folders.
    data_path: str | None = field(default=None, metadata=as_form(nullable(PATH)))
    classes: tuple[str, ...] = field(default=(), metadata=as_form(sequence(text(1, 200), 0, MAX_CLASSES)))
    # The vendor's plain network, as `save_weights` writes it.
    model_path: str | None = field(default=None, metadata=as_form(nullable(PATH)))
    # By what the network divides its inputs, where no model says so: as in the recipe.
    std_millis: tuple[int, ...] = field(default=(), metadata=as_form(sequence(integer(1, 1_000_000), 0, 3)))
    seed: bytes = field(default=bytes(16), metadata=as_form(octets(16)))
    # Refuse images too alike to be taught different labels. Covers are not taught anything.
    apart: bool = field(default=True, metadata=as_form(flag()))

    def check(self, pointer: str) -> None:
        """Refuse an order whose parts do not fit each other."""
        check_shape("image", self.shape, f"{pointer}/shape")
        names = [*self.folders, *(family.name for family in self.families)]
        if self.images_path is None and not self.families:
            raise Malformed("name a family, or an archive with the families' folders", pointer=f"{pointer}/families")
        if len(set(names)) != len(names):
            raise Malformed("two families have one name", pointer=f"{pointer}/families")
        if self.model_path is not None and self.std_millis:
            raise Malformed("the weights hold their own normalisation: leave it out", pointer=f"{pointer}/std_millis")
        if len(self.std_millis) not in (0, 1, self.shape[2]):
            raise Malformed("give one standard deviation, or one a channel", pointer=f"{pointer}/std_millis")
