"""Real trainings under the confinement: they work, they are held to their limits, and without it programs are refused."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.embedding.artifacts import MARKED_WEIGHTS, REPORT, UNFINISHED_RUN, check_artifact
from app.embedding.child_order import NetworkFigures, PlainKey, SealedKey, TrainingReport
from app.embedding.confinement.limits import Limits
from app.embedding.confinement.sandbox import OWN_ID, ROOT, find_confinement, why_not
from app.embedding.progress import ProgressCurve
from app.embedding.recipe import Recipe
from app.embedding.training_process import run_child
from app.errors import PolicyRefused, TrainingFailed
from app.keys.key_file import encode_key_file
from tests.ordinary_user import run_as_ordinary_user
from tests.training.examples import TINY, image_key, order_in

# Over in a moment, and yet running when its first epoch is looked at: a child ends as soon as it has said its report.
QUICK = Recipe.from_options({**TINY, "epochs": 150, "compare_plain": False})
LONG = Recipe.from_options({**TINY, "epochs": 10_000, "compare_plain": False})

needs_confinement = pytest.mark.skipif(why_not() is not None, reason=f"this machine has none: {why_not()}")


def run(order, on_event=lambda _: None, **options):
    return run_child(order, PlainKey(encode_key_file(image_key())), on_event, lambda: False, **options)


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines) if value.split()}


def children() -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split() if b"embedding" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@needs_confinement
def test_a_training_runs_with_no_rights_and_leaves_its_weights_to_its_parent(tmp_path):
    seen = {}

    def look(_: dict) -> None:
        for pid in children():
            seen.update(status_of(pid))

    run(order_in(tmp_path, recipe=QUICK), look)
    assert (seen["NoNewPrivs"], seen["Seccomp"]) == ("1", "2")
    assert int(seen["CapEff"], 16) == int(seen["CapPrm"], 16) == 0
    own_id = OWN_ID in (find_confinement().means or ())
    assert (int(seen["Uid"]) in Limits().user_ids) == own_id
    output = tmp_path / "output"
    assert {path.name: path.stat().st_uid for path in output.iterdir()} == {
        MARKED_WEIGHTS: os.geteuid(),
        REPORT: os.geteuid(),
    }
    assert output.stat().st_uid == os.geteuid()


def test_what_stands_in_the_parents_environment_and_files_does_not_reach_the_child(tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://service:planted-secret@database/trapstreet")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    environments, open_files = bytearray(), set()
    with (tmp_path / "log.key").open("w") as key:
        os.set_inheritable(key.fileno(), True)

        def look(_: dict) -> None:
            for pid in children():
                environments.extend(Path(f"/proc/{pid}/environ").read_bytes())
                open_files.update(str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir())

        run(order_in(tmp_path, recipe=QUICK), look)
    assert b"HOME=" in environments
    assert b"planted-secret" not in environments
    assert not [name for name in open_files if name.endswith("log.key")]


def test_a_training_that_takes_too_long_is_ended_and_told_so(tmp_path):
    with pytest.raises(TrainingFailed, match="takes longer than 4 seconds") as failed:
        run(order_in(tmp_path, recipe=LONG), limits=Limits(seconds=4))
    assert failed.value.state == "training_failed"  # so it is not tried again
    assert children() == []


def test_a_training_that_takes_too_much_memory_is_ended_and_told_so(tmp_path):
    with pytest.raises(TrainingFailed, match=r"needs more than 0\.0488 GiB of memory"):
        run(order_in(tmp_path, recipe=LONG), limits=Limits(memory_bytes=50 * 1024**2))
    assert children() == []


def test_a_link_is_no_artifact(tmp_path):
    (tmp_path / "another vendors").write_bytes(b"weights")
    digest = bytes.fromhex(
        subprocess.run(["sha256sum", tmp_path / "another vendors"], capture_output=True).stdout[:64].decode()
    )
    check_artifact(tmp_path / "another vendors", digest)
    (tmp_path / MARKED_WEIGHTS).symlink_to(tmp_path / "another vendors")
    with pytest.raises(TrainingFailed, match="left no"):
        check_artifact(tmp_path / MARKED_WEIGHTS, digest)
    (tmp_path / MARKED_WEIGHTS).unlink()
    (tmp_path / MARKED_WEIGHTS).hardlink_to(tmp_path / "another vendors")
    with pytest.raises(TrainingFailed, match="left no"):
        check_artifact(tmp_path / MARKED_WEIGHTS, digest)


def test_a_folder_with_more_than_results_in_it_is_not_opened_to_a_training(tmp_path):
    order = order_in(tmp_path, recipe=QUICK)
    for name in ("report.json", "unfinished-plain.safetensors", "unfinished-marked.safetensors.partial"):
        (tmp_path / "output" / name).write_bytes(b"of an earlier training")
    (tmp_path / "output" / "vendor.key").write_text("the vendor's own")
    with pytest.raises(PolicyRefused, match=r"holds 'vendor\.key'.* a folder of its own"):
        run(order)
    (tmp_path / "output" / "vendor.key").unlink()
    assert run(order).marked.epochs == QUICK.epochs


# A kernel that knows none of these calls: a filter makes it so for this process and its descendants.
BARE = """
import errno, json, sys
from dataclasses import replace
from pathlib import Path
from app.embedding.confinement import seccomp
from app.embedding.confinement.system_calls import PR_SET_NO_NEW_PRIVS, prctl
prctl(PR_SET_NO_NEW_PRIVS, 1)
program = [(seccomp.LOAD, 0, 0, seccomp.NUMBER)]
for name in ("landlock_create_ruleset", "unshare", "seccomp"):
    program += seccomp._on(name, [seccomp._fail(errno.ENOSYS)])
seccomp.install([*program, seccomp._allow()])
from app.embedding.child_order import ChildOrder, PlainKey
from app.embedding.training_process import run_child
from app.errors import TrapstreetError
folder = Path(sys.argv[1])
order, key = ChildOrder.parse((folder / "order").read_bytes()), PlainKey((folder / "key").read_bytes())
try:
    told = run_child(order, key, lambda _: None, lambda: False).to_json()
except TrapstreetError as error:
    told = {"code": error.code, "message": error.message}
print(json.dumps(told))
"""


def run_on_a_bare_kernel(folder: Path, **changes: object) -> dict:
    (folder / "order").write_bytes(order_in(folder, **changes).encode())
    (folder / "key").write_bytes(encode_key_file(image_key()))
    ran = subprocess.run([sys.executable, "-c", BARE, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_where_nothing_confines_it_a_program_is_refused_with_the_reason(tmp_path):
    program = tmp_path / "network.pt2"
    program.write_bytes(b"PK\x03\x04 an archive")
    recipe = Recipe.from_options({**TINY, "mode": "pretrained"})
    told = run_on_a_bare_kernel(tmp_path, recipe=recipe, weights_path=str(program))
    assert told["code"] == "policy_refused"
    assert "nothing on this machine keeps a program from this machine's files and the network" in told["message"]
    assert "Landlock: [Errno 38]" in told["message"]


def test_where_nothing_confines_it_a_named_network_is_trained_all_the_same(tmp_path):
    told = run_on_a_bare_kernel(tmp_path, recipe=QUICK)
    assert told["marked"]["epochs"] == QUICK.epochs


@pytest.mark.skipif(
    os.geteuid() != 0 or OWN_ID not in (find_confinement().means or ()), reason="only root can become another user"
)
def test_an_ordinary_user_trains_under_confinement_too(tmp_path):
    ran = run_as_ordinary_user(tmp_path, Path(__file__), "-k", "no_rights or environment or program_is_refused")
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr
    assert "3 passed" in ran.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a training a user of its own")
def test_what_another_user_left_half_written_is_written_anew(tmp_path):
    order = order_in(tmp_path)
    for name in ("plain", "marked"):
        left = tmp_path / "output" / f"{UNFINISHED_RUN}{name}.safetensors.partial"
        left.write_bytes(b"half")
        left.chmod(0o600)
    report = run_child(
        replace(order, checkpoint_millis=0), PlainKey(encode_key_file(image_key())), lambda _: None, lambda: False
    )
    assert report.marked.trigger_matches == 12


# --- a child that is no longer ours -----------------------------------------------------------------------------------


def told_by(folder: Path, code: str, secrets: PlainKey | SealedKey | None = None, **options: object) -> TrainingFailed:
    """What becomes of an order whose child runs this code from its first breath on."""
    order = order_in(folder, recipe=QUICK)
    (folder / "sitecustomize.py").write_text(f"import json, os, sys, time\n{code}\nos._exit(0)\n")
    environment = {"PYTHONPATH": str(folder)}
    secrets = secrets or PlainKey(encode_key_file(image_key()))
    with pytest.raises(TrainingFailed) as failed:
        run_child(order, secrets, ProgressCurve().add, lambda: False, environment=environment, **options)
    return failed.value


def saying(*events: object) -> str:
    return "".join(f"print({json.dumps(json.dumps(event))}, flush=True)\n" for event in events)


@pytest.mark.parametrize("code", ["stopped", "", "no code of ours", None, 7, "x" * 100_000])
def test_a_child_cannot_pass_for_one_that_was_stopped_or_may_be_tried_again(tmp_path, code):
    error = told_by(tmp_path, saying({"event": "error", "code": code, "message": "gone"}))
    assert (error.message, error.state) == ("gone", "training_failed")


def test_a_childs_last_words_are_short_and_hold_no_sign_that_a_database_or_a_terminal_obeys(tmp_path):
    words = "a\0b\ud800\x1b[2J" + "x" * 100_000
    error = told_by(tmp_path, saying({"event": "error", "code": "malformed", "message": words, "pointer": words}))
    for text in (error.message, error.pointer):
        assert text.startswith("a\ufffdb\ufffd\ufffd[2Jx")
        assert len(text) == 2_000
    assert error.state == "malformed"


def test_what_a_child_prints_to_its_diagnostics_cannot_pass_for_a_line_of_ours(tmp_path, caplog):
    told_by(tmp_path, "print('\\x1b[2J\\n2026-01-31 INFO app: all is well', file=sys.stderr)")
    (record,) = caplog.records
    assert "\x1b" not in record.getMessage()
    assert "\n  | 2026-01-31 INFO app: all is well" in record.getMessage()


def report_of(**changes: object) -> dict:
    figures = NetworkFigures(9, 10, 4, 4, 3, 100, bytes(32))
    report = TrainingReport(figures, None, None, None, (), image_key().root(), QUICK, "cpu", "2")
    return replace(report, **changes).to_json()


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (report_of(root=bytes(32)), "not about this registration"),
        (report_of(device="c\0pu"), "not about this registration"),
        (report_of(recipe=LONG), "another recipe"),
        (report_of(), "left no marked.safetensors"),
        ({}, "is malformed"),
        (None, "is malformed"),
    ],
)
def test_a_childs_report_is_about_its_order_or_none(tmp_path, report, reason):
    assert reason in told_by(tmp_path, saying({"event": "done", "report": report})).message


def test_progress_that_is_none_ends_a_training(tmp_path):
    assert "no progress" in told_by(tmp_path, saying({"event": "progress", "run": "x" * 500_000})).message


def test_a_child_that_never_reads_its_order_is_held_to_its_limits(tmp_path):
    unread = SealedKey(bytes(32), bytes(4 * 1024**2))  # more than a pipe takes
    error = told_by(tmp_path, "time.sleep(600)", unread, limits=Limits(seconds=2))
    assert "takes longer than 2 seconds" in error.message
