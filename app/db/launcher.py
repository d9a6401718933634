"""Run the embedded Postgres under its owner's eyes: a script of its own, standard library only.

    python -I launcher.py exec COMMAND...         run a Postgres tool (initdb) as an id that Postgres accepts
    python -I launcher.py supervise COMMAND...    keep a server running until standard input ends

Invariants: the server lives as long as the process that holds the other end of standard input, even if that one is
killed with -9; a server that dies alone is started again on the same port; a server never outlives its supervisor.
As root, whom Postgres refuses, this process first enters a user namespace in which root bears another id. Outside it
stays root, so a data directory under a folder that only root may enter works, and no file changes hands.
Source: user_namespaces(7); prctl(2) PR_SET_PDEATHSIG; PostgreSQL documentation, "Shutting Down the Server" (SIGINT is
the fast shutdown).
"""

import ctypes
import os
import pwd
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1

# After a kill -9 of the postmaster its children need a moment to let go of the shared memory; until then a new one
# refuses to start. Waits grow from the first to the last value, in seconds.
FIRST_WAIT_SECONDS, LAST_WAIT_SECONDS = 0.1, 0.5
FAST_SHUTDOWN_SECONDS = 20.0
# A server that ran this long was healthy: the next wait is the first one again.
HEALTHY_SECONDS = 5.0


def leave_root() -> None:
    """Enter a user namespace where root bears another id; do nothing for other users.

    Raises: SystemExit with what to change where the machine does not allow it.
    """
    if os.geteuid() != 0:
        return
    # initdb looks its id up by name, so the id must be one that this machine knows.
    inside = next(entry for entry in pwd.getpwall() if entry.pw_uid != 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise SystemExit(
            f"Postgres does not run as root, and this machine refuses a user namespace ({reason}): "
            "run as another user, or set DATABASE_URL"
        )
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{inside.pw_uid} 0 1")
    Path("/proc/self/gid_map").write_text(f"{inside.pw_gid} 0 1")


def end_with_parent() -> None:
    """Ask the kernel for a fast shutdown of this process when its parent dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)


def start_server(command: list[str]) -> subprocess.Popen[bytes]:
    """Start the server; it inherits neither the pipe to the owner nor the lock."""
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=end_with_parent)


def stop_server(server: subprocess.Popen[bytes]) -> None:
    """Shut the server down: fast, and at once if that takes too long (the next start then replays its journal)."""
    server.send_signal(signal.SIGINT)
    try:
        server.wait(FAST_SHUTDOWN_SECONDS)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)
        server.wait()


def wait_for_event(wakeup: socket.socket, timeout_seconds: float | None) -> bool:
    """Wait until the owner is gone (True), or a child ended or the time is over (False)."""
    ready, _, _ = select.select([sys.stdin, wakeup], [], [], timeout_seconds)
    if wakeup in ready:
        wakeup.recv(4096)
    return sys.stdin in ready and not os.read(sys.stdin.fileno(), 4096)


def supervise(command: list[str]) -> None:
    """Keep one server running until the owner is gone, then shut it down fast."""
    wakeup, signalled = socket.socketpair()
    wakeup.settimeout(0)
    signalled.settimeout(0)
    signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    # Only the end of the owner ends the server: a terminal's or a service manager's signal reaches the owner too,
    # which first finishes its work.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)

    wait_seconds = FIRST_WAIT_SECONDS
    while True:
        server = start_server(command)
        started = time.monotonic()
        owner_gone = False
        while server.poll() is None and not owner_gone:
            owner_gone = wait_for_event(wakeup, None)
        if owner_gone or wait_for_event(wakeup, wait_seconds):
            stop_server(server)
            return
        healthy = time.monotonic() - started > HEALTHY_SECONDS
        wait_seconds = FIRST_WAIT_SECONDS if healthy else min(2 * wait_seconds, LAST_WAIT_SECONDS)


def main(arguments: list[str]) -> None:
    """Run as the first lines of this file say."""
    mode, *command = arguments
    leave_root()
    if mode == "exec":
        os.execv(command[0], command)  # noqa: S606  # the caller's own binary, no shell
    supervise(command)


if __name__ == "__main__":
    main(sys.argv[1:])
