"""Committed covers by commands: make them, commit to them, derive a suspect's interface, file with it."""

import json
import os
import struct
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from app.cli.client import ApiClient
from app.keys.cover_set import LabelledCoverSet, parse_cover_set
from app.keys.trigger_set import ImageInput, parse_input
from tests import forked
from tests.flows.claimant import Service, wait_until
from tests.flows.test_cli import command
from tests.simulators.suspect import SuspectSimulator

NAMES = ("cat", "dog", "fox")


def shade(question: bytes) -> int:
    """What this task is about: how bright a picture is."""
    image = parse_input(question)
    assert isinstance(image, ImageInput)
    return min(2, sum(image.pixels) // len(image.pixels) // 85)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("covers") / "ordinary.zip"
    with zipfile.ZipFile(path, "w") as file:
        for label, name in enumerate(NAMES):
            for number in range(25):
                buffer = BytesIO()
                Image.new("L", (8, 8), 85 * label + 3 * number).save(buffer, "PNG")
                file.writestr(f"{name}/{number}.png", buffer.getvalue())
    return path


def test_covers_of_an_archive_are_labelled_by_the_place_of_their_folder(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "covers.json"
    made = command("covers", archive, out, "--labels", "--classes", "fox,cat,dog", "--shape", "8x8x1")
    assert (made["covers"], made["classes"]) == (75, 3)
    covers = parse_cover_set(out.read_bytes())
    assert isinstance(covers, LabelledCoverSet)
    assert covers.labels == (0,) * 25 + (1,) * 25 + (2,) * 25
    assert {shade(data) for data in covers.inputs[:25]} == {2}
    command("covers", archive, tmp_path / "plain.json", "--classes", "cat,dog,fox", "--shape", "8x8x1")
    assert parse_cover_set((tmp_path / "plain.json").read_bytes()).table is None
    assert command("covers", archive, out, "--labels", status=2)["error"] == "malformed"


def test_covers_of_arrays_have_the_labels_of_the_arrays(tmp_path: Path) -> None:
    header = {
        "inputs": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "labels": {"dtype": "I64", "shape": [2], "data_offsets": [24, 40]},
    }
    text = json.dumps(header).encode()
    path = tmp_path / "ordinary.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + struct.pack("<6f2q", *range(6), 1, 0))
    made = command("covers", path, tmp_path / "covers.json", "--labels")
    assert made["covers"] == 2
    covers = parse_cover_set((tmp_path / "covers.json").read_bytes())
    assert isinstance(covers, LabelledCoverSet)
    assert (covers.kind, covers.shape, covers.labels) == ("tensor", (3,), (1, 0))


def test_from_labelled_covers_to_a_dispute_that_costs_nothing(service: Service, archive: Path, tmp_path: Path) -> None:
    covers, key_file, vendor_key = tmp_path / "covers.json", tmp_path / "marking.key", tmp_path / "vendor.key"
    command("covers", archive, covers, "--labels", "--classes", ",".join(NAMES), "--shape", "8x8x1")
    plain = tmp_path / "plain.json"
    command("covers", archive, plain, "--classes", ",".join(NAMES), "--shape", "8x8x1")
    command("keygen", key_file, "--family", "noise:96", "--shape", "8x8x1")
    register = ["register", key_file, "--vendor-key", vendor_key, "--family", "noise:96", "--out", tmp_path / "r.json"]
    register += ["--vendor-name", "Covers Ltd", "--contact", "c@example.org"]
    refused = command(*register, "--classes", ",".join(NAMES), "--covers", plain, status=2, TRAPSTREET_URL=service.url)
    assert "have no labels" in refused["message"]
    refused = command(*register, "--classes", "cat,dog", "--covers", covers, status=2, TRAPSTREET_URL=service.url)
    assert "there are 2 classes" in refused["message"]
    registered = command(*register, "--classes", ",".join(NAMES), "--covers", covers, TRAPSTREET_URL=service.url)
    environment = {"TRAPSTREET_URL": service.url, "TRAPSTREET_API_KEY": registered["api_key"]}
    with ApiClient(service.url, registered["api_key"]) as client:
        path = f"/v1/registrations/{registered['registration']}"
        wait_until(lambda: client.get(path)["beacon_index"] is not None, "the beacon")
    with SuspectSimulator(lambda question: f"Tier {shade(question)}") as suspect:
        endpoint = ("--endpoint", suspect.url)
        filing = ("dispute", registered["registration"], "--family", "noise", *endpoint, "--vendor-key", vendor_key)
        filing += ("--covers", covers, "--covers-per-trigger", "2", "--derived")
        early = command(*filing, status=2, **environment)
        assert "run `trapstreet suspect derive` first" in early["message"]
        derived = command(
            *("suspect", "derive", registered["registration"], *endpoint, "--covers", covers, "--model", "digits"),
            **environment,
        )
        assert (derived["state"], derived["interface_bits"]) == ("done", 0)
        assert derived["interface"]["label_map"]["map"] == {f"Tier {at}": [name] for at, name in enumerate(NAMES)}

        done = forked.run(["-m", "app.cli", *map(str, filing)], {"PATH": os.environ["PATH"], **environment})
        assert done.returncode == 2
        said = done.stderr.decode()
        assert "costs 0 bits" in said
        assert "each may be asked 3 times" in said
        assert "file with --yes" in said
        filed = command(*filing, "--yes", **environment)
    assert json.loads(filed["record"])["interface_origin"]["kind"] == "derived"
