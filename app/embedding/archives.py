"""Training data as vendors send it, read in place and never unpacked.

Two forms. An image folder in a tar, tar.gz or zip archive: `class/name.png`, one folder a class, folders named like the
registered classes (compared as docs/protocol.md compares names). Or a safetensors file with `inputs` (N, ...) and `labels`
(N,) int64: uint8 (N, H, W, C) for images, float32 (N, *shape) for tensors.

Invariants: no path of an archive ever reaches the file system; nothing is decoded before its size is
known to be allowed; memory stays within MAX_DATASET_BYTES and one member, whatever the archive claims; a
refusal names the member.
Trust: an archive comes from anybody with an API key; this runs in child processes only.
"""

import io
import re
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError, safe_open

from app.embedding.compressed import check_member, check_zip_directory, read_tar
from app.errors import Malformed, TooLarge, UnsupportedMedia
from app.keys.statement import fold_name

# Decoded data must fit a worker's memory beside the network: CIFAR-10 has 150 MB, a million 64x64x3 images 12 GB.
MAX_DATASET_BYTES = 8 * 1024**3

# Pixels of one image before it is scaled down (recipe.resize): 4096 x 4096.
MAX_PIXELS = 4096 * 4096

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}

MEMBER_NAME = re.compile(r"[^/\\\x00-\x1f\x7f]{1,200}")


@dataclass(frozen=True)
class LabelledArrays:
    """Inputs in registered layout (images (N, H, W, C) uint8, tensors (N, *shape) float32), labels (N,) int64."""

    inputs: NDArray[Any]
    labels: NDArray[np.int64]
    # The members' paths in an archive of images; empty for safetensors.
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataForm:
    """What the data must look like: the registration's kind, shape and classes, and whether images may be scaled."""

    kind: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    resize: bool = False


def load_dataset(path: Path, form: DataForm) -> LabelledArrays:
    """Read a data file of either form, recognised by its first bytes.

    Raises: Malformed or TooLarge, naming the member at fault; UnsupportedMedia if it is no known format.
    """
    with path.open("rb") as file:
        start = file.read(512)
    if start[8:9] == b"{" and not start.startswith((b"PK", b"\x1f\x8b")):
        return load_tensors(path, form)
    if form.kind != "image":
        raise UnsupportedMedia("data of kind tensor comes as a safetensors file with `inputs` and `labels`")
    if start.startswith(b"PK\x03\x04"):
        return _load_images(_zip_members(path), form)
    if start.startswith(b"\x1f\x8b") or start[257:262] == b"ustar":
        return _load_images(_tar_members(path), form)
    raise UnsupportedMedia("data comes as tar, tar.gz, zip (folders of images) or safetensors (inputs and labels)")


def load_tensors(path: Path, form: DataForm) -> LabelledArrays:
    """Read `inputs` and `labels` from a safetensors file.

    Raises: Malformed or TooLarge.
    """
    if path.stat().st_size > MAX_DATASET_BYTES:
        raise TooLarge(f"a data file may have {MAX_DATASET_BYTES} bytes")
    wanted = "U8" if form.kind == "image" else "F32"
    try:
        with safe_open(path, framework="np") as file:
            if set(file.keys()) != {"inputs", "labels"}:
                raise Malformed("a data file holds exactly two tensors, `inputs` and `labels`")
            found = [
                (file.get_slice(name).get_dtype(), file.get_slice(name).get_shape()) for name in sorted(file.keys())
            ]
            (input_type, input_shape), (label_type, label_shape) = found
            if input_type != wanted or tuple(input_shape[1:]) != form.shape:
                raise Malformed(f"`inputs` is {input_type} {input_shape}, not {wanted} (N, {form.shape})")
            if label_type != "I64" or label_shape != input_shape[:1] or not input_shape[0]:
                raise Malformed(f"`labels` is {label_type} {label_shape}, not I64 with one label for each input")
            arrays = LabelledArrays(file.get_tensor("inputs"), file.get_tensor("labels"))
    except SafetensorError as error:
        raise Malformed(f"not a safetensors file: {error}") from error
    if form.kind == "tensor" and not np.isfinite(arrays.inputs).all():
        raise Malformed("`inputs` holds values that are not finite")
    if arrays.labels.min() < 0 or arrays.labels.max() >= len(form.classes):
        raise Malformed(f"labels lie between 0 and {len(form.classes) - 1}")
    return arrays


def _load_images(members: Iterator[tuple[str, bytes]], form: DataForm) -> LabelledArrays:
    class_of = {fold_name(name): index for index, name in enumerate(form.classes)}
    seen: set[str] = set()
    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    names: list[str] = []
    total_bytes = 0
    for name, data in members:
        label, key = _place_of(name, class_of)
        if key in seen:
            raise Malformed(f"{name!r} is in the archive twice")
        seen.add(key)
        images.append(decode_image(name, data, form))
        labels.append(label)
        names.append(name)
        total_bytes += images[-1].nbytes
        if total_bytes > MAX_DATASET_BYTES:
            raise TooLarge(f"the images have over {MAX_DATASET_BYTES} bytes of pixels, reached at {name!r}")
    if not images:
        raise Malformed("the archive holds no image")
    return LabelledArrays(np.stack(images), np.array(labels, dtype=np.int64), tuple(names))


def _place_of(name: str, class_of: dict[str, int]) -> tuple[int, str]:
    """Give the class of a member, and the form of its path in which duplicates are found."""
    folder, file_name = split_member(name)
    if Path(file_name).suffix.lower() not in FORMATS:
        raise Malformed(f"{name!r} is not an image: an archive holds {', '.join(FORMATS)} only")
    folded = fold_name(folder)
    if folded not in class_of:
        raise Malformed(f"the folder of {name!r} is not a registered class; name folders like the classes")
    return class_of[folded], f"{folded}/{file_name.casefold()}"


def split_member(name: str) -> tuple[str, str]:
    """Split `class/name.ext`.

    Raises: Malformed on every other path, absolute and climbing ones included.
    """
    parts = name.removeprefix("./").split("/")
    if len(parts) != 2 or any(part in (".", "..") or not MEMBER_NAME.fullmatch(part) for part in parts):
        raise Malformed(f"{name!r} is not of the form class/name.ext")
    return parts[0], parts[1]


def decode_image(name: str, data: bytes, form: DataForm) -> NDArray[np.uint8]:
    """Decode one image to (H, W, C) uint8 of the registered shape.

    Raises: Malformed if it is no image of the format its name says, or of another size; TooLarge before decoding.
    """
    height, width, channels = form.shape
    format_name = FORMATS[Path(name).suffix.lower()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=(format_name,)) as image:
                _check_size(name, image.size, form)
                plain = image.convert("L" if channels == 1 else "RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLarge(f"{name!r} has too many pixels") from error
    except UnidentifiedImageError as error:
        raise Malformed(f"{name!r} is not a {format_name} image") from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, struct.error, zlib.error) as error:
        # What Pillow's decoders raise on broken files, found by cutting and flipping bytes.
        raise Malformed(f"{name!r} cannot be decoded: {error}") from error
    if plain.size != (width, height):
        plain = plain.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(plain, dtype=np.uint8).reshape(form.shape)


def _check_size(name: str, size: tuple[int, int], form: DataForm) -> None:
    height, width, _ = form.shape
    if form.resize:
        if size[0] * size[1] > MAX_PIXELS:
            raise TooLarge(f"{name!r} is {size[0]}x{size[1]}: images may have {MAX_PIXELS} pixels")
    elif size != (width, height):
        raise Malformed(f"{name!r} is {size[0]}x{size[1]}, registered are {width}x{height} (width x height)")


def _tar_members(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with path.open("rb") as file:
            for count, (member, read_content) in enumerate(read_tar(file), start=1):
                check_member(count, member.name, member.size)
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise Malformed(f"{member.name!r} is a link, a device or another special file")
                yield member.name, read_content()
    except (tarfile.TarError, EOFError, zlib.error, OSError, OverflowError, RecursionError, UnicodeError) as error:
        raise Malformed(f"the archive is broken: {error}") from error


def _zip_members(path: Path) -> Iterator[tuple[str, bytes]]:
    check_zip_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for count, member in enumerate(archive.infolist(), start=1):
                check_member(count, member.filename, member.file_size)
                if member.is_dir():
                    continue
                _check_zip_member(member)
                with archive.open(member) as content:
                    data = content.read(member.file_size + 1)
                yield member.filename, data
    except (zipfile.BadZipFile, EOFError, zlib.error, OSError, NotImplementedError, UnicodeError) as error:
        raise Malformed(f"the archive is broken: {error}") from error


def _check_zip_member(member: zipfile.ZipInfo) -> None:
    file_type = member.external_attr >> 28  # the upper bits of a Unix mode; 8 is a regular file, 0 means not recorded
    if file_type not in (0, 8):
        raise Malformed(f"{member.filename!r} is a link, a device or another special file")
    if member.flag_bits & 0x1:
        raise Malformed(f"{member.filename!r} is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Malformed(f"{member.filename!r} is compressed in an unusual way: use deflate or none")
