"""The command line as a vendor and an auditor type it: every command a process of its own."""

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from app.keys.cover_set import encode_cover_set
from app.keys.key_file import parse_key_file
from app.storage.archive import pack, unpack
from tests.flows.claimant import CLASSES, Service, image, natural, scores, wait_until
from tests.forked import run
from tests.simulators.suspect import SuspectSimulator

VECTORS = Path(__file__).parents[1] / "vectors" / "protocol-v1.json"
DIGITS = ",".join(str(digit) for digit in range(CLASSES))


def command(*words, status=0, **environment):
    """Run `trapstreet WORDS --json` and give its JSON."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    done = run(["-m", "app.cli", *map(str, words), "--json"], kept | environment)
    assert done.returncode == status, done.stderr.decode()[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def vendor(service: Service, tmp_path_factory):
    """A vendor that did everything by commands: key, sign-up, registration."""
    folder = tmp_path_factory.mktemp("vendor")
    key_file, vendor_key = folder / "marking.key", folder / "vendor.key"
    made = command("keygen", key_file, "--family", "noise:96", "--family", "abstract:96", "--shape", "8x8x1")
    assert made["families"] == [["noise", 96], ["abstract", 96]]
    registered = command(
        "register",
        key_file,
        *("--vendor-key", vendor_key, "--classes", DIGITS, "--family", "noise:96", "--family", "abstract:96"),
        *("--out", folder / "registration.json", "--vendor-name", "Command Ltd", "--contact", "c@example.org"),
        TRAPSTREET_URL=service.url,
    )
    environment = {"TRAPSTREET_URL": service.url, "TRAPSTREET_API_KEY": registered["api_key"]}

    def drawn():
        done = run(["-m", "app.cli", "labels", str(key_file), registered["registration"], "--json"], environment)
        return json.loads(done.stdout)["labels"] if done.returncode == 0 else None

    labels = wait_until(drawn, "the labels")
    return {
        "folder": folder,
        "key_file": key_file,
        "vendor_key": vendor_key,
        "labels": labels,
        **registered,
        **environment,
    }


def environment_of(vendor):
    return {name: value for name, value in vendor.items() if name.startswith("TRAPSTREET_")}


def test_the_key_file_is_private_and_never_overwritten(vendor):
    assert vendor["key_file"].stat().st_mode & 0o777 == 0o600
    assert vendor["vendor_key"].stat().st_mode & 0o777 == 0o600
    before = vendor["key_file"].read_bytes()
    refused = command("keygen", vendor["key_file"], "--family", "noise:4", "--shape", "8x8x1", status=2)
    assert refused["error"] == "conflict"
    assert vendor["key_file"].read_bytes() == before


def test_a_sealed_key_file_opens_with_its_passphrase_only(tmp_path):
    (tmp_path / "passphrase").write_text("correct horse battery staple\n")
    sealed = tmp_path / "sealed.key"
    options = ["--family", "noise:4", "--shape", "4x4x1", "--passphrase-file", tmp_path / "passphrase"]
    made = command("keygen", sealed, *options)
    assert parse_key_file(sealed.read_bytes(), "correct horse battery staple").root().hex() == made["root"]
    assert b'"sealed-key"' in sealed.read_bytes() or b"sealed-key" in sealed.read_bytes()


def test_keygen_takes_the_vendors_own_images(tmp_path):
    from io import BytesIO

    from PIL import Image

    archive_path = tmp_path / "mine.zip"
    with zipfile.ZipFile(archive_path, "w") as archive:
        for number in range(6):
            buffer = BytesIO()
            Image.new("L", (8, 8), number * 40).save(buffer, "PNG")
            archive.writestr(f"{'cats' if number < 4 else 'dogs'}/{number}.png", buffer.getvalue())
    options = ["--images", archive_path, "--image-family", "cats", "--image-family", "dogs", "--shape", "8x8x1"]
    made = command("keygen", tmp_path / "mine.key", *options)
    assert made["families"] == [["cats", 4], ["dogs", 2]]


def test_keygen_refuses_families_that_can_never_be_confirmed_unless_told_otherwise(tmp_path):
    words = ["keygen", tmp_path / "few.key", "--family", "noise:12", "--shape", "8x8x1", "--classes", DIGITS]
    refused = command(*words, status=2)
    assert refused["error"] == "policy_refused"
    assert "fewer than 21 triggers" in refused["message"]
    assert not (tmp_path / "few.key").exists()
    assert command(*words, "--allow-few")["count"] == 12


def test_a_wrong_call_says_what_to_change(tmp_path, vendor):
    for words, error in (
        (["keygen", tmp_path / "k", "--family", "noise", "--shape", "8x8x1"], "malformed"),
        (["keygen", tmp_path / "k", "--family", "noise:4", "--shape", "8x8"], "malformed"),
        (["keygen", tmp_path / "k", "--family", "unheard:4", "--shape", "8x8x1"], "malformed"),
        (["labels", tmp_path / "absent", vendor["registration"]], "not_found"),
        (["check", tmp_path / "absent.zip"], "not_found"),
    ):
        assert command(*words, status=2)["error"] == error
    assert not (tmp_path / "k").exists()


def test_credentials_are_read_from_a_private_file_alone(service, vendor, tmp_path):
    file = tmp_path / "endpoint.json"
    file.touch(mode=0o600)
    file.write_text('{"kind": "headers", "headers": {"Authorization": "Bearer hush-hush"}}')
    with (
        SuspectSimulator(lambda asked: scores(natural(asked))) as suspect,
        service.connect(vendor["api_key"]) as client,
    ):
        body = {"name": "shy", "endpoint": suspect.url, "interface": suspect.interface.to_json()}
        suspect_id = client.post("/v1/suspects", body)["id"]
    environment = environment_of(vendor)
    shown = command("suspect", "credentials", suspect_id, file, **environment)
    assert (shown["kind"], shown["header_names"]) == ("headers", ["authorization"])
    file.write_text('{"kind": "headers", "headers": {"Host": "hush-hush"}}')
    assert command("suspect", "credentials", suspect_id, file, status=2, **environment)["error"] == "policy_refused"
    file.write_text("hush-hush")
    refused = command("suspect", "credentials", suspect_id, file, status=2, **environment)
    assert (refused["error"], "hush" in str(refused)) == ("malformed", False)
    file.chmod(0o640)
    assert "chmod 600" in command("suspect", "credentials", suspect_id, file, status=2, **environment)["message"]


def test_a_service_that_is_away_is_status_4(vendor):
    away = {**environment_of(vendor), "TRAPSTREET_URL": "http://127.0.0.1:9"}
    assert command("labels", vendor["key_file"], vendor["registration"], status=4, **away)["error"] == "unavailable"


def test_a_dispute_from_filing_to_a_checked_verdict_with_a_killed_agent(service, vendor, tmp_path):
    key = parse_key_file(vendor["key_file"].read_bytes())
    labels = dict(zip(key.inputs, vendor["labels"], strict=True))
    covers = tmp_path / "covers.json"
    covers.write_bytes(encode_cover_set([image("cover", number) for number in range(40)]))
    environment = environment_of(vendor)

    def stolen(question):
        return scores(labels.get(question, natural(question)))

    with SuspectSimulator(stolen, kind="image", shape=(8, 8, 1)) as suspect:
        filed = command(
            "dispute",
            vendor["registration"],
            *("--family", "noise", "--endpoint", suspect.url, "--vendor-key", vendor["vendor_key"]),
            *("--options", json.dumps(suspect.interface.options), "--covers", covers, "--covers-per-trigger", "2"),
            **environment,
        )
        first = start_agent(vendor)
        wait_until(lambda: read(service, vendor, filed["id"])["blocks_opened"] >= 1, "a first opening")
        first.send_signal(signal.SIGKILL)
        end_agent(first)
        second = start_agent(vendor)
        wait_until(lambda: read(service, vendor, filed["id"])["verdict"], "a verdict")
        end_agent(second)
    bundle = tmp_path / "bundle.zip"
    bundle.write_bytes(download(service, vendor, filed["id"]))
    check_everything_about(bundle, service, tmp_path)


def check_everything_about(bundle, service, tmp_path):
    log_key = download_log_key(service)
    checked = command("check", bundle, "--log-key", log_key)
    assert (checked["verdict"], checked["authenticated"]) == ("CONFIRMED", True)
    assert command("check", bundle, status=3)["authenticated"] is False
    assert command("replay", bundle, "--bits", "80", "--log-key", log_key)["bits"] == 80
    assert command("replay", bundle, "--bits", "70", status=2)["error"] == "malformed"

    files = unpack(bundle.read_bytes())
    folder = tmp_path / "unpacked"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    assert command("check", folder, "--log-key", log_key)["verdict"] == "CONFIRMED"

    forged = tmp_path / "forged.zip"
    queries = bytearray(files["queries.jsonl"])
    queries[len(queries) // 2] ^= 1
    forged.write_bytes(pack(files | {"queries.jsonl": bytes(queries)}))
    refused = command("check", forged, "--log-key", log_key, status=1)
    assert refused["error"] == "proof_invalid"
    assert "queries.jsonl" in refused["message"]

    damaged = bytearray(bundle.read_bytes())
    damaged[10] ^= 1  # a time in the container, which no file's digest covers
    forged.write_bytes(bytes(damaged))
    assert command("check", forged, "--log-key", log_key, status=1)["error"] == "proof_invalid"


def test_vectors_hold_and_a_changed_one_is_named(tmp_path):
    assert command("check-vectors", VECTORS)["difference"] is None
    vectors = json.loads(VECTORS.read_text())
    vectors["commitments"][0]["root"] = "00" * 32
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(vectors))
    assert command("check-vectors", changed, status=1)["difference"]


def test_migrate_may_be_repeated(service):
    urls = {name: service.environment[name] for name in ("DATABASE_URL", "DATABASE_OWNER_URL")}
    assert command("migrate", **urls)["migrated"] is True


def start_agent(vendor):
    return subprocess.Popen(
        [sys.executable, "-m", "app.cli", "agent", str(vendor["key_file"]), "--poll-seconds", "0.1", "--with-parent"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), **environment_of(vendor)},
    )


def end_agent(agent):
    agent.terminate()
    agent.wait(60)
    agent.stdin.close()


def client_of(service, vendor):
    from app.cli.client import ApiClient

    return ApiClient(service.url, vendor["TRAPSTREET_API_KEY"])


def read(service, vendor, dispute_id):
    with client_of(service, vendor) as client:
        return client.get(f"/v1/disputes/{dispute_id}")


def download(service, vendor, dispute_id):
    with client_of(service, vendor) as client:
        return client.download(f"/v1/disputes/{dispute_id}/evidence")


def download_log_key(service):
    from app.cli.client import ApiClient

    with ApiClient(service.url) as client:
        return client.text("/v1/log/key").strip()
