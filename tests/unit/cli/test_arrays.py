import json
import struct

import pytest

from app.cli.arrays import read_labelled_arrays
from app.errors import Malformed, NotFound
from app.keys.trigger_set import ImageInput, TensorInput


def entry(dtype, shape, start, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def written(header, body):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    return len(text).to_bytes(8, "little") + text + body


FLOATS = struct.pack("<4f", 0.0, 1.0, -2.5, 3.0)
LABELS = struct.pack("<2q", 4, 0)
TENSORS = {"__metadata__": {"by": "us"}, "inputs": entry("F32", [2, 2], 0, 16), "labels": entry("I64", [2], 16, 32)}


def read(tmp_path, header, body):
    (tmp_path / "covers.safetensors").write_bytes(written(header, body))
    return read_labelled_arrays(tmp_path / "covers.safetensors")


def test_floats_become_tensors_with_their_labels(tmp_path):
    inputs, labels = read(tmp_path, TENSORS, FLOATS + LABELS)
    assert inputs == (TensorInput.of((2,), [0, 1]).encode(), TensorInput.of((2,), [-2.5, 3]).encode())
    assert labels == (4, 0)


def test_bytes_of_three_dimensions_each_become_images(tmp_path):
    header = {"inputs": entry("U8", [2, 1, 2, 1], 0, 4), "labels": entry("I32", [2], 4, 12)}
    inputs, labels = read(tmp_path, header, bytes([1, 2, 3, 4]) + struct.pack("<2i", 1, 2))
    assert inputs == (ImageInput(1, 2, 1, bytes([1, 2])).encode(), ImageInput(1, 2, 1, bytes([3, 4])).encode())
    assert labels == (1, 2)


def test_what_safetensors_itself_writes_is_read(tmp_path):
    numpy = pytest.importorskip("numpy")
    from safetensors.numpy import save_file

    path = tmp_path / "theirs.safetensors"
    arrays = {"inputs": numpy.arange(12, dtype=numpy.float32).reshape(3, 2, 2), "labels": numpy.array([0, 1, 2])}
    save_file(arrays, path)
    inputs, labels = read_labelled_arrays(path)
    assert (len(inputs), labels) == (3, (0, 1, 2))
    assert inputs[1] == TensorInput.of((2, 2), [4, 5, 6, 7]).encode()


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"{",
        {"inputs": TENSORS["inputs"]},
        TENSORS | {"labels": entry("I64", [1], 16, 24)},
        TENSORS | {"labels": entry("I64", [2, 1], 16, 32)},
        TENSORS | {"labels": entry("F32", [2], 16, 24)},
        TENSORS | {"labels": entry("F64", [2], 16, 32)},
        TENSORS | {"labels": entry("I64", [2], 16, 40)},
        TENSORS | {"labels": entry("I64", [2], 20, 36)},
        TENSORS | {"labels": entry("I64", [-2], 32, 16)},
        TENSORS | {"labels": entry("I64", [2.0], 16, 32)},
        TENSORS | {"labels": {"dtype": "I64"}},
        TENSORS | {"labels": None},
        TENSORS | {"inputs": entry("F32", [], 0, 4)},
        TENSORS | {"inputs": entry("F32", [0, 2], 0, 0), "labels": entry("I64", [0], 0, 0)},
        TENSORS | {"inputs": entry("U8", [2, 8], 0, 16)},
        TENSORS | {"inputs": entry("I64", [2], 0, 16)},
    ],
)
def test_anything_else_is_refused(tmp_path, header):
    with pytest.raises(Malformed):
        read(tmp_path, header, FLOATS + LABELS)


def test_a_header_longer_than_the_file_is_refused(tmp_path):
    (tmp_path / "cut").write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    with pytest.raises(Malformed):
        read_labelled_arrays(tmp_path / "cut")
    with pytest.raises(NotFound):
        read_labelled_arrays(tmp_path / "absent")
