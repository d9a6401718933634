"""What a crafted program must not do, and what a program of no use is told."""

import ast
import json
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from app.embedding import exported
from app.embedding.exported import load_program
from app.embedding.exported_archive import read_program
from app.errors import Malformed, TooLarge, TrapstreetError, UnsupportedMedia
from tests.training.programs import (
    CLASSES,
    CONSTANTS,
    GRAPH,
    SHAPE,
    WEIGHTS,
    Residual,
    Transformer,
    edit,
    edit_json,
    export,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Exported once, copied by each test that edits them."""
    folder = tmp_path_factory.mktemp("programs")
    return {
        "residual": export(Residual().eval(), folder / "a.pt2"),
        "transformer": export(Transformer(), folder / "b.pt2"),
    }


@pytest.fixture
def program(originals, tmp_path):
    path = tmp_path / "program.pt2"
    path.write_bytes(originals["residual"].read_bytes())
    return path


def load(path):
    return load_program(path, SHAPE, CLASSES)


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


def expressions_in(value):
    if isinstance(value, dict):
        if "expr_str" in value:
            yield value
        for item in value.values():
            yield from expressions_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from expressions_in(item)


def with_expression(program, text):
    def change(model):
        for holder in expressions_in(model):
            holder["expr_str"] = text

    return edit_json(program, GRAPH, change)


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
        patch.setattr("app.embedding.exported_archive.MAX_JSON_BYTES", 1_000)
        with pytest.raises(TooLarge):
            load(program)
    monkeypatch.setattr("app.embedding.exported_archive.MAX_PROGRAM_BYTES", 1_000)
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


# --- the graph --------------------------------------------------------------------------------------------------------


def graph_of(model):
    return model["graph_module"]["graph"]


def node_of(model, target):
    return next(node for node in graph_of(model)["nodes"] if target in node["target"])


def specs_of(model):
    return model["graph_module"]["signature"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: model["schema_version"].update(major=9), "schema 9"),
        (lambda model: model.pop("schema_version"), "schema_version"),
        (lambda model: node_of(model, "linear").update(target="torch.ops.aten.rand.default"), "not on the list"),
        (lambda model: node_of(model, "linear").update(target="torch.ops.evil.op.default"), "not on the list"),
        (lambda model: node_of(model, "linear").update(target="os.system"), "not on the list"),
        (lambda model: node_of(model, "linear").update(target="torch.ops.aten.linear.__class__"), "not on the list"),
        (lambda model: node_of(model, "linear").update(target="xtorch.ops.aten.linear.default"), "not on the list"),
        (lambda model: graph_of(model)["nodes"].reverse(), "not computed before it"),
        (lambda model: graph_of(model)["nodes"].append(graph_of(model)["nodes"][-1]), "twice"),
        (lambda model: node_of(model, "linear")["inputs"].append(node_of(model, "linear")["inputs"][0]), "twice"),
        (lambda model: node_of(model, "linear")["inputs"][0].update(name="other"), "no argument|lacks"),
        (lambda model: node_of(model, "linear")["inputs"].clear(), "lacks its argument"),
        (lambda model: node_of(model, "linear")["inputs"][0].update(arg={"as_int": 3}), "does not run"),
        (lambda model: node_of(model, "linear")["inputs"][0].update(arg={"as_graph": {}}), "as_graph"),
        (lambda model: node_of(model, "linear")["inputs"][0].update(arg={"as_operator": "os.system"}), "as_operator"),
        (lambda model: node_of(model, "linear")["inputs"][0].update(arg={"as_custom_obj": {}}), "as_custom_obj"),
        (lambda model: node_of(model, "linear")["inputs"][0]["arg"].update(as_int=1), "exactly one kind"),
        (lambda model: node_of(model, "linear")["outputs"].clear(), "without a result"),
        (lambda model: graph_of(model).update(custom_obj_values={"x": 1}), "custom_obj_values"),
        (lambda model: specs_of(model)["input_specs"].pop(), "not those of its signature"),
        (lambda model: specs_of(model)["input_specs"][0].update(custom_obj={}), "exactly one kind"),
        (lambda model: specs_of(model)["output_specs"].append({"buffer_mutation": {}}), "changes nothing"),
        (
            lambda model: specs_of(model)["input_specs"][0]["parameter"].update(parameter_name="forward"),
            "lacks the values",
        ),
        (lambda model: node_of(model, "batch_norm")["inputs"][3]["arg"]["as_tensor"].update(name="x"), "not buffers"),
        (lambda model: node_of(model, "relu_")["inputs"][0]["arg"]["as_tensor"].update(name="x"), "writes in place"),
        (
            lambda model: node_of(model, "relu_")["inputs"][0]["arg"]["as_tensor"].update(name="p_stem_bias"),
            "writes in place",
        ),
    ],
)
def test_a_graph_that_does_more_than_compute_is_refused(program, change, reason):
    with pytest.raises(Malformed, match=reason):
        load(edit_json(program, GRAPH, change))


@pytest.mark.parametrize(
    "name", ["forward", "training", "a..b", "_parameters.x", "__class__", "x/y", "stem.weight.more", "a." * 40 + "b"]
)
def test_a_tensor_with_the_name_of_something_else_is_refused(program, name):
    def change(members):
        for member, path in ((GRAPH, None), (WEIGHTS, "config")):
            value = json.loads(members[member])
            if path is None:
                spec = next(
                    s
                    for s in specs_of(value)["input_specs"]
                    if s.get("parameter", {}).get("parameter_name") == "head.bias"
                )
                spec["parameter"]["parameter_name"] = name
            else:
                value[path][name] = value[path].pop("head.bias")
            members[member] = json.dumps(value).encode()

    with pytest.raises(Malformed, match="called"):
        load(edit(program, change))


class Bare(nn.Module):
    """A classifier with something odd in it."""

    def __init__(self, odd):
        super().__init__()
        self.odd, self.head = odd, nn.Linear(64, CLASSES)

    def forward(self, x):
        return self.odd(x, self.head(x.flatten(1)))


ODD = {
    "a random number": (lambda x, y: y + torch.rand(1), "not on the list"),
    "two outputs": (lambda x, y: (y, y), "returns one tensor"),
    "no logits": (lambda x, y: y.sum(1), "not float32 logits"),
    "too many classes": (lambda x, y: torch.cat([y, y], 1), "not float32 logits"),
    "another type": (lambda x, y: y.round().to(torch.int64), "not float32 logits"),
    "its input changed": (lambda x, y: y + x.mul_(2).sum(), "changes nothing|writes in place"),
    "a view written to": (lambda x, y: (y.view(-1).add_(1), y)[1], "writes in place"),
    "a part written to": (lambda x, y: (y[:, 0].zero_(), y)[1], "not on the list|writes in place"),
    "half precision": (lambda x, y: y.half().float(), "element type"),
    "rows mixed up": (lambda x, y: y[:1], "not float32 logits"),
    "a huge tensor": (lambda x, y: y + torch.ones(10**6, 10**6).sum(), "makes a tensor"),
    "a huge view": (lambda x, y: y + torch.ones(1, 1).expand(10**6, 10**6).sum(), "makes a tensor"),
    "a huge repetition": (lambda x, y: y + torch.ones(10).repeat(10**6, 10**5).sum(), "makes a tensor"),
    "a huge range": (lambda x, y: y + torch.arange(10**12).sum(), "makes a tensor"),
    "a huge image": (lambda x, y: y + nn.functional.interpolate(x, (10**5, 10**5)).mean((1, 2, 3))[:, None], "makes"),
    "a huge border": (lambda x, y: y + nn.functional.pad(x, (10**6,) * 4).mean((1, 2, 3))[:, None], "makes a tensor"),
    "many pieces": (lambda x, y: y + torch.ones(100_000).split(50_000)[0].sum(), "pieces"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_a_network_that_is_no_plain_classifier_is_told_why(tmp_path, name):
    odd, reason = ODD[name]
    with pytest.raises((Malformed, TooLarge), match=reason):
        load(export(Bare(odd).eval(), tmp_path / "program.pt2"))


def test_a_size_that_grows_faster_than_the_batch_is_refused_whatever_the_file_says_of_it(tmp_path):
    def odd(x, y):
        return y + torch.ones(1).expand(x.shape[0] * x.shape[0] * x.shape[0] * x.shape[0] * 16).sum()

    crafted = with_expression(export(Bare(odd).eval(), tmp_path / "program.pt2"), "s77")
    with pytest.raises(TooLarge, match="makes a tensor"):
        load(crafted)


def decomposed(path):
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(Residual().eval(), (torch.zeros(2, *SHAPE),), dynamic_shapes=shapes)
    torch.export.save(program.run_decompositions(), path)
    return path


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own, while it decomposes
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: export(Residual().eval(), path, is_dynamic=False), "dynamic batch dimension"),
        (lambda path: export(Residual().eval(), path, (1, 16, 16)), "takes inputs of the shape"),
        (decomposed, "without decompositions"),
    ],
)
def test_an_export_of_another_kind_is_told_how_to_export(tmp_path, make, reason):
    with pytest.raises(Malformed, match=reason):
        load(make(tmp_path / "program.pt2"))


def test_a_custom_operator_is_refused(tmp_path):
    with torch.library._scoped_library("trapstreet_test", "DEF") as library:
        library.define("double(Tensor x) -> Tensor")
        library.impl("double", lambda x: x * 2, "CompositeExplicitAutograd")
        library.impl("double", torch.empty_like, "Meta")
        path = export(
            Bare(lambda x, y: y + torch.ops.trapstreet_test.double(x).mean((1, 2, 3))[:, None]), tmp_path / "p.pt2"
        )
        with pytest.raises(Malformed, match="not on the list"):
            load(path)


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
    monkeypatch.setattr(exported, "TRIED_BATCHES", (2, 3))
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
