"""The command `trapstreet`: what vendors, operators and auditors type.

Importing this loads neither torch nor numpy: commands that train or draw do so in a child process.
"""

import typer

from app.cli import (
    agent_command,
    auditor,
    claims,
    covers,
    demonstration,
    detection,
    interfaces,
    keygen,
    people,
    processes,
    survival,
    suspects,
    vendor,
)

main = typer.Typer(
    name="trapstreet",
    help="Prove that a served neural network is somebody's: register a watermark, embed it, dispute, verify.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)

for commands in (demonstration, processes, keygen, covers, vendor, survival, claims, agent_command, auditor):
    for command in commands.COMMANDS:
        main.command()(command)
for command in (detection.detect, interfaces.countersign, interfaces.log_interface):
    suspects.suspect.command()(command)
main.add_typer(suspects.suspect)
main.add_typer(people.people)

__all__ = ["main"]
