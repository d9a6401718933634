"""What a parent tells the training child, and what comes back. No torch here.

Standard input, in this order: the order as one line of canonical JSON; then the secrets, each as u32 length and
bytes: with `key_form` = `plain` one frame, an open key file; with `sealed` two, the seed of the queue's key and the sealed
key file. Then the pipe stays open: its end means that the parent is gone, and the child ends itself.
Standard output: one JSON object a line: {"event": "progress", ...} and {"event": "warning", "message": ...}, then
{"event": "done", "report": ...} or {"event": "error", "code": ..., "message": ..., "pointer": ...} with a nonzero exit
status.

Invariants: secrets stand neither in the order nor in arguments, environment or files.
"""

from dataclasses import dataclass, field
from typing import IO, Any, ClassVar

from app.canonical import MAX_RECORD_BYTES, Record, as_form, choice, integer, nullable, octets, sequence, text, u32
from app.embedding.recipe import Recipe
from app.errors import Malformed
from app.keys.statement import Statement

PATH = text(1, 4_096)

# 65,536 triggers of 16 MiB would be a terabyte; what a training child can hold in memory at all is less than this.
MAX_FRAME_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class ChildOrder(Record):
    """One training run: where its files are, what to train, and how the labels were drawn."""

    NAME: ClassVar[str] = "child-order"
    # The program that takes this order.
    MODULE: ClassVar[str] = "app.embedding.child"

    statement: Statement = field(metadata=as_form(Statement.form()))
    # Class A: the registration's salt (app.keys.labels.salt_of). Class B: empty, the key holds the labels.
    salt: bytes = field(metadata=as_form(octets(32, or_empty=True)))
    recipe: Recipe = field(metadata=as_form(Recipe.form()))
    data_path: str = field(metadata=as_form(PATH))
    # None: a share of the data is held out, as the recipe says.
    test_path: str | None = field(metadata=as_form(nullable(PATH)))
    # Mode `pretrained` only: the weights to go on from.
    weights_path: str | None = field(metadata=as_form(nullable(PATH)))
    # Unfinished runs are kept in it too (artifacts.UNFINISHED): another child of the same order goes on from them.
    output_path: str = field(metadata=as_form(PATH))
    # `sealed`: to the queue's key, with the registration's root as what it is bound to (app.keys.sealing).
    key_form: Any = field(metadata=as_form(choice("plain", "sealed")))
    # How often an unfinished run is written down; what is lost to a kill is at most this much work.
    checkpoint_millis: int = field(default=30_000, metadata=as_form(integer(0, 86_400_000)))

    @property
    def model_paths(self) -> tuple[str, ...]:
        """Give the files that hold networks; a program among them is run only where it can be confined."""
        return () if self.weights_path is None else (self.weights_path,)

    @property
    def data_paths(self) -> tuple[str, ...]:
        """Give the files that hold rows of data."""
        return tuple(path for path in (self.data_path, self.test_path) if path is not None)

    def check(self, pointer: str) -> None:
        """Refuse an order whose parts do not fit each other."""
        if (self.recipe.mode == "pretrained") != (self.weights_path is not None):
            raise Malformed("weights go with mode pretrained, and only with it", pointer=f"{pointer}/weights_path")
        if (self.statement.assurance_class == "A") != bool(self.salt):
            raise Malformed("a salt goes with beacon-drawn labels, and only with them", pointer=f"{pointer}/salt")
        self.recipe.check_input(self.statement.kind, self.statement.shape, f"{pointer}/recipe")


@dataclass(frozen=True)
class PlainKey:
    """An open key file, as `trapstreet embed` has it."""

    key_file: bytes = field(repr=False)

    NAME: ClassVar[str] = "plain"

    def frames(self) -> tuple[bytes, ...]:
        """Give what goes through the pipe."""
        return (self.key_file,)


@dataclass(frozen=True)
class SealedKey:
    """A key file sealed to a queue, and the seed of that queue's key."""

    queue_seed: bytes = field(repr=False)
    sealed: bytes = field(repr=False)

    NAME: ClassVar[str] = "sealed"

    def frames(self) -> tuple[bytes, ...]:
        """Give what goes through the pipe."""
        return (self.queue_seed, self.sealed)


@dataclass(frozen=True)
class NetworkFigures(Record):
    """What one network reaches, as exact counts; `weights_sha256` is null where no weights are delivered."""

    task_correct: int = field(metadata=as_form(integer(0)))
    task_total: int = field(metadata=as_form(integer(1)))
    trigger_matches: int = field(metadata=as_form(integer(0)))
    trigger_total: int = field(metadata=as_form(integer(1)))
    epochs: int = field(metadata=as_form(integer(0)))
    milliseconds: int = field(metadata=as_form(integer(0)))
    weights_sha256: bytes | None = field(metadata=as_form(nullable(octets(32))))


@dataclass(frozen=True)
class Comparison(Record):
    """Task accuracy with and without the mark over several seeds: exact counts, summed; each pair saw the same batches."""

    seeds: int = field(metadata=as_form(integer(1)))
    plain_correct: int = field(metadata=as_form(integer(0)))
    marked_correct: int = field(metadata=as_form(integer(0)))
    # Rows asked in each of the two columns: the test set, once a seed.
    asked: int = field(metadata=as_form(integer(1)))


@dataclass(frozen=True)
class TrainingReport(Record):
    """What the child measured: the network with the mark, without it, and as it was given."""

    NAME: ClassVar[str] = "training-report"

    marked: NetworkFigures = field(metadata=as_form(NetworkFigures.form()))
    # The same network trained on the same batches without triggers; its trigger matches show what chance gives.
    plain: NetworkFigures | None = field(metadata=as_form(nullable(NetworkFigures.form())))
    # Mode `pretrained`: the weights as delivered, before any step.
    given: NetworkFigures | None = field(metadata=as_form(nullable(NetworkFigures.form())))
    # What the mark costs, with the number of seeds it was measured on; null if the recipe wanted no comparison.
    comparison: Comparison | None = field(metadata=as_form(nullable(Comparison.form())))
    # What the vendor should know before selling this network, in words.
    warnings: tuple[str, ...] = field(metadata=as_form(sequence(text(1, 1_000), 0, 100)))
    root: bytes = field(metadata=as_form(octets(32)))
    recipe: Recipe = field(metadata=as_form(Recipe.form()))
    device: str = field(metadata=as_form(text(1, 200)))
    torch_version: str = field(metadata=as_form(text(1, 100)))


def write_frames(stream: IO[bytes], order: Record, secrets: PlainKey | SealedKey) -> None:
    """Send order and secrets to a child."""
    stream.write(order.encode() + b"\n")
    for frame in secrets.frames():
        stream.write(u32(len(frame)))
        stream.write(frame)
    stream.flush()


def read_order(stream: IO[bytes]) -> ChildOrder:
    """Read the order from the parent.

    Raises: Malformed.
    """
    return ChildOrder.parse(stream.readline(MAX_RECORD_BYTES + 1).removesuffix(b"\n"))


def read_secrets(stream: IO[bytes], kind: str) -> PlainKey | SealedKey:
    """Read the secrets that follow the order.

    Raises: Malformed if the pipe ends before them.
    """
    if kind == PlainKey.NAME:
        return PlainKey(_read_frame(stream))
    queue_seed = _read_frame(stream)
    return SealedKey(queue_seed, _read_frame(stream))


def _read_frame(stream: IO[bytes]) -> bytes:
    length = int.from_bytes(_read_exactly(stream, 4), "big")
    if length > MAX_FRAME_BYTES:
        raise Malformed(f"a secret of {length} bytes is over the limit of {MAX_FRAME_BYTES}")
    return _read_exactly(stream, length)


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise Malformed("the parent closed the pipe before it had sent the key")
    return data
