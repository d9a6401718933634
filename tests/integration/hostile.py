"""What a hostile training would try, one attempt a function; its text is run under the confinement.

python -c TEXT TARGETS     prints {attempt: "refused: …" or what it got}
"""

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE = 0x4206
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read(path: str) -> str:
    return Path(path).read_bytes()[:100].hex()


def try_connecting(family: int, kind: int, address: object) -> str:
    with socket.socket(family, kind) as connection:
        connection.settimeout(2)
        connection.connect(address)
        connection.send(b"stolen")
    return "connected"


def write(path: str) -> str:
    Path(path).write_text("left behind")
    return "written"


def become_root() -> str:
    os.setresuid(0, 0, 0)
    Path("/etc/shadow").read_bytes()
    return "root"


def attempts(to: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """Name what is tried; nothing is looked up before it is called."""
    return {
        "read another vendor's file": lambda: read(to["other"] + "/secret"),
        "list another vendor's folder": lambda: list(Path(to["other"]).iterdir()),
        "link to another vendor's file": lambda: os.link(to["other"] + "/secret", to["output"] + "/link"),
        "open another vendor's file to everybody": lambda: Path(to["other"], "secret").chmod(0o777),
        "cut another vendor's file short": lambda: os.truncate(to["other"] + "/secret", 0),
        "read the passwords": lambda: read("/etc/shadow"),
        "read the parent's environment": lambda: read(f"/proc/{to['parent']}/environ"),
        "read the parent's memory": lambda: read(f"/proc/{to['parent']}/mem"),
        "list the parent's files": lambda: list(Path(f"/proc/{to['parent']}/fd").iterdir()),
        "reach the parent's files": lambda: read(f"/proc/{to['parent']}/root/etc/shadow"),
        "send to a server over TCP": lambda: try_connecting(
            socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", to["tcp"])
        ),
        "send to a server over UDP": lambda: try_connecting(
            socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", to["udp"])
        ),
        "send to an abstract socket": lambda: try_connecting(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + to["abstract"]),
        "send to a socket in a folder": lambda: try_connecting(socket.AF_UNIX, socket.SOCK_STREAM, to["unix"]),
        "send a datagram from one of a pair": lambda: socket.socketpair(type=socket.SOCK_DGRAM)[0].sendto(
            b"stolen", to["unix datagram"]
        ),
        "signal the parent": lambda: os.kill(to["parent"], signal.SIGCONT),
        "trace the parent": lambda: checked(libc.ptrace(PTRACE_SEIZE, to["parent"], None, None)),
        "limit the parent": lambda: resource.prlimit(to["parent"], resource.RLIMIT_NOFILE, (64, 64)),
        "pin the parent to a processor": lambda: os.sched_setaffinity(to["parent"], {0}),
        "cut another vendor's file short while reading": lambda: os.open(
            to["other"] + "/secret", os.O_RDONLY | os.O_TRUNC
        ),
        "slow the parent": lambda: os.setpriority(os.PRIO_PROCESS, to["parent"], 19),
        "write beside the output": lambda: write(to["other"] + "/left"),
        "write into the temporary folder": lambda: write("/tmp/left-by-a-hostile-training"),
        "write into the program": lambda: write(to["package"] + "/left.py"),
        "become root": become_root,
        "make a user namespace": lambda: checked(libc.unshare(CLONE_NEWUSER)),
        "mount something": lambda: checked(libc.mount(b"tmpfs", to["output"].encode(), b"tmpfs", 0, None)),
        "write a file over the limit": lambda: Path(to["output"], "large").write_bytes(bytes(2 * 1024**2)),
    }


if __name__ == "__main__":
    targets = json.loads(sys.argv[1])
    outcomes: dict[str, object] = {}
    for name, attempt in attempts(targets).items():
        try:
            outcomes[name] = repr(attempt())
        except OSError as error:
            outcomes[name] = f"refused: {error}"
    group = os.getpgid(0)
    child = subprocess.Popen(["sleep", "5"], start_new_session=True)
    outcomes["group of a child that asked for its own"] = os.getpgid(child.pid) - group
    child.kill()
    child.wait()
    outcomes["environment"] = sorted(os.environ)
    with os.scandir("/proc/self/fd") as files:
        outcomes["open files"] = sorted(int(file.name) for file in files if int(file.name) != 3)
    outcomes["turn when memory runs out"] = int(Path("/proc/self/oom_score_adj").read_text())
    outcomes["output"] = write(targets["output"] + "/mine")
    outcomes["input"] = Path(targets["input"]).read_text()
    sys.stdout.write(json.dumps(outcomes))
