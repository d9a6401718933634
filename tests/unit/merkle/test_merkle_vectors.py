"""Every vector of the log, through the checks, and receipts once more through docs/verify-receipt.sh."""

import json
import runpy
import subprocess
from pathlib import Path

import pytest

from app.errors import Malformed, ProofError
from app.merkle.checkpoint import encode_note, parse_checkpoint, verify_checkpoint
from app.merkle.receipt import encode_receipt, parse_receipt, verify_receipt
from app.merkle.tree import verify_consistency, verify_inclusion
from app.signature import public_key_of, public_key_pem

REPOSITORY = Path(__file__).parents[3]
VECTORS = REPOSITORY / "tests" / "vectors"
SCRIPT = REPOSITORY / "docs" / "verify-receipt.sh"
FOLDERS = ("merkle", "checkpoint", "receipt", "beacon")
MAKER = runpy.run_path(str(VECTORS / "make_merkle_vectors.py"))


def cases(folder, prefix=""):
    files = sorted((VECTORS / folder).glob(f"{prefix}*.json"))
    return [pytest.param(json.loads(file.read_bytes()), file.stem.endswith("_fail"), id=file.stem) for file in files]


def hexes(values):
    return [bytes.fromhex(value) for value in values]


def check(must_fail, act):
    if must_fail:
        with pytest.raises((Malformed, ProofError)):
            act()
    else:
        act()


def test_vector_files_are_exactly_what_the_maker_writes():
    written = {
        f"{folder}/{file.name}": file.read_bytes() for folder in FOLDERS for file in (VECTORS / folder).iterdir()
    }
    assert written == MAKER["vectors"]()


@pytest.mark.parametrize(("case", "must_fail"), cases("merkle", "inclusion"))
def test_inclusion_vector(case, must_fail):
    leaf, root = hexes([case["leaf"], case["root"]])
    check(must_fail, lambda: verify_inclusion(leaf, case["index"], case["size"], hexes(case["path"]), root))


@pytest.mark.parametrize(("case", "must_fail"), cases("merkle", "consistency"))
def test_consistency_vector(case, must_fail):
    old_root, new_root, path = *hexes([case["old_root"], case["new_root"]]), hexes(case["path"])
    check(must_fail, lambda: verify_consistency(case["old_size"], old_root, case["new_size"], new_root, path))


@pytest.mark.parametrize(("case", "must_fail"), cases("checkpoint"))
def test_checkpoint_vector(case, must_fail):
    def act():
        verify_checkpoint(case["note"], bytes.fromhex(case["log_key"]), case["origin"])
        assert encode_note(*parse_checkpoint(case["note"])) == case["note"]

    check(must_fail, act)


@pytest.mark.parametrize(("case", "must_fail"), cases("receipt"))
def test_receipt_vector(case, must_fail):
    def act():
        receipt = parse_receipt(case["receipt"].encode())
        verify_receipt(receipt, bytes.fromhex(case["entry"]), bytes.fromhex(case["log_key"]), case["origin"])
        assert encode_receipt(receipt).decode() == case["receipt"]

    check(must_fail, act)


@pytest.mark.parametrize(("case", "must_fail"), cases("receipt"))
def test_receipt_vector_with_openssl_and_coreutils_alone(case, must_fail, tmp_path):
    (tmp_path / "entry").write_bytes(bytes.fromhex(case["entry"]))
    (tmp_path / "receipt").write_bytes(case["receipt"].encode())
    (tmp_path / "key.pem").write_bytes(public_key_pem(bytes.fromhex(case["log_key"])))
    done = run_script(tmp_path, "entry", "receipt", "key.pem")
    assert (done.returncode != 0) == must_fail, done.stderr
    assert done.stderr.startswith("refused: ") if must_fail else done.stdout.startswith("entry ")


def test_script_refuses_a_receipt_under_another_key_and_says_so(tmp_path):
    case = json.loads((VECTORS / "receipt" / "entry_0_of_1.json").read_bytes())
    (tmp_path / "entry").write_bytes(bytes.fromhex(case["entry"]))
    (tmp_path / "receipt").write_bytes(case["receipt"].encode())
    (tmp_path / "key.pem").write_bytes(public_key_pem(public_key_of(bytes(32))))
    done = run_script(tmp_path, "entry", "receipt", "key.pem")
    assert (done.returncode, done.stderr) == (1, "refused: the checkpoint is not signed with this key\n")


@pytest.mark.parametrize("arguments", [(), ("no-entry", "no-receipt", "no-key")])
def test_script_fails_without_its_files(tmp_path, arguments):
    assert run_script(tmp_path, *arguments).returncode != 0


def run_script(folder, *arguments):
    """Run with nothing in the environment but where the tools are."""
    environment = {"PATH": "/usr/bin:/bin"}
    command = ["bash", str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
