"""The command `agent`."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.agent import Agent
from app.cli.client import ApiClient
from app.cli.files import read_key_file
from app.cli.keygen import PassphraseFile
from app.cli.output import JsonFlag, console, error_console, reported, show
from app.cli.parent import WithParent, stop_with_parent
from app.cli.vendor import DEFAULT_URL, ApiKey, LogKey, Url
from app.errors import Unavailable

# After an opening the next is soon asked for: waits begin here, double up to those of an agent whose dispute is being asked,
# and are an idle agent's only after a while in which nothing was asked for.
FIRST_WAIT_SECONDS, BUSY_WAIT_SECONDS, IDLE_AFTER_SECONDS = 0.05, 0.25, 60.0


def agent(
    key_file: Annotated[Path, typer.Argument(help="The marking key.")],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
    log_key: LogKey = "",
    passphrase_file: PassphraseFile = None,
    with_parent: WithParent = False,
    registration: Annotated[
        int | None,
        typer.Option(help="Log entry of the one registration to answer for; else all of this root.", min=0),
    ] = None,
    poll_seconds: Annotated[
        float, typer.Option(help="How often to look for openings to answer when there were none.")
    ] = 2.0,
    as_json: JsonFlag = False,
) -> None:
    """Answer all openings of the vendor's disputes until stopped."""
    with reported(as_json=as_json):
        if with_parent:
            stop_with_parent()
        key = read_key_file(key_file, passphrase_file)
        with ApiClient(url, api_key, log_key) as client:
            answering = Agent(client, key, lambda event: _tell(event, as_json=as_json), registration=registration)
            is_announced, waits = False, Waits(poll_seconds)
            while True:
                try:
                    if not is_announced:
                        ready = {"event": "ready", "root": key.root().hex(), "registrations": answering.registrations()}
                        _tell(ready, as_json=as_json)
                        is_announced = True
                    opened = answering.answer_all()
                except Unavailable as error:
                    # A service that is away comes back; the openings it asks for then are the same.
                    error_console.print(error.message, markup=False)
                    opened = 0
                time.sleep(waits.after(opened))


class Waits:
    """How long an agent waits before it looks again."""

    def __init__(self, idle_seconds: float) -> None:
        """Begin as an agent that is idle, and waits so long."""
        self._idle_seconds = idle_seconds
        self._last_seconds = idle_seconds
        self._waited_seconds = IDLE_AFTER_SECONDS

    def after(self, opened: int) -> float:
        """Give the seconds to wait after a look at which so many blocks were opened."""
        if opened:
            self._last_seconds, self._waited_seconds = FIRST_WAIT_SECONDS, 0.0
        else:
            is_busy = self._waited_seconds < IDLE_AFTER_SECONDS
            most = min(BUSY_WAIT_SECONDS, self._idle_seconds) if is_busy else self._idle_seconds
            self._last_seconds = min(2 * self._last_seconds, most)
        self._waited_seconds += self._last_seconds
        return self._last_seconds


def _tell(event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show(event, as_json=True)
    elif event["event"] == "opened":
        console.print(f"dispute {event['dispute']}: opened {event['count']} {event['what']}s of block {event['block']}")
    elif event["event"] == "refused":
        error_console.print(f"dispute {event['dispute']}: refused to open: {event['reason']}", markup=False)
    elif event["registrations"]:
        entries = ", ".join(map(str, event["registrations"]))
        console.print(f"answering for the key with root {event['root']}, registered as entry {entries}")
    else:
        unknown = f"this vendor has not registered the key with root {event['root']}: until then nothing is asked"
        error_console.print(unknown, markup=False)


COMMANDS = (agent,)
