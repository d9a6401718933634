"""The command `covers`: ordinary inputs to hide triggers among, with their classes if they are to be committed."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from app.cli.arrays import read_labelled_arrays
from app.cli.files import check_readable, check_writable, read_file
from app.cli.keygen import make_triggers, parse_shape
from app.cli.output import JsonFlag, error_console, reported, show
from app.embedding.trigger_order import TriggerOrder
from app.errors import Malformed
from app.keys.commitment import MarkingKey
from app.keys.cover_set import LabelledCoverSet, encode_cover_set, parse_cover_set
from app.keys.statement import CoverCommitment
from app.protocol.derivation import MIN_ANSWERS

ARRAYS = ".safetensors"


def covers(
    data: Annotated[
        Path,
        typer.Argument(help="Ordinary task inputs: archive of class/name.png, or .safetensors with inputs and labels."),
    ],
    out: Annotated[Path, typer.Argument(help="Where to write the cover file.")],
    classes: Annotated[str, typer.Option(help="Class folders of the archive, separated by commas.")] = "",
    labels: Annotated[
        bool,
        typer.Option(
            "--labels", help="Label each cover: by its folder's place in --classes (the model's order), or array."
        ),
    ] = False,
    shape: Annotated[str, typer.Option(help="Shape of images in an archive, HEIGHTxWIDTHxCHANNELS.")] = "32x32x3",
    as_json: JsonFlag = False,
) -> None:
    """Make a cover file: triggers are asked among ordinary inputs.

    With --labels it can be committed with `register --covers`; then a suspect's interface can be derived from it, free.
    """
    with reported(as_json=as_json):
        check_readable(data)
        check_writable(out)
        if data.suffix == ARRAYS:
            inputs, drawn = read_labelled_arrays(data)
        else:
            inputs, drawn = _read_archive(data, classes, shape)
        out.write_bytes(encode_cover_set(inputs, drawn if labels else None))
        result: dict[str, object] = {"covers": len(inputs), "file": str(out)}
        if labels:
            warn_of_small_classes(drawn)
            result["classes"] = len(set(drawn))
        show(result, as_json=as_json)


def _read_archive(data: Path, classes: str, shape: str) -> tuple[tuple[bytes, ...], tuple[int, ...]]:
    folders = tuple(name for name in classes.split(",") if name)
    if not folders:
        raise Malformed("give --classes: the class folders of the archive, separated by commas")
    order = TriggerOrder(parse_shape(shape), images_path=str(data), folders=folders, apart=False)
    inputs, families = make_triggers(order)
    place = {name: number for number, name in enumerate(folders)}
    return inputs, tuple(place[family.name] for family in families for _ in range(family.count))


def warn_of_small_classes(labels: Sequence[int]) -> None:
    """Say how many classes have too few covers to be mapped when an interface is derived."""
    few = [label for label, count in sorted(Counter(labels).items()) if count < MIN_ANSWERS]
    if few:
        text = (
            f"{len(few)} classes have fewer than {MIN_ANSWERS} covers (the first is number {few[0]}): a derived interface "
            "leaves them out"
        )
        error_console.print(text, highlight=False, markup=False, soft_wrap=True)


def read_commitment(path: Path | None, key: MarkingKey, classes: int) -> CoverCommitment | None:
    """Give what a statement holds of a labelled cover file, or None without one.

    Raises: Malformed if it has no labels, or they or the inputs are not of this model.
    """
    if path is None:
        return None
    covers = parse_cover_set(read_file(path))
    if not isinstance(covers, LabelledCoverSet):
        raise Malformed("these covers have no labels: make them with `trapstreet covers --labels`")
    if (covers.kind, covers.shape) != (key.kind, key.shape):
        raise Malformed(f"the covers are {covers.kind} {covers.shape}; the triggers are {key.kind} {key.shape}")
    if max(covers.labels) >= classes:
        raise Malformed(f"a cover's label is {max(covers.labels)}, but there are {classes} classes")
    return covers.table.commitment


COMMANDS = (covers,)
