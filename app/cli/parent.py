"""Processes that must not outlive the one that started them, even when that one is killed."""

import os
import signal
import threading
from typing import Annotated

import typer

WithParent = Annotated[
    bool,
    typer.Option("--with-parent", help="Stop when standard input closes: for a parent process that may be killed."),
]


def stop_with_parent() -> None:
    """Ask this process to stop as soon as its standard input closes."""

    def watch() -> None:
        # Not through sys.stdin: its lock, held by this thread at the end, would make the interpreter abort.
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
