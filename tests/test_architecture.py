"""What no linter says of the tree, and what the documentation says of the program."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import app.errors
from app.canonical import Record
from app.cli.client import ApiProblem
from app.errors import TrapstreetError
from app.keys.commitment import InputOpening, LabelOpening
from app.keys.cover_set import CoverSet, CoverTable, LabelledCoverSet, ShownCover
from app.keys.key_file import PlainKey, PlainKeyB, SealedKey
from app.keys.statement import Statement
from app.protocol.bundle import Course, EvidenceList, Index, Openings
from app.protocol.cross_test import Mark, Party, Repeated
from app.protocol.derivation import DerivationHead, DerivationQuery, MetadataAnswer
from app.protocol.figures import Standing, Trust
from app.protocol.interface import Interface, InterfaceOrigin
from app.protocol.records import ENTRIES, AnswerFile, AnswerRecord, FilingRecord, NoticeRecord, Policy
from app.protocol.steps import Revealed, StepList
from app.protocol.transcript import AskedQuery, Query, Role
from app.settings import Settings
from app.suspects.adapters import ADAPTERS
from app.suspects.adapters.answers import REASONS
from app.suspects.transport import TRANSPORT_ERRORS
from app.web import STATUS, status_of
from tests.write_docs import (
    ADAPTERS_PAGE,
    BESIDE,
    CLI_PAGE,
    COMMAND,
    README,
    ROOT,
    SETTINGS_PAGE,
    adapters_table,
    cli_page,
    command_names,
    fenced,
    help_text,
    marked,
    settings_table,
    tree,
)

APP = sorted((ROOT / "app").rglob("*.py"))
PYTHON = sorted(
    path for folder in ("app", "benchmarks", "migrations", "tests") for path in (ROOT / folder).rglob("*.py")
)

SAY_NOTHING = {"base", "common", "helpers", "manager", "misc", "models", "service", "utils"}
# The resource `models` is the service's own word: commitments to neural networks.
NAMED_AFTER_NETWORKS = {"app/api/models.py", "app/registry/models.py"}

MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_TRAINING_LINES = 400, 50, 80
TRAINING = {("app/embedding/train.py", "train")}

# Many questions at once, and procrastinate's own loop; the others are where ASGI takes nothing else.
ASYNC = (
    "app/suspects/",
    "app/jobs/",
    "app/api/body_limits.py",
    "app/api/artifacts.py",
    "app/portal/application.py",
    "app/portal/forms.py",
    "app/portal/large_forms.py",
    "app/main.py",
)

RECORDS: tuple[type[Record], ...] = (
    *ENTRIES.values(),
    *(
        Statement,
        FilingRecord,
        NoticeRecord,
        AnswerRecord,
        AnswerFile,
        StepList,
        Revealed,
        Party,
        Repeated,
        Mark,
        Policy,
        Interface,
        InterfaceOrigin,
        InputOpening,
        LabelOpening,
    ),
    *(
        PlainKey,
        PlainKeyB,
        SealedKey,
        CoverSet,
        LabelledCoverSet,
        CoverTable,
        ShownCover,
        DerivationHead,
        DerivationQuery,
        MetadataAnswer,
        Trust,
        Query,
        Role,
        AskedQuery,
        Index,
        Course,
        Openings,
        EvidenceList,
        Standing,
    ),
)

PURE = ("protocol", "keys", "merkle", "signature.py", "canonical.py", "errors.py")
PURE_MAY_USE = {"app", "cryptography", "py_ecc", "rfc8785"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def imports(path: Path) -> set[str]:
    """Give the names of the top-level packages that a file imports."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name.partition(".")[0] for name in found}


def leaves(error: type[TrapstreetError]) -> Iterator[type[TrapstreetError]]:
    """Give the errors of app/errors.py that have none below them there."""
    below = [kind for kind in error.__subclasses__() if kind.__module__ == app.errors.__name__]
    if not below:
        yield error
    for kind in below:
        yield from leaves(kind)


def every_error(error: type[TrapstreetError]) -> Iterator[type[TrapstreetError]]:
    yield error
    for kind in error.__subclasses__():
        yield from every_error(kind)


def test_no_file_has_a_name_that_says_nothing():
    assert [name_of(p) for p in APP if p.stem in SAY_NOTHING and name_of(p) not in NAMED_AFTER_NETWORKS] == []


def test_every_module_says_what_it_is_for():
    assert [name_of(path) for path in APP if not ast.get_docstring(parsed(path))] == []


def test_no_file_is_longer_than_can_be_read_at_once():
    lengths = {name_of(path): path.read_text().count("\n") for path in APP}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_no_function_is_longer_than_a_screen():
    too_long = {}
    for path in APP:
        for function in functions(path):
            key = (name_of(path), function.name)
            lines = (function.end_lineno or 0) - function.lineno + 1
            if lines > (MAX_TRAINING_LINES if key in TRAINING else MAX_FUNCTION_LINES):
                too_long[key] = lines
    assert too_long == {}


def test_code_is_synchronous_except_where_many_wait_at_once():
    colored = {name_of(p) for p in APP for function in functions(p) if isinstance(function, ast.AsyncFunctionDef)}
    assert {name for name in colored if not name.startswith(ASYNC)} == set()


def test_the_pure_part_uses_three_packages_besides_the_standard_library():
    outside = {
        name_of(path): foreign
        for path in APP
        if path.relative_to(ROOT / "app").parts[0] in PURE
        if (foreign := imports(path) - PURE_MAY_USE - sys.stdlib_module_names)
    }
    assert outside == {}


def test_py_ecc_is_imported_in_one_place_alone():
    # It lifts the recursion limit of the whole process: there the limit is put back, elsewhere it would stay lifted.
    assert [name_of(path) for path in PYTHON if "py_ecc" in imports(path)] == ["app/protocol/bls.py"]


def test_nothing_imports_the_old_httpx():
    assert [name_of(path) for path in PYTHON if "httpx" in imports(path)] == []


def test_the_readme_says_what_httpx2_stands_for():
    assert any("httpx2" in line and "httpx," in line for line in README.read_text().splitlines())


def test_importing_commands_and_api_loads_no_torch_and_no_numpy():
    code = "import sys, app.cli.commands, app.main; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert child.stdout == "[]\n"


def test_every_kind_of_error_has_a_status_of_its_own_or_of_its_parent():
    # The root of the tree has a status too, so that nothing is left without; whoever relies on it was forgotten.
    forgotten = [
        leaf.__name__
        for leaf in leaves(TrapstreetError)
        if not any(kind in STATUS for kind in leaf.__mro__ if kind is not TrapstreetError)
    ]
    assert forgotten == []


def test_no_two_errors_share_a_code():
    codes = [error.code for error in every_error(TrapstreetError)]
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize("leaf", sorted(leaves(TrapstreetError), key=lambda leaf: leaf.__name__))
def test_every_error_stands_in_the_documentation_with_its_status(leaf):
    page = (ROOT / "docs" / "errors.md").read_text().splitlines()
    rows = [line.split("|") for line in page if line.startswith(f"| `{leaf.code}` |")]
    status = status_of(leaf.__new__(leaf))  # some classes ask for more than a message; the status depends on none of it
    assert [row[2].strip() for row in rows] == [str(status)]


def test_codes_that_the_framework_gives_stand_in_the_documentation():
    page = (ROOT / "docs" / "errors.md").read_text()
    source = (ROOT / "app" / "api" / "problems.py").read_text()
    given = set(re.findall(r'^    \d{3}: "([a-z_]+)"', source, re.MULTILINE)) | {"internal", ApiProblem.code}
    assert {code for code in given if f"| `{code}` |" not in page} == set()


@pytest.mark.parametrize("word", sorted(TRANSPORT_ERRORS | REASONS))
def test_every_word_of_a_transcript_stands_in_the_documentation(word):
    assert f"`{word}`" in (ROOT / "docs" / "errors.md").read_text()


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_key_of_every_record_stands_in_the_protocol(record):
    page = (ROOT / "docs" / "protocol.md").read_text()
    names = {field.name for field in fields(record)} | ({record.NAME} if record.NAME else set())
    assert {name for name in names if not re.search(rf"(?<![a-z_]){name}(?![a-z_])", page)} == set()


def test_the_page_of_commands_is_what_the_program_prints():
    assert CLI_PAGE.read_text() == cli_page(), f"run {COMMAND}"


@pytest.mark.parametrize("name", command_names())
def test_every_command_has_help_and_json(name):
    text = help_text(name.split())
    assert "--json" in text


def test_the_table_of_adapters_is_what_they_say_and_send():
    assert marked(ADAPTERS_PAGE.read_text(), "adapters") == adapters_table(), f"run {COMMAND}"


def test_every_adapter_has_an_example_in_its_page():
    page = ADAPTERS_PAGE.read_text()
    assert {name for name in ADAPTERS if f"--adapter {name}" not in page} == set()


def test_the_tree_in_the_readme_is_the_tree():
    assert marked(README.read_text(), "tree") == fenced(tree()), f"run {COMMAND}"


def test_everything_at_the_top_is_named_in_the_readme():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout")
    top = {path.split("/")[0] for path in listed.stdout.splitlines()}
    known = {"app", "README.md"} | {name.rstrip("/") for name in BESIDE}
    assert {name for name in top if not name.startswith(".")} - known == set()
    assert {name for name in known if not (ROOT / name).exists()} == set()


def test_the_settings_on_their_page_are_the_settings():
    assert marked(SETTINGS_PAGE.read_text(), "settings") == settings_table(), f"run {COMMAND}"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_is(name):
    assert Settings.model_fields[name].description
