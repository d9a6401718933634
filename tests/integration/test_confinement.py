"""A hostile program under the confinement, as root and, by running this file again, as an ordinary user."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from app.embedding.artifacts import is_program
from app.embedding.confinement import limits
from app.embedding.confinement.limits import GIB, Limits, Watch, memory_of_group, running_processes
from app.embedding.confinement.own_ids import own_user_id
from app.embedding.confinement.sandbox import (
    LANDLOCK,
    MEANS,
    NETWORK,
    OWN_ID,
    PACKAGE,
    ROOT,
    SECCOMP,
    Confinement,
    Sandbox,
    find_confinement,
    why_not,
)
from app.errors import PolicyRefused, TrainingFailed, Unavailable
from tests.integration import hostile
from tests.ordinary_user import run_as_ordinary_user

LIMITS = Limits(memory_bytes=256 * 1024**2, seconds=60)
IS_ROOT = os.geteuid() == 0

needs_confinement = pytest.mark.skipif(why_not() is not None, reason=f"this machine has none: {why_not()}")
as_root = pytest.mark.skipif(
    not IS_ROOT or OWN_ID not in (find_confinement().means or ()), reason="only root has user ids to give"
)


@contextmanager
def sandbox_of(folder: Path, read: tuple[Path, ...] = (), *, several: bool = False) -> Iterator[Sandbox]:
    """What a training gets that writes into `folder`."""
    confinement = find_confinement(several_processes=several)
    folder.mkdir(exist_ok=True)
    if OWN_ID not in (confinement.means or ()):
        yield confinement.sandbox(read, folder, LIMITS, os.geteuid())
        return
    with own_user_id(LIMITS.user_ids, [folder]) as user_id:
        yield confinement.sandbox(read, folder, LIMITS, user_id)


def start(sandbox: Sandbox, code: str, *arguments: str) -> subprocess.Popen[str]:
    wrapper = [sys.executable, "-m", "app.embedding.confinement.confined", sandbox.to_json(), "--"]
    return subprocess.Popen(
        [*wrapper, sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={"PATH": os.defpath},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def outcome_of(sandbox: Sandbox, code: str, *arguments: str) -> str:
    with start(sandbox, code, *arguments) as program:
        output, errors = program.communicate(timeout=60)
    assert program.returncode == 0, output + errors
    return output


def end(program: subprocess.Popen[str]) -> None:
    os.killpg(program.pid, signal.SIGKILL)
    program.communicate()


def wait_until_none_of(group: int) -> None:
    """Wait for what was killed: the kernel takes a moment to end what had work under way."""
    deadline = time.monotonic() + 10
    while left := [process for process in running_processes() if process.group == group]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


@contextmanager
def servers(folder: Path) -> Iterator[dict[str, object]]:
    """Servers of every kind that a training must not reach; at the end they must have heard nothing."""
    # Short names: a socket's path may have 107 bytes, and test folders lie deep.
    abstract, path, letter_path = f"trapstreet-test-{os.getpid()}", str(folder / "s"), str(folder / "d")
    tcp, unseen, unix = socket.socket(), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    udp, letters = socket.socket(type=socket.SOCK_DGRAM), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with tcp, unseen, unix, udp, letters:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        unseen.bind("\0" + abstract)
        unix.bind(path)
        letters.bind(letter_path)
        for place in (path, letter_path):
            Path(place).chmod(0o777)
        for server in (tcp, unseen, unix):
            server.listen()
            server.settimeout(0)
        udp.settimeout(0)
        letters.settimeout(0)
        ports = {"tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1]}
        yield {**ports, "abstract": abstract, "unix": path, "unix datagram": letter_path}
        for server in (tcp, unseen, unix):
            with pytest.raises(BlockingIOError):
                server.accept()
        for mailbox in (udp, letters):
            with pytest.raises(BlockingIOError):
                mailbox.recv(100)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("hostile")
    other, output, given = folder / "other", folder / "output", folder / "given"
    other.mkdir()
    (other / "secret").write_text("another vendor's")
    given.write_text("what it may read")
    given.chmod(0o600)
    with sandbox_of(output, (given,)) as sandbox, servers(other) as addresses:
        targets = {
            **addresses,
            "other": str(other),
            "output": str(output),
            "input": str(given),
            "package": str(PACKAGE),
            "parent": os.getpid(),
        }
        code = Path(hostile.__file__).read_text()
        sandbox = replace(sandbox, file_bytes=1024**2)
        result = json.loads(outcome_of(sandbox, code, json.dumps(targets)))
    assert (other / "secret").read_text() == "another vendor's"
    assert sorted(path.name for path in other.iterdir()) == ["d", "s", "secret"]
    assert {path.stat().st_uid for path in output.iterdir()} == {os.geteuid()}
    return result


@needs_confinement
@pytest.mark.parametrize("attempt", hostile.attempts({}))
def test_a_hostile_training_cannot(outcomes, attempt):
    assert outcomes[attempt].startswith("refused: "), attempt


@needs_confinement
def test_a_confined_training_reads_its_input_and_writes_its_output(outcomes):
    assert (outcomes["input"], outcomes["output"]) == ("what it may read", "written")


@needs_confinement
def test_a_confined_training_has_no_environment_and_no_files_of_its_parent(outcomes):
    assert set(outcomes["environment"]) <= {"PATH", "LC_CTYPE"}  # Python itself sets the second
    assert outcomes["open files"] == [0, 1, 2]


@needs_confinement
def test_a_training_is_the_first_to_end_when_the_machine_runs_out_of_memory(outcomes):
    assert outcomes["turn when memory runs out"] == 1000


@needs_confinement
def test_no_process_leaves_the_group_that_is_ended(outcomes):
    assert outcomes["group of a child that asked for its own"] == 0


@needs_confinement
def test_an_endless_training_is_ended_with_all_that_it_started(tmp_path):
    code = """
import os, subprocess, time
for _ in range(3):
    subprocess.Popen(["sleep", "600"], start_new_session=True)
print("started", flush=True)
os.close(1)
os.close(2)
time.sleep(600)
"""
    with sandbox_of(tmp_path / "output") as sandbox:
        program = start(sandbox, code)
        assert program.stdout.readline() == "started\n"
        watch = Watch(replace(LIMITS, seconds=1), program.pid, tmp_path)
        with pytest.raises(TrainingFailed, match="longer than 1 seconds"):
            watch_until_it_ends(program, watch)
        end(program)
        wait_until_none_of(program.pid)


@needs_confinement
def test_a_training_that_takes_too_much_memory_is_told_how_much_it_may_have(tmp_path):
    # In small pieces, shared among several processes, so that no limit of a single process is met.
    code = """
import os, time
for _ in range(3):
    os.fork() or None
kept = []
while True:
    kept.append(bytearray(b"x" * 4 * 1024**2))
    time.sleep(0.05)
"""
    with sandbox_of(tmp_path / "output") as sandbox:
        program = start(sandbox, code)
        try:
            with pytest.raises(TrainingFailed, match=r"more than 0\.25 GiB of memory"):
                watch_until_it_ends(program, Watch(LIMITS, program.pid, tmp_path))
        finally:
            end(program)


@needs_confinement
def test_a_training_that_fills_the_disk_is_ended(tmp_path, monkeypatch):
    code = """
import sys, time
for count in range(100):
    with open(f"{sys.argv[1]}/{count}", "wb") as file:
        file.write(b"x" * 1024**2)
time.sleep(600)
"""
    monkeypatch.setattr(limits, "LEAST_DISK_BYTES", 2**62)  # whatever is left here is too little
    with sandbox_of(tmp_path / "output") as sandbox:
        watch = Watch(LIMITS, os.getpid(), tmp_path / "output")
        watch.look()  # a full disk alone ends nobody
        program = start(sandbox, code, str(tmp_path / "output"))
        try:
            with pytest.raises(TrainingFailed, match="disk"):
                watch_until_it_ends(program, watch)
        finally:
            end(program)


@needs_confinement
def test_one_allocation_beyond_all_measure_fails_at_once(tmp_path):
    with sandbox_of(tmp_path / "output") as sandbox, start(sandbox, "bytearray(100 * 1024**3)") as program:
        _, errors = program.communicate(timeout=60)
    assert "MemoryError" in errors


@needs_confinement
def test_a_fork_bomb_runs_out_of_processes(tmp_path):
    code = """
import os, signal, time
for count in range(500):
    try:
        if os.fork() == 0:
            time.sleep(60)
    except BlockingIOError:
        break
print(count, flush=True)
time.sleep(60)
"""
    with sandbox_of(tmp_path / "output") as sandbox:
        # In a test of an ordinary user there may be other processes of its own.
        few = sandbox.processes - 4096 + 40
        program = start(replace(sandbox, processes=few), code)
        try:
            assert int(program.stdout.readline()) <= 40
        finally:
            end(program)
        wait_until_none_of(program.pid)


@needs_confinement
def test_processes_of_one_training_reach_each_other_and_nobody_else(tmp_path):
    if "network" not in find_confinement(several_processes=True).holds():
        pytest.skip("no network namespace is to be had")
    code = """
import socket, sys, threading
server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=lambda: server.accept()[0].sendall(b"the other rank")).start()
with socket.create_connection(server.getsockname()) as connection:
    print(connection.recv(100).decode())
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=2)
except OSError as error:
    print("refused:", type(error).__name__)
"""
    with sandbox_of(tmp_path / "output", several=True) as sandbox, socket.create_server(("127.0.0.1", 0)) as outside:
        lines = outcome_of(sandbox, code, str(outside.getsockname()[1])).splitlines()
    assert lines == ["the other rank", "refused: ConnectionRefusedError"]


@needs_confinement
def test_a_training_ends_when_its_parent_is_killed(tmp_path):
    code = """
import os, subprocess, sys, time
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)
time.sleep(600)
"""
    with sandbox_of(tmp_path / "output") as sandbox:
        deaf = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
        wrapper = [
            sys.executable,
            "-m",
            "app.embedding.confinement.confined",
            sandbox.to_json(),
            "--",
            sys.executable,
            "-c",
            deaf,
        ]
        parent = subprocess.Popen([sys.executable, "-c", code, *wrapper], cwd=ROOT, stdout=subprocess.PIPE)
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.communicate()
        assert_ends(pid)


def test_what_could_not_be_tried_is_not_taken_for_what_cannot_be_had(monkeypatch):
    ids = Limits(user_ids=range(LIMITS.user_ids[5], LIMITS.user_ids[6]))
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "/there/is/no/python")
        with pytest.raises(Unavailable, match="could not be tried"):
            find_confinement(ids)
    assert find_confinement(ids) == find_confinement()


@as_root
def test_an_ordinary_user_is_confined_as_well(tmp_path):
    ran = run_as_ordinary_user(tmp_path, Path(__file__))
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr
    assert " passed" in ran.stdout


def test_an_order_of_means_that_cannot_be_had_starts_nothing(tmp_path):
    sandbox = find_confinement().sandbox((), tmp_path / "absent", LIMITS, LIMITS.user_ids[0])
    impossible = sandbox.with_means({OWN_ID})
    wrapper = [sys.executable, "-m", "app.embedding.confinement.confined", impossible.to_json(), "--"]
    ran = subprocess.run([*wrapper, "/bin/echo", "started"], cwd=ROOT, capture_output=True, text=True)
    event = json.loads(ran.stdout)
    assert (ran.returncode, event["event"], event["code"]) == (125, "error", "training_failed")
    assert "could not be confined" in event["message"]


def test_what_is_missing_is_said_and_keeps_programs_out():
    refused = dict.fromkeys(MEANS, "the kernel has none")
    bare = Confinement(frozenset(), refused, several_processes=False)
    assert bare.holds() == {"memory", "time"}
    assert "without a user id of its own (the kernel has none)" in bare.describe()
    with pytest.raises(PolicyRefused, match=r"files and the network and other processes .*the kernel has none"):
        bare.require_for_programs()


@pytest.mark.parametrize(
    ("means", "several", "open_to_programs"),
    [
        ({OWN_ID, NETWORK}, False, True),
        ({LANDLOCK, SECCOMP}, False, True),
        ({LANDLOCK, SECCOMP}, True, False),  # its own processes need sockets, and the filter knows no addresses
        ({LANDLOCK, SECCOMP, NETWORK}, True, True),
        ({OWN_ID}, False, False),
        ({SECCOMP}, False, False),
        ({LANDLOCK, NETWORK}, False, False),  # nothing keeps it from other processes of the same user
    ],
)
def test_programs_need_files_network_and_processes_kept(means, several, open_to_programs):
    assert (Confinement(frozenset(means), {}, several).why_not() is None) == open_to_programs


def test_a_program_is_known_by_its_first_bytes(tmp_path):
    (tmp_path / "program").write_bytes(b"PK\x03\x04rest")
    (tmp_path / "weights").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    assert is_program(tmp_path / "program")
    assert not is_program(tmp_path / "weights")
    assert not is_program(tmp_path / "absent")


def test_memory_is_counted_over_a_whole_group():
    code = "import os, time; kept = bytearray(b'x' * 64 * 1024**2); os.fork(); kept[:] = b'y' * 64 * 1024**2\n"
    code += "print(flush=True); time.sleep(60)"
    program = start_plain(code)
    try:
        program.stdout.readline()
        program.stdout.readline()
        assert 128 * 1024**2 < memory_of_group(program.pid) < GIB
    finally:
        end(program)


def start_plain(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def watch_until_it_ends(program: subprocess.Popen[str], watch: Watch) -> None:
    deadline = time.monotonic() + 60
    while program.poll() is None and time.monotonic() < deadline:
        watch.look()
        time.sleep(0.1)


def assert_ends(pid: int) -> None:
    deadline = time.monotonic() + 10
    while any(process.pid == pid for process in running_processes()):
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.05)
