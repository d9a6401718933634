"""Confine this process, then become another: `python -m app.embedding.confinement.confined ORDER -- PROGRAM ARGUMENT…`.

  1. limits: memory, processor time, size of a file, processes; no core dumps
  2. network: a namespace of its own, with nothing in it but a loopback
  3. own_id: a file system with nothing in it but what is named, then a user and group id of its own
  4. no capability, none to be gained, and the end of the parent is the end of this process
  5. landlock, 6. seccomp

ORDER is one JSON object (app.embedding.confinement.sandbox.Sandbox). With `--probe ORDER` it tries what this machine
allows and prints what it found (`probe`).

Invariants: every means that the order names is applied, or the program is not started: the error goes out as the
training child's would. What is applied holds for all descendants and cannot be taken back.
Trust: nothing untrusted runs before the last step.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from app.embedding.confinement import landlock, seccomp
from app.embedding.confinement.namespaces import enter_empty_network, enter_private_tree
from app.embedding.confinement.sandbox import LANDLOCK, MEANS, NETWORK, OWN_ID, SECCOMP, Sandbox
from app.embedding.confinement.system_calls import (
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    drop_bounding_capabilities,
    drop_capabilities,
    prctl,
)
from app.errors import TrainingFailed

CANNOT_CONFINE = 125


def main(arguments: Sequence[str]) -> int:
    """Confine this process as the first argument says and become the program after `--`; or probe."""
    if arguments[0] == "--probe":
        sys.stdout.write(json.dumps(probe(Sandbox.from_json(arguments[1]))))
        return 0
    order, _, *program = arguments
    try:
        confine(Sandbox.from_json(order))
        os.execv(program[0], program)  # noqa: S606  # no shell: the parent named the program
    except OSError as error:
        message = f"the training could not be confined, so it was not started: {error}"
        sys.stdout.write(json.dumps({"event": "error", "code": TrainingFailed.code, "message": message}) + "\n")
    return CANNOT_CONFINE


def confine(sandbox: Sandbox) -> None:
    """Apply every means that is named; see the module's list of steps.

    Raises: OSError, with some of them applied: nothing may run then.
    """
    is_root = os.geteuid() == 0
    os.umask(0o022)
    working_folder = Path.cwd()
    limit(sandbox)
    with suppress(OSError):
        # Files in memory escape the watch while nobody maps them: if the machine runs out, trainings end, not Postgres.
        Path("/proc/self/oom_score_adj").write_text("1000")
    if NETWORK in sandbox.means:
        enter_empty_network(as_ordinary_user=not is_root)
    if OWN_ID in sandbox.means:
        enter_private_tree(sandbox.readable, sandbox.devices, sandbox.writable, sandbox.shared_memory_bytes)
        os.chdir(working_folder)
    with suppress(PermissionError):  # who may not drop them has none to gain: see no_new_privs
        drop_bounding_capabilities()
    if OWN_ID in sandbox.means:
        os.setgroups([])
        os.setresgid(sandbox.user_id, sandbox.user_id, sandbox.user_id)
        os.setresuid(sandbox.user_id, sandbox.user_id, sandbox.user_id)
    drop_capabilities()
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # after the ids: changing them takes it back
    if LANDLOCK in sandbox.means:
        landlock.restrict(landlock_rules(sandbox), allow_tcp=sandbox.several_processes)
    if SECCOMP in sandbox.means:
        keeps_signals = OWN_ID in sandbox.means or (LANDLOCK in sandbox.means and landlock.scopes_signals())
        seccomp.install(
            seccomp.build_filter(
                families=seccomp.LOOPBACK_FAMILIES if sandbox.several_processes else (),
                shares_user_id=OWN_ID not in sandbox.means,
                signals_only_to=None if keeps_signals or sandbox.several_processes else os.getpid(),
            )
        )


def limit(sandbox: Sandbox) -> None:
    """Set the limits that the kernel holds by itself; the parent watches over the others."""
    # RLIMIT_AS would count what CUDA reserves and never touches; RLIMIT_DATA counts what may be written to.
    for kind, value in (
        (resource.RLIMIT_DATA, sandbox.data_bytes),
        (resource.RLIMIT_CPU, sandbox.processor_seconds),
        (resource.RLIMIT_FSIZE, sandbox.file_bytes),
        (resource.RLIMIT_NPROC, sandbox.processes),
        (resource.RLIMIT_CORE, 0),
    ):
        if value is not None:
            _, hard = resource.getrlimit(kind)
            allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (allowed, allowed))


def landlock_rules(sandbox: Sandbox) -> list[tuple[int, Path]]:
    """Say what Landlock leaves: what the order names, and of /proc what is the process's own."""
    # CUDA names its threads by writing there. The processes of one training have each their own, made after this.
    own = Path("/proc") if sandbox.several_processes else Path(f"/proc/{os.getpid()}")
    writable = (*sandbox.writable, *([Path("/dev/shm")] if sandbox.uses_shared_memory else []))  # noqa: S108
    return [
        *((landlock.READ, path) for path in sandbox.readable),
        *((landlock.READ_FILE | landlock.READ_DIR, path) for path in sandbox.kernel_files),
        *((landlock.LIST, path) for path in sandbox.listed),
        (landlock.READ_FILE | landlock.READ_DIR | landlock.WRITE_FILE, own),
        *((landlock.DEVICE, path) for path in sandbox.devices),
        *((~landlock.NOT_WRITTEN, path) for path in writable),
    ]


def probe(sandbox: Sandbox) -> dict[str, object]:
    """Try each means in a process of its own, then together with Python started under them; say what can be had.

    `refused` says why each means cannot be had; `works` names those that work together, null if not even none does.
    """
    refused = {means: _try(sandbox.with_means({means})) for means in MEANS}
    tried: set[frozenset[str]] = set()
    for without in ((), (OWN_ID,), (OWN_ID, NETWORK), MEANS):
        together = frozenset(means for means in MEANS if not refused[means] and means not in without)
        if together in tried:
            continue
        tried.add(together)
        reason = _try(sandbox.with_means(together), _start_python)
        if not reason:
            return {"refused": {means: why for means, why in refused.items() if why}, "works": sorted(together)}
        refused |= dict.fromkeys(together & {OWN_ID} or together, reason)
    return {"refused": refused, "works": None}


def _start_python() -> None:
    os.execv(sys.executable, [sys.executable, "-c", "import app, ctypes, socket"])  # noqa: S606


def _try(sandbox: Sandbox, afterwards: Callable[[], None] = lambda: None) -> str:
    """Give why a process that confines itself so fails, or an empty string."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            os.close(reading)
            _confine_or_tell(sandbox, afterwards, writing)
        os._exit(CANNOT_CONFINE)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        reason = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    return reason or ("" if status == 0 else f"the process ended with status {os.waitstatus_to_exitcode(status)}")


def _confine_or_tell(sandbox: Sandbox, afterwards: Callable[[], None], pipe: int) -> None:
    try:
        confine(sandbox)
        os.set_inheritable(pipe, False)  # noqa: FBT003  # by position only
        afterwards()
    except OSError as error:
        os.write(pipe, str(error).encode())
        os._exit(CANNOT_CONFINE)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
