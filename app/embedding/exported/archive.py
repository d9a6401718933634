"""A `.pt2` file as `torch.export.save` writes it: a zip of one JSON graph and raw tensor bytes, read without torch's loader.

torch's own loader unpickles constants that the file calls pickled and evaluates the file's expressions as Python
(torch 2.13: torch/export/pt2_archive/_package.py, torch/_export/serde/serialize.py). Nothing of either happens here: what is
marked as pickled is refused by its mark, the example inputs (a pickle) are never opened, and expressions stay text.

Invariants: no path of the archive reaches the file system; nothing is read before its size is known to be allowed; a
tensor has exactly the bytes that its shape says, in a layout without gaps or overlaps.
Source: torch/_export/serde/schema.py, schema 8; torch/export/pt2_archive/constants.py.
Trust: a program comes from anybody with an API key; this runs in child processes only.
"""

import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from app.canonical import parse_loose_json
from app.embedding.artifacts import is_program
from app.embedding.compressed import check_zip_directory
from app.errors import Malformed, TooLarge, UnsupportedMedia

# As for weights (app.embedding.networks): a program is its weights and a graph.
MAX_PROGRAM_BYTES = 1024 * 1024 * 1024

# A node takes about 1.5 KB of JSON: 1,161 of densenet121 have 1.6 MB.
MAX_JSON_BYTES = 32 * 1024 * 1024

MAX_MEMBERS = 20_000

# What an archive of one program holds, below its one folder. Example inputs are allowed, because every export has them.
GRAPH = "models/model.json"
WEIGHTS_CONFIG = "data/weights/model_weights_config.json"
CONSTANTS_CONFIG = "data/constants/model_constants_config.json"
FIXED = {"archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little"}
UNREAD = {".data/version", ".data/serialization_id", "data/sample_inputs/model.pt"}
TENSOR_MEMBER = re.compile(r"data/(weights/weight|constants/tensor)_[0-9]{1,6}", re.ASCII)
FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}", re.ASCII)

# The schema's numbers of the element types that networks need, and of a strided layout.
DTYPES = {1: torch.uint8, 4: torch.int32, 5: torch.int64, 7: torch.float32, 12: torch.bool}
STRIDED = 7
MAX_DIMENSIONS = 8
MAX_ELEMENTS = MAX_PROGRAM_BYTES

T = TypeVar("T")


@dataclass(frozen=True)
class TensorForm:
    """What the file says of a stored tensor: where its bytes are, and how they are laid out."""

    member: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    is_trained: bool


@dataclass(frozen=True)
class Program:
    """A file's graph, as the JSON it is, and its tensors by name; equal members are one tensor (tied weights)."""

    graph: dict[str, Any]
    weights: dict[str, Tensor]
    constants: dict[str, Tensor]
    trained: frozenset[str]


def read_program(path: Path) -> Program:
    """Read a program's graph and tensors.

    Raises: Malformed, TooLarge or UnsupportedMedia, saying what to change.
    """
    if path.stat().st_size > MAX_PROGRAM_BYTES:
        raise TooLarge(f"an exported program may have {MAX_PROGRAM_BYTES} bytes")
    if not is_program(path):
        raise UnsupportedMedia("an exported program is the .pt2 file that torch.export.save writes")
    check_zip_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, path.stat().st_size)
    except (zipfile.BadZipFile, EOFError, zlib.error, OSError, NotImplementedError, UnicodeError) as error:
        raise Malformed(f"the program's zip archive is broken: {error}") from error


def _read(archive: zipfile.ZipFile, file_bytes: int) -> Program:
    members = _members(archive, file_bytes)
    for name, expected in FIXED.items():
        if name not in members or members[name].file_size > 64 or archive.read(members[name]).strip() != expected:
            raise Malformed(f"the program's {name} is missing or is not {expected.decode()!r}")
    graph = _read_json(archive, members, GRAPH)
    shared: dict[str, tuple[TensorForm, Tensor]] = {}
    forms = _tensor_forms(_read_json(archive, members, WEIGHTS_CONFIG), "data/weights/")
    weights = {name: _read_tensor(archive, members, name, form, shared) for name, form in forms.items()}
    trained = frozenset(name for name, form in forms.items() if form.is_trained)
    constant_forms = _tensor_forms(_read_json(archive, members, CONSTANTS_CONFIG), "data/constants/")
    constants = {name: _read_tensor(archive, members, name, form, shared) for name, form in constant_forms.items()}
    return Program(graph, weights, constants, trained)


def _members(archive: zipfile.ZipFile, file_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """Give the members below the archive's one folder, by name; refuse whatever does not belong there."""
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise TooLarge(f"a program's archive may have {MAX_MEMBERS} members")
    members: dict[str, zipfile.ZipInfo] = {}
    total_bytes = 0
    for info in infos:
        folder, _, name = info.orig_filename.partition("/")
        if not FOLDER.fullmatch(folder) or folder != infos[0].orig_filename.partition("/")[0]:
            raise Malformed(f"{info.orig_filename!r} is not in the archive's one folder")
        if name in members:
            raise Malformed(f"{name!r} is in the archive twice")
        if name not in {GRAPH, WEIGHTS_CONFIG, CONSTANTS_CONFIG, *FIXED, *UNREAD} and not TENSOR_MEMBER.fullmatch(name):
            raise Malformed(
                f"{name!r} does not belong in a program: only one graph with plain tensors is taken, "
                "no pickled or custom objects, no compiled code, no extra files"
            )
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1 or info.file_size != info.compress_size:
            raise Malformed(f"{name!r} is compressed or encrypted: torch.export.save stores members plainly")
        members[name] = info
        total_bytes += info.file_size
    if total_bytes > file_bytes:  # stored members lie one behind the other, unless somebody folded them together
        raise Malformed("the archive's members overlap")
    return members


def _read_json(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str) -> dict[str, Any]:
    if name not in members:
        raise Malformed(f"the program lacks {name!r}: save one program with torch.export.save")
    if members[name].file_size > MAX_JSON_BYTES:
        raise TooLarge(f"{name!r} may have {MAX_JSON_BYTES} bytes")
    value = parse_loose_json(archive.read(members[name]), max_bytes=MAX_JSON_BYTES)
    if not isinstance(value, dict):
        raise Malformed(f"{name!r} is not a JSON object")
    return value


def _tensor_forms(config: dict[str, Any], folder: str) -> dict[str, TensorForm]:
    entries = member_of(config, "config", dict)
    if len(entries) > MAX_MEMBERS:
        raise TooLarge(f"a program may have {MAX_MEMBERS} tensors")
    return {name: _tensor_form(name, entry, folder) for name, entry in entries.items()}


def _tensor_form(name: str, entry: Any, folder: str) -> TensorForm:
    if member_of(entry, "use_pickle", bool):
        raise Malformed(f"{name!r} is stored as a pickle, which is never read: make it a plain tensor")
    member = folder + member_of(entry, "path_name", str)
    if not TENSOR_MEMBER.fullmatch(member):
        raise Malformed(f"{name!r} is stored as {member!r}, which is no plain tensor")
    meta = member_of(entry, "tensor_meta", dict)
    dtype = DTYPES.get(member_of(meta, "dtype", int))
    if dtype is None:
        raise Malformed(
            f"{name!r} has an element type that is not taken: use float32 (weights) or integers (constants)"
        )
    offset = member_of(member_of(meta, "storage_offset", dict), "as_int", int)
    if member_of(meta, "layout", int) != STRIDED or offset != 0:
        raise Malformed(f"{name!r} is a view or not strided: clone it before the export")
    shape, strides = (tuple(_plain_sizes(member_of(meta, key, list))) for key in ("sizes", "strides"))
    if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
        raise Malformed(f"{name!r} has {len(shape)} dimensions and {len(strides)} strides; at most {MAX_DIMENSIONS}")
    check_dense(name, shape, strides)
    is_trained = member_of(entry, "is_param", bool) and member_of(meta, "requires_grad", bool)
    return TensorForm(member, dtype, shape, strides, is_trained)


def _plain_sizes(sizes: list[Any]) -> Iterator[int]:
    for size in sizes:
        value = member_of(size, "as_int", int)
        if not 0 <= value <= MAX_ELEMENTS:
            raise Malformed(f"a size or stride of {value} is out of range")
        yield value


def check_dense(name: str, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """Refuse a layout with gaps or overlaps; dimensions may stand in any order (channels last).

    Raises: Malformed; TooLarge.
    """
    if math.prod(shape) > MAX_ELEMENTS or 0 in shape:
        raise TooLarge(f"{name!r} has the shape {shape}: tensors have 1 to {MAX_ELEMENTS} elements")
    step = 1
    for size, stride in sorted(zip(shape, strides, strict=True), key=lambda pair: pair[1]):
        if size > 1 and stride != step:
            raise Malformed(f"{name!r} has gaps or overlaps in its storage: clone it before the export")
        step *= size


def _read_tensor(
    archive: zipfile.ZipFile,
    members: dict[str, zipfile.ZipInfo],
    name: str,
    form: TensorForm,
    shared: dict[str, tuple[TensorForm, Tensor]],
) -> Tensor:
    if form.member in shared:
        known, tensor = shared[form.member]
        if (known.dtype, known.shape, known.strides) != (form.dtype, form.shape, form.strides):
            raise Malformed(f"{name!r} is another view of a tensor that is stored once: clone it before the export")
        return tensor
    if form.member not in members:
        raise Malformed(f"the bytes of {name!r} are missing: there is no {form.member!r}")
    wanted_bytes = math.prod(form.shape) * form.dtype.itemsize
    if members[form.member].file_size != wanted_bytes:
        raise Malformed(f"{name!r} has {members[form.member].file_size} bytes, its shape {form.shape} {wanted_bytes}")
    data = bytearray(archive.read(members[form.member]))
    if form.dtype is torch.bool and max(data) > 1:
        raise Malformed(f"{name!r} holds bytes that are neither true nor false")
    flat = torch.frombuffer(data, dtype=form.dtype)
    tensor = flat.as_strided(form.shape, form.strides)
    shared[form.member] = form, tensor
    return tensor


def member_of(value: Any, key: str, kind: type[T]) -> T:
    """Give a key of a JSON object if it has the right type (true is no integer).

    Raises: Malformed.
    """
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
        raise Malformed(f"the program's JSON needs {key!r} as {kind.__name__}")
    return found
