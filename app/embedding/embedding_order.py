"""What a vendor orders when it has its mark trained into a network by a worker of the service.

Source: docs/protocol.md sections 2, 3 and 5.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from app.canonical import Record, as_form, choice, nullable, octets
from app.embedding.orders import check_device
from app.embedding.recipe import Recipe
from app.errors import Malformed
from app.jobs.names import EMBED_CPU, EMBED_GPU
from app.jobs.queue import EMBED_TASK
from app.keys.statement import Statement


@dataclass(frozen=True)
class EmbeddingOrder(Record):
    """What is to be trained and on what; artifacts are named by SHA-256."""

    TASK: ClassVar[str] = EMBED_TASK

    queue: Any = field(metadata=as_form(choice(EMBED_CPU, EMBED_GPU)))
    recipe: Recipe = field(metadata=as_form(Recipe.form()))
    train_data: bytes = field(metadata=as_form(octets(32)))
    # None: a share of the training data is held out, as the recipe says.
    test_data: bytes | None = field(metadata=as_form(nullable(octets(32))))
    # The weights to go on from, in mode `pretrained` and only there.
    model: bytes | None = field(metadata=as_form(nullable(octets(32))))

    def check(self, pointer: str) -> None:
        """Refuse an order whose parts do not fit each other."""
        if (self.recipe.mode == "pretrained") != (self.model is not None):
            raise Malformed(
                "weights go with the recipe's mode pretrained, and only with it", pointer=f"{pointer}/model"
            )
        check_device(self.queue, self.recipe.device, f"{pointer}/recipe/device")

    def check_registered(self, statement: Statement) -> None:
        """Refuse a recipe for other inputs than the registered ones."""
        self.recipe.check_input(statement.kind, statement.shape, "/recipe")

    def artifacts(self) -> dict[str, bytes | None]:
        """Name what a worker has to fetch."""
        return {"train_data": self.train_data, "test_data": self.test_data, "model": self.model}

    @classmethod
    def from_request(cls, body: dict[str, Any]) -> "EmbeddingOrder":
        """Read an order as a caller writes it: the recipe may leave out what has a default.

        Raises: Malformed with a pointer to the value at fault.
        """
        recipe = Recipe.from_options(body["recipe"], "/recipe")
        return cls.from_json({**body, "recipe": recipe.to_json()})
