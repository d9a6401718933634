"""What the documentation says of the program, taken from the program: `python -m tests.write_docs` writes it anew.

docs/cli.md as a whole; in README.md the tree, in docs/settings.md and docs/adapters.md the tables, between their marks.
`test_architecture.py` compares.
"""

import ast
import re
from pathlib import Path
from textwrap import fill
from typing import Any, cast

import click
import typer.main
from typer.testing import CliRunner

from app.canonical import encode_json
from app.cli.commands import main as trapstreet
from app.settings import Settings
from app.suspects.adapters import ADAPTERS
from app.suspects.adapters.codec import Preprocessing
from app.suspects.adapters.frame import HOLE, FramedAdapter

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
CLI_PAGE, ADAPTERS_PAGE, SETTINGS_PAGE = (ROOT / "docs" / f"{name}.md" for name in ("cli", "adapters", "settings"))

COMMAND = "python -m tests.write_docs"
HELP_WIDTH = 100
LINE = 116

# What stands beside `app/`; everything that git knows at the top is named here.
BESIDE = {
    "migrations/": "the schema, with procrastinate's and the rights of both roles in it",
    "tests/": "unit (no I/O), integration (a real Postgres), flows (HTTP), training, gpu, interop (real servers), vectors",
    "benchmarks/": "what a mark costs and survives, how few questions a verdict takes, liars and thieves: measured",
    "docs/": "by hand, commands, protocol, adapters, triggers, methods, survival, threat model, decisions",
    "pyproject.toml": "dependencies, checks, import contracts",
    "constraints.txt": "every version, torch's too",
    "Makefile": "demo, test, test-interop, lint, format, serve, measure, benchmarks",
    "Dockerfile": "two images: web without torch, GPU worker with it",
    "docker-compose.yml": "Postgres, migrate, web, worker, GPU worker, demo",
}


def cli_page() -> str:
    """Print every command's help."""
    parts = ["# Commands\n", f"As the program prints it, {HELP_WIDTH} columns wide. Written by `{COMMAND}`.\n"]
    parts.append(_section("trapstreet", []))
    parts += [_section(f"trapstreet {name}", name.split()) for name in command_names()]
    return "\n".join(parts)


def command_names() -> list[str]:
    """Name every command, in the order of the help; those of a group with the group's name before."""
    names = []
    for name, command in typer.main.get_group(trapstreet).commands.items():
        within = getattr(command, "commands", None)
        names += [name] if within is None else [f"{name} {inner}" for inner in within]
    return names


def _section(title: str, arguments: list[str]) -> str:
    return f"## {title}\n\n```text\n{help_text(arguments)}```\n"


def help_text(arguments: list[str]) -> str:
    """Give what `trapstreet … --help` prints."""
    environment = {"COLUMNS": str(HELP_WIDTH), "TERM": "dumb", "NO_COLOR": "1", "FORCE_COLOR": None}
    result = CliRunner(env=environment).invoke(trapstreet, [*arguments, "--help"], prog_name="trapstreet")
    assert result.exit_code == 0, result.output
    lines = [line.rstrip() for line in click.unstyle(result.output).strip("\n").splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


# What has no default; everything else in the table of adapters is what they do without options.
NEEDED: dict[str, dict[str, Any]] = {
    **{name: {"model": "MODEL"} for name in ("kserve_v1", "oip_v2", "tf_serving", "torchserve")},
    "replicate": {"model": "OWNER/NAME"},
    "generic_json": {"template": {"your": {"$input": "pixels_nested"}}, "path": "your.path", "result": "any"},
}


def adapters_table() -> str:
    """List every adapter: who speaks it, what is sent, what it cannot know, how it was tried."""
    rows = ["| adapter | speaks with | a request | cannot know | tried |", "|---|---|---|---|---|"]
    for name, adapter in ADAPTERS.items():
        about = adapter.about
        rows.append(f"| `{name}` | {about.serves} | {_request_of(name)} | {about.unknown} | {about.tried} |")
    return "\n".join(rows)


def _request_of(name: str) -> str:
    """Show what is sent for a small picture: the path below the endpoint, and the body with `INPUT` in the input's place."""
    frame = cast("FramedAdapter", ADAPTERS[name]).frame(NEEDED.get(name, {}), Preprocessing(), "image", (8, 8, 1))
    way = {"nested": "numbers"}.get(frame.encoding, frame.encoding.replace("_", ", "))
    if frame.body is not None:
        body = encode_json(frame.body).replace(encode_json(HOLE), b"INPUT").decode()
        return f"`{frame.path or '(the endpoint)'}` `{body}` ({way})"
    wrapped = f", as a form's file `{frame.form_field}`" if frame.form_field else " as the whole body"
    return f"`{frame.path or '(the endpoint)'}` {way}{wrapped}"


def settings_table() -> str:
    """List every setting with its default."""
    rows = ["| variable | default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        variable = field.validation_alias or f"TRAPSTREET_{name.upper()}"
        rows.append(f"| `{variable}` | {_default_text(field.get_default())} | {field.description} |")
    return "\n".join(rows)


def _default_text(value: object) -> str:
    match value:
        case None | "" | () | []:
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case _:
            return f"`{value}`"


def tree() -> str:
    """Draw the tree: packages and modules of `app/` with the first line of what they say of themselves."""
    lines = ["app/", *_branch(ROOT / "app")]
    lines += [_twig("", name, about) for name, about in BESIDE.items()]
    return "\n".join(lines)


def _branch(folder: Path) -> list[str]:
    modules = sorted(path for path in folder.glob("*.py") if path.stem not in ("__init__", "__main__"))
    packages = sorted(path.parent for path in folder.glob("*/__init__.py"))
    lines = []
    for package in packages:
        lines.append(_twig("  ", f"{package.name}/", _about(package / "__init__.py")))
        lines += _names(package)
    lines += [_twig("  ", path.name, _about(path)) for path in modules]
    return lines


def _twig(indent: str, name: str, about: str) -> str:
    return fill(about, LINE, initial_indent=f"{indent}{name:<{22 - len(indent)}}", subsequent_indent=" " * 22)


def _names(package: Path) -> list[str]:
    """Name a package's modules, a few a line; a package inside it with its own modules in brackets."""
    words = sorted(path.stem for path in package.glob("*.py") if path.stem not in ("__init__", "__main__"))
    for inner in sorted(path.parent for path in package.glob("*/__init__.py")):
        inside = sorted(path.stem for path in inner.glob("*.py") if path.stem != "__init__")
        words.append(f"{inner.name}/[{' '.join(inside)}]")
    lines = [""]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > LINE - 4:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [f"    {line}" for line in lines if line]


def _about(path: Path) -> str:
    """Give the first sentence of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, f"{path} has no docstring"
    return re.split(r"\.\s", docstring.split("\n\n")[0].replace("\n", " "))[0].rstrip(".:")


def marked(text: str, name: str) -> str:
    """Give what stands between the marks of this name."""
    begin, end = _marks(name)
    return text.split(begin)[1].split(end)[0].strip("\n")


def replace_marked(text: str, name: str, content: str) -> str:
    """Put something else between the marks of this name."""
    begin, end = _marks(name)
    before, rest = text.split(begin)
    return f"{before}{begin}\n\n{content}\n\n{end}{rest.split(end)[1]}"


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: written by {COMMAND} -->", f"<!-- end of {name} -->"


def fenced(text: str) -> str:
    """Set text as it is."""
    return f"```text\n{text}\n```"


def main() -> None:
    """Write everything anew."""
    CLI_PAGE.write_text(cli_page())
    README.write_text(replace_marked(README.read_text(), "tree", fenced(tree())))
    SETTINGS_PAGE.write_text(replace_marked(SETTINGS_PAGE.read_text(), "settings", settings_table()))
    ADAPTERS_PAGE.write_text(replace_marked(ADAPTERS_PAGE.read_text(), "adapters", adapters_table()))


if __name__ == "__main__":
    main()
