"""The command `demo`."""

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.output import EXIT_NO, reported

if TYPE_CHECKING:
    from app.demo.stage import Stage
    from app.demo.teller import Teller


def demo(
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Leave everything running at the end; print the addresses and a link to sign in."),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the table of verdicts to this file as JSON.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where the run keeps its files; a fresh folder is made in it.")] = Path(
        ".trapstreet"
    ),
) -> None:
    """Show the whole service at work: register, embed, six disputes, verdicts checked offline. About two minutes.

    Exit status 0 only if every verdict is the expected one.
    """
    from app.demo import story
    from app.demo.stage import Stage, new_folder
    from app.demo.teller import Teller

    teller = Teller()
    with reported(as_json=False), Stage(new_folder(folder.absolute())) as stage:
        told = story.tell(stage, teller)
        if json_file:
            json_file.write_text(json.dumps(told.rows, indent=1) + "\n")
        if not keep:
            stage.stop_service()
        story.check_offline(teller, told.log_key, told.bundles, is_stopped=not keep)
        for remark in story.remarks(told.rows):
            teller.say(f"[yellow]note:[/yellow] {remark}")
        for surprise in (surprises := story.surprises(told.rows)):
            teller.say(f"[red]unexpected:[/red] {surprise}")
        if not surprises:
            teller.say("all six verdicts are as expected")
        teller.say(teller.times())
        teller.say(f"bundles, keys and logs: {stage.folder}")
        if keep:
            teller.fact("API key", f"{told.api_key} (Owner GmbH)")
            teller.fact("log key", told.log_key)
            _keep(stage, teller, stage.sign_in_link(told.vendor_id, "Owner"))
    if surprises:
        raise typer.Exit(EXIT_NO)


def _keep(stage: "Stage", teller: "Teller", sign_in_link: str = "") -> None:
    ends = {signal.SIGINT, signal.SIGTERM}
    # Only a signal that is blocked is sure to be waited for; an unblocked one may end the process, and leave the stage up.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    teller.say(f"API {stage.url} (described at {stage.url}/v1/openapi.json)")
    for name, address in stage.addresses().items():
        teller.fact(name, address)
    if sign_in_link:
        teller.fact("portal", stage.portal)
        teller.fact("sign in", f"{sign_in_link} (once, as Owner GmbH's owner, within 30 minutes)")
    teller.say("everything runs until Ctrl-C or SIGTERM")
    signal.sigwait(ends)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


COMMANDS = (demo,)
