"""What a vendor orders when it asks the service what its mark survives.

Source: docs/protocol.md section 8; docs/survival.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from app.canonical import Record, as_form, choice, nullable, octets, sequence, text
from app.embedding.attacks.catalogue import suite
from app.embedding.child_order import SealedKey
from app.embedding.orders import check_device
from app.embedding.survival.order import QUICK_SETTINGS, SurvivalOrder, SurvivalSettings
from app.errors import Malformed
from app.jobs.names import EMBED_CPU, EMBED_GPU
from app.jobs.queue import SURVIVE_TASK
from app.keys.statement import MAX_CLASSES, Statement


@dataclass(frozen=True)
class ReportOrder(Record):
    """Which marked model is attacked, how, and with what data; artifacts are named by SHA-256."""

    TASK: ClassVar[str] = SURVIVE_TASK

    queue: Any = field(metadata=as_form(choice(EMBED_CPU, EMBED_GPU)))
    settings: SurvivalSettings = field(metadata=as_form(SurvivalSettings.form()))
    # The marked weights, and the control: the same network without the mark.
    model: bytes = field(metadata=as_form(octets(32)))
    plain_model: bytes | None = field(metadata=as_form(nullable(octets(32))))
    train_data: bytes = field(metadata=as_form(octets(32)))
    # None: a share of the training data is held out, as the settings say.
    test_data: bytes | None = field(metadata=as_form(nullable(octets(32))))
    # None: the attacker has a share of the training data.
    attacker_data: bytes | None = field(metadata=as_form(nullable(octets(32))))
    # Attack `transfer`: another task's data and the names of its classes.
    transfer_data: bytes | None = field(metadata=as_form(nullable(octets(32))))
    transfer_classes: tuple[str, ...] = field(metadata=as_form(sequence(text(1, 200), 0, MAX_CLASSES)))
    # Weights of a vendor's own program need it again.
    program: bytes | None = field(default=None, metadata=as_form(nullable(octets(32))))

    def check(self, pointer: str) -> None:
        """Refuse an order that no worker of its queue can do."""
        check_device(self.queue, self.settings.device, f"{pointer}/settings/device")

    def check_registered(self, statement: Statement) -> None:
        """Refuse attacks that do not fit the registered inputs, or lack what they need."""
        salt = bytes(32) if statement.assurance_class == "A" else b""
        named = {name: None if digest is None else name for name, digest in self.artifacts().items()}
        self.child_order(statement, salt, named, "output").check("")

    def artifacts(self) -> dict[str, bytes | None]:
        """Name what a worker has to fetch."""
        return {
            "model": self.model,
            "plain_model": self.plain_model,
            "program": self.program,
            "train_data": self.train_data,
            "test_data": self.test_data,
            "attacker_data": self.attacker_data,
            "transfer_data": self.transfer_data,
        }

    def child_order(
        self, statement: Statement, salt: bytes, paths: Mapping[str, str | None], output: str
    ) -> SurvivalOrder:
        """Say to the child what to do; `paths` are those of the artifacts."""
        return SurvivalOrder(
            statement=statement,
            salt=salt,
            settings=self.settings,
            weights_path=paths["model"] or "",
            data_path=paths["train_data"] or "",
            test_path=paths["test_data"],
            attacker_path=paths["attacker_data"],
            plain_path=paths["plain_model"],
            transfer_path=paths["transfer_data"],
            transfer_classes=self.transfer_classes,
            output_path=output,
            key_form=SealedKey.NAME,
            program_path=paths["program"],
        )

    @classmethod
    def from_request(cls, body: dict[str, Any], suite_name: str | None, kind: str) -> "ReportOrder":
        """Read an order as a caller writes it, for inputs of a kind; a suite, by default the full one, names the attacks.

        A quick one also lowers the epochs that are not given.
        Raises: Malformed with a pointer to the value at fault.
        """
        options = dict(body["settings"])
        if "attacks" not in options:
            quick = suite_name == "quick"
            names = suite(kind, quick=quick, has_transfer=body["transfer_data"] is not None)
            options = {"attacks": list(names), **(QUICK_SETTINGS if quick else {}), **options}
        elif suite_name is not None:
            raise Malformed("choose a suite or name the attacks in settings, not both", pointer="/suite")
        settings = SurvivalSettings.from_options(options, "/settings")
        return cls.from_json({**body, "settings": settings.to_json()})
