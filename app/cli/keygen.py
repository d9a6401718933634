"""Make a marking key: its triggers, drawn by program or the vendor's own, and the secret that commits to them."""

import base64
import secrets
from bisect import bisect_left
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from app.cli.files import check_readable, write_private
from app.cli.output import JsonFlag, error_console, reported, show
from app.embedding.confinement.child import in_plain_words
from app.embedding.trigger_order import FamilyOrder, TriggerOrder
from app.embedding.trigger_process import run_trigger_child
from app.errors import Malformed, PolicyRefused, TrainingFailed
from app.keys.commitment import MarkingKey
from app.keys.key_file import encode_key_file, encode_sealed_key_file
from app.keys.statement import MAX_CLASSES, MIN_CLASSES
from app.protocol.evidence import can_reach, threshold

PassphraseFile = Annotated[
    Path | None, typer.Option("--passphrase-file", help="File whose first line seals the key file.")
]

# The least evidence that a policy may ask for.
CONFIRMED_BITS = 64

# With two classes a match says one bit at most: 94 triggers on average at a match rate of 0.95, 240 at 0.8.
ROOM_FOR_TWO_CLASSES = 512


FamilyOption = Annotated[
    list[str] | None,
    typer.Option(help="NAME:COUNT by program: abstract, noise, blended, patterned, heldout or boundary. Repeatable."),
]
ImageFamilyOption = Annotated[list[str] | None, typer.Option(help="A folder of --images, in order. Repeatable.")]
DataOption = Annotated[
    Path | None, typer.Option(help="Archive of task images; blended, patterned, heldout and boundary need it.")
]
ClassesOption = Annotated[
    str, typer.Option(help="The model's classes, separated by commas: the class folders of --data.")
]
ModelOption = Annotated[
    Path | None, typer.Option(help="Weights of your network without a mark (safetensors); boundary needs it.")
]
StdOption = Annotated[
    str, typer.Option(help="What your network divides pixels in [0, 1] by, as in the recipe, such as 247,243,261.")
]
AllowFewFlag = Annotated[
    bool, typer.Option("--allow-few", help="Make families that are too small to be confirmed, too.")
]


def keygen(
    key_file: Annotated[Path, typer.Argument(help="Where to write the marking key (mode 0600).")],
    family: FamilyOption = None,
    shape: Annotated[str, typer.Option(help="Shape of the inputs, HEIGHTxWIDTHxCHANNELS.")] = "32x32x3",
    images: Annotated[Path | None, typer.Option(help="Archive of your own images, one folder a family.")] = None,
    image_family: ImageFamilyOption = None,
    data: DataOption = None,
    classes: ClassesOption = "",
    model: ModelOption = None,
    std_millis: StdOption = "",
    allow_few: AllowFewFlag = False,
    passphrase_file: PassphraseFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a marking key: trigger inputs and the secret that commits to them. Nothing leaves this machine."""
    with reported(as_json=as_json):
        if not family and images is None:
            raise Malformed("give --family NAME:COUNT, or --images with the families' folders")
        if images is not None and not image_family:
            raise Malformed("give --image-family for each folder of --images")
        if data is not None and not classes:
            raise Malformed("give --classes: the class folders of --data, separated by commas")
        check_readable(data, images, model)
        order = TriggerOrder(
            parse_shape(shape),
            tuple(map(parse_family, family or [])),
            images_path=str(images.absolute()) if images else None,
            folders=tuple(image_family or []) if images else (),
            data_path=str(data.absolute()) if data else None,
            classes=tuple(name for name in classes.split(",") if name),
            model_path=str(model.absolute()) if model else None,
            std_millis=parse_millis(std_millis),
            seed=secrets.token_bytes(16),
        )
        inputs, families = make_triggers(order)
        if order.classes and not allow_few:
            check_enough(families, len(order.classes))
        key = MarkingKey(secrets.token_bytes(32), inputs)
        write_key_file(key_file, key, passphrase_file)
        warn_of_small_families(families, len(order.classes))
        sizes = [[family.name, family.count] for family in families]
        result = {"key_file": str(key_file), "root": key.root().hex(), "count": key.count, "families": sizes}
        show(result, as_json=as_json)


def parse_shape(text: str) -> tuple[int, ...]:
    """Read HEIGHTxWIDTHxCHANNELS.

    Raises: Malformed.
    """
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() for part in parts):
        raise Malformed(f"{text!r} is no shape: write HEIGHTxWIDTHxCHANNELS, such as 32x32x3")
    return tuple(int(part) for part in parts)


def parse_family(text: str) -> FamilyOrder:
    """Read NAME:COUNT; the name is the generator's, too.

    Raises: Malformed.
    """
    name, _, size = text.partition(":")
    if not size.isascii() or not size.isdecimal() or not int(size):
        raise Malformed(f"{text!r} is no family: write NAME:COUNT, such as noise:128")
    return FamilyOrder(name, int(size))


def parse_millis(text: str) -> tuple[int, ...]:
    """Read thousandths, separated by commas.

    Raises: Malformed.
    """
    parts = [part for part in text.split(",") if part]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise Malformed(f"{text!r} are no thousandths: write whole numbers such as 247,243,261")
    return tuple(int(part) for part in parts)


def make_triggers(order: TriggerOrder) -> tuple[tuple[bytes, ...], list[FamilyOrder]]:
    """Let a child process make the trigger inputs; numpy, Pillow and torch stay out of this one.

    Raises: Malformed with the child's reason; TrainingFailed if it has none.
    """
    answer = run_trigger_child(order)
    if "error" in answer:
        raise Malformed(in_plain_words(str(answer.get("message"))))
    try:
        families = [FamilyOrder.from_json(family) for family in answer["families"]]
        return tuple(base64.b64decode(text) for text in answer["inputs"]), families
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingFailed("the child that makes triggers answered what is no answer") from error


def check_enough(families: Sequence[FamilyOrder], classes: int) -> None:
    """Refuse families too small to be confirmed against a model of so many classes even if every trigger matches.

    Raises: PolicyRefused with the least size that is not.
    """
    bound = threshold(CONFIRMED_BITS, 0, len(families), 1)
    if small := [family for family in families if not can_reach(bound, family.count, classes)]:
        least = next(size for size in count(1) if can_reach(bound, size, classes))
        raise PolicyRefused(
            f"{_list(small)}: a dispute asks one family, and with {classes} classes fewer than {least} triggers cannot be "
            f"confirmed at 2^-{CONFIRMED_BITS} even if all match; ask for more (128 leave room for misses), or take "
            "--allow-few"
        )


def warn_of_small_families(families: Sequence[FamilyOrder], classes: int = 0) -> None:
    """Say which families are too small to be confirmed; with the number of classes not known (0), for which."""
    bound = threshold(CONFIRMED_BITS, 0, len(families), 1)
    for family in families:
        least = _least_classes(family.count, bound)
        if least <= (classes or MIN_CLASSES):
            if classes == MIN_CLASSES and family.count < ROOM_FOR_TWO_CLASSES:
                text = (
                    f"family {_list([family])}: with two classes a match says little; a thief that keeps 95 % takes some 94 "
                    f"triggers, one that keeps 80 % some 240: {ROOM_FOR_TWO_CLASSES} leave room"
                )
                error_console.print(text, highlight=False, markup=False, soft_wrap=True)
            continue
        told = f"for a model of {least} classes or more" if least <= MAX_CLASSES else "for no model"
        text = f"family {_list([family])} is large enough to be confirmed {told}, even if all match"
        error_console.print(text, highlight=False, markup=False, soft_wrap=True)


def _least_classes(triggers: int, bound: int) -> int:
    """Give with how many classes so many triggers reach the bound if all match; one over the limit for never."""
    numbers = range(MIN_CLASSES, MAX_CLASSES + 1)
    return MIN_CLASSES + bisect_left(numbers, x=True, key=lambda classes: can_reach(bound, triggers, classes))


def _list(families: Sequence[FamilyOrder]) -> str:
    return ", ".join(f"{family.name} ({family.count} triggers)" for family in families)


def write_key_file(path: Path, key: MarkingKey, passphrase_file: Path | None) -> None:
    """Write a marking key, sealed if there is a passphrase."""
    if passphrase_file is None:
        write_private(path, encode_key_file(key))
        return
    passphrase = passphrase_file.read_text().splitlines()[0]
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    write_private(path, encode_sealed_key_file(key, passphrase, salt=salt, nonce=nonce))


COMMANDS = (keygen,)
