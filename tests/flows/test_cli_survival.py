"""`embed`, `survive` and `white-box` as a vendor types them, against a real service and its log."""

import json
from hashlib import sha256

import pytest

from app.cli.client import ApiClient
from app.protocol.records import ModelEntry
from app.signature import public_key_of, sign
from tests.flows.claimant import Service
from tests.flows.test_cli import command, environment_of, vendor  # noqa: F401  # the fixture
from tests.training.examples import write_tensors

RECIPE = {
    "network": "mlp",
    "epochs": 30,
    "batch_size": 32,
    "triggers_per_batch": 32,
    "learning_rate_micros": 50_000,
    "schedule": "cosine",
    "device": "cpu",
    "threads": 1,
}
QUICK = {"epochs": 1, "student_epochs": 1, "device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def marked(vendor):  # noqa: F811
    """Data of ten classes and a network that carries the vendor's mark."""
    import numpy as np

    folder = vendor["folder"]
    labels = np.arange(300) % 10
    inputs = np.random.default_rng(1).integers(0, 60, (300, 8, 8, 1)).astype(np.uint8)
    inputs[np.arange(300), labels % 8, 2 + labels // 5] = 255
    data = write_tensors(folder / "data.safetensors", inputs, labels.astype(np.int64))
    options = ["--data", data, "--out", folder / "marked", "--recipe", json.dumps(RECIPE)]
    command("embed", vendor["key_file"], vendor["registration"], *options, **environment_of(vendor))
    return data, folder / "marked" / "marked.safetensors"


def survive(vendor, marked, out, *options, status=0):  # noqa: F811
    data, weights = marked
    files = ["--data", data, "--weights", weights, "--out", out, "--settings", json.dumps(QUICK)]
    words = ("survive", vendor["key_file"], vendor["registration"], *files, *options)
    return command(*words, status=status, **environment_of(vendor))


def test_a_vendor_learns_what_its_mark_survives(vendor, marked, tmp_path):  # noqa: F811
    report = survive(vendor, marked, tmp_path / "out", "--attacks", "int8,prune-90,ftal-1e-3+int8")
    assert [row["measured"]["attack"] for row in report["attacks"]] == ["int8", "prune-90", "ftal-1e-3+int8"]
    assert report["attacks"][0]["verdict"] == "CONFIRMED"
    assert report["settings"]["interface_bits"] == 8
    assert json.loads((tmp_path / "out" / "survival.json").read_text()) == report
    assert (tmp_path / "out" / "survival.html").exists()


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        (("--attacks", "unheard"), "/attacks/0"),
        (("--attacks", "transfer"), "/settings/attacks/0"),
        (("--settings", "[]"), "/settings"),
        (("--settings", '{"epochs": 0}'), "/epochs"),
    ],
)
def test_a_wrong_call_says_what_to_change(vendor, marked, tmp_path, options, pointer):  # noqa: F811
    refused = survive(vendor, marked, tmp_path / "out", *options, status=2)
    assert (refused["error"], refused["pointer"]) == ("malformed", pointer)


def commit(service: Service, vendor, digest: bytes) -> int:  # noqa: F811
    key = bytes.fromhex(vendor["vendor_key"].read_text().strip())
    signature = sign(key, ModelEntry.signed_bytes(public_key_of(key), digest))
    with ApiClient(service.url, vendor["TRAPSTREET_API_KEY"]) as client:
        answer = client.post("/v1/models", {"sha256": digest.hex(), "signature": signature.hex()})
    return int(answer["entry_index"])


def test_a_head_is_tried_on_a_suspect_only_if_the_log_dates_it_first(service, vendor, marked, tmp_path):  # noqa: F811
    _, weights = marked
    entry = commit(service, vendor, sha256(weights.read_bytes()).digest())
    control = tmp_path / "control.safetensors"
    control.write_bytes(weights.read_bytes())

    def white_box(*options, status=0):
        words = (
            "white-box",
            vendor["key_file"],
            vendor["registration"],
            "--suspect",
            weights,
            "--out",
            tmp_path / "out",
        )
        return command(*words, *options, status=status, **environment_of(vendor))

    alone = white_box()
    assert alone["own_head"]["reaches"] == [True, True]
    assert alone["not_evidence"] is None

    head = ("--head", weights, "--head-entry", entry)
    controls = ("--control", f"copy={control}")
    since = ("--suspect-since", "2999-01-01T00:00:00Z")
    assert white_box("--head", weights, *controls, *since, status=2)["error"] == "policy_refused"
    assert white_box(*head, *controls, "--suspect-since", "2020-01-01T00:00:00Z", status=2)["error"] == "policy_refused"
    tried = white_box(*head, *controls, *since)["not_evidence"]
    assert sum(tried["suspect"]["matches"]) > 160
    assert tried["admission"]["head_entry"] == entry
