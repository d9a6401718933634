"""What a vendor orders when it has a suspect's weights at hand, and whether its own head may be tried on them.

Invariants: whether a head is older than the suspect is asked of the whole log, not of the entries that somebody names; the
answer stands in the order, for what the log gets later is later than the head.
Source: docs/survival.md, "What is no evidence".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.canonical import Record, as_form, choice, nullable, octets, seconds_of, sequence, text, timestamp
from app.db.tables import EmbeddingRow, ModelCommitmentRow
from app.embedding.child_order import SealedKey
from app.embedding.orders import check_device
from app.embedding.white_box.check import MAX_CONTROLS, Admission, Control, WhiteBoxOrder, admit_head
from app.errors import Malformed, PolicyRefused
from app.jobs.names import EMBED_CPU, EMBED_GPU
from app.jobs.queue import WHITE_BOX_TASK
from app.keys.statement import Statement
from app.log.store import load_entry
from app.protocol.assessment import Logged
from app.protocol.records import ModelEntry


@dataclass(frozen=True)
class UploadedControl(Record):
    """A network that never saw the mark, as an artifact."""

    name: str = field(metadata=as_form(text(1, 200)))
    sha256: bytes = field(metadata=as_form(octets(32)))


@dataclass(frozen=True)
class CheckOrder(Record):
    """Which weights are asked, and with which head beside their own; artifacts are named by SHA-256."""

    TASK: ClassVar[str] = WHITE_BOX_TASK

    queue: Any = field(metadata=as_form(choice(EMBED_CPU, EMBED_GPU)))
    suspect: bytes = field(metadata=as_form(octets(32)))
    # The vendor's own head, or marked weights that end in it; null: only the suspect's own head is asked.
    head: bytes | None = field(metadata=as_form(nullable(octets(32))))
    admission: Admission | None = field(metadata=as_form(nullable(Admission.form())))
    controls: tuple[UploadedControl, ...] = field(metadata=as_form(sequence(UploadedControl.form(), 0, MAX_CONTROLS)))
    bits: int = field(metadata=as_form(choice(64, 80)))
    device: str = field(metadata=as_form(choice("auto", "cpu", "cuda")))
    # Weights of a vendor's own program need it again.
    program: bytes | None = field(default=None, metadata=as_form(nullable(octets(32))))

    def check(self, pointer: str) -> None:
        """Refuse an order that no worker of its queue can do."""
        check_device(self.queue, self.device, f"{pointer}/device")

    def check_registered(self, statement: Statement) -> None:
        """Refuse a head without a control."""
        salt = bytes(32) if statement.assurance_class == "A" else b""
        self.child_order(statement, salt, dict.fromkeys(self.artifacts(), "file"), "output").check("")

    def artifacts(self) -> dict[str, bytes | None]:
        """Name what a worker has to fetch."""
        controls = {_place_of(index): control.sha256 for index, control in enumerate(self.controls)}
        return {"suspect": self.suspect, "head": self.head, "program": self.program, **controls}

    def child_order(
        self, statement: Statement, salt: bytes, paths: Mapping[str, str | None], output: str
    ) -> WhiteBoxOrder:
        """Say to the child what to do; `paths` are those of the artifacts."""
        return WhiteBoxOrder(
            statement=statement,
            salt=salt,
            suspect_path=paths["suspect"] or "",
            head_path=None if self.head is None else paths["head"],
            admission=self.admission,
            controls=tuple(
                Control(control.name, paths[_place_of(index)] or "") for index, control in enumerate(self.controls)
            ),
            bits=self.bits,
            device=self.device,
            threads=0,
            output_path=output,
            key_form=SealedKey.NAME,
            program_path=None if self.program is None else paths["program"],
        )


def _place_of(index: int) -> str:
    return f"controls/{index}/sha256"


def ask_admission(session: Session, head: bytes, suspect: bytes, suspect_since: str | None, now: datetime) -> Admission:
    """Ask the log whether a head was committed to before a suspect's weights existed, as far as log and given date show.

    Raises: PolicyRefused with what is missing; Malformed if the given date is none or lies ahead.
    """
    if suspect_since is not None:
        timestamp().parse(suspect_since, "/suspect_since")
        if seconds_of(suspect_since) > now.timestamp():
            raise Malformed(
                "the suspect's weights are known since a time that is yet to come", pointer="/suspect_since"
            )
    committed = find_model_entries(session, head)
    if not committed:
        raise PolicyRefused(
            "a head that stands in no model entry of the log is not tried: commit to its SHA-256 at POST /v1/models, before "
            "there are suspects",
            pointer="/head",
        )
    try:
        return admit_head(committed[0], head, suspect, find_model_entries(session, suspect), suspect_since)
    except PolicyRefused as error:
        raise PolicyRefused(error.message, pointer="/head") from error


def find_model_entries(session: Session, sha256: bytes) -> list[Logged]:
    """Find every `model` entry of a digest, the oldest first: vendors' commitments, and weights that workers made."""
    committed = select(ModelCommitmentRow.entry_index).where(ModelCommitmentRow.sha256 == sha256)
    made = select(EmbeddingRow.entry_index).where(EmbeddingRow.artifact_sha256 == sha256)
    indices = {*session.scalars(committed), *(index for index in session.scalars(made) if index is not None)}
    found = []
    for index in sorted(indices):
        data = load_entry(session, index)
        found.append(Logged(index, ModelEntry.parse(data), data))
    return found
