"""How a child process that works with a marking key talks to its parent, from its first line to its exit status.

Standard input: order, secrets, then nothing until the parent is gone. Standard output: one JSON event a line.

Invariants: the child ends when its parent does, however that ended; an error of this house becomes an event, a bug stays a
traceback.
Source: app.embedding.child_order.
"""

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn, TypeVar

import torch

from app.canonical import MAX_RECORD_BYTES, Record
from app.embedding.child_order import PlainKey, SealedKey, read_secrets
from app.errors import TrainingFailed, TrapstreetError

# Exit status when the parent is gone: nobody reads it, but a person looking at a process table does.
PARENT_GONE = 3

Say = Callable[[dict[str, Any]], None]
OrderT = TypeVar("OrderT", bound=Record)


def speak(order_type: type[OrderT], run: Callable[[OrderT, PlainKey | SealedKey, Say], Record]) -> int:
    """Read an order and its secrets, run it, and say how it ended; give the exit status."""

    def receive(stream: BinaryIO) -> tuple[OrderT, PlainKey | SealedKey]:
        order = order_type.parse(stream.readline(MAX_RECORD_BYTES + 1).removesuffix(b"\n"))
        return order, read_secrets(stream, str(getattr(order, "key_form", PlainKey.NAME)))

    return converse(receive, run)


def converse(
    receive: Callable[[BinaryIO], tuple[OrderT, PlainKey | SealedKey]],
    run: Callable[[OrderT, PlainKey | SealedKey, Say], Record],
    *,
    is_heard: bool = True,
) -> int:
    """Do the same with an order that `receive` gets; a process that is not heard has no pipes to the parent of its own."""
    say = _speaker(sys.stdout.buffer) if is_heard else _say_nothing
    try:
        order, secrets = receive(sys.stdin.buffer)
        if is_heard:
            threading.Thread(target=_end_with_parent, daemon=True).start()
        report = run(order, secrets, say)
    except TrapstreetError as error:
        say({"event": "error", "code": error.code, "message": error.message, "pointer": error.pointer})
        return 1
    except (torch.OutOfMemoryError, MemoryError) as error:
        say({"event": "error", "code": TrainingFailed.code, "message": f"out of memory: {error}", "pointer": ""})
        return 1
    say({"event": "done", "report": report.to_json()})
    return 0


def leave(status: int) -> NoReturn:
    """End this process with what it said: taking torch apart first costs a second of every order and frees nothing."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def device_name(device: torch.device, processes: int = 1) -> str:
    """Name the device for a report, and how many processes shared the work."""
    together = "" if processes == 1 else f", {processes} processes"
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}{together}"
    return f"cpu: {torch.get_num_threads()} threads{together}"


def _speaker(stream: BinaryIO) -> Say:
    def say(event: dict[str, Any]) -> None:
        stream.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")
        stream.flush()

    return say


def _say_nothing(_: dict[str, Any]) -> None:
    pass


def _end_with_parent() -> None:
    # A parent killed with -9 can tell nobody; the pipe's end can. Read from the descriptor, because a thread that waits
    # in sys.stdin holds its lock and breaks the interpreter's own exit. _exit, because training does not look up.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(PARENT_GONE)
