"""Our commands and workers as processes of their own that need not load their modules again.

A server of forks (multiprocessing's) has loaded what API, workers and commands import, and nothing has run in it; each
process is a fork of it with an environment, a working directory and output files of its own. Starting one takes some
milliseconds of a processor instead of one to four seconds, which the tests of processes did a hundred times. That they
start from nothing, too, is shown by test_demo and test_processes.

Invariants: a process ends with the one that started it, also if that is killed; torch is in none.
"""

import os
import runpy
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

ROOT = Path(__file__).parents[1]

_forks = get_context("forkserver")
_forks.set_forkserver_preload(["app.main", "app.worker", "app.gpu_worker", "app.cli.commands", "tests.forked"])


class Forked:
    """A running process, used as one of subprocess."""

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str], output: Path, errors: Path | None = None
    ) -> None:
        """Run `-m MODULE ...`, `-c CODE` or `SCRIPT ...` as python would; what it prints is added to files."""
        arguments = (list(words), dict(environment), str(output), str(errors or output))
        self._process = _forks.Process(target=_become, args=arguments, daemon=True)
        self._process.start()
        self.pid = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, seconds: float | None = None) -> int:
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise TimeoutExpired(self._process.name, seconds or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(words: Sequence[str], environment: Mapping[str, str]) -> CompletedProcess[bytes]:
    """Run a process to its end and give what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        status = Forked(words, environment, output, errors).wait()
        return CompletedProcess(words, status, output.read_bytes(), errors.read_bytes())


def _become(words: list[str], environment: dict[str, str], output: str, errors: str) -> None:
    assert "torch" not in sys.modules
    for path, number in ((output, 1), (errors, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    elif words[0] == "-m":
        sys.argv = [words[1], *words[2:]]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(words)
        runpy.run_path(words[0], run_name="__main__")


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
