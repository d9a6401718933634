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
from typing import Any, BinaryIO, TypeVar

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
    say = _speaker(sys.stdout.buffer)
    try:
        order = order_type.parse(sys.stdin.buffer.readline(MAX_RECORD_BYTES + 1).removesuffix(b"\n"))
        secrets = read_secrets(sys.stdin.buffer, str(getattr(order, "key_form", PlainKey.NAME)))
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


def device_name(device: torch.device) -> str:
    """Name the device for a report."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"cpu: {torch.get_num_threads()} threads"


def _speaker(stream: BinaryIO) -> Say:
    def say(event: dict[str, Any]) -> None:
        stream.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")
        stream.flush()

    return say


def _end_with_parent() -> None:
    # A parent killed with -9 can tell nobody; the pipe's end can. Read from the descriptor, because a thread that waits
    # in sys.stdin holds its lock and breaks the interpreter's own exit. _exit, because training does not look up.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(PARENT_GONE)
