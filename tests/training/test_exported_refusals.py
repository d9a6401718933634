"""What a crafted program must not do."""

import ast
import json
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch

from app.embedding.exported import program as exported_program
from app.embedding.exported.archive import read_program
from app.errors import Malformed, TooLarge, TrapstreetError, UnsupportedMedia
from tests.training.programs import (
    CONSTANTS,
    GRAPH,
    WEIGHTS,
    Residual,
    edit,
    edit_json,
    load,
    with_expression,
)

ROOT = Path(__file__).parents[2]


class Payload:
    """Pickled, this creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


# --- the two holes of torch's own loader ------------------------------------------------------------------------------


def with_pickle(program, mark, member, **entry):
    def change(members):
        config = json.loads(members[CONSTANTS])
        config["config"]["x"] = {"is_param": False, "use_pickle": True, "tensor_meta": None, **entry}
        members[CONSTANTS] = json.dumps(config).encode()
        members[f"data/constants/{member}"] = pickle.dumps(Payload(mark))

    return edit(program, change)


@pytest.mark.parametrize("member", ["opaque_obj_0", "custom_obj_0", "tensor_0"])
@pytest.mark.parametrize("use_pickle", [True, False])
def test_a_constant_that_is_a_pickle_is_refused_and_never_opened(program, tmp_path, member, use_pickle):
    mark = tmp_path / "ran"
    crafted = with_pickle(program, mark, member, path_name=member, use_pickle=use_pickle)
    with pytest.raises(Malformed):
        load(crafted)
    assert not mark.exists()


def test_the_same_file_runs_its_payload_in_torchs_loader(program, tmp_path):
    mark = tmp_path / "ran"
    crafted = with_pickle(program, mark, "opaque_obj_0", path_name="opaque_obj_0")
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it says afterwards
        torch.export.load(crafted).module()(1)
    assert mark.exists()


def test_a_weight_marked_as_pickled_is_refused_and_never_opened(program, tmp_path):
    mark = tmp_path / "ran"

    def change(members):
        config = json.loads(members[WEIGHTS])
        entry = config["config"]["head.weight"]
        entry["use_pickle"] = True
        members[WEIGHTS] = json.dumps(config).encode()
        members[f"data/weights/{entry['path_name']}"] = pickle.dumps(Payload(mark))

    with pytest.raises(Malformed, match="pickle"):
        load(edit(program, change))
    assert not mark.exists()


def test_a_size_that_is_code_is_refused_and_never_run(program, tmp_path):
    mark = tmp_path / "ran"
    code = f"__import__('pathlib').Path({str(mark)!r}).touch() or Symbol('s77', positive=True, integer=True)"
    crafted = with_expression(program, code)
    with pytest.raises(Malformed, match="not made of integers and symbols"):
        load(crafted)
    assert not mark.exists()
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever torch says afterwards
        torch.export.load(crafted).module()(1)
    assert mark.exists()


@pytest.mark.parametrize(
    "text", ["s77.__class__", "Symbol('s77').func", "s77 if 1 else 2", "2**99**99", "Max(s0, 1)", "", "1" * 290 + "x"]
)
def test_a_size_that_is_more_than_sums_and_products_is_refused(program, text):
    with pytest.raises(Malformed):
        load(with_expression(program, text))


def test_torchs_own_loaders_and_pickle_are_named_nowhere_in_the_service():
    banned = re.compile(
        r"\b(export\.load|torch\.load|jit\.load|sympify|unpickle)\(|^\s*(import|from) (pickle|sympy|dill)", re.MULTILINE
    )
    for path in (ROOT / "app").rglob("*.py"):
        code = ast.unparse(ast.parse(path.read_text()))
        assert not banned.search(code), path


# --- the archive ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda members: members.update({"../../evil": b"x"}), "does not belong"),
        (lambda members: members.update({"data/aotinductor/model/lib.so": b"x"}), "does not belong"),
        (lambda members: members.update({"models/other.json": b"{}"}), "does not belong"),
        (lambda members: members.update({"extra/notes": b"x"}), "does not belong"),
        (lambda members: members.pop(GRAPH), "lacks"),
        (lambda members: members.pop(WEIGHTS), "lacks"),
        (lambda members: members.pop("byteorder"), "byteorder"),
        (lambda members: members.update(byteorder=b"big"), "byteorder"),
        (lambda members: members.update(archive_format=b"pt3"), "archive_format"),
        (lambda members: members.pop("data/weights/weight_0"), "missing"),
        (lambda members: members.update({"data/weights/weight_0": b"1234"}), "bytes, its shape"),
        (lambda members: members.update({GRAPH: b"[]"}), "not a JSON object"),
        (lambda members: members.update({GRAPH: b'{"a":1,"a":2}'}), "repeats a key"),
        (lambda members: members.update({GRAPH: b"[" * 100_000}), "not JSON"),
    ],
)
def test_an_archive_of_another_form_is_refused(program, change, reason):
    with pytest.raises(Malformed, match=reason):
        load(edit(program, change))


def test_example_inputs_may_be_there_and_may_be_missing(program, tmp_path):
    load(
        edit(
            program,
            lambda members: members.update({"data/sample_inputs/model.pt": pickle.dumps(Payload(tmp_path / "ran"))}),
        )
    )
    assert not (tmp_path / "ran").exists()
    load(edit(program, lambda members: members.pop("data/sample_inputs/model.pt")))


def rewritten(program, write):
    with zipfile.ZipFile(program) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(program, "w", zipfile.ZIP_STORED) as archive:
        write(archive, members)
    return program


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(program):
    def write(archive, members):
        for name, data in [*members.items(), (GRAPH, b"{}")]:
            archive.writestr(f"program/{name}", data)

    with pytest.raises(Malformed, match="twice"):
        load(rewritten(program, write))


@pytest.mark.parametrize("folder", ["/", "..", "other", "a b"])
def test_a_member_outside_the_one_folder_is_refused(program, folder):
    def write(archive, members):
        for index, (name, data) in enumerate(members.items()):
            archive.writestr(f"{folder if index else 'program'}/{name}", data)

    with pytest.raises(Malformed):
        load(rewritten(program, write))


def test_a_compressed_member_is_refused(program):
    def write(archive, members):
        for name, data in members.items():
            archive.writestr(f"program/{name}", data, zipfile.ZIP_DEFLATED)

    with pytest.raises(Malformed, match="compressed"):
        load(rewritten(program, write))


def test_sizes_over_the_limits_are_refused_before_they_are_read(program, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("app.embedding.exported.archive.MAX_JSON_BYTES", 1_000)
        with pytest.raises(TooLarge):
            load(program)
    monkeypatch.setattr("app.embedding.exported.archive.MAX_PROGRAM_BYTES", 1_000)
    with pytest.raises(TooLarge):
        load(program)


def test_what_is_no_zip_is_refused_by_its_first_bytes(tmp_path):
    path = tmp_path / "program.pt2"
    path.write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    with pytest.raises(UnsupportedMedia):
        load(path)
    torch.save(Residual().state_dict(), path)
    with pytest.raises(Malformed):
        load(path)


# --- tensors ----------------------------------------------------------------------------------------------------------


def meta_of(config, name="head.weight"):
    return config["config"][name]["tensor_meta"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda config: meta_of(config)["strides"][0].update(as_int=1), "gaps or overlaps"),
        (lambda config: meta_of(config)["strides"][0].update(as_int=0), "gaps or overlaps"),
        (lambda config: meta_of(config)["sizes"][0].update(as_int=10**12), "elements|out of range"),
        (lambda config: meta_of(config)["sizes"][0].update(as_int=-3), "out of range"),
        (lambda config: meta_of(config)["sizes"][0].update(as_int=2), "bytes, its shape"),
        (lambda config: meta_of(config)["storage_offset"].update(as_int=4), "view"),
        (lambda config: meta_of(config).update(dtype=6), "element type"),
        (lambda config: meta_of(config).update(dtype="float"), "'dtype' as int"),
        (lambda config: meta_of(config).update(layout=1), "not strided"),
        (lambda config: config["config"].pop("head.weight"), "lacks the values of 'head.weight'"),
        (lambda config: config["config"]["head.weight"].update(path_name="../weight_0"), "no plain tensor"),
        (lambda config: config["config"]["head.weight"].update(path_name="weight_0"), "another view|bytes, its shape"),
        (lambda config: config.update(config=[]), "'config' as dict"),
    ],
)
def test_a_tensor_that_is_not_what_its_bytes_are_is_refused(program, change, reason):
    with pytest.raises((Malformed, TooLarge), match=reason):
        load(edit_json(program, WEIGHTS, change))


def test_weights_that_are_not_numbers_are_refused(program):
    def change(members):
        member = "data/weights/" + json.loads(members[WEIGHTS])["config"]["head.bias"]["path_name"]
        members[member] = b"\xff" * len(members[member])

    with pytest.raises(Malformed, match="not finite"):
        load(edit(program, change))


# --- broken files -----------------------------------------------------------------------------------------------------


def test_broken_files_are_refused_and_nothing_else_happens(originals, tmp_path):
    draw = torch.Generator().manual_seed(5)
    path = tmp_path / "broken.pt2"
    refused = 0
    for original in originals.values():
        whole = original.read_bytes()
        for turn in range(60):
            data = bytearray(whole)
            at, value = (int(torch.randint(0, high, (1,), generator=draw)) for high in (len(data), 256))
            if turn % 3 == 0:
                del data[at:]
            elif turn % 3 == 1:
                data[at] = value
            else:
                data[at : at + 40] = bytes(40)
            path.write_bytes(data)
            refused += is_refused(path)
    assert refused > 60


def test_broken_graphs_in_whole_files_are_refused_and_nothing_else_happens(originals, tmp_path, monkeypatch):
    monkeypatch.setattr(exported_program, "TRIED_BATCHES", (2, 3))
    draw = torch.Generator().manual_seed(6)
    refused = 0
    for original in originals.values():
        path = tmp_path / original.name
        for turn in range(40):
            path.write_bytes(original.read_bytes())
            edit_json(path, GRAPH if turn % 3 else WEIGHTS, lambda model: spoil(model, draw))
            refused += is_refused(path)
    assert refused > 40


def is_refused(path):
    try:
        load(path)
    except TrapstreetError:
        return True
    return False


# What the exporter writes for people and for torch, and nobody here reads.
UNREAD = {
    "metadata",
    "hint",
    "tensor_values",
    "module_call_graph",
    "range_constraints",
    "opset_version",
    "name",
    "kind",
}
UNREAD |= {"torch_version", "verifiers", "guards_code", "treespec_namedtuple_fields", "is_hop_single_tensor_return"}
UNREAD |= {"sym_int_values", "sym_bool_values", "is_single_tensor_return", "device"}


def spoil(value, draw):
    """Put something else in one place, chosen at random on the way down."""
    while True:
        keys = [key for key in (value if isinstance(value, dict) else range(len(value))) if key not in UNREAD]
        if not keys:
            return
        key = keys[int(torch.randint(0, len(keys), (1,), generator=draw))]
        below = value[key]
        if not isinstance(below, dict | list) or not below or int(torch.randint(0, 12, (1,), generator=draw)) == 0:
            others = (None, -1, 0, 10**12, "x", [], {}, True, 0.5, {"as_int": 7}, [1, 2, 3])
            value[key] = others[int(torch.randint(0, len(others), (1,), generator=draw))]
            return
        value = below


def test_the_program_is_read_without_running_anything(program):
    assert set(read_program(program).weights) == set(Residual().state_dict())
