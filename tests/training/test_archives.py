import gzip
import io
import os
import struct
import tarfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.embedding import compressed
from app.embedding.archives import DataForm, load_dataset
from app.errors import Malformed, TooLarge, UnsupportedMedia
from tests.training.examples import CLASSES, image_members, png, shapes_to_learn, write_tar, write_tensors, write_zip

FORM = DataForm("image", (8, 8, 1), CLASSES)
GOOD = png(shapes_to_learn(1)[0][0])

WRITERS = {
    "tar.gz": write_tar,
    "tar": lambda path, members: write_tar(path, members, "w"),
    "zip": write_zip,
}


@pytest.fixture(params=WRITERS)
def write(request, tmp_path):
    return lambda members: WRITERS[request.param](tmp_path / "data", members)


def test_every_archive_gives_the_pixels_and_labels_that_went_in(write):
    inputs, labels = shapes_to_learn(6)
    read = load_dataset(write(image_members(6)), FORM)
    assert (read.inputs == inputs).all()
    assert (read.labels == labels).all()
    assert read.inputs.dtype == np.uint8


def test_folders_may_be_listed_and_names_differ_in_case_and_spaces(write):
    read = load_dataset(write([("./ CIRCLE /1.PNG", GOOD), ("bars/1.png", GOOD)]), FORM)
    assert read.labels.tolist() == [0, 2]


@pytest.mark.parametrize(
    "name",
    ["/circle/1.png", "../circle/1.png", "circle/../1.png", "circle/1/2.png", "1.png", "circle\\1.png", "./../1.png"],
)
def test_a_path_that_is_not_class_and_name_is_refused_by_name(write, name):
    with pytest.raises(Malformed) as refused:
        load_dataset(write([("circle/0.png", GOOD), (name, GOOD)]), FORM)
    assert name.removeprefix("/") in refused.value.message.replace("\\\\", "\\")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("square/1.png", GOOD, "not a registered class"),
        ("circle/1.txt", b"notes", "not an image"),
        ("circle/1.png", b"no image", "not a PNG image"),
        ("circle/1.jpg", GOOD, "not a JPEG image"),
        ("circle/1.png", GOOD[:60], "circle/1.png"),
        ("circle/1.png", png(np.zeros((9, 8), np.uint8)), "is 8x9, registered are 8x8"),
        ("circle/0.png", GOOD, "twice"),
        ("Circle/0.PNG", GOOD, "twice"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_no_training_image_is_refused_with_its_reason(write, name, content, reason):
    with pytest.raises(Malformed, match=reason):
        load_dataset(write([("circle/0.png", GOOD), (name, content)]), FORM)


def test_an_archive_without_images_is_refused(tmp_path):
    with pytest.raises(Malformed, match="no image"):
        load_dataset(write_tar(tmp_path / "data", []), FORM)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    path = tmp_path / "data"
    with tarfile.open(path, "w") as archive:
        header = tarfile.TarInfo("circle/1.png")
        header.type, header.linkname = kind, "/etc/passwd"
        archive.addfile(header)
    with pytest.raises(Malformed, match="link, a device"):
        load_dataset(path, FORM)


def test_a_link_in_a_zip_is_refused(tmp_path):
    header = zipfile.ZipInfo("circle/1.png")
    header.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "data", "w") as archive:
        archive.writestr(header, "/etc/passwd")
    with pytest.raises(Malformed, match="link, a device"):
        load_dataset(tmp_path / "data", FORM)


def test_an_encrypted_zip_member_is_refused(tmp_path):
    path = write_zip(tmp_path / "data", [("circle/1.png", GOOD)])
    data = bytearray(path.read_bytes())
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(Malformed, match="encrypted"):
        load_dataset(path, FORM)


def test_a_zip_member_that_lies_about_its_size_is_refused(tmp_path):
    path = write_zip(tmp_path / "data", [("circle/1.png", GOOD + bytes(10_000))])
    data = bytearray(path.read_bytes())
    at = data.rfind(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", len(GOOD))
    path.write_bytes(data)
    with pytest.raises(Malformed, match="broken"):
        load_dataset(path, FORM)


def test_a_large_member_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "data"
    header = tarfile.TarInfo("circle/1.png")
    header.size = compressed.MAX_MEMBER_BYTES + 1
    path.write_bytes(header.tobuf())  # nothing behind it: reading would fail otherwise
    with pytest.raises(TooLarge, match=r"circle/1\.png"):
        load_dataset(path, FORM)


def test_a_huge_extended_header_is_refused_before_it_is_read(tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2**33 - 1
    path = tmp_path / "data"
    path.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))
    with pytest.raises(TooLarge, match="header or member"):
        load_dataset(path, FORM)


def test_a_bomb_hidden_in_headers_is_refused_on_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "RATIO_GRACE_BYTES", 1024**2)
    long_name = tarfile.TarInfo("x")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 1024**2
    path = tmp_path / "data"
    path.write_bytes(gzip.compress((long_name.tobuf() + bytes(1024**2)) * 8))
    with pytest.raises(TooLarge, match="unpacks to more"):
        load_dataset(path, FORM)


def test_a_zip_member_without_a_name_is_refused(tmp_path):
    path = write_zip(tmp_path / "data", [("circle/1.png", GOOD), ("~nameless~", GOOD)])
    path.write_bytes(path.read_bytes().replace(b"~nameless", b"\0nameless"))  # zipfile cuts names at a zero byte
    with pytest.raises(Malformed, match="member 2 of the archive has no name"):
        load_dataset(path, FORM)


def test_the_bounded_reader_stops_at_its_ratio(tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "RATIO_GRACE_BYTES", 1024**2)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(8 * 1024**2)))
    with path.open("rb") as file, pytest.raises(TooLarge, match="unpacks to more"):
        compressed.BoundedReader(file).seek(8 * 1024**2)


def test_too_many_members_are_refused(write, monkeypatch):
    monkeypatch.setattr(compressed, "MAX_MEMBERS", 3)
    with pytest.raises(TooLarge, match="one too many"):
        load_dataset(write(image_members(4)), FORM)


def test_a_zip_directory_too_large_for_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "MAX_DIRECTORY_BYTES", 100)
    with pytest.raises(TooLarge, match="directory"):
        load_dataset(write_zip(tmp_path / "data", image_members(6)), FORM)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_a_cut_archive_is_refused_wherever_it_is_cut(tmp_path, kind):
    whole = WRITERS[kind](tmp_path / "data", image_members(3)).read_bytes()
    # A tar ends with at least two zero blocks and is padded with more; only the first one is needed.
    end = 3 * 1024 + 511 if kind == "tar" else len(whole) - 1
    for size in range(10, end, 97):
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises((Malformed, UnsupportedMedia)):
            load_dataset(tmp_path / "cut", FORM)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_a_flipped_byte_gives_data_or_a_refusal_and_nothing_else(tmp_path, kind):
    whole = WRITERS[kind](tmp_path / "data", image_members(2)).read_bytes()
    draw = np.random.default_rng(3)
    for at in draw.integers(0, min(len(whole), 2_300), 300):
        changed = bytearray(whole)
        changed[at] ^= int(draw.integers(1, 256))
        (tmp_path / "changed").write_bytes(changed)
        with suppress(Malformed, TooLarge, UnsupportedMedia):  # anything else is a bug, and fails here
            assert load_dataset(tmp_path / "changed", FORM).inputs.shape[1:] == (8, 8, 1)


def test_pixels_are_counted_before_they_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("app.embedding.archives.MAX_PIXELS", 100)
    image = png(np.zeros((20, 20), np.uint8))[:-30]  # its end is missing: decoding would give another error
    path = write_zip(tmp_path / "data", [("circle/1.png", image)])
    with pytest.raises(TooLarge, match="20x20"):
        load_dataset(path, DataForm("image", (8, 8, 1), CLASSES, resize=True))


def test_a_declared_gigapixel_image_is_refused(tmp_path):
    data = bytearray(GOOD)
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path = write_zip(tmp_path / "data", [("circle/1.png", bytes(data))])
    with pytest.raises(TooLarge, match=r"circle/1\.png"):
        load_dataset(path, DataForm("image", (8, 8, 1), CLASSES, resize=True))


def test_decoded_data_is_bounded(write, monkeypatch):
    monkeypatch.setattr("app.embedding.archives.MAX_DATASET_BYTES", 200)
    with pytest.raises(TooLarge, match="pixels"):
        load_dataset(write(image_members(4)), FORM)


def test_images_are_converted_to_the_registered_channels_and_scaled_if_the_recipe_says_so(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGBA", (16, 12), (255, 0, 0, 255)).save(buffer, format="PNG")
    path = write_zip(tmp_path / "data", [("circle/1.png", buffer.getvalue())])
    read = load_dataset(path, DataForm("image", (8, 8, 3), CLASSES, resize=True))
    assert read.inputs.shape == (1, 8, 8, 3)
    assert (read.inputs[0] == (255, 0, 0)).all()


@pytest.mark.parametrize("start", [b"", b"\x7fELF" + bytes(600), b"BZh9" + bytes(600), b"{}"])
def test_a_file_of_no_known_format_is_refused(tmp_path, start):
    (tmp_path / "data").write_bytes(start)
    with pytest.raises(UnsupportedMedia):
        load_dataset(tmp_path / "data", FORM)


def test_tensors_come_back_as_they_went_in(tmp_path):
    values = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    labels = np.array([0, 1, 2, 1, 0])
    read = load_dataset(write_tensors(tmp_path / "data", values, labels), DataForm("tensor", (6,), CLASSES))
    assert (read.inputs == values).all()
    assert (read.labels == labels).all()


@pytest.mark.parametrize(
    ("inputs", "labels", "reason"),
    [
        (np.zeros((2, 6)), np.array([0, 1]), "F64"),
        (np.zeros((2, 5), np.float32), np.array([0, 1]), "inputs"),
        (np.zeros((2, 6), np.float32), np.array([0]), "one label for each"),
        (np.zeros((0, 6), np.float32), np.zeros(0, np.int64), "one label for each"),
        (np.zeros((2, 6), np.float32), np.array([0, 1], np.int32), "I32"),
        (np.zeros((2, 6), np.float32), np.array([0, 3]), "between 0 and 2"),
        (np.zeros((2, 6), np.float32), np.array([0, -1]), "between 0 and 2"),
        (np.full((2, 6), np.nan, np.float32), np.array([0, 1]), "not finite"),
    ],
)
def test_tensors_that_do_not_fit_the_registration_are_refused(tmp_path, inputs, labels, reason):
    with pytest.raises(Malformed, match=reason):
        load_dataset(write_tensors(tmp_path / "data", inputs, labels), DataForm("tensor", (6,), CLASSES))


def test_tensors_cannot_come_as_an_archive(tmp_path):
    with pytest.raises(UnsupportedMedia, match="safetensors"):
        load_dataset(write_zip(tmp_path / "data", image_members()), DataForm("tensor", (6,), CLASSES))


def test_the_cifar_archive_reads_as_ten_classes_of_one_thousand():
    shared = Path(os.environ.get("TRAPSTREET_SHARED", Path(__file__).parents[2].parent / "shared"))
    path = shared / "data" / "cifar10-test.tar.gz"
    if not path.is_file():
        pytest.skip(f"needs {path.name} in the folder that TRAPSTREET_SHARED names")
    with tarfile.open(path) as archive:
        names = tuple(sorted({name.split("/")[0] for name in archive.getnames()}))
    read = load_dataset(path, DataForm("image", (32, 32, 3), names))
    assert read.inputs.shape[1:] == (32, 32, 3)
    assert len(names) == 10
    assert len(set(np.bincount(read.labels))) == 1
