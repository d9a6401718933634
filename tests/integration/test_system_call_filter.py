"""The filter of system calls by itself, as where an older Landlock or none stands beside it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.embedding.confinement.sandbox import ROOT, SECCOMP, find_confinement

pytestmark = pytest.mark.skipif(
    SECCOMP not in (find_confinement().means or ()), reason="this kernel takes no filter of system calls"
)

# Tried under the filter that an ordinary user's training gets without namespaces and with a Landlock of version 1.
ATTEMPTS = """
import ctypes, fcntl, json, os, resource, signal, socket, struct, sys
from app.embedding.confinement import seccomp
from app.embedding.confinement.system_calls import PR_SET_NO_NEW_PRIVS, prctl
folder, parent = sys.argv[1], os.getppid()
libc = ctypes.CDLL(None, use_errno=True)
reading, writing = os.pipe()

def datagram():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    one.sendto(b"stolen", folder + "/server")

def raw_pair():
    socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW)

def openat2():
    how = struct.pack("QQQ", os.O_RDONLY | os.O_TRUNC, 0, 0)
    if libc.syscall(437, -100, (folder + "/secret").encode(), how, len(how)) < 0:
        raise OSError(ctypes.get_errno(), "openat2")

def pair():
    one, other = socket.socketpair()
    one.sendall(b"x")
    return other.recv(1).decode()

def use_files():
    with open(folder + "/mine", "w") as file:
        file.write("written")
    with open(folder + "/mine") as file:
        return file.read()

attempts = {
    "send a datagram": datagram,
    "make a raw pair": raw_pair,
    "cut short while reading": lambda: os.open(folder + "/secret", os.O_RDONLY | os.O_TRUNC),
    "cut short without access": lambda: os.open(folder + "/secret", os.O_ACCMODE | os.O_TRUNC),
    "cut short unseen": openat2,
    "pin the parent": lambda: os.sched_setaffinity(parent, {0}),
    "put the parent last": lambda: os.sched_setscheduler(parent, os.SCHED_IDLE, os.sched_param(0)),
    "name whom a pipe signals": lambda: fcntl.fcntl(reading, fcntl.F_SETOWN, parent),
    "name the signal of a pipe": lambda: fcntl.fcntl(reading, fcntl.F_SETSIG, signal.SIGKILL),
    "name whom a terminal signals": lambda: fcntl.ioctl(reading, 0x8901, struct.pack("i", parent)),
    "signal the parent": lambda: os.kill(parent, 0),
    "use a pair": pair,
    "use files": use_files,
    "ask about a file": lambda: fcntl.fcntl(reading, fcntl.F_GETFD),
    "pin itself": lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
    "signal itself": lambda: os.kill(os.getpid(), 0),
}
prctl(PR_SET_NO_NEW_PRIVS, 1)
seccomp.install(seccomp.build_filter(signals_only_to=os.getpid()))
told = {}
for name, attempt in attempts.items():
    try:
        told[name] = str(attempt())
    except OSError as error:
        told[name] = f"refused: {error}"
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("filter")
    (folder / "secret").write_text("another vendor's")
    ran = subprocess.run(
        [sys.executable, "-c", ATTEMPTS, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert Path(folder, "secret").read_text() == "another vendor's"
    found: dict[str, str] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize(
    "attempt",
    [
        *("send a datagram", "make a raw pair"),
        *("cut short while reading", "cut short without access", "cut short unseen"),
        *("pin the parent", "put the parent last"),
        *("name whom a pipe signals", "name the signal of a pipe", "name whom a terminal signals", "signal the parent"),
    ],
)
def test_the_filter_alone_refuses(told, attempt):
    assert told[attempt].startswith(("refused: [Errno 1]", "refused: [Errno 38]")), told[attempt]


def test_what_a_training_needs_is_left(told):
    assert (told["use a pair"], told["use files"]) == ("x", "written")
    assert (told["ask about a file"], told["pin itself"], told["signal itself"]) == ("1", "None", "None")
